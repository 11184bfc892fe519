"""Reliability of probabilities."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from polygene_scverse.metrics._known import confidence_bins, known_probabilities


def reliability(true: ArrayLike, probabilities: ArrayLike, *, n_bins: int = 15) -> dict[str, NDArray[np.floating]]:
    """Compute the mean confidence and the accuracy of the most probable category, in bins of confidence.

    The bins have equal width and are those of :func:`~polygene_scverse.metrics.ece`.

    Parameters
    ----------
    true
        True codes, -1 where unknown; shape (n_obs,).
    probabilities
        Probability of each category; shape (n_obs, n_categories).
    n_bins
        Number of bins.

    Returns
    -------
    Dictionary of arrays of shape (n_bins,): ``lower`` and ``upper`` (edges of the bins), ``n_cells``, ``confidence``
    and ``accuracy`` (means over the cells of a bin, NaN if it is empty).

    Raises
    ------
    ValueError
        If there is not one row per cell, or a code has no column.

    References
    ----------
    Guo, Pleiss, Sun, Weinberger: On calibration of modern neural networks. ICML 2017.
    """
    true, probabilities = known_probabilities(true, probabilities)
    edges = np.linspace(0, 1, n_bins + 1)
    confidence, right, bins = confidence_bins(true, probabilities, n_bins)
    n_cells = np.bincount(bins, minlength=n_bins)
    sums = [np.bincount(bins, weights=values, minlength=n_bins) for values in (confidence, right)]
    means = [np.divide(s, n_cells, out=np.full(n_bins, np.nan), where=n_cells > 0) for s in sums]
    return {"lower": edges[:-1], "upper": edges[1:], "n_cells": n_cells, "confidence": means[0], "accuracy": means[1]}
