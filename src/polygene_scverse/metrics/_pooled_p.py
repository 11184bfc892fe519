"""P-values of statistics beside the values of a null that are pooled over genes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def pooled_p(observed: NDArray[np.floating], null: NDArray[np.floating]) -> NDArray[np.float64]:
    """Share of the null values, the observed value counted as one of them, that are at least as large.

    For two sides pass absolute values.

    Parameters
    ----------
    observed
        Any shape.
    null
        Any shape; NaN are left out.

    Returns
    -------
    Shape as of `observed`, NaN where it is.

    References
    ----------
    Phipson and Smyth, Permutation p-values should never be zero, 2010.
    """
    ordered = np.sort(null[~np.isnan(null)])
    reached = len(ordered) - np.searchsorted(ordered, observed, side="left")
    return np.where(np.isnan(observed), np.nan, (1.0 + reached) / (1.0 + len(ordered)))
