"""How much logits are flattened so that probabilities match how often they are right."""

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
    """Temperature by which logits are divided so that the likelihood of known cells is highest.

    The inverse temperature has a normal prior around 1 with standard deviation 1. It weighs as much as one cell or
    so, and keeps the temperature away from 0 where every cell is right.

    Parameters
    ----------
    logits
        Shape (n_cells, n_categories).
    codes
        True codes; shape (n_cells,).
    weights
        How much each cell counts, 1 by default; shape (n_cells,).

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
