"""Temperatures of logits: scikit-learn and torch as oracles."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from polygene_scverse.fit._temperature import FLATTEST, SHARPEST, fit_temperature
from polygene_scverse.metrics import ece, nll


def simulated_logits(n, k, temperature, seed=0):
    """Logits that are too large by a known factor, and codes drawn from what they should be."""
    rng = np.random.default_rng(seed)
    true = rng.normal(0, 2, (n, k))
    p = np.exp(true) / np.exp(true).sum(1, keepdims=True)
    codes = (rng.random((n, 1)) > p.cumsum(1)).sum(1).clip(max=k - 1)
    return true * temperature, codes


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0], ids=str)
@pytest.mark.parametrize("k", [2, 7], ids=str)
def test_known_temperature(temperature, k):
    logits, codes = simulated_logits(20_000, k, temperature)
    assert fit_temperature(logits, codes) == pytest.approx(temperature, rel=0.03)


def test_is_the_slope_of_logistic_regression():
    logits, codes = simulated_logits(5000, 2, 2.5)
    slope = LogisticRegression(C=1e6, fit_intercept=False).fit(logits[:, 1:] - logits[:, :1], codes).coef_[0, 0]
    assert fit_temperature(logits, codes) == pytest.approx(1 / slope, rel=0.002)


def test_is_the_minimum_by_autograd():
    logits, codes = simulated_logits(60, 4, 2.0)
    inverse = torch.tensor(1 / fit_temperature(logits, codes), dtype=torch.float64, requires_grad=True)
    likelihood = torch.nn.functional.cross_entropy(
        torch.from_numpy(logits) * inverse, torch.from_numpy(codes), reduction="sum"
    )
    loss = likelihood - torch.distributions.Normal(1.0, 1.0).log_prob(inverse)
    loss.backward()
    assert inverse.grad.item() == pytest.approx(0.0, abs=1e-3)


def test_weights_are_as_repeated_cells():
    logits, codes = simulated_logits(60, 4, 2.0)
    times = np.arange(60) % 3
    expected = fit_temperature(np.repeat(logits, times, axis=0), np.repeat(codes, times))
    assert fit_temperature(logits, codes, times.astype(float)) == pytest.approx(expected, rel=1e-4)


def test_all_right_does_not_make_certain():
    logits = np.tile([5.0, 0.0], (300, 1))
    assert 0.5 < fit_temperature(logits, np.zeros(300, dtype=int)) < 1.0


def test_calibration_lowers_the_errors():
    logits, codes = simulated_logits(4000, 5, 4.0)
    t = fit_temperature(logits, codes)
    before, after = (torch.from_numpy(logits / x).softmax(-1).numpy() for x in (1.0, t))
    assert ece(codes, after) < 0.03 < 0.1 < ece(codes, before)
    assert nll(codes, after) < nll(codes, before)


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["single", "double"])
def test_is_fitted_in_double_precision(dtype):
    logits, codes = simulated_logits(500, 3, 2.0)
    logits = logits.astype(np.float32)
    assert fit_temperature(logits.astype(dtype), codes) == fit_temperature(logits, codes)


def test_without_cells_it_is_1():
    assert fit_temperature(np.zeros((0, 3)), np.zeros(0, dtype=int)) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize(("sign", "bound"), [(1.0, SHARPEST), (-1.0, FLATTEST)], ids=["right", "wrong"])
def test_it_stays_within_bounds(sign, bound):
    """Thousands of cells that are all nearly undecided but right, or all wrong."""
    logits = np.tile([sign * 1e-2, 0.0], (20_000, 1))
    assert fit_temperature(logits, np.zeros(len(logits), dtype=int)) == pytest.approx(bound, rel=1e-3)
