"""Macro-averaged F1."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import f1_score

from polygene_scverse.metrics._known import known_codes


def macro_f1(true: ArrayLike, predicted: ArrayLike, *, min_cells: int = 0) -> float:
    """Compute the mean over categories of the F1 score.

    Parameters
    ----------
    true
        True codes, -1 where unknown; shape (n_obs,).
    predicted
        Predicted codes; shape (n_obs,). The code -1 (no answer) is wrong and is not a category of its own.
    min_cells
        Minimum number of true cells of a category to be included in the mean. With 0, categories that are only
        predicted are included with an F1 of 0, as in scikit-learn.

    Returns
    -------
    A number from 0 to 1, NaN if no category is left.

    Raises
    ------
    ValueError
        If the two are not vectors of the same length.

    Examples
    --------
    >>> macro_f1([0, 0, 1, 1], [0, 0, 1, 2])
    0.5555555555555555
    >>> macro_f1([0, 0, 1, 1], [0, 0, 1, 2], min_cells=1)
    0.8333333333333333
    """
    true, predicted = known_codes(true, predicted)
    categories, n_cells = np.unique(true, return_counts=True)
    if min_cells > 0:
        categories = categories[n_cells >= min_cells]
    else:
        categories = np.union1d(categories, predicted[predicted >= 0])
    if not len(categories):
        return float("nan")
    return float(f1_score(true, predicted, labels=categories, average="macro", zero_division=0))
