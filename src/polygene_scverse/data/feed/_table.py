"""Cells in memory: their tokens, phenotypes and numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from polygene_scverse._layout import TokenLayout
from polygene_scverse.data.read._tokens import Cells


class CellPart(NamedTuple):
    """The cells of a batch: their tokens, phenotype codes and numbers, and which set of measured genes each has."""

    cells: Cells
    codes: NDArray[np.int64]
    ids: NDArray[np.int64]
    kinds: NDArray[np.int64]


@dataclass(frozen=True)
class CellTable:
    """Everything the batches of some cells are made of.

    Parameters
    ----------
    cells
        Tokens of the cells.
    codes
        Phenotype codes; shape (n_cells, n_phenotypes).
    ids
        Which cells they are (row numbers of the data set): seeds of the draws. Shape (n_cells,).
    layout
        Ids and positions.
    measured
        Whether each gene is measured, shape (n_genes,); or a row for each set of genes, shape (n_kinds, n_genes).
    kinds
        Row of `measured` of each cell, shape (n_cells,); None where all cells have the same genes.
    """

    cells: Cells
    codes: NDArray[np.int64]
    ids: NDArray[np.int64]
    layout: TokenLayout
    measured: NDArray[np.bool_]
    kinds: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.cells)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Number of expressed genes of each cell; shape (n_cells,)."""
        return self.cells.lengths

    def measured_in(self, rows: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Whether each gene is measured in some cells; shape (n_genes,), or (n_rows, n_genes) where they differ.

        Cells that have the same genes are computed with as those in memory, to the last bit.
        """
        if self.kinds is None:
            return self.measured
        kinds = self.kinds[rows]
        return self.measured[kinds[0]] if len(kinds) and (kinds == kinds[0]).all() else self.measured[kinds]

    def take(self, rows: NDArray[np.integer]) -> CellPart:
        """Some of the cells, in the order asked for, without what all cells share."""
        kinds = np.zeros(len(rows), dtype=np.int64) if self.kinds is None else self.kinds[rows]
        return CellPart(self.cells.take(rows), self.codes[rows], self.ids[rows], kinds)

    def read(self, rows: NDArray[np.int64]) -> CellTable:
        """Some of the cells, as a table."""
        part = self.take(rows)
        kinds = None if self.kinds is None else part.kinds
        return replace(self, cells=part.cells, codes=part.codes, ids=part.ids, kinds=kinds)

    @classmethod
    def concatenate(cls, tables: Sequence[CellTable]) -> CellTable:
        """Cells of several tables of one layout, one after the other.

        Parameters
        ----------
        tables
            The tables, at least one.
        """
        measured = np.unique(np.concatenate([np.atleast_2d(t.measured) for t in tables]), axis=0)
        kinds = []
        for table in tables:
            rows = np.atleast_2d(table.measured)
            of_rows = np.array([np.flatnonzero((measured == row).all(axis=1))[0] for row in rows])
            kinds.append(of_rows[np.zeros(len(table), dtype=np.int64) if table.kinds is None else table.kinds])
        return cls(
            Cells.concatenate([table.cells for table in tables]),
            np.concatenate([table.codes for table in tables]),
            np.concatenate([table.ids for table in tables]),
            tables[0].layout,
            measured if len(measured) > 1 else measured[0],
            np.concatenate(kinds) if len(measured) > 1 else None,
        )

    def rebinned(self, edges: NDArray[np.float64]) -> CellTable:
        """The same cells with other bins; see `Cells.rebin`."""
        return replace(self, cells=self.cells.rebin(edges))
