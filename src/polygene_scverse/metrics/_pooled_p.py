"""P-values of statistics compared with a null distribution that is pooled over genes, and false discovery rates."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import false_discovery_control


def pooled_p(observed: NDArray[np.floating], null: NDArray[np.floating]) -> NDArray[np.float64]:
    """Share of the null values, with the observed value included as one of them, that are at least as large.

    Pass absolute values for a two-sided test.

    Parameters
    ----------
    observed
        Observed statistics, of any shape.
    null
        Statistics under the null, of any shape; NaN are left out.

    Returns
    -------
    P-values in the shape of `observed`; NaN where it is NaN.

    References
    ----------
    Phipson and Smyth, Permutation p-values should never be zero, 2010.
    """
    ordered = np.sort(null[~np.isnan(null)])
    reached = len(ordered) - np.searchsorted(ordered, observed, side="left")
    return np.where(np.isnan(observed), np.nan, (1.0 + reached) / (1.0 + len(ordered)))


def false_discovery_rate(p_value: NDArray[np.floating]) -> NDArray[np.float64]:
    """False discovery rate of each p-value (Benjamini and Hochberg 1995), NaN where it is NaN; shape (n,)."""
    known = ~np.isnan(p_value)
    found = np.full(len(p_value), np.nan)
    if known.any():
        found[known] = false_discovery_control(p_value[known])
    return found
