"""Coverage of prediction sets."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from polygene_scverse.metrics._known import known_probabilities


def set_coverage(true: ArrayLike, sets: ArrayLike) -> float:
    """Compute the fraction of the known cells whose prediction set contains their true category.

    Parameters
    ----------
    true
        True codes, -1 where unknown; shape (n_obs,).
    sets
        Whether each category is in the set of each cell; shape (n_obs, n_categories).

    Returns
    -------
    A number from 0 to 1, NaN if no cell is known.

    Raises
    ------
    ValueError
        If there is not one row per cell, or a code has no column.

    Examples
    --------
    >>> set_coverage([0, 1, 1, -1], [[True, False], [True, True], [True, False], [False, False]])
    0.6666666666666666
    """
    true, sets = known_probabilities(true, sets)
    return float(sets[np.arange(len(true)), true].mean()) if len(true) else float("nan")
