"""Access to rows of any kind of matrix: in memory or on disk, sparse or dense."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

BLOCK = 8192
"""Number of rows per block."""
LARGEST_GAP = 8
"""Largest gap between rows of a file that is read as well, as that is faster than skipping it."""
SHORTEST_RUN = 4
"""Minimum average length of runs of rows that are read in separate calls: a call is as slow as many rows."""
COLUMNS = 1024
"""Number of columns per read of a file stored by column."""


def spread_rows(n: int, most: int) -> NDArray[np.int64]:
    """At most `most` of `n` row numbers, evenly spread and ascending."""
    return np.unique(np.linspace(0, max(n - 1, 0), most).astype(np.int64))[:n]


def by_row(x: Any) -> Any:
    """Give a matrix efficient access to rows; one stored by column is converted once.

    Parameters
    ----------
    x
        A matrix of any kind. A backed matrix stored by column is read twice in blocks of columns and written by row to
        a temporary file, which is deleted together with the result.
    """
    if getattr(x, "format", "") != "csc":
        return x
    return x.tocsr() if sp.issparse(x) else _turned(x)


def _turned(x: Any) -> sp.csr_matrix:
    """Convert a backed matrix stored by column to one stored by row, with its entries in a temporary file."""
    n_obs, n_vars = x.shape
    starts = range(0, n_vars, COLUMNS)
    lengths = np.zeros(n_obs, dtype=np.int64)
    for start in starts:
        lengths += np.bincount(x[:, start : start + COLUMNS].indices, minlength=n_obs)
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    n_entries, free = int(indptr[-1]), indptr[:-1].copy()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # the maps outlive the files' names
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
    """Read some rows of a matrix of any kind as CSR with sorted indices and without stored zeros.

    Parameters
    ----------
    x
        Sparse (csr, csc; matrix or array) or dense, in memory or backed; or lazy, such as a dask array.
    rows
        Row numbers, in any order; shape (n,).

    Returns
    -------
    Values as float32, shape (n, n_vars); rows in the requested order.
    """
    in_memory = sp.issparse(x) or isinstance(x, np.ndarray)
    if in_memory:
        block = x[rows]
    else:  # files are read in ascending order
        order = np.argsort(rows, kind="stable")
        unique, inverse = np.unique(rows[order], return_inverse=True)
        back = np.empty(len(rows), dtype=np.intp)
        back[order] = inverse
        block = _read_runs(x, unique)[back]
    block = sp.csr_matrix(block, dtype=np.float32)  # indexing made a copy, which may be changed
    if not (block.data.all() and block.has_canonical_format):
        block.sum_duplicates()
        block.eliminate_zeros()
    return block


def _read_runs(x: Any, rows: NDArray[np.integer]) -> Any:
    """Read ascending rows of a file in runs of neighbours, which is many times faster than row by row."""
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
    """Compute a lazy array; others are returned unchanged."""
    return part.compute() if hasattr(part, "compute") else part


def iterate_rows(x: Any, rows: NDArray[np.integer], block: int = BLOCK) -> Iterator[sp.csr_matrix]:
    """Read rows in blocks, so that memory use is bounded; see `read_rows`."""
    x = by_row(x)
    for start in range(0, len(rows), block):
        yield read_rows(x, rows[start : start + block])
