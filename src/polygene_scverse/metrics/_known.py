"""Restrict codes and probabilities to cells whose true category is known."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def known_codes(true: ArrayLike, predicted: ArrayLike) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """Exclude the cells whose true code is -1.

    Parameters
    ----------
    true
        True codes, -1 where unknown; shape (n_obs,).
    predicted
        Predicted codes; shape (n_obs,).

    Returns
    -------
    Both, for the known cells only; shape (n_known,).

    Raises
    ------
    ValueError
        If the two are not vectors of the same length.
    """
    true, predicted = np.asarray(true), np.asarray(predicted)
    if true.ndim != 1 or true.shape != predicted.shape:
        raise ValueError(
            f"`predicted`: found shape {predicted.shape} where `true` has {true.shape}. Pass one code per cell in both."
        )
    return true[true >= 0], predicted[true >= 0]


def known_probabilities(true: ArrayLike, probabilities: ArrayLike) -> tuple[NDArray[np.integer], NDArray[np.floating]]:
    """Exclude the cells whose true code is -1.

    Parameters
    ----------
    true
        True codes, -1 where unknown; shape (n_obs,).
    probabilities
        Probability of each category; shape (n_obs, n_categories).

    Returns
    -------
    Codes, shape (n_known,), and probabilities in double precision, shape (n_known, n_categories).

    Raises
    ------
    ValueError
        If there is not one row per cell, or a code has no column.
    """
    true, probabilities = np.asarray(true), np.asarray(probabilities, dtype=np.float64)
    if probabilities.ndim != 2 or true.shape != probabilities.shape[:1]:
        raise ValueError(
            f"`probabilities`: found shape {probabilities.shape} where `true` has {true.shape}. Pass one row per cell "
            "and one column per category."
        )
    if true.size and true.max() >= probabilities.shape[1]:
        raise ValueError(
            f"`true`: found the code {true.max()}, but `probabilities` has {probabilities.shape[1]} columns. Pass one "
            "column per category."
        )
    return true[true >= 0], probabilities[true >= 0]


def confidence_bins(
    true: NDArray[np.integer], probabilities: NDArray[np.floating], n_bins: int
) -> tuple[NDArray[np.floating], NDArray[np.bool_], NDArray[np.int64]]:
    """Compute the confidence of the most probable category, whether it is correct, and its bin.

    Parameters
    ----------
    true
        Known codes; shape (n_known,).
    probabilities
        Probability of each category; shape (n_known, n_categories).
    n_bins
        Number of bins.

    Returns
    -------
    Three arrays of shape (n_known,).
    """
    confidence = probabilities.max(axis=1)
    bins = np.digitize(confidence, np.linspace(0, 1, n_bins + 1)[1:-1])
    return confidence, probabilities.argmax(axis=1) == true, bins
