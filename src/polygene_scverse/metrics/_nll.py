"""Negative log-likelihood."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from polygene_scverse.metrics._known import known_probabilities


def nll(true: ArrayLike, probabilities: ArrayLike) -> float:
    """Compute the mean negative log-likelihood (NLL) of the true category over the known cells.

    Parameters
    ----------
    true
        True codes, -1 where unknown; shape (n_obs,).
    probabilities
        Probability of each category; shape (n_obs, n_categories).

    Returns
    -------
    NLL in nats; NaN if no cell is known. Probabilities are clipped at the machine epsilon of double precision, so that
    one cell cannot make the mean infinite.

    Raises
    ------
    ValueError
        If there is not one row per cell, or a code has no column.

    Examples
    --------
    >>> round(nll([0, 1], [[1.0, 0.0], [0.5, 0.5]]), 4)
    0.3466
    """
    true, probabilities = known_probabilities(true, probabilities)
    if not len(true):
        return float("nan")
    true_probability = probabilities[np.arange(len(true)), true]  # (n_known,)
    return float(-np.log(true_probability.clip(min=np.finfo(np.float64).eps)).mean())
