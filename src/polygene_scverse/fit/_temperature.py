"""Temperature scaling of logits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

SHARPEST, FLATTEST = 0.05, 20.0
"""Bounds of a temperature."""


def fit_temperature(
    logits: NDArray[np.floating], codes: NDArray[np.integer], weights: NDArray[np.floating] | None = None
) -> float:
    """Fit the temperature of logits by maximum likelihood.

    The inverse temperature has a normal prior around 1 with standard deviation 1. It has about the weight of one cell,
    and keeps the temperature away from 0 if all cells are predicted correctly.

    Parameters
    ----------
    logits
        Logits; shape (n_cells, n_categories).
    codes
        True categories; shape (n_cells,).
    weights
        Weight of each cell; shape (n_cells,). Default: 1.

    References
    ----------
    Guo, Pleiss, Sun, Weinberger: On calibration of modern neural networks. ICML 2017.
    """
    logits = np.asarray(logits, dtype=np.float64)
    of_true = logits[np.arange(len(codes)), codes]  # (n_cells,)

    def loss(inverse: float) -> float:  # convex
        of_cells = logsumexp(inverse * logits, axis=1) - inverse * of_true
        total = of_cells.sum() if weights is None else weights @ of_cells
        return float(total + 0.5 * (inverse - 1.0) ** 2)

    bounds = (1.0 / FLATTEST, 1.0 / SHARPEST)
    return 1.0 / float(minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6}).x)
