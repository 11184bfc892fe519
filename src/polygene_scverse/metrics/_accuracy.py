"""Accuracy."""

from __future__ import annotations

from numpy.typing import ArrayLike
from sklearn.metrics import accuracy_score

from polygene_scverse.metrics._known import known_codes


def accuracy(true: ArrayLike, predicted: ArrayLike) -> float:
    """Compute the fraction of correct predictions among the known cells.

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
    >>> accuracy([0, 1, -1, 1], [0, 1, 0, 0])
    0.6666666666666666
    """
    true, predicted = known_codes(true, predicted)
    return float(accuracy_score(true, predicted)) if len(true) else float("nan")
