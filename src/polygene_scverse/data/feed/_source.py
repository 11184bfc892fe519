"""Interface through which the engine and training read cells, whether in memory, on disk or generated."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from polygene_scverse._layout import TokenLayout
from polygene_scverse.data.feed._table import CellTable


class CellSource(Protocol):
    """Cells that can be read by their position, as tokens and phenotype codes."""

    @property
    def layout(self) -> TokenLayout:
        """Token ids and positions."""

    @property
    def ids(self) -> NDArray[np.int64]:
        """Ids of the cells (row numbers of the data set), which seed the draws; shape (n_cells,)."""

    @property
    def codes(self) -> NDArray[np.integer]:
        """Phenotype codes, -1 where unknown; shape (n_cells, n_phenotypes)."""

    def __len__(self) -> int:
        """Number of cells."""

    def read(self, rows: NDArray[np.int64]) -> CellTable:
        """Load some of the cells into memory, by ascending position."""


def draw_cells(source: CellSource, size: int, seed: int) -> CellTable:
    """Draw at most `size` cells; their order is kept.

    Parameters
    ----------
    source
        The cells.
    size
        Maximum number of cells.
    seed
        Seed of the draw.
    """
    return source.read(np.sort(np.random.default_rng(seed).permutation(len(source))[:size]))
