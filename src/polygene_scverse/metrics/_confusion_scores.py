"""Scores of confusion matrices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray


def confusion_scores(matrices: Sequence[ArrayLike], *, classes: Sequence[int] | None = None) -> dict[str, float]:
    """Compute accuracy and macro-averaged precision, recall and F1 of one or more confusion matrices.

    Several matrices are scored as one matrix with these blocks on its diagonal.

    Parameters
    ----------
    matrices
        Counts with true classes in rows and predicted ones in columns; each of shape (n_classes, n_classes).
    classes
        Classes to score, numbered across all matrices; by default all. Predictions for other classes still count in the
        precision, as with `labels` in scikit-learn.

    Returns
    -------
    Dictionary with ``n`` (number of predictions whose true class is scored), ``n_classes`` (number of classes that
    occur as truth or prediction), ``accuracy``, and ``precision``, ``recall`` and ``f1`` (means over the classes that
    occur, with 0 for undefined values). NaN if nothing is scored.

    Raises
    ------
    ValueError
        If a matrix is not square.

    Examples
    --------
    >>> confusion_scores([[[3, 1], [0, 4]]])["accuracy"]
    0.875
    """
    blocks = [np.asarray(matrix, dtype=np.float64) for matrix in matrices]
    for block in blocks:
        if block.ndim != 2 or block.shape[0] != block.shape[1]:
            raise ValueError(
                f"`matrices`: found the shape {block.shape}, but a confusion matrix is square. "
                "Pass counts with the same classes in rows and columns."
            )
    right, true, predicted = (
        np.concatenate([np.zeros(0), *parts])
        for parts in ([b.diagonal() for b in blocks], [b.sum(1) for b in blocks], [b.sum(0) for b in blocks])
    )
    chosen = np.zeros(len(right), dtype=bool)
    chosen[slice(None) if classes is None else np.asarray(classes, dtype=np.intp)] = True
    chosen &= true + predicted > 0
    right, true, predicted = right[chosen], true[chosen], predicted[chosen]
    return {
        "n": float(true.sum()),
        "n_classes": float(chosen.sum()),
        "accuracy": float(right.sum() / true.sum()) if true.sum() else float("nan"),
        "precision": _mean(right, predicted),
        "recall": _mean(right, true),
        "f1": _mean(2 * right, true + predicted),
    }


def _mean(part: NDArray[np.float64], whole: NDArray[np.float64]) -> float:
    """Mean share over the classes, 0 where the denominator is 0; NaN without classes."""
    if not len(part):
        return float("nan")
    return float(np.divide(part, whole, out=np.zeros_like(part), where=whole > 0).mean())
