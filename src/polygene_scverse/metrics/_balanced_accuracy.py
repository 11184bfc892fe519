"""Balanced accuracy."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import recall_score

from polygene_scverse.metrics._known import known_codes


def balanced_accuracy(true: ArrayLike, predicted: ArrayLike) -> float:
    """Compute the mean over categories of the fraction of their cells that are predicted correctly.

    Parameters
    ----------
    true
        True codes, -1 where unknown; shape (n_obs,).
    predicted
        Predicted codes; shape (n_obs,). The code -1 (no answer) is wrong.

    Returns
    -------
    A number from 0 to 1, NaN if no cell is known.

    Raises
    ------
    ValueError
        If the two are not vectors of the same length.

    Examples
    --------
    >>> balanced_accuracy([0, 0, 0, 1], [0, 0, 0, 0])
    0.5
    """
    true, predicted = known_codes(true, predicted)
    if not len(true):
        return float("nan")
    return float(recall_score(true, predicted, labels=np.unique(true), average="macro", zero_division=0))
