"""Log-linear frequencies of bins: by hand, and recovered from cells that were drawn from them."""

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.special import softmax

from polygene_scverse.fit._class_frequencies import (
    MOST_PAIRS,
    ClassFrequencies,
    count_bins,
    fit_class_frequencies,
    one_hot,
    similarities,
)

MODULE = "polygene_scverse.fit._class_frequencies"
N_GENES, N_BINS = 40, 5
SIZES = [4, 2]
COMBINATIONS = np.array(list(np.ndindex(*SIZES)))


def truth(seed=0, interaction=0.0):
    """Probabilities of each combination; two pairs of like categories of the first phenotype."""
    rng = np.random.default_rng(seed)

    def effect(*shape):
        """Smooth over expressed bins, as effects are taken to be."""
        level = np.array([-1.0, 0.0, 0.1, 0.2, 0.3])
        return rng.normal(size=(*shape, N_GENES, 1)) * level + 0.5 * rng.normal(size=(*shape, N_GENES, 1)) * level**2

    bias = rng.normal(size=(N_GENES, N_BINS))
    kinds = effect(2)[[0, 0, 1, 1]] + 0.1 * effect(4)
    conditions, both = effect(2), interaction * effect(2, 2)[[0, 0, 1, 1]]
    logits = bias + kinds[:, None] + conditions + both
    return softmax(logits, axis=-1).reshape(8, N_GENES, N_BINS)


def fitted(counts, codes=COMBINATIONS, sizes=SIZES) -> ClassFrequencies:
    return fit_class_frequencies(lambda genes: counts[:, genes], counts.shape[1], codes, sizes)


def probabilities(found, codes=COMBINATIONS, sizes=SIZES):
    """What the log-linear model says of some categories; shape (n, G, V)."""
    design = one_hot(codes, sizes)
    pairs = design[:, found.pairs[:, 0]] * design[:, found.pairs[:, 1]]
    logits = found.bias + np.tensordot(design, found.effects, 1) + np.tensordot(pairs, found.interactions, 1)
    return softmax(logits, axis=-1)


def error(found, p):
    return np.abs(probabilities(found) - p).max()


def test_one_hot_by_hand():
    np.testing.assert_array_equal(one_hot(np.array([[1, -1], [0, 1]]), [2, 2]), [[0, 1, 0, 0], [1, 0, 0, 1]])
    assert one_hot(np.zeros((3, 0), dtype=int), []).shape == (3, 0)


def counted(bins, groups, measured):
    x = sp.csc_matrix(bins)
    return count_bins(x.indices, x.indptr, x.data, groups, 3, measured)


def test_counts_by_hand():
    bins = np.array([[0, 1], [2, 1], [2, 0], [0, 0]])
    counts = counted(bins, np.array([0, 0, 1, 1]), np.ones(2, dtype=bool))
    np.testing.assert_array_equal(counts, [[[1, 0, 1], [0, 2, 0]], [[1, 0, 1], [2, 0, 0]]])


def test_unmeasured_genes_are_not_counted():
    bins = np.array([[0, 1], [2, 0], [2, 0], [0, 0]])
    groups = np.array([0, 0, 1, 1])
    assert not counted(bins * [1, 0], groups, np.array([True, False]))[:, 1].any()
    by_cell = np.array([[True, True], [True, False], [True, True], [True, False]])
    np.testing.assert_array_equal(counted(bins, groups, by_cell)[:, 1], [[0, 1, 0], [1, 0, 0]])


def test_probabilities_sum_to_one():
    counts = np.random.default_rng(0).poisson(3, (8, N_GENES, N_BINS)).astype(float)
    found = fitted(counts)
    for codes in (COMBINATIONS, np.array([[-1, -1], [2, -1], [-1, 1]])):
        np.testing.assert_allclose(probabilities(found, codes).sum(-1), 1, rtol=1e-5)
    of_categories = np.exp(found.bias + found.effects)
    np.testing.assert_allclose(of_categories.sum(-1), 1, rtol=1e-5)  # so that they may be mixed by their shares


def test_many_cells_of_an_additive_model_are_recovered():
    """Categories that were mostly seen with one condition are not taken for it."""
    p = truth()
    n = np.array([90, 10, 10, 90, 90, 10, 50, 50])[:, None, None] * 1e5
    found = fitted(n * p)
    assert error(found, p) < 0.03  # effects are smoothed over neighbouring bins


def test_interactions_of_many_cells_are_recovered(monkeypatch):
    p = truth(interaction=1.0)
    found = fitted(1e6 * p)
    monkeypatch.setattr(f"{MODULE}.PAIR_PRIOR", 1e12)
    assert error(found, p) < 0.5 * error(fitted(1e6 * p), p)


def test_a_pair_that_no_cell_has_is_taken_from_like_categories(monkeypatch):
    p = truth(interaction=1.0)
    n = np.full((8, 1, 1), 1e5)
    n[1] = 0.0  # the second condition of the first category
    found = probabilities(fitted(n * p))[1]
    monkeypatch.setattr(f"{MODULE}.PAIR_PRIOR", 1e12)
    monkeypatch.setattr(f"{MODULE}.SHARPNESS", 0.0)
    alone = probabilities(fitted(n * p))[1]
    change, true = (x - p[0] for x in (found, p[1]))
    assert np.corrcoef(change.ravel(), true.ravel())[0, 1] > 0.9
    assert np.abs(found - p[1]).mean() < np.abs(alone - p[1]).mean()


def test_a_pair_that_no_cell_has_may_be_as_that_of_the_like_category(monkeypatch):
    """Of many cells, one category counting alone: what it is with the condition."""
    p = truth(interaction=1.0)
    n = np.full((8, 1, 1), 1e6)
    n[1] = 0.0
    monkeypatch.setattr(f"{MODULE}.LEVEL_SHARE", 1.0)
    monkeypatch.setattr(f"{MODULE}.SHARPNESS", 1e4)
    np.testing.assert_allclose(probabilities(fitted(n * p))[1], p[3], atol=0.02)


def test_a_category_without_cells_has_no_effect():
    counts = np.random.default_rng(0).poisson(3, (8, N_GENES, N_BINS)).astype(float)
    counts[COMBINATIONS[:, 0] == 3] = 0
    found = fitted(counts)
    assert np.abs(found.effects[3]).max() < 0.05
    assert all(np.isfinite(a).all() for a in (found.bias, found.effects, found.interactions))


def test_few_cells_hardly_change_anything():
    counts = np.full((8, N_GENES, N_BINS), 100.0)
    counts[0, :, :] = 0
    counts[0, :, 3] = 1
    assert np.abs(fitted(counts).effects).max() < 0.5


def test_unknown_categories_count_for_the_others():
    p = truth()
    known = fitted(1e5 * p)
    counts = np.concatenate([1e5 * p, 1e5 * p.reshape(4, 2, N_GENES, N_BINS).mean(0)])
    codes = np.concatenate([COMBINATIONS, [[-1, 0], [-1, 1]]])
    found = fitted(counts, codes)
    assert error(found, p) < error(known, p) + 0.05


@pytest.mark.parametrize("block", [1, 7])
def test_blocks_of_genes_change_nothing(block, monkeypatch):
    counts = np.random.default_rng(0).poisson(3, (8, N_GENES, N_BINS)).astype(float)
    whole = fitted(counts)
    monkeypatch.setattr(f"{MODULE}.MOST_NUMBERS", block * 8 * N_BINS)
    parts = fitted(counts)
    for name in ("bias", "effects", "pairs", "interactions"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), atol=1e-6)


def test_no_interactions_of_very_many_pairs():
    sizes = [MOST_PAIRS, 2]
    codes = np.array([[0, 0], [1, 1]])
    found = fitted(np.ones((2, 3, 4)), codes, sizes)
    assert found.pairs.shape == (0, 2)
    assert found.interactions.shape == (0, 3, 4)


def test_no_phenotypes():
    found = fitted(np.ones((1, 3, 4)), np.zeros((1, 0), dtype=int), [])
    assert found.effects.shape == (0, 3, 4)
    np.testing.assert_allclose(np.exp(found.bias), 0.25, rtol=1e-5)


def test_like_categories_weigh_more():
    rng = np.random.default_rng(0)
    kinds = rng.normal(size=(2, N_GENES, N_BINS))[[0, 0, 1]] + 0.1 * rng.normal(size=(3, N_GENES, N_BINS))
    weights = similarities(np.zeros((N_GENES, N_BINS)), kinds)
    np.testing.assert_allclose(weights.sum(1), 1)
    assert not weights.diagonal().any()
    assert weights[0, 1] > 0.95
    assert not similarities(np.zeros((N_GENES, N_BINS)), kinds[:1]).any()
