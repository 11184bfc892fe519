"""Which cells come into a batch together.

Visible genes and targets are padded apart. How many a cell has is drawn anew in each epoch; as a draw depends on
(seed, epoch, cell) alone, it can be known before the batches are cut.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from polygene_scverse.data._masking import MaskingRates, draw_expressed
from polygene_scverse.data._random import cell_keys
from polygene_scverse.data._tokens import Cells

WINDOW = 32
"""Batches whose cells are sorted together."""
LIKE_TARGETS = 8
"""Batches of a window whose cells have like numbers of targets; among them cells are sorted by visible genes."""


@dataclass(frozen=True)
class DrawnLengths:
    """Numbers of visible genes and of expressed targets that cells have in an epoch.

    Parameters
    ----------
    cells
        The cells.
    ids
        Which cells they are; shape (n_cells,).
    rates
        How much is hidden.
    seed
        Seed of the draws.
    """

    cells: Cells
    ids: NDArray[np.int64]
    rates: MaskingRates
    seed: int

    def __call__(self, epoch: int, at: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Both numbers of some of the cells; shape (n,) each."""
        keys = cell_keys(self.seed, epoch, self.ids[at])
        rows, target, visible = draw_expressed(self.cells.take(at), keys, self.rates)
        n_visible, n_targets = (np.bincount(rows[which], minlength=len(at)) for which in (visible, target))
        return n_visible, n_targets


def sort_window(n_visible: NDArray[np.int64], n_targets: NDArray[np.int64], batch_size: int) -> NDArray[np.int64]:
    """Order of the cells of a window in which neighbours have like numbers of both; shape (n_cells,)."""
    group = np.empty_like(n_targets)
    group[np.argsort(n_targets, kind="stable")] = np.arange(len(n_targets)) // (LIKE_TARGETS * batch_size)
    return np.lexsort((n_visible, group))
