"""The table of generated cells: what copies, shuffled and real cells score."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from polygene_scverse.evaluation._check_generated import (
    ALL,
    BEST,
    CellSet,
    Judge,
    compare,
    differing,
    draw_alike,
    halves,
    metrics_of,
    usable_classes,
)
from polygene_scverse.evaluation._likeness import normalized

LABELS = pd.DataFrame({"type": ["B", "B", "T", "T"], "condition": ["ctrl", "stim", "ctrl", "stim"]})


def cells(seed, n=60, depth=1.0):
    """Counts of four classes: a type and a condition change ten genes each, and a factor moves ten together."""
    rng = np.random.default_rng(seed)
    classes = np.repeat(np.arange(4), n)
    log_rate = np.tile(np.random.default_rng(99).normal(0.5, 0.7, 40), (4 * n, 1))
    log_rate[:, :10] += 1.2 * (classes // 2)[:, None]
    log_rate[:, 10:20] += 1.0 * (classes % 2)[:, None]
    log_rate[:, 20:30] += 0.8 * rng.normal(size=(4 * n, 1))
    return CellSet(rng.poisson(depth * np.exp(log_rate)).astype(float), classes)


@pytest.fixture(scope="module")
def table():
    return compare(cells(3), cells(2), cells(1, 100), LABELS, members=True, seed=0)


def values(table, metric, level=ALL):
    return table[(table["metric"] == metric) & (table["level"] == level)].iloc[0]


def test_a_row_for_each_class_and_metric(table):
    metrics = list(metrics_of(["type", "condition"]))
    assert len(metrics) == len(BEST) + 2
    assert list(table["metric"]) == metrics * 5
    assert list(table["level"].unique()) == [ALL, "B | ctrl", "B | stim", "T | ctrl", "T | stim"]
    assert list(table["n_cells"].unique()) == [240, 60]
    assert table["generated"].notna().all()


def test_cells_of_the_same_distribution_are_as_good_as_real_ones(table):
    assert values(table, "rf_auc")["generated"] < 0.62
    assert values(table, "energy")["generated"] < 0.1
    assert values(table, "correlation")["generated"] > 0.7
    assert values(table, "variance_ratio")["generated"] == pytest.approx(1, abs=0.15)
    for slope in ("slope_type", "slope_condition"):
        assert values(table, slope)["generated"] == pytest.approx(1, abs=0.15)
    assert values(table, "attack_auroc")["generated"] == pytest.approx(0.5, abs=0.08)
    assert values(table, "nn_ratio")["generated"] == pytest.approx(1, abs=0.08)


def test_independent_genes_lose_correlations_and_copies_are_found_out(table):
    assert values(table, "correlation")["independent genes"] < 0.2
    assert values(table, "correlation")["Gaussian copula"] > 0.4
    assert values(table, "rf_auc")["independent genes"] > values(table, "rf_auc")["generated"]
    assert values(table, "nn_ratio")["real cells"] == pytest.approx(0, abs=1e-9)
    assert values(table, "attack_auroc")["real cells"] > 0.6


def test_against_scikit_learn(table):
    real, reference, generated = cells(1, 100), cells(2), cells(3)
    total = np.median(real.counts.sum(1))
    x, y, z = (normalized(part.counts, total) for part in (real, reference, generated))
    judge = LogisticRegression(C=0.1, max_iter=300).fit(x, real.classes)
    assert values(table, "as_requested")["generated"] == pytest.approx((judge.predict(z) == generated.classes).mean())
    assert values(table, "as_requested")["reference"] == pytest.approx((judge.predict(y) == reference.classes).mean())
    trained = LogisticRegression(C=0.1, max_iter=300).fit(z, generated.classes)
    expected = f1_score(reference.classes, trained.predict(y), average="macro")
    assert values(table, "tstr_f1")["generated"] == pytest.approx(expected)
    assert values(table, "zeros")["reference"] == pytest.approx((reference.counts == 0).mean())
    at = reference.classes == 2
    assert values(table, "zeros", "T | ctrl")["generated"] == pytest.approx((generated.counts[at] == 0).mean())


def test_cells_of_another_class_are_not_as_requested():
    wrong = cells(3)
    wrong = CellSet(wrong.counts[::-1], wrong.classes)
    judge = Judge(cells(1), cells(2), LABELS, False, 0)
    scores = judge.score(wrong)
    assert scores[ALL, "as_requested"] < 0.1
    assert scores[ALL, "tstr_f1"] < 0.1
    assert scores[ALL, "slope_type"] < -0.5
    assert np.isnan(scores[ALL, "attack_auroc"])


def test_classes_that_differ_in_one_phenotype():
    assert differing(LABELS, "type").astype(int).tolist() == [[0, 0, 1, 0], [0, 0, 0, 1], [1, 0, 0, 0], [0, 1, 0, 0]]
    assert differing(LABELS[["type"]].drop_duplicates(), "type").tolist() == [[False, True], [True, False]]


def test_draws_are_alike():
    rng = np.random.default_rng(0)
    one, two = np.repeat([0, 1, 2, -1], [40, 30, 5, 9]), np.repeat([2, 1, 0], [50, 20, 60])
    assert usable_classes([one, two], 3).tolist() == [True, True, False]
    a, b = draw_alike([one, two], np.array([0, 1]), 1000, rng)
    assert one[a].tolist() == two[b].tolist() == [0] * 40 + [1] * 20
    a, b = draw_alike([one, two], np.array([0, 1]), 30, rng)
    assert one[a].tolist() == two[b].tolist() == [0] * 20 + [1] * 10
    assert len(set(a)) == 30


def test_halves_have_half_of_each_class():
    codes = np.repeat([0, 1, 2], [10, 7, 20])
    a, b = halves(codes, np.random.default_rng(0))
    assert sorted([*a, *b]) == list(range(37))
    assert (np.abs(np.bincount(codes[a]) - np.bincount(codes[b])) <= 1).all()
