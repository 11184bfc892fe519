"""Rows of a matrix of any kind: in memory or on disk, sparse or dense."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

BLOCK = 8192
"""Rows that are read at a time."""
LARGEST_GAP = 8
"""Rows of a file that are rather read in vain than jumped over."""


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
