import numpy as np
import pandas as pd
import pytest

from polygene_scverse.evaluation._bootstrap import SCORES
from polygene_scverse.evaluation._folds import Labels
from polygene_scverse.evaluation._null import NULL
from polygene_scverse.evaluation._predictions import MODEL, Predictions
from polygene_scverse.evaluation._verdict import describe_evaluation


def method_rows(method, value, verdict="not significant", **verdicts):
    rows = pd.DataFrame({"phenotype": "sex", "method": method, "score": SCORES, "value": value, "low": 0.5})
    rows = rows.assign(high=0.6, difference=0.7 - value, difference_low=-0.2, difference_high=0.2)
    return rows.assign(verdict=[verdicts.get(score, verdict) for score in SCORES])


def sentences(*tables, n_groups=6, group_key="donor", constant=(), unseen=(), intervals=True):
    label = Labels(["f", "m"], np.arange(12) % 2)
    codes = np.where(np.isin(np.arange(12), unseen), -1, label.codes)
    table = pd.concat([method_rows(MODEL, 0.7, ""), *tables])
    if not intervals:
        table[["low", "high", "difference_low", "difference_high"]] = np.nan
    predictions = {"sex": Predictions(np.arange(12), codes, {}, {})}
    return describe_evaluation(table, predictions, {"sex": label}, np.arange(12) % n_groups, group_key, list(constant))


def test_a_baseline_that_wins_is_named_with_its_figures():
    _, scores, line = sentences(method_rows("trees", 0.8, macro_f1="worse"), method_rows("kNN", 0.6, "better"))
    assert scores == (
        "sex: accuracy 0.700 [0.500, 0.600], best baseline 0.800 (trees); "
        "macro-F1 0.700 [0.500, 0.600], best baseline 0.800 (trees)."
    )
    assert line == (
        "sex: trees is significantly better than the model in macro-F1 "
        "(0.800, the model 0.700, difference -0.100 [-0.200, 0.200])."
    )


def test_a_baseline_that_wins_in_few_groups():
    first, _, line = sentences(method_rows("trees", 0.8, macro_f1="worse in these groups"), n_groups=4)
    assert first.endswith("Intervals and comparisons hold for these groups, and say little about others.")
    assert line.startswith("sex: trees is better than the model in these groups, in macro-F1 (0.800")


def test_a_baseline_that_wins_everywhere():
    *_, line = sentences(method_rows("trees", 0.8, "worse"))
    assert line.endswith("It is better in macro-F1, accuracy and ECE at once.")
    assert "NLL" in line
    assert line.count("macro-F1 (") == 1


def test_large_categories_are_named_where_all_are_not_lost():
    *_, line = sentences(method_rows("trees", 0.8, macro_f1_10="worse"))
    assert "better than the model in macro-F1 over categories with 10 or more test cells (0.800" in line


def test_no_baseline_wins():
    *_, line = sentences(method_rows("trees", 0.7))
    assert line == "sex: no baseline is significantly better than the model in any score."


def test_without_intervals_nothing_is_said_to_be_tested():
    _, scores, line = sentences(method_rows("trees", 0.8, ""), intervals=False)
    assert scores.startswith("sex: accuracy 0.700, best baseline 0.800 (trees); macro-F1 0.700, best")
    assert line == "sex: differences from the baselines have no intervals, so they were not tested."


def test_no_baselines():
    _, scores = sentences()
    assert scores == "sex: accuracy 0.700 [0.500, 0.600]; macro-F1 0.700 [0.500, 0.600]."


@pytest.mark.parametrize(
    ("n_groups", "key", "expected"),
    [
        (6, "donor", "12 test cells of 6 held-out groups of 'donor'. Bootstrap over groups;"),
        (4, "donor", "Bootstrap over cells within groups, because there are fewer than 5 groups;"),
        (1, None, "training cells are from the same donors, so scores on new donors will be lower"),
    ],
    ids=["groups", "few groups", "no groups"],
)
def test_the_test_is_described(n_groups, key, expected):
    first = sentences(n_groups=n_groups, group_key=key)[0]
    assert expected in first
    assert "balance=0.5" in first


def test_unseen_categories_are_counted():
    assert "sex: 2 test cells have a category without training cells and are left out." in sentences(unseen=[10, 11])


def test_constant_within_groups_counts_groups():
    assert "sex: constant within 'donor', so there are 6 independent observations, not 12." in sentences(
        constant=["sex"]
    )


@pytest.mark.parametrize(
    ("high", "expected"), [(0.6, "above every permutation"), (0.75, "no evidence of a signal")], ids=["signal", "none"]
)
def test_the_null_is_judged(high, expected):
    null = method_rows(NULL, 0.55, "").assign(high=high)
    lines = sentences(null, constant=["sex"])
    assert f"with labels permuted between groups 0.550 (0.500 to {high:.3f})" in lines[-1]
    assert expected in lines[-1]
