"""Batches of cells that are read from files in buffers, for any number of workers and processes.

The sampler, in the main process, reads the buffers and passes the tokens of each batch on; workers draw masks and
assemble arrays. Memory use is therefore two buffers for any number of workers, and the batches are the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from polygene_scverse._layout import TokenLayout
from polygene_scverse.data.feed._loader import CellSplitter, LengthSampler, drawn_batch, make_loader
from polygene_scverse.data.feed._masking import MaskingRates
from polygene_scverse.data.feed._steps import StepLoader, split_step
from polygene_scverse.data.feed._table import CellPart, CellTable
from polygene_scverse.data.read._tokens import Cells
from polygene_scverse.data.shards._feed import ShardFeed

ShardKey = tuple[int, CellPart]
_ORDER_OF_BLOCKS = 1  # random stream of the order of blocks; the order within a buffer has its own


class ShardBatches(Dataset):
    """Assembles the batch of a key ``(epoch, cells)``.

    Parameters
    ----------
    layout
        Token ids and positions.
    measured
        Sets of measured genes, to which cells refer by index; shape (n_kinds, n_genes).
    rates
        Rates at which tokens are hidden.
    seed
        Seed of the random draws.
    """

    def __init__(self, layout: TokenLayout, measured: NDArray[np.bool_], rates: MaskingRates, *, seed: int = 0) -> None:
        self.layout, self.measured, self.rates, self.seed = layout, measured, rates, seed

    def __getitem__(self, key: ShardKey) -> dict[str, torch.Tensor]:
        epoch, part = key
        return drawn_batch(part, self.measured, self.layout, self.rates, seed=self.seed, epoch=epoch)


class ShardSampler(LengthSampler):
    """Shuffled batches of cells of similar length, read from files.

    Blocks of neighbouring cells are shuffled over all files and assigned to buffers. A buffer is ordered as
    `LengthSampler` orders cells in memory, while a thread reads the next buffer. A set that fits into one buffer is
    read once and gives the same batches as in memory. The order depends on (seed, epoch) only. Batches are formed over
    all processes and then split; each process reads all files.

    Parameters
    ----------
    feed
        The training cells.
    batch_size
        Cells per step, summed over all processes and parts.
    **kwargs
        Seed, processes and parts, as in `LengthSampler`.

    Raises
    ------
    ValueError
        If `batch_size` is below 1 or larger than a buffer.
    """

    def __init__(self, feed: ShardFeed, batch_size: int, **kwargs: int) -> None:
        super().__init__(feed.lengths, batch_size, shuffle=True, **kwargs)
        if feed.buffer_cells < batch_size:
            raise ValueError(
                f"`buffer_cells`: found {feed.buffer_cells}, but a buffer must hold a batch of {batch_size}. Pass more."
            )
        self.feed = feed
        self.batches_per_buffer = feed.buffer_cells // batch_size
        self._whole: CellTable | None = None

    def __iter__(self) -> Iterator[ShardKey]:  # type: ignore[override]
        """Yield the batches; buffers before the first step are not read."""
        epoch, n = self.epoch, self.batches_per_buffer
        rng = np.random.default_rng([self.seed, epoch, _ORDER_OF_BLOCKS])
        buffers = self.feed.buffers(n * self.batch_size, rng)
        for k, part in self._read(buffers, self.first // n):
            for rows in self.batches_of(k, part.cells)[max(0, self.first - k * n) :]:
                for own in split_step(rows, self.rank, self.n_ranks, self.parts):
                    yield epoch, part.take(own)

    def batches_of(self, buffer: int, cells: Cells) -> list[NDArray[np.int64]]:
        """Rows of the batches of a buffer in this epoch, over all processes."""
        seed = self.seed if buffer == 0 else int(np.random.SeedSequence([self.seed, buffer]).generate_state(1)[0])
        within = LengthSampler(cells.lengths, self.batch_size, shuffle=True, seed=seed)
        within.set_epoch(self.epoch)
        return within.batches()

    def _read(self, buffers: list[NDArray[np.int64]], first: int) -> Iterator[tuple[int, CellTable]]:
        """Yield buffers from number `first` on, and read the next one meanwhile."""
        if len(buffers) == 1:
            self._whole = self.feed.read(buffers[0]) if self._whole is None else self._whole
            yield from [(0, self._whole)][first:]
            return
        with ThreadPoolExecutor(1) as thread:
            ahead: Future[CellTable] | None = None
            for k in range(first, len(buffers)):
                part = self.feed.read(buffers[k]) if ahead is None else ahead.result()
                ahead = thread.submit(self.feed.read, buffers[k + 1]) if k + 1 < len(buffers) else None
                yield k, part


class ShardSplitter(CellSplitter):
    """As its parent, but training cells are read from files; held-out cells are in memory."""

    train: ShardFeed  # type: ignore[assignment]
    validation: CellTable | None

    def train_dataloader(self) -> StepLoader:
        """Shuffled batches with fresh draws in each epoch."""
        sampler = ShardSampler(self.train, self.batch_size, seed=self.seed, parts=self.parts, **self._ranks())
        batches = ShardBatches(self.train.layout, self.train.measured, self.rates, seed=self.seed)
        return StepLoader(make_loader(batches, sampler, **self.loader_kwargs), self.parts, self.start)
