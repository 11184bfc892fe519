"""Batches of cells that are read from files in buffers, for any number of workers and processes.

The sampler, in the main process, reads the buffers and hands out the tokens of each batch; workers draw masks and
assemble arrays. So the memory is that of two buffers whatever the number of workers, and batches are the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from polygene_scverse._layout import TokenLayout
from polygene_scverse.data._batch import make_batch
from polygene_scverse.data._dataloader import CellSplitter, LengthSampler
from polygene_scverse.data._masking import Masking, MaskingRates, draw
from polygene_scverse.data._shard_feed import CellPart, ShardCells, ShardFeed
from polygene_scverse.data._steps import StepLoader, split_step
from polygene_scverse.data._tokens import Cells

ShardKey = tuple[int, CellPart]
_ORDER_OF_BLOCKS = 1  # stream of random numbers; the order within a buffer has its own


class ShardBatches(Dataset):
    """Assembles the batch of a key ``(epoch, cells)``.

    Parameters
    ----------
    layout
        Ids and positions.
    measured
        Sets of measured genes, which cells name by number; shape (n_kinds, n_genes).
    rates
        How much is hidden.
    seed
        Seed of the draws.
    """

    def __init__(self, layout: TokenLayout, measured: NDArray[np.bool_], rates: MaskingRates, *, seed: int = 0) -> None:
        self.layout, self.measured, self.rates, self.seed = layout, measured, rates, seed

    def __getitem__(self, key: ShardKey) -> dict[str, torch.Tensor]:
        epoch, part = key
        n_phenotypes = self.layout.n_phenotypes
        masking = draw_mixed(part, self.measured, n_phenotypes, self.rates, seed=self.seed, epoch=epoch)
        batch = make_batch(part.cells, masking, self.layout, part.codes)
        batch["rows"] = part.ids
        return {name: torch.from_numpy(np.ascontiguousarray(a)) for name, a in batch.items()}


def draw_mixed(
    part: CellPart,
    measured: NDArray[np.bool_],
    n_phenotypes: int,
    rates: MaskingRates,
    *,
    seed: int,
    epoch: int,
) -> Masking:
    """As `draw`, for cells that differ in the genes that are measured; the draw of a cell depends on no other."""
    cells, n = part.cells, len(part.cells)
    present = np.unique(part.kinds)
    if len(present) < 2:
        of_all = measured[present[0] if n else 0]
        return draw(cells, part.ids, of_all, n_phenotypes, rates, seed=seed, epoch=epoch)
    rows = np.repeat(np.arange(n), cells.lengths)
    visible, target = np.zeros((2, len(rows)), dtype=bool)
    ratio, shown_share = np.zeros((2, n), dtype=np.float32)
    hidden = np.zeros((n, n_phenotypes), dtype=bool)
    zero_rows, zero_genes = [], []
    for kind in present:
        of_kind = np.flatnonzero(part.kinds == kind)
        entries = (part.kinds == kind)[rows]
        m = draw(cells.take(of_kind), part.ids[of_kind], measured[kind], n_phenotypes, rates, seed=seed, epoch=epoch)
        visible[entries], target[entries] = m.visible, m.target
        ratio[of_kind], hidden[of_kind], shown_share[of_kind] = m.log_sampling_ratio, m.hidden, m.shown_share
        zero_rows.append(of_kind[m.zero_rows])
        zero_genes.append(m.zero_genes)
    of_zeros = np.concatenate(zero_rows)
    order = np.argsort(of_zeros, kind="stable")
    genes = np.concatenate(zero_genes)[order]
    return Masking(visible, target, of_zeros[order], genes, ratio, hidden, shown_share)


class ShardSampler(Sampler[ShardKey]):
    """Shuffled batches of cells of like length, read from files.

    Blocks of neighbouring cells are shuffled over all files and dealt out to buffers; a buffer is ordered as
    `LengthSampler` orders cells in memory, while a thread reads the next one. A set that fits into one buffer is read
    once, and gives the batches that it gives in memory. The order depends on (seed, epoch) alone.
    Batches are cut over all processes and then split; each process reads all files.

    Parameters
    ----------
    feed
        The training cells.
    batch_size
        Cells per step, over all processes and parts.
    seed
        Seed of the shuffles.
    rank, n_ranks
        This process and the number of processes.
    parts
        Batches that make a step, see `LengthSampler`.

    Raises
    ------
    ValueError
        If `batch_size` is below 1, or a buffer does not hold a batch.
    """

    def __init__(
        self, feed: ShardFeed, batch_size: int, *, seed: int = 0, rank: int = 0, n_ranks: int = 1, parts: int = 1
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"`batch_size`: found {batch_size}, but it must be at least 1.")
        if feed.buffer_cells < batch_size:
            raise ValueError(
                f"`buffer_cells`: found {feed.buffer_cells}, but a buffer must hold a batch of {batch_size}. Pass more."
            )
        self.feed, self.batch_size, self.seed = feed, batch_size, seed
        self.rank, self.n_ranks, self.parts, self.epoch, self.first = rank, n_ranks, parts, 0, 0
        self.batches_per_buffer = feed.buffer_cells // batch_size
        self._whole: ShardCells | None = None

    def __len__(self) -> int:
        return self.parts * -(-len(self.feed) // self.batch_size)

    def set_epoch(self, epoch: int, first: int = 0) -> None:
        """Shuffle as in this epoch, and begin with its step number `first`: buffers before it are not read."""
        self.epoch, self.first = epoch, first

    def __iter__(self) -> Iterator[ShardKey]:
        epoch, n = self.epoch, self.batches_per_buffer
        rng = np.random.default_rng([self.seed, epoch, _ORDER_OF_BLOCKS])
        buffers = self.feed.buffers(n * self.batch_size, rng)
        for k, part in self._read(buffers, self.first // n):
            for rows in self.batches(k, part.cells)[max(0, self.first - k * n) :]:
                for of_part in split_step(rows, self.rank, self.n_ranks, self.parts):
                    yield epoch, part.take(of_part)

    def batches(self, buffer: int, cells: Cells) -> list[NDArray[np.int64]]:
        """Rows of the batches of a buffer of this epoch, over all processes."""
        seed = self.seed if buffer == 0 else int(np.random.SeedSequence([self.seed, buffer]).generate_state(1)[0])
        within = LengthSampler(cells.lengths, self.batch_size, shuffle=True, seed=seed)
        within.set_epoch(self.epoch)
        return within.batches()

    def _read(self, buffers: list[NDArray[np.int64]], first: int) -> Iterator[tuple[int, ShardCells]]:
        """Buffers from number `first` on; while one is used the next is read."""
        if len(buffers) == 1:
            self._whole = self.feed.read(buffers[0]) if self._whole is None else self._whole
            yield from [(0, self._whole)][first:]
            return
        with ThreadPoolExecutor(1) as thread:
            ahead: Future[ShardCells] | None = None
            for k in range(first, len(buffers)):
                part = self.feed.read(buffers[k]) if ahead is None else ahead.result()
                ahead = thread.submit(self.feed.read, buffers[k + 1]) if k + 1 < len(buffers) else None
                yield k, part


class HeldOutSampler(LengthSampler):
    """Batches of held-out cells, which are in memory: longest first, and always drawn as in epoch 0.

    Parameters
    ----------
    part
        The cells.
    batch_size
        Cells per batch, over all processes.
    **kwargs
        Passed to `LengthSampler`.
    """

    def __init__(self, part: ShardCells, batch_size: int, **kwargs: Any) -> None:
        super().__init__(part.cells.lengths, batch_size, **kwargs)
        self.part = part

    def __iter__(self) -> Iterator[ShardKey]:  # type: ignore[override]
        for rows in self.batches():
            yield 0, self.part.take(rows[self.rank :: self.n_ranks])


class ShardSplitter(CellSplitter):
    """As its parent, but training cells are read from files; held-out cells are in memory."""

    train: ShardFeed  # type: ignore[assignment]
    validation: ShardCells | None

    def train_dataloader(self) -> StepLoader:
        """Shuffled batches with fresh draws in each epoch."""
        sampler = ShardSampler(self.train, self.batch_size, seed=self.seed, parts=self.parts, **self._ranks())
        return StepLoader(self._loader(sampler, self.rates), self.parts, self.start)

    def val_dataloader(self) -> DataLoader | list[Any]:
        """Batches with the same draws each time: no gene is dropped, every phenotype is hidden."""
        if self.validation is None:
            return []
        sampler = HeldOutSampler(self.validation, -(-self.batch_size // self.parts), **self._ranks())
        return self._loader(sampler, replace(self.rates, gene_dropout=0.0, hide_all=1.0))

    def _loader(self, sampler: Sampler, rates: MaskingRates) -> DataLoader:
        batches = ShardBatches(self.train.layout, self.train.measured, rates, seed=self.seed)
        return DataLoader(batches, sampler=sampler, batch_size=None, **self.loader_kwargs)
