"""Normalisation to log1p of counts per 10,000, and binning; applied to stored values only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from polygene_scverse._constants import TARGET_SUM
from polygene_scverse._validate import check_choice

EVERY_VALUE = np.array([0.0, np.nextafter(0.0, 1.0)])
"""Bin edges with which any value above 0 counts as expressed."""


def normalize(values: NDArray[np.float32], totals: NDArray[np.floating]) -> NDArray[np.float32]:
    """Normalise counts to log1p of counts per 10,000.

    Parameters
    ----------
    values
        Stored counts.
    totals
        Total count of the cell of each stored value, including genes that the model does not have; same shape.
    """
    return np.log1p(values * np.float32(TARGET_SUM) / totals.astype(np.float32))


def original_edges(n_bins: int) -> NDArray[np.float64]:
    """Bin edges of the original: 0, then ``n_bins - 1`` equally spaced from 0.1 to 9.0; shape (n_bins,)."""
    return np.concatenate([[0.0], np.linspace(0.1, 9.0, n_bins - 1)])


def make_edges(binning: str | Sequence[float], n_bins: int, values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Bin edges by name, or as given; `values` are the expressed values of the training cells.

    Raises
    ------
    ValueError
        If the name is unknown, or if given edges do not ascend from 0 or their number is not `n_bins`.
    """
    if not isinstance(binning, str):
        edges = np.asarray(binning, dtype=np.float64)
        if edges.shape != (n_bins,) or edges[0] != 0 or not np.all(np.diff(edges) > 0):
            raise ValueError(
                f"`binning`: found the edges {edges.tolist()}, but n_bins={n_bins} lower edges are needed that begin "
                "with 0 and ascend. Pass such edges, or another n_bins."
            )
        return edges
    check_choice(binning, ("quantile", "original"), "binning")
    return original_edges(n_bins) if binning == "original" else quantile_edges(values, n_bins)


def quantile_edges(values: NDArray[np.floating], n_bins: int) -> NDArray[np.float64]:
    """Bin edges that spread expressed values evenly over bins 1 … n_bins - 1; every value above 0 is expressed.

    Parameters
    ----------
    values
        Stored values of the training cells, all above 0.
    n_bins
        Number of bins, bin 0 included.

    Returns
    -------
    Lower edge of each bin, shape (n_bins,). Tied values may leave a bin empty.
    """
    if not values.size:
        return np.linspace(0.0, 1.0, n_bins)
    inner = np.quantile(values.astype(np.float64), np.linspace(0, 1, n_bins)[1:-1])
    return np.concatenate([EVERY_VALUE, inner])


def digitize(values: NDArray[np.floating], edges: NDArray[np.float64]) -> NDArray[np.int64]:
    """Bin of each value: the last edge that does not exceed it. Values must not be negative.

    As in the original, float32 values are compared with float64 edges: float32(0.1) is above 0.1.
    """
    return np.searchsorted(edges, values.astype(np.float64), side="right") - 1
