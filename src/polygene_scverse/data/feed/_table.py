"""Cells in memory: their tokens, phenotypes and ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from polygene_scverse._layout import TokenLayout
from polygene_scverse.data.read._tokens import Cells


class CellPart(NamedTuple):
    """Cells of a batch: tokens, phenotype codes, ids, and the index of each cell's set of measured genes."""

    cells: Cells
    codes: NDArray[np.int64]
    ids: NDArray[np.int64]
    kinds: NDArray[np.int64]


@dataclass(frozen=True)
class CellTable:
    """Everything needed to make batches of some cells.

    Parameters
    ----------
    cells
        Tokens of the cells.
    codes
        Phenotype codes; shape (n_cells, n_phenotypes).
    ids
        Ids of the cells (row numbers of the data set), which seed the draws; shape (n_cells,).
    layout
        Token ids and positions.
    measured
        Whether each gene is measured, shape (n_genes,); or one row per set of genes, shape (n_kinds, n_genes).
    kinds
        Row of `measured` for each cell, shape (n_cells,); None if all cells have the same genes.
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
        """Whether each gene is measured in some cells; shape (n_genes,), or (n_rows, n_genes) if the cells differ.

        For cells with the same genes the shape is that of cells in memory, so that results are bitwise equal.
        """
        if self.kinds is None:
            return self.measured
        kinds = self.kinds[rows]
        return self.measured[kinds[0]] if len(kinds) and (kinds == kinds[0]).all() else self.measured[kinds]

    def take(self, rows: NDArray[np.integer]) -> CellPart:
        """Select some cells, in the requested order, without the data that all cells share."""
        kinds = np.zeros(len(rows), dtype=np.int64) if self.kinds is None else self.kinds[rows]
        return CellPart(self.cells.take(rows), self.codes[rows], self.ids[rows], kinds)

    def read(self, rows: NDArray[np.int64]) -> CellTable:
        """Select some cells, as a table."""
        part = self.take(rows)
        kinds = None if self.kinds is None else part.kinds
        return replace(self, cells=part.cells, codes=part.codes, ids=part.ids, kinds=kinds)

    @classmethod
    def concatenate(cls, tables: Sequence[CellTable]) -> CellTable:
        """Concatenate tables that have the same layout.

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
        """Assign expression to other bins; see `Cells.rebin`."""
        return replace(self, cells=self.cells.rebin(edges))
