"""Discriminants as logits, and how they are mixed with others: scikit-learn, autograd and planted numbers as oracles."""

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

from polygene_scverse.fit import _linear_path
from polygene_scverse.fit._discriminants import ScatterSums
from polygene_scverse.fit._linear_path import (
    N_FOLDS,
    PRIOR,
    USUAL_TEMPERATURE,
    USUAL_WEIGHTS,
    WEIGHT_STRENGTH,
    fit_discriminants,
    fit_path_weights,
    share_of,
)
from polygene_scverse.fit._temperature import fit_temperature
from polygene_scverse.metrics import ece, nll

# how two kinds of logits are mixed


def two_kinds(n, k, weights=(0.8, 0.5), seed=0):
    """Two kinds of logits, and codes drawn from their sum with known weights."""
    rng = np.random.default_rng(seed)
    both = rng.normal(0.0, 2.0, (2, n, k))
    p = softmax(np.tensordot(weights, both, 1), axis=1)
    codes = (rng.random((n, 1)) > p.cumsum(1)).sum(1).clip(max=k - 1)
    return *both, codes


@pytest.mark.parametrize("weights", [(0.8, 0.5), (0.1, 1.5), (1.0, 0.0)], ids=str)
@pytest.mark.parametrize("k", [2, 5])
def test_planted_weights_are_found(k, weights):
    found = fit_path_weights(*two_kinds(20_000, k, weights))
    np.testing.assert_allclose(found, weights, atol=0.1)


def test_weights_are_the_slopes_of_logistic_regression(monkeypatch):
    """Without the prior."""
    monkeypatch.setattr(_linear_path, "WEIGHT_STRENGTH", 1e-6)
    a, b, codes = two_kinds(20_000, 2)
    x = np.stack([a[:, 1] - a[:, 0], b[:, 1] - b[:, 0]], axis=1)
    slopes = LogisticRegression(C=1e6, fit_intercept=False, tol=1e-8).fit(x, codes).coef_[0]
    np.testing.assert_allclose(fit_path_weights(a, b, codes), slopes, rtol=1e-3)


def test_weights_are_the_minimum_by_autograd():
    """Of cross-entropy and a normal prior around the usual ones."""
    a, b, codes = two_kinds(61, 4)
    weights = torch.tensor(fit_path_weights(a, b, codes), dtype=torch.float64, requires_grad=True)
    logits = weights[0] * torch.from_numpy(a) + weights[1] * torch.from_numpy(b)
    likelihood = torch.nn.functional.cross_entropy(logits, torch.from_numpy(codes), reduction="sum")
    prior = torch.distributions.Normal(torch.tensor(USUAL_WEIGHTS, dtype=torch.float64), WEIGHT_STRENGTH**-0.5)
    (likelihood - prior.log_prob(weights).sum()).backward()
    np.testing.assert_allclose(weights.grad, 0.0, atol=1e-2)
    assert np.abs(weights.detach().numpy() - USUAL_WEIGHTS).max() > 1e-3


@pytest.mark.parametrize("n", [0, 1, 3])
def test_few_cells_hardly_move_the_weights(n):
    """By no more than the slope of their likelihood over the strength of the prior."""
    a, b, codes = two_kinds(n, 3, weights=(1.0, 0.0))
    found, usual = np.array(fit_path_weights(a, b, codes)), np.array(USUAL_WEIGHTS)
    steepest = max((np.ptp(x, axis=1).sum() for x in (a, b)), default=0.0)
    assert np.abs(found - usual).max() <= steepest / WEIGHT_STRENGTH + 1e-6
    assert np.abs(found - usual).max() < 0.3
    if n == 0:
        np.testing.assert_array_equal(found, usual)


@pytest.mark.parametrize("which", [0, 1], ids=["transformer", "linear"])
def test_a_kind_that_is_always_wrong_counts_for_nothing(which):
    *both, codes = two_kinds(2000, 3)
    both[which] = -np.eye(3)[codes]
    found = fit_path_weights(*both, codes)
    assert found[which] == 0.0
    assert found[1 - which] > 0.3


@pytest.mark.parametrize("which", [0, 1], ids=["transformer", "linear"])
def test_a_kind_that_says_nothing_keeps_its_usual_weight(which):
    *both, codes = two_kinds(2000, 3)
    both[which] = np.zeros_like(both[which])
    assert fit_path_weights(*both, codes)[which] == pytest.approx(USUAL_WEIGHTS[which], abs=1e-4)


def test_single_precision_is_enough():
    a, b, codes = two_kinds(500, 3)
    single = fit_path_weights(a.astype(np.float32), b.astype(np.float32), codes)
    np.testing.assert_allclose(single, fit_path_weights(a, b, codes), rtol=1e-4)


def test_large_logits_do_not_overflow():
    a, b, codes = two_kinds(500, 3)
    assert np.isfinite(fit_path_weights(1e4 * a, 1e4 * b, codes)).all()


@pytest.mark.parametrize(
    ("weights", "share"), [((0.3, 0.7), 0.7), ((2.0, 6.0), 0.75), ((1.0, 0.0), 0.0), ((0.0, 1.0), 1.0), ((0.0, 0.0), 0)]
)
def test_share_by_hand(weights, share):
    assert share_of(weights) == pytest.approx(share)


# discriminants as logits


def gaussian_cells(n, k=3, n_genes=17, shares=None, seed=0):
    """Correlated genes whose mean depends on the category; the means are the same for every seed."""
    rng = np.random.default_rng([seed, 1])
    centres, mixing = (np.random.default_rng(0).normal(size=(m, n_genes)) for m in (k, n_genes))
    codes = rng.choice(k, n, p=shares)
    return (0.5 * centres[codes] + rng.normal(size=(n, n_genes)) @ mixing / 3).astype(np.float32), codes


def folds_of(n, seed=0):
    return np.random.default_rng(seed).permutation(n) % N_FOLDS


def path_of(x, codes, k=3, seed=0):
    return fit_discriminants(lambda rows: x[rows], codes, k, folds_of(len(x), seed))


def by_hand(x, codes, k, folds):
    """Each fold by moments of the other ones, without any subtraction."""
    logits, of_rows = np.zeros((len(x), k)), np.zeros(len(x), dtype=bool)
    for fold in range(N_FOLDS):
        rest, rows = (codes >= 0) & (folds != fold), (codes >= 0) & (folds == fold)
        logits[rows] = ScatterSums.fit(x[rest].astype(float), codes[rest], k).discriminants()(x[rows])
        of_rows |= rows
    temperature = USUAL_TEMPERATURE * fit_temperature(logits[of_rows] / USUAL_TEMPERATURE, codes[of_rows])
    known = ScatterSums.fit(x[codes >= 0].astype(float), codes[codes >= 0], k)
    found, shares = known.discriminants(), known.counts / known.counts.sum()
    return found.weights / temperature, found.bias / temperature + PRIOR * np.log(shares)


@pytest.mark.parametrize("missing", [0.0, 0.4], ids=["all known", "some unknown"])
def test_scale_is_that_which_predicts_each_fold_best_from_the_others(missing):
    x, codes = gaussian_cells(211, shares=[0.6, 0.3, 0.1])
    codes = np.where(np.random.default_rng(1).random(211) < missing, -1, codes)
    found, (weights, bias) = path_of(x, codes), by_hand(x, codes, 3, folds_of(211))
    np.testing.assert_allclose(found.weights, weights, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.bias, bias, rtol=1e-4, atol=1e-4)


def test_genes_are_chosen_without_the_fold_that_is_predicted(monkeypatch):
    """Only the moments of genes that are looked at are computed; the result is that of all of them."""
    x, codes = gaussian_cells(211, n_genes=40)
    found = fit_discriminants(lambda rows: x[rows], codes, 3, folds_of(211), max_genes=6)
    monkeypatch.setattr(ScatterSums.discriminants, "__defaults__", (0.6, 5.0, 6))
    weights, bias = by_hand(x, codes, 3, folds_of(211))
    assert found.weights.shape == (40, 3)
    assert np.count_nonzero(found.weights.any(axis=1)) == 6
    np.testing.assert_allclose(found.weights, weights, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.bias, bias, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("n", "n_genes"), [(2000, 17), (600, 499)], ids=["few genes", "many genes"])
def test_probabilities_of_other_cells_are_calibrated(n, n_genes):
    """Where categories are equally frequent. Of many genes they would be far too sure without the temperature."""
    (x, codes), (others, truth) = gaussian_cells(n, n_genes=n_genes), gaussian_cells(4000, n_genes=n_genes, seed=1)
    raw = ScatterSums.fit(x, codes, 3).discriminants()(others)
    p = softmax(path_of(x, codes)(others), axis=1)
    assert ece(truth, p) < 0.06
    best = softmax(raw / fit_temperature(raw, truth), axis=1)
    assert nll(truth, p) < nll(truth, best) + 0.02
    if n_genes > n / 2:
        assert ece(truth, softmax(raw, axis=1)) > 0.15


def test_half_of_the_log_share_is_in_a_categorys_logit():
    """Nine cells of one category for each of the other: a ninth of them would ask for log 9, half of it is given."""
    x, codes = gaussian_cells(20_000, 2, n_genes=5, shares=[0.9, 0.1])
    same = np.zeros_like(x)  # genes that tell nothing leave the bias alone
    found = path_of(same, codes, 2)
    assert not found.weights.any()
    assert found.bias[0] - found.bias[1] == pytest.approx(0.5 * np.log(np.mean(codes == 0) / np.mean(codes == 1)))


def test_the_same_seed_gives_the_same_numbers():
    x, codes = gaussian_cells(211)
    a, b, c = (path_of(x, codes, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(a.weights, b.weights)
    np.testing.assert_array_equal(a.bias, b.bias)
    assert not np.array_equal(a.weights, c.weights)  # other folds: another scale
    np.testing.assert_allclose(a.weights, c.weights, rtol=0.2, atol=1e-6)


CODES = {
    "no cell is known": np.full(11, -1),
    "one cell is known": np.r_[np.full(10, -1), 2],
    "one category": np.full(11, 1),
    "a category of one cell": np.r_[np.arange(10) % 2, 2],
    "fewer cells than folds": np.array([0, 1, -1]),
}


@pytest.mark.parametrize("codes", CODES.values(), ids=CODES)
def test_few_cells_give_finite_logits(codes):
    x, _ = gaussian_cells(len(codes))
    found = path_of(x, codes)
    assert np.isfinite(found.weights).all()
    assert np.isfinite(found.bias).all()
    n_cells = np.bincount(codes[codes >= 0], minlength=3)
    assert not found.weights[:, n_cells == 0].any()
    if n_cells.sum() == 0:
        np.testing.assert_array_equal(found.bias, found.bias[0])
