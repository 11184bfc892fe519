"""Losses against torch, scipy and scikit-learn. 7 bins, 5 categories, 13 cells, 11 targets."""

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from scipy.stats import norm
from sklearn.metrics import log_loss
from torch.nn import functional as F

from polygene_scverse.module._losses import bin_loss, ordinal_targets, phenotype_loss


def logits_of(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def codes_of(n, *shape, seed=1):
    return torch.randint(0, n, shape, generator=torch.Generator().manual_seed(seed))


def test_ordinal_targets_by_hand():
    a, b = np.exp(-0.5), np.exp(-2.0)
    expected = [
        [1, 0, 0, 0],
        [0, 1 / (1 + a + b), a / (1 + a + b), b / (1 + a + b)],
        [0, a / (1 + 2 * a), 1 / (1 + 2 * a), a / (1 + 2 * a)],
        [0, b / (1 + a + b), a / (1 + a + b), 1 / (1 + a + b)],
    ]
    np.testing.assert_allclose(ordinal_targets(4, width=1.0), expected, rtol=1e-6)


@pytest.mark.parametrize("width", [0.3, 0.5, 2.0])
def test_ordinal_targets_are_a_gaussian_over_expressed_bins(width):
    bins = np.arange(1, 7)
    density = norm.pdf(bins[None, :], loc=bins[:, None], scale=width)
    expected = density / density.sum(1, keepdims=True)
    np.testing.assert_allclose(ordinal_targets(7, width)[1:, 1:], expected, rtol=1e-5, atol=1e-8)


def test_width_zero_smooths_nothing():
    assert torch.equal(ordinal_targets(7, 0.0), torch.eye(7))


def test_a_neighbouring_bin_costs_less_than_the_farthest():
    guesses = 5.0 * F.one_hot(torch.arange(1, 7), 7)
    costs = bin_loss(guesses, torch.full((6,), 3), ordinal_targets(7, 1.0))
    assert costs.argmin() == 2
    assert costs[1] < costs[0]
    assert costs[3] < costs[4] < costs[5]


@pytest.mark.parametrize("width", [0.0, 0.5])
def test_bin_loss_equals_torch_cross_entropy(width):
    logits, bins, smoothed = logits_of(13, 11, 7), codes_of(7, 13, 11), ordinal_targets(7, width)
    expected = F.cross_entropy(logits.flatten(0, 1), smoothed[bins.flatten()], reduction="none").view(13, 11)
    torch.testing.assert_close(bin_loss(logits, bins, smoothed), expected)


def test_bin_loss_equals_scipy():
    logits, bins, smoothed = logits_of(11, 7), codes_of(7, 11), ordinal_targets(7, 0.8)
    expected = -(smoothed.numpy()[bins] * log_softmax(logits.numpy(), axis=-1)).sum(-1)
    np.testing.assert_allclose(bin_loss(logits, bins, smoothed), expected, rtol=1e-5)


def test_two_bins_are_binary_cross_entropy():
    logits, bins = logits_of(13, 11, 2), codes_of(2, 13, 11)
    loss = bin_loss(logits, bins, ordinal_targets(2, 0.5))
    expected = F.binary_cross_entropy_with_logits(logits[..., 1] - logits[..., 0], bins.float(), reduction="none")
    torch.testing.assert_close(loss, expected)
    probability = torch.sigmoid(logits[..., 1] - logits[..., 0]).double().flatten()
    assert loss.mean().item() == pytest.approx(log_loss(bins.flatten(), probability), rel=1e-5)


@pytest.mark.parametrize("n_bins", [2, 7])
def test_padding_of_targets_has_no_loss_and_no_gradient(n_bins):
    logits, bins = logits_of(13, 11, n_bins).requires_grad_(), codes_of(n_bins, 13, 11)
    bins[:, 8:] = -1
    loss = bin_loss(logits, bins, ordinal_targets(n_bins, 0.5))
    loss.sum().backward()
    assert not loss[:, 8:].any()
    assert not logits.grad[:, 8:].any()
    expected = bin_loss(logits[:, :8], bins[:, :8], ordinal_targets(n_bins, 0.5))
    torch.testing.assert_close(loss[:, :8], expected)


@pytest.mark.parametrize("n_bins", [2, 7])
def test_zero_offset_is_added_to_the_logit_of_bin_0(n_bins):
    logits, bins, smoothed = logits_of(13, 11, n_bins), codes_of(n_bins, 13, 11), ordinal_targets(n_bins, 0.5)
    offset = logits_of(13, 1, seed=2)
    shifted = torch.cat([logits[..., :1] + offset[..., None], logits[..., 1:]], -1)
    torch.testing.assert_close(bin_loss(logits, bins, smoothed, offset), bin_loss(shifted, bins, smoothed))


@pytest.mark.parametrize("n_bins", [2, 4])
def test_zero_offset_recovers_the_zero_fraction(n_bins):
    """A model of one bias, fitted to targets with far too many expressed genes, knows how many genes are zero."""
    true = torch.tensor([0.9, 0.1] if n_bins == 2 else [0.9, 0.05, 0.03, 0.02])
    shares = torch.tensor([[0.15, 0.15 / 9], [0.3, 0.02], [0.1, 0.1]])  # of expressed and of not-expressed genes
    bias = torch.zeros(n_bins, requires_grad=True)
    bins = torch.arange(n_bins).expand(3, -1)
    weights = true * torch.cat([shares[:, 1:], shares[:, :1].expand(-1, n_bins - 1)], 1)  # expected number of targets
    offset = (shares[:, 1] / shares[:, 0]).log()[:, None]
    optimizer = torch.optim.LBFGS([bias], max_iter=100, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = (weights * bin_loss(bias.expand(3, n_bins, n_bins), bins, torch.eye(n_bins), offset)).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    torch.testing.assert_close(bias.softmax(0), true, atol=1e-3, rtol=0)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_phenotype_loss_equals_torch_with_ignored_cells(smoothing):
    logits, codes = logits_of(13, 5), codes_of(5, 13)
    codes[[2, 7]] = -1
    expected = F.cross_entropy(logits, codes, ignore_index=-1, label_smoothing=smoothing, reduction="none")
    torch.testing.assert_close(phenotype_loss(logits, codes, smoothing), expected)


def test_phenotype_loss_equals_scikit_learn():
    logits, codes = logits_of(13, 5).double(), codes_of(5, 13)
    expected = log_loss(codes, logits.softmax(1), labels=range(5))
    assert phenotype_loss(logits, codes).mean().item() == pytest.approx(expected)


def test_unknown_phenotypes_have_no_loss_and_a_zero_gradient():
    logits = logits_of(13, 5).requires_grad_()
    loss = phenotype_loss(logits, torch.full((13,), -1), smoothing=0.1)
    loss.sum().backward()
    assert torch.equal(loss, torch.zeros(13))
    assert torch.equal(logits.grad, torch.zeros(13, 5))


def test_smoothing_spreads_over_all_categories():
    logits = torch.zeros(1, 5, requires_grad=True)
    phenotype_loss(logits, torch.tensor([1]), smoothing=0.5).sum().backward()
    np.testing.assert_allclose(logits.grad[0], 0.2 - np.array([0.1, 0.6, 0.1, 0.1, 0.1]), atol=1e-6)
