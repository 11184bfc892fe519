"""Expected calibration error."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from polygene_scverse.metrics._known import confidence_bins, known_probabilities


def ece(true: ArrayLike, probabilities: ArrayLike, *, n_bins: int = 15) -> float:
    """Compute the expected calibration error (ECE) of the most probable category.

    Cells are binned by confidence into bins of equal width. The ECE is the mean over cells of the absolute difference
    between the mean confidence and the accuracy of their bin.

    Parameters
    ----------
    true
        True codes, -1 where unknown; shape (n_obs,).
    probabilities
        Probability of each category; shape (n_obs, n_categories).
    n_bins
        Number of bins of confidence.

    Returns
    -------
    A number from 0 (calibrated) to 1, NaN if no cell is known.

    Raises
    ------
    ValueError
        If there is not one row per cell, or a code has no column.

    References
    ----------
    Guo, Pleiss, Sun, Weinberger: On calibration of modern neural networks. ICML 2017.

    Examples
    --------
    >>> ece([0, 0, 0, 1], [[0.75, 0.25]] * 4)
    0.0
    """
    true, probabilities = known_probabilities(true, probabilities)
    if not len(true):
        return float("nan")
    confidence, right, bins = confidence_bins(true, probabilities, n_bins)
    gaps = np.bincount(bins, weights=confidence - right, minlength=n_bins)  # number of cells times gap of each bin
    return float(np.abs(gaps).sum() / len(true))
