"""What the engine and a training read cells from: one interface, whether they are in memory, on disk or generated."""

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
        """Ids and positions."""

    @property
    def ids(self) -> NDArray[np.int64]:
        """Which cells they are (row numbers of the data set): seeds of the draws. Shape (n_cells,)."""

    @property
    def codes(self) -> NDArray[np.integer]:
        """Phenotype codes, -1 where unknown; shape (n_cells, n_phenotypes)."""

    def __len__(self) -> int:
        """Number of cells."""

    def read(self, rows: NDArray[np.int64]) -> CellTable:
        """Some of the cells, by ascending positions, in memory."""


def draw_cells(source: CellSource, size: int, seed: int) -> CellTable:
    """A draw of at most `size` cells, in their order.

    Parameters
    ----------
    source
        The cells.
    size
        How many.
    seed
        Seed of the draw.
    """
    return source.read(np.sort(np.random.default_rng(seed).permutation(len(source))[:size]))
