"""Confusion matrix."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import confusion_matrix as _confusion_matrix

from polygene_scverse.metrics._known import known_codes


def confusion_matrix(
    true: ArrayLike, predicted: ArrayLike, *, n_categories: int, normalize: Literal["true", "pred", "all"] | None = None
) -> NDArray[np.floating | np.integer]:
    """Compute the number or fraction of cells by true and predicted category.

    Parameters
    ----------
    true
        True codes, -1 where unknown; shape (n_obs,).
    predicted
        Predicted codes; shape (n_obs,). Cells with the code -1 (no answer) are left out.
    n_categories
        Number of categories.
    normalize
        Normalise over true categories (``"true"``), predicted categories (``"pred"``) or all cells (``"all"``), as in
        scikit-learn. None counts cells. Categories without cells have fractions of 0.

    Returns
    -------
    Matrix with true categories in rows and predicted ones in columns; shape (n_categories, n_categories).

    Raises
    ------
    ValueError
        If the two are not vectors of the same length.

    Examples
    --------
    >>> confusion_matrix([0, 1, 1, -1], [0, 0, 1, 1], n_categories=2)
    array([[1, 0],
           [1, 1]])
    """
    true, predicted = known_codes(true, predicted)
    answered = predicted >= 0
    if not answered.any():
        return np.zeros((n_categories, n_categories), dtype=float if normalize else int)
    codes = np.arange(n_categories)
    return _confusion_matrix(true[answered], predicted[answered], labels=codes, normalize=normalize)
