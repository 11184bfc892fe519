"""Risk–coverage curve."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from polygene_scverse.metrics._known import known_codes


def risk_coverage(true: ArrayLike, predicted: ArrayLike, confidence: ArrayLike) -> dict[str, NDArray[np.floating]]:
    """Compute the risk–coverage curve: the error among the cells with the highest confidence.

    Parameters
    ----------
    true
        True codes, -1 where unknown; shape (n_obs,).
    predicted
        Predicted codes; shape (n_obs,).
    confidence
        Confidence of each prediction; shape (n_obs,). Cells with the same confidence are kept together.

    Returns
    -------
    Dictionary of arrays of shape (n_thresholds,): ``threshold`` (the confidence values in descending order),
    ``coverage`` (fraction of the known cells with at least this confidence) and ``risk`` (fraction of these whose
    prediction is wrong). Empty if no cell is known.

    Raises
    ------
    ValueError
        If the three are not vectors of the same length, or a confidence is not a number.

    References
    ----------
    Geifman, El-Yaniv: Selective classification for deep neural networks. NeurIPS 2017.

    Examples
    --------
    >>> risk_coverage([0, 1, 1, 0], [0, 1, 0, 0], [0.9, 0.8, 0.5, 0.5])["risk"]
    array([0.  , 0.  , 0.25])
    """
    _, sure = known_codes(true, confidence)
    true, predicted = known_codes(true, predicted)
    if np.isnan(sure).any():
        raise ValueError(f"`confidence`: {int(np.isnan(sure).sum())} values are NaN. Pass a number for each cell.")
    order = np.argsort(-sure, kind="stable")
    sure, wrong = sure[order], (true != predicted)[order]
    last = np.flatnonzero(np.append(np.diff(sure) != 0, True)) if len(sure) else np.empty(0, dtype=int)
    n = last + 1  # number of cells with at least this confidence
    return {"threshold": sure[last], "coverage": n / max(len(sure), 1), "risk": wrong.cumsum()[last] / n}
