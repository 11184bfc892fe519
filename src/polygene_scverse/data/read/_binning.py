"""Expression scale and expression bins, on stored values only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from polygene_scverse._constants import TARGET_SUM
from polygene_scverse._validate import check_choice, check_finite, check_not_negative

Scale = Literal["counts", "log1p"]
LARGEST_LOG1P = float(np.log1p(TARGET_SUM)) + 5.0  # about 14.2: one gene with every count of a cell has 9.2

EVERY_VALUE = np.array([0.0, np.nextafter(0.0, 1.0)])
"""Edges of bins for which any value above 0 is expressed."""


def detect_scale(blocks: Iterable[NDArray[np.floating]], where: str = "adata.X", remedy: str = "") -> Scale:
    """Tell raw counts from log1p-normalised values, and refuse anything else.

    Parameters
    ----------
    blocks
        Stored values, block after block.
    where
        Name of their place, for the error.
    remedy
        What to pass instead, for the error; begins with a comma.

    Raises
    ------
    ValueError
        If a value is NaN, infinite or negative, or if values are neither whole numbers nor small enough for
        log1p of counts per 10,000.
    """
    whole = True
    for values in blocks:
        check_values(values, "counts", where, remedy)
        whole = whole and bool(np.all(values == np.rint(values)))
        if not whole:
            check_values(values, "log1p", where, remedy)
    return "counts" if whole else "log1p"


def check_values(values: NDArray[np.floating], scale: Scale, where: str = "adata.X", remedy: str = "") -> None:
    """Refuse values that cannot be of a scale; arguments and errors as of `detect_scale`."""
    check_finite(values, where, remedy)
    check_not_negative(values, where, remedy)
    if scale == "log1p" and (highest := float(values.max(initial=0.0))) > LARGEST_LOG1P:
        raise ValueError(
            f"`adata`: {where} has values that are not whole numbers and reach {highest:.4g}: neither raw counts nor "
            f"log1p of counts per 10,000. If they are normalised, call sc.pp.log1p(adata) first{remedy}."
        )


def normalize(values: NDArray[np.float32], totals: NDArray[np.floating]) -> NDArray[np.float32]:
    """Counts to log1p of counts per 10,000.

    Parameters
    ----------
    values
        Stored counts.
    totals
        Total count of the cell of each stored value, genes outside of the model included; same shape.
    """
    return np.log1p(values * np.float32(TARGET_SUM) / totals.astype(np.float32))


def original_edges(n_bins: int) -> NDArray[np.float64]:
    """Edges of the original: 0, then ``n_bins - 1`` equally spaced from 0.1 to 9.0; shape (n_bins,)."""
    return np.concatenate([[0.0], np.linspace(0.1, 9.0, n_bins - 1)])


def make_edges(binning: str | Sequence[float], n_bins: int, values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Edges by name, or as given; `values` are the expressed values of the training cells.

    Raises
    ------
    ValueError
        If the name is unknown, or given edges do not ascend from 0 or are not `n_bins`.
    """
    if not isinstance(binning, str):
        edges = np.asarray(binning, dtype=np.float64)
        if edges.shape != (n_bins,) or edges[0] != 0 or not np.all(np.diff(edges) > 0):
            raise ValueError(
                f"`binning`: found the edges {edges.tolist()}, but n_bins={n_bins} lower edges are needed that begin "
                "with 0 and ascend."
            )
        return edges
    check_choice(binning, ("quantile", "original"), "binning")
    return original_edges(n_bins) if binning == "original" else quantile_edges(values, n_bins)


def quantile_edges(values: NDArray[np.floating], n_bins: int) -> NDArray[np.float64]:
    """Edges that spread expressed values evenly over bins 1 … n_bins - 1; every value above 0 is expressed.

    Parameters
    ----------
    values
        Stored values of the training cells, all above 0.
    n_bins
        Number of bins, bin 0 included.

    Returns
    -------
    Lower edge of each bin, shape (n_bins,). Ties among values may leave a bin empty.
    """
    if not values.size:
        return np.linspace(0.0, 1.0, n_bins)
    inner = np.quantile(values.astype(np.float64), np.linspace(0, 1, n_bins)[1:-1])
    return np.concatenate([EVERY_VALUE, inner])


def digitize(values: NDArray[np.floating], edges: NDArray[np.float64]) -> NDArray[np.int64]:
    """Bin of each value: the last edge that is not above it. Values are not negative.

    float32 values are compared with float64 edges, as the original does: float32(0.1) is above 0.1.
    """
    return np.searchsorted(edges, values.astype(np.float64), side="right") - 1
