"""Rows of a matrix of any kind: in memory or on disk, sparse or dense."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

BLOCK = 8192
"""Rows that are read at a time."""
LARGEST_GAP = 8
"""Rows of a file that are rather read in vain than jumped over."""
SHORTEST_RUN = 4
"""Rows that neighbours must have on average to be worth a call of their own: each call costs as much as many rows."""
COLUMNS = 1024
"""Columns that are read at a time of a file that is stored by column."""


def spread_rows(n: int, most: int) -> NDArray[np.int64]:
    """At most so many of n row numbers, from all over; ascending."""
    return np.unique(np.linspace(0, max(n - 1, 0), most).astype(np.int64))[:n]


def by_row(x: Any) -> Any:
    """A matrix such that rows can be picked; one stored by column is turned once.

    Parameters
    ----------
    x
        A matrix of any kind. A backed one that is stored by column is read in blocks of columns, twice, and written by
        row to a temporary file, which is gone with the result.
    """
    if getattr(x, "format", "") != "csc":
        return x
    return x.tocsr() if sp.issparse(x) else _turned(x)


def _turned(x: Any) -> sp.csr_matrix:
    """A backed matrix stored by column, as one stored by row whose entries are in a temporary file."""
    n_obs, n_vars = x.shape
    starts = range(0, n_vars, COLUMNS)
    lengths = np.zeros(n_obs, dtype=np.int64)
    for start in starts:
        lengths += np.bincount(x[:, start : start + COLUMNS].indices, minlength=n_obs)
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    n_entries, free = int(indptr[-1]), indptr[:-1].copy()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # the maps outlive the names of their files
        shape = (max(n_entries, 1),)
        data: np.ndarray = np.memmap(Path(folder) / "data", dtype=np.float32, mode="w+", shape=shape)
        columns: np.ndarray = np.memmap(Path(folder) / "columns", dtype=np.int64, mode="w+", shape=shape)
        for start in starts:
            part = sp.csr_matrix(x[:, start : start + COLUMNS])
            row = np.repeat(np.arange(n_obs), np.diff(part.indptr))
            at = free[row] + np.arange(part.nnz) - part.indptr[row]
            data[at], columns[at] = part.data, part.indices + start
            free += np.diff(part.indptr)
    turned = sp.csr_matrix((n_obs, n_vars), dtype=np.float32)
    turned.data, turned.indices, turned.indptr = data[:n_entries], columns[:n_entries], indptr
    return turned


def read_rows(x: Any, rows: NDArray[np.integer]) -> sp.csr_matrix:
    """Some rows of a matrix of any kind as CSR with sorted indices and without stored zeros.

    Parameters
    ----------
    x
        Sparse (csr, csc; matrix or array) or dense, in memory or backed; or computed when asked for, as dask's arrays.
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
        return _computed(x[rows])
    runs = np.split(rows, np.flatnonzero(np.diff(rows) > LARGEST_GAP) + 1)
    if hasattr(x, "format") and len(runs) > 1 and len(rows) < SHORTEST_RUN * len(runs):
        return _computed(x[rows])
    parts = []
    for run in runs:
        part = _computed(x[int(run[0]) : int(run[-1]) + 1])
        parts.append(part if len(run) == part.shape[0] else part[run - run[0]])
    return parts[0] if len(parts) == 1 else sp.vstack(parts, "csr") if sp.issparse(parts[0]) else np.vstack(parts)


def _computed(part: Any) -> Any:
    """A part that is not computed yet, computed."""
    return part.compute() if hasattr(part, "compute") else part


def iterate_rows(x: Any, rows: NDArray[np.integer], block: int = BLOCK) -> Iterator[sp.csr_matrix]:
    """Read rows in blocks, so that memory stays bounded; see `read_rows`."""
    x = by_row(x)
    for start in range(0, len(rows), block):
        yield read_rows(x, rows[start : start + block])
