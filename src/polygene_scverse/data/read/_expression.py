"""The expression matrix of a data set: where it stands, its genes, and its scale, which is found once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from numpy.typing import NDArray

from polygene_scverse._validate import check_not_empty, check_unique_names
from polygene_scverse.data.read._binning import Scale, check_values, detect_scale
from polygene_scverse.data.read._source import BLOCK, read_rows

Result = TypeVar("Result")
SAMPLE_ROWS = 64
"""Rows, spread over the data set, that tell its scale."""
LOADED_ENTRIES = 2**27
"""Stored values up to which a matrix is kept in memory while a model is trained on it: a gigabyte."""


@dataclass(frozen=True, eq=False)
class Expression:
    """Expression of a data set, in memory or on disk, sparse or dense.

    Parameters
    ----------
    matrix
        The matrix as it is stored; shape (n_obs, n_vars).
    var_names
        Gene names; shape (n_vars,).
    where
        How its place is called in messages, e.g. ``"adata.X"``.
    adata
        The data set, for messages that name other matrices of it.
    checked
        Whether the matrix was read and checked already, see `loaded`.
    """

    matrix: Any
    var_names: pd.Index
    where: str
    adata: AnnData | None = field(default=None, repr=False)
    checked: bool = False

    @classmethod
    def of(cls, adata: AnnData, layer: str | None = None, use_raw: bool = False) -> Expression:
        """Find the expression matrix of an AnnData.

        Parameters
        ----------
        adata
            Annotated data matrix.
        layer
            Layer to read instead of ``X``.
        use_raw
            Whether to read ``adata.raw`` instead.

        Raises
        ------
        ValueError
            If both are asked for, if there is no ``raw`` or ``X``, or if the data are empty or gene names not unique.
        KeyError
            If there is no such layer.
        """
        if use_raw and layer is not None:
            raise ValueError(
                f"`use_raw`: found True together with layer={layer!r}, but they are mutually exclusive. Pass one of "
                "them."
            )
        if use_raw and adata.raw is None:
            raise ValueError("`use_raw`: found True, but adata.raw is empty. Pass use_raw=False, or set adata.raw.")
        if layer is not None and layer not in adata.layers:
            raise KeyError(
                f"`layer`: {layer!r} is not among the layers {list(adata.layers)}. Pass one of them, or None."
            )
        source = adata.raw if use_raw else adata
        x = adata.layers[layer] if layer is not None else source.X
        if x is None:
            raise ValueError(
                f"`adata`: adata.X is empty. Pass layer= with one of {list(adata.layers)}, or use_raw=True."
            )
        check_not_empty(*x.shape)
        check_unique_names(source.var_names, "adata.raw.var_names" if use_raw else "adata.var_names")
        return cls(x, source.var_names, place_name(layer, use_raw), adata)

    @property
    def n_obs(self) -> int:
        """Number of cells."""
        return int(self.matrix.shape[0])

    @cached_property
    def scale(self) -> Scale:
        """Scale of the data set, told by some of its rows whichever are asked for.

        Raises
        ------
        ValueError
            As for `detect_scale`.
        """
        rows = np.unique(np.linspace(0, self.n_obs - 1, SAMPLE_ROWS).astype(np.int64))
        sample = read_rows(self._by_row, rows)
        for start in range(0, self.n_obs, BLOCK):
            if sample.nnz:
                break
            sample = read_rows(
                self._by_row, np.arange(start, min(start + BLOCK, self.n_obs))
            )  # silent cells tell nothing
        return self._checked(lambda remedy: detect_scale([sample.data], self.where, remedy))

    @cached_property
    def _by_row(self) -> Any:
        """The matrix such that rows can be picked; one stored by column is converted once."""
        x = self.matrix
        if getattr(x, "format", "") != "csc":
            return x
        return (x if sp.issparse(x) else x.to_memory()).tocsr()

    def rows(self, rows: NDArray[np.integer]) -> sp.csr_matrix:
        """Some rows as CSR with sorted indices and without stored zeros, as float32; shape (n_rows, n_vars).

        Raises
        ------
        ValueError
            If a value is NaN, infinite or negative, or too large for the scale of the data set.
        """
        if self.checked:
            return self.matrix[rows]
        block = read_rows(self._by_row, rows)
        self._checked(lambda remedy: check_values(block.data, self.scale, self.where, remedy))
        return block

    def blocks(self, rows: NDArray[np.integer], size: int | None = None) -> Iterator[sp.csr_matrix]:
        """As `rows`, block after block, so that memory stays bounded."""
        size = BLOCK if size is None else size
        for start in range(0, len(rows), size):
            yield self.rows(rows[start : start + size])

    def loaded(self) -> Expression:
        """The same expression, read and checked once and kept in memory if it fits, for a call that needs it often."""
        if sp.issparse(self.matrix) and self.matrix.nnz > LOADED_ENTRIES:
            return self
        parts: list[sp.csr_matrix] = []
        for block in self.blocks(np.arange(self.n_obs)):
            parts.append(block)
            if sum(part.nnz for part in parts) > LOADED_ENTRIES:
                return self
        kept = replace(self, matrix=sp.vstack(parts, format="csr"), checked=True)
        kept.__dict__["scale"] = self.scale
        return kept

    def _checked(self, check: Callable[[str], Result]) -> Result:
        """Result of a check, whose error says what else could be read."""
        try:
            return check("")
        except ValueError:
            if self.adata is not None and (remedy := other_places(self.adata, self.where)):
                check(remedy)
            raise


def place_name(layer: str | None, use_raw: bool) -> str:
    """How the place of expression is called in messages."""
    return "adata.raw.X" if use_raw else "adata.X" if layer is None else f"adata.layers[{layer!r}]"


def other_places(adata: AnnData, used: str) -> str:
    """What else could be read, for the error about data that cannot be used; begins with a comma."""
    places = {
        place_name(name, False): (f"layer={name!r}", adata.layers[name]) for name in adata.layers if name is not None
    }
    if adata.raw is not None:
        places[place_name(None, True)] = ("use_raw=True", adata.raw.X)
    if adata.X is not None:
        places[place_name(None, False)] = ("layer=None, use_raw=False (adata.X)", adata.X)
    usable = []
    for where, (argument, x) in places.items():
        values = read_rows(x, np.arange(min(100, x.shape[0]))).data
        if where != used and np.isfinite(values).all() and values.min(initial=0.0) >= 0:
            usable.append(argument)
    return f", here for example by {' or '.join(usable)}" if usable else ""
