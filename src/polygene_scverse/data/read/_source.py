"""Where expression is read from: ``X``, a layer or ``raw``; in memory or on disk, sparse or dense."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from numpy.typing import NDArray

from polygene_scverse._validate import check_not_empty, check_unique_names

BLOCK = 8192
"""Rows that are read at a time."""
LARGEST_GAP = 8
"""Rows of a file that are rather read in vain than jumped over."""


def expression(adata: AnnData, layer: str | None = None, use_raw: bool = False) -> tuple[Any, pd.Index]:
    """The expression matrix and its gene names.

    Parameters
    ----------
    adata
        Annotated data matrix.
    layer
        Layer to read instead of ``X``.
    use_raw
        Whether to read ``adata.raw`` instead.

    Returns
    -------
    The matrix as it is stored, shape (n_obs, n_vars), and the n_vars gene names.

    Raises
    ------
    ValueError
        If both are asked for, if there is no ``raw`` or ``X``, or if the data are empty or gene names not unique.
    KeyError
        If there is no such layer.
    """
    if use_raw and layer is not None:
        raise ValueError(f"`use_raw`: found True together with layer={layer!r}, but one place can be read. Pass one.")
    if use_raw and adata.raw is None:
        raise ValueError("`use_raw`: found True, but adata.raw is empty. Pass use_raw=False, or set adata.raw.")
    if layer is not None and layer not in adata.layers:
        raise KeyError(f"`layer`: {layer!r} is not among the layers {list(adata.layers)}. Pass one of them, or None.")
    source = adata.raw if use_raw else adata
    x = adata.layers[layer] if layer is not None else source.X
    if x is None:
        raise ValueError(f"`adata`: adata.X is empty. Pass layer= with one of {list(adata.layers)}, or use_raw=True.")
    check_not_empty(*x.shape)
    check_unique_names(source.var_names, "adata.raw.var_names" if use_raw else "adata.var_names")
    return x, source.var_names


def place(layer: str | None, use_raw: bool) -> str:
    """How the place of expression is called in messages."""
    return "adata.raw.X" if use_raw else "adata.X" if layer is None else f"adata.layers[{layer!r}]"


def other_places(adata: AnnData, used: str) -> str:
    """What else could be read, for the error about data that cannot be used; begins with a comma."""
    places = {place(name, False): (f"layer={name!r}", adata.layers[name]) for name in adata.layers if name is not None}
    if adata.raw is not None:
        places[place(None, True)] = ("use_raw=True", adata.raw.X)
    if adata.X is not None:
        places[place(None, False)] = ("layer=None, use_raw=False (adata.X)", adata.X)
    usable = []
    for where, (argument, x) in places.items():
        values = read_rows(x, np.arange(min(100, x.shape[0]))).data
        if where != used and np.isfinite(values).all() and values.min(initial=0.0) >= 0:
            usable.append(argument)
    return f", here for example by {' or '.join(usable)}" if usable else ""


def read_rows(x: Any, rows: NDArray[np.integer]) -> sp.csr_matrix:
    """Some rows of a matrix of any kind as CSR with sorted indices and without stored zeros.

    Parameters
    ----------
    x
        Sparse (csr, csc; matrix or array) or dense, in memory or backed.
    rows
        Row numbers, in any order; shape (n,).

    Returns
    -------
    Values as float32, shape (n, n_vars); the rows in the order asked for.
    """
    in_memory = sp.issparse(x) or isinstance(x, np.ndarray)
    if in_memory:
        block = x[rows]
    else:  # a file is read in its own order
        order = np.argsort(rows, kind="stable")
        unique, inverse = np.unique(rows[order], return_inverse=True)
        back = np.empty(len(rows), dtype=np.intp)
        back[order] = inverse
        block = _read_runs(x, unique)[back]
    block = sp.csr_matrix(block, dtype=np.float32)  # a copy of ours: rows were picked
    if not (block.data.all() and block.has_canonical_format):
        block.sum_duplicates()
        block.eliminate_zeros()
    return block


def _read_runs(x: Any, rows: NDArray[np.integer]) -> Any:
    """Ascending rows of a file, neighbours in one go: this is many times faster than row by row."""
    if not len(rows):
        return x[rows]
    parts = []
    for run in np.split(rows, np.flatnonzero(np.diff(rows) > LARGEST_GAP) + 1):
        part = x[int(run[0]) : int(run[-1]) + 1]
        parts.append(part if len(run) == part.shape[0] else part[run - run[0]])
    return parts[0] if len(parts) == 1 else sp.vstack(parts, "csr") if sp.issparse(parts[0]) else np.vstack(parts)


def iterate_rows(x: Any, rows: NDArray[np.integer], block: int = BLOCK) -> Iterator[sp.csr_matrix]:
    """Read rows in blocks, so that memory stays bounded; see `read_rows`."""
    if sp.issparse(x) and x.format == "csc":
        x = x.tocsr()
    for start in range(0, len(rows), block):
        yield read_rows(x, rows[start : start + block])
