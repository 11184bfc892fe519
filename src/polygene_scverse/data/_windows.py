"""Which cells come into a batch together, and the order of the batches.

Visible genes and targets are padded apart. How many a cell has is drawn anew in each epoch; as a draw depends on
(seed, epoch, cell) alone, it can be known before the batches are cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from polygene_scverse.data._masking import MaskingRates, draw_expressed
from polygene_scverse.data._random import cell_keys
from polygene_scverse.data._steps import split_step
from polygene_scverse.data._tokens import Cells

BatchKey = tuple[int, NDArray[np.int64]]

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


class LengthSampler(Sampler[BatchKey]):
    """Batches of cells of like length.

    Shuffled: the cells are shuffled, cut into windows of some batches, sorted by length within a window, and the
    batches shuffled. Not shuffled: longest cells first, so that the largest batch is met at once.
    Batches are cut over all processes and then split, so that each process has cells of the same lengths. With `parts`
    the cells of a step of the optimiser come in so many batches; which cells make a step does not depend on it.

    Parameters
    ----------
    lengths
        Length of each cell; shape (n_cells,).
    batch_size
        Cells per step, over all processes and parts.
    shuffle
        Whether to shuffle, anew in each epoch.
    seed
        Seed of the shuffles.
    rank, n_ranks
        This process and the number of processes.
    parts
        Batches that make a step; near the end of an epoch some may be empty.
    drawn
        How long the cells are when drawn; shuffled batches are then sorted by it.
    """

    def __init__(
        self,
        lengths: NDArray[np.integer],
        batch_size: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        rank: int = 0,
        n_ranks: int = 1,
        parts: int = 1,
        drawn: DrawnLengths | None = None,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"`batch_size`: found {batch_size}, but it must be at least 1.")
        self.lengths, self.batch_size, self.shuffle, self.seed, self.drawn = lengths, batch_size, shuffle, seed, drawn
        self.rank, self.n_ranks, self.parts, self.epoch, self.first = rank, n_ranks, parts, 0, 0

    def __len__(self) -> int:
        return self.parts * -(-len(self.lengths) // self.batch_size)

    def set_epoch(self, epoch: int, first: int = 0) -> None:
        """Shuffle as in this epoch, and begin with its step number `first`."""
        self.epoch, self.first = epoch, first

    def __iter__(self) -> Iterator[BatchKey]:
        epoch = self.epoch
        for rows in self.batches()[self.first :]:
            for of_part in split_step(rows, self.rank, self.n_ranks, self.parts):
                yield epoch, of_part

    def batches(self) -> list[NDArray[np.int64]]:
        """Row numbers of the batches of this epoch, over all processes."""
        if not self.shuffle:
            order = np.argsort(-self.lengths, kind="stable")
            return [order[i : i + self.batch_size] for i in range(0, len(order), self.batch_size)]
        rng = np.random.default_rng([self.seed, self.epoch])
        order = rng.permutation(len(self.lengths))
        window = WINDOW * self.batch_size
        batches = []
        for start in range(0, len(order), window):
            part = order[start : start + window]
            if self.drawn is None:
                part = part[np.argsort(self.lengths[part], kind="stable")]
            else:
                part = part[sort_window(*self.drawn(self.epoch, part), self.batch_size)]
            batches += [part[i : i + self.batch_size] for i in range(0, len(part), self.batch_size)]
        return [batches[i] for i in rng.permutation(len(batches))]
