import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, StratifiedKFold

from polygene_scverse.evaluation import _baselines
from polygene_scverse.evaluation._baselines import (
    MAJORITY,
    RIVALS,
    SCIKIT_LEARN,
    Side,
    choose_rivals,
    make_side,
    run_rival,
)

N, K = 90, 3


@pytest.fixture(scope="module")
def sides():
    """Training and test cells that three genes tell apart; category 3 of 4 has no training cell."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, K, N)
    x = rng.normal(0, 1, (N, 60)).astype(np.float32)
    x[np.arange(N), codes] += 6
    train, test = (Side(x[rows], None) for rows in (slice(0, 60), slice(60, N)))
    known = codes[:60].copy()
    known[::7] = -1
    return train, known, test, codes[60:]


@pytest.mark.parametrize("name", [n for n in SCIKIT_LEARN if n != MAJORITY])
def test_rivals_learn(sides, name):
    train, codes, test, truth = sides
    proba = run_rival(name, train, codes, None, test, K + 1, 0)
    assert proba.shape == (30, K + 1)
    np.testing.assert_allclose(proba.sum(1), 1)
    assert (proba[:, K] == 0).all()
    assert (proba.argmax(1) == truth).mean() > 0.8
    np.testing.assert_array_equal(proba, run_rival(name, train, codes, None, test, K + 1, 0))


def test_majority_is_the_shares_of_the_known_cells(sides):
    train, codes, test, _ = sides
    proba = run_rival(MAJORITY, train, codes, None, test, K, 0)
    np.testing.assert_allclose(proba, np.tile(np.bincount(codes[codes >= 0]) / (codes >= 0).sum(), (30, 1)))


def test_balanced_weighs_the_rare(sides):
    """Categories that nothing tells apart: plain says the frequent one, balanced both alike."""
    codes = np.where(np.arange(60) % 6 == 0, 1, 0)
    noise = np.random.default_rng(1).normal(0, 1, (60, 5)).astype(np.float32)
    means = []
    for name in ("logistic regression on HVGs", "logistic regression on HVGs, balanced"):
        means.append(run_rival(name, Side(noise, None), codes, None, Side(noise, None), 2, 0)[:, 1].mean())
    assert means[0] == pytest.approx(1 / 6, abs=0.02)
    assert means[1] > 0.4


def test_penalties_are_tuned_with_whole_groups():
    labels, groups = np.arange(60) % 3, np.arange(60) // 15
    assert isinstance(_baselines._folds(labels, groups), GroupKFold)
    assert isinstance(_baselines._folds(labels, groups // 2), StratifiedKFold)
    assert isinstance(_baselines._folds(labels, None), StratifiedKFold)


def test_groups_reach_the_tuning(sides, monkeypatch):
    train, codes, test, _ = sides
    met = []
    split = GroupKFold.split
    monkeypatch.setattr(GroupKFold, "split", lambda self, x, y, groups: met.append(groups) or split(self, x, y, groups))
    groups = np.arange(60) // 12
    run_rival("logistic regression on PCs", train, codes, groups, test, K, 0)
    np.testing.assert_array_equal(met[0], groups[codes >= 0])


def test_expression_is_that_of_scanpy(trained):
    cells, model = trained
    side = make_side(model, cells)
    expected = cells.copy()
    sc.pp.normalize_total(expected, target_sum=1e4)
    sc.pp.log1p(expected)
    np.testing.assert_allclose(side.x, expected[:, model.genes].X.toarray(), rtol=1e-5)
    np.testing.assert_array_equal(side.counts.toarray(), cells[:, model.genes].X.toarray())
    log = make_side(model, expected)
    np.testing.assert_allclose(log.x, side.x, rtol=1e-5)
    assert log.counts is None
    some = side.take(np.array([5, 2]))
    np.testing.assert_array_equal(some.x, side.x[[5, 2]])
    np.testing.assert_array_equal(some.counts.toarray(), side.counts[[5, 2]].toarray())


def test_expression_of_a_layer(trained):
    cells, model = trained
    expected = cells[:, model.genes].X.toarray()
    cells.layers["counts"] = cells.X
    cells.X = np.ones(cells.shape)
    np.testing.assert_array_equal(make_side(model, cells, layer="counts").counts.toarray(), expected)


def test_choice():
    assert choose_rivals("boosted trees on PCs") == ["boosted trees on PCs"]
    assert choose_rivals([]) == []
    with pytest.raises(ValueError, match="`rivals`: found 'xgb', but it must be one of"):
        choose_rivals(["xgb"])


PROBLEMS = {
    "not installed": ({}, "it is not installed"),
    "too new": ({"celltypist": "1.7.1", "scikit-learn": "1.8.0"}, "scikit-learn 1.8.0 removed"),
    "usable": ({"celltypist": "1.7.1", "scikit-learn": "1.7.2"}, ""),
}


@pytest.mark.parametrize(("versions", "problem"), PROBLEMS.values(), ids=PROBLEMS)
def test_celltypist_where_it_can_be_trained(versions, problem, monkeypatch):
    def version(name):
        if name not in versions:
            raise _baselines.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(_baselines, "version", version)
    assert problem in _baselines.celltypist_problem()
    assert choose_rivals(None) == [*SCIKIT_LEARN, *([] if problem else ["CellTypist"])]
    if problem:
        with pytest.raises(ValueError, match=f"`rivals`: CellTypist cannot be trained here: .*{problem}"):
            choose_rivals("CellTypist")
    else:
        assert choose_rivals("CellTypist") == ["CellTypist"]


def test_scanvi_needs_counts(sides):
    train, codes, test, _ = sides
    with pytest.raises(ValueError, match="`rivals`: scANVI needs raw counts"):
        run_rival("scANVI", train, codes, None, test, K, 0)
    assert set(RIVALS) == {*SCIKIT_LEARN, "CellTypist", "scANVI"}


def test_celltypist_is_asked_as_it_wants(sides, monkeypatch):
    """A stand-in with the interface of CellTypist 1.7: its sigmoids come in another order and do not sum to 1."""
    train, codes, test, truth = sides

    def fit(x, labels, genes, check_expression, n_jobs):
        assert x.shape == (len(labels), len(genes))
        assert not check_expression
        return LogisticRegression().fit(x, labels)

    def annotate(query, model):
        table = pd.DataFrame(model.predict_proba(query.X), columns=model.classes_, index=query.obs_names)
        return SimpleNamespace(probability_matrix=0.5 * table[table.columns[::-1]])

    monkeypatch.setitem(sys.modules, "celltypist", SimpleNamespace(train=fit, annotate=annotate))
    proba = run_rival("CellTypist", train, codes, None, test, K + 1, 0)
    known = codes >= 0
    expected = LogisticRegression().fit(train.x[known], codes[known]).predict_proba(test.x)
    np.testing.assert_allclose(proba[:, :K], expected, atol=1e-6)
    assert (proba.argmax(1) == truth).mean() > 0.8


def test_scanvi_gets_the_counts_of_known_cells(monkeypatch):
    met = {}

    def stand_in(train, labels, test, *, seed):
        met.update(train=train.toarray(), labels=labels, test=test.toarray(), seed=seed)
        return np.tile([0.25, 0.75], (test.shape[0], 1))

    monkeypatch.setattr(_baselines, "scanvi_probabilities", stand_in)
    counts = sp.csr_matrix(np.arange(12).reshape(4, 3))
    side = Side(np.zeros((4, 3), dtype=np.float32), counts)
    proba = run_rival("scANVI", side, np.array([2, -1, 0, 2]), None, side.take(np.array([1])), 3, 5)
    np.testing.assert_array_equal(met["train"], counts.toarray()[[0, 2, 3]])
    np.testing.assert_array_equal(met["test"], counts.toarray()[[1]])
    assert met["labels"].tolist() == [2, 0, 2]
    assert met["seed"] == 5
    assert proba.tolist() == [[0.25, 0.0, 0.75]]
