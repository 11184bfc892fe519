"""Cells in memory: their tokens, phenotypes and numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polygene_scverse._layout import TokenLayout
from polygene_scverse.data.read._tokens import Cells


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
        Whether each gene is measured; shape (n_genes,).
    """

    cells: Cells
    codes: NDArray[np.int64]
    ids: NDArray[np.int64]
    layout: TokenLayout
    measured: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.cells)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Number of expressed genes of each cell; shape (n_cells,)."""
        return self.cells.lengths

    def measured_in(self, rows: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Whether each gene is measured in some cells; shape (n_genes,), or (n_rows, n_genes) where they differ."""
        return self.measured

    def read(self, rows: NDArray[np.integer]) -> CellTable:
        """Some of the cells."""
        part = (self.cells.take(rows), self.codes[rows], self.ids[rows])
        return CellTable(*part, self.layout, self.measured)


def draw_part(cells: Any, size: int, seed: int) -> CellTable:
    """A draw of at most `size` of the cells, in their order.

    Parameters
    ----------
    cells
        A table, or a feed of cells on disk.
    size
        How many.
    seed
        Seed of the draw.
    """
    return cells.read(np.sort(np.random.default_rng(seed).permutation(len(cells))[:size]))
