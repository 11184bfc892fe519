import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import f1_score
from sklearn.model_selection import GroupKFold, StratifiedKFold

from polygene_scverse.evaluation._baselines import baseline_probabilities
from polygene_scverse.evaluation._features import Features
from polygene_scverse.evaluation._scikit_learn import CLASSIFIERS, GRIDS, MAJORITY, fit_predict, inner_folds

LDA = "shrunken LDA on HVGs"
SHRINKAGES = GRIDS["lineardiscriminantanalysis"]["lineardiscriminantanalysis__shrinkage"]


@pytest.mark.parametrize("name", [name for name in CLASSIFIERS if name != MAJORITY])
def test_classifiers_learn(told_apart, name):
    train, codes, test, truth = told_apart
    proba = baseline_probabilities(name, train, codes, None, test, 4, 0)
    assert proba.shape == (30, 4)
    np.testing.assert_allclose(proba.sum(1), 1)
    assert (proba[:, 3] == 0).all()
    assert (proba.argmax(1) == truth).mean() > 0.8
    np.testing.assert_array_equal(proba, baseline_probabilities(name, train, codes, None, test, 4, 0))


def test_majority_is_the_shares_of_the_known_cells(told_apart):
    train, codes, test, _ = told_apart
    proba = baseline_probabilities(MAJORITY, train, codes, None, test, 3, 0)
    np.testing.assert_allclose(proba, np.tile(np.bincount(codes[codes >= 0]) / (codes >= 0).sum(), (30, 1)))


def test_balanced_weighs_the_rare():
    """Categories that nothing tells apart: plain says the frequent one, balanced both alike."""
    codes = np.where(np.arange(60) % 6 == 0, 1, 0)
    noise = Features(np.random.default_rng(1).normal(0, 1, (60, 5)).astype(np.float32), None)
    names = ("logistic regression on HVGs", "logistic regression on HVGs, balanced")
    means = [fit_predict(name, noise, codes, None, noise, 0)[:, 1].mean() for name in names]
    assert means[0] == pytest.approx(1 / 6, abs=0.02)
    assert means[1] > 0.4


def discriminants(x, labels, test, shrinkage):
    """Probabilities by the formula: Gaussians with one covariance, which is moved towards a multiple of the identity.

    Genes are scaled to mean 0 and standard deviation 1 before.
    """
    mean, std = x.mean(0), x.std(0)
    x, test = (x - mean) / std, (test - mean) / std
    shares = np.bincount(labels) / len(labels)
    means = np.stack([x[labels == k].mean(0) for k in range(len(shares))])
    covariance = 0
    for k, share in enumerate(shares):
        within = np.cov(x[labels == k].T, bias=True)
        shrunken = (1 - shrinkage) * within + shrinkage * np.trace(within) / len(within) * np.eye(len(within))
        covariance = covariance + share * shrunken
    weights = np.linalg.solve(covariance, means.T)  # (n_genes, n_categories)
    return softmax(test @ weights - 0.5 * (means.T * weights).sum(0) + np.log(shares), axis=1)


@pytest.mark.parametrize("n_groups", [None, 4], ids=["cells", "groups"])
def test_shrunken_discriminants_are_those_of_the_formula(n_groups):
    """Three genes of five tell a little; the shrinkage is the one of the best mean macro-F1 in the inner folds."""
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 3, 96)
    x = rng.normal(0, 1, (96, 17)) @ (np.eye(17) + 0.4)
    x[np.arange(96), labels] += 1.5
    x, test = x.astype(np.float32), rng.normal(0, 1, (11, 17)).astype(np.float32)
    groups = None if n_groups is None else np.arange(96) % n_groups
    scores = [
        np.mean(
            [
                f1_score(labels[b], discriminants(x[a], labels[a], x[b], shrinkage).argmax(1), average="macro")
                for a, b in inner_folds(x, labels, groups)
            ]
        )
        for shrinkage in SHRINKAGES
    ]
    assert len(set(scores)) > 1
    best = SHRINKAGES[int(np.argmax(scores))]
    proba = fit_predict(LDA, Features(x, None), labels, groups, Features(test, None), 0)
    np.testing.assert_allclose(proba, discriminants(x, labels, test, best), atol=1e-3)


def test_a_category_of_one_cell_is_no_warning(told_apart):
    train, codes, test, _ = told_apart
    codes, groups = codes.copy(), np.arange(60) % 4
    codes[0] = 3
    assert baseline_probabilities(LDA, train, codes, groups, test, 4, 0).shape == (30, 4)


def test_penalties_are_tuned_with_whole_groups():
    x, labels, groups = np.zeros((60, 2), dtype=np.float32), np.arange(60) % 3, np.arange(60) // 15
    for given, expected in {
        "whole": (groups, GroupKFold(3).split(x, labels, groups)),
        "two": (groups // 2, StratifiedKFold(3).split(x, labels)),
        "none": (None, StratifiedKFold(3).split(x, labels)),
    }.values():
        for found, wanted in zip(inner_folds(x, labels, given), expected, strict=True):
            np.testing.assert_array_equal(found[0], wanted[0])
            np.testing.assert_array_equal(found[1], wanted[1])


def test_categories_of_one_cell_each_are_refused():
    with pytest.raises(ValueError, match="`baselines`: the 3 training cells of a fold have a category each"):
        inner_folds(np.zeros((3, 2), np.float32), np.arange(3), None)


def test_groups_reach_the_tuning(told_apart, monkeypatch):
    train, codes, test, _ = told_apart
    passed = []
    split = GroupKFold.split
    monkeypatch.setattr(
        GroupKFold, "split", lambda self, x, y, groups: passed.append(groups) or split(self, x, y, groups)
    )
    groups = np.arange(60) // 12
    baseline_probabilities("logistic regression on PCs", train, codes, groups, test, 3, 0)
    np.testing.assert_array_equal(passed[0], groups[codes >= 0])
