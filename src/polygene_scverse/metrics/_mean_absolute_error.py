"""Mean absolute error of ordered phenotypes."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import mean_absolute_error as _mean_absolute_error

from polygene_scverse.metrics._known import known_probabilities


def mean_absolute_error(true: ArrayLike, probabilities: ArrayLike, values: ArrayLike) -> float:
    """Compute the mean absolute difference between true and expected values, for numeric categories.

    Parameters
    ----------
    true
        True codes, -1 where unknown; shape (n_obs,).
    probabilities
        Probability of each category; shape (n_obs, n_categories).
    values
        Numeric value of each category; shape (n_categories,).

    Returns
    -------
    Error in the unit of `values`, such as years. NaN if no cell is known.

    Raises
    ------
    ValueError
        If there is not one row per cell, a code has no column, or there is not one value per category.

    Examples
    --------
    >>> mean_absolute_error([0, 1], [[1.0, 0.0], [0.5, 0.5]], [20, 40])
    5.0
    """
    true, probabilities = known_probabilities(true, probabilities)
    values = np.asarray(values, dtype=np.float64)
    if values.shape != probabilities.shape[1:]:
        raise ValueError(
            f"`values`: found shape {values.shape} for {probabilities.shape[1]} categories. Pass one value for each."
        )
    return float(_mean_absolute_error(values[true], probabilities @ values)) if len(true) else float("nan")
