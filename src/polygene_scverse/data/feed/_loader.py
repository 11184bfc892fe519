"""Batches of cells of similar length, as torch tensors. Draws depend on (seed, epoch, cell) only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from polygene_scverse._layout import TokenLayout
from polygene_scverse._validate import check_whole
from polygene_scverse.data.feed._batch import make_batch
from polygene_scverse.data.feed._masking import MaskingRates, draw_mixed
from polygene_scverse.data.feed._steps import StepLoader, split_step
from polygene_scverse.data.feed._table import CellPart, CellTable

WINDOW = 16
"""Number of batches whose cells are sorted by length together."""

VALIDATION_FACTOR = 4
"""Validation batches have this many times the cells of a training batch, as no gradients are stored."""

BatchKey = tuple[int, NDArray[np.int64]]


class BatchDataset(Dataset):
    """Assembles the batch of a key ``(epoch, cells)``, with randomly hidden tokens.

    Parameters
    ----------
    table
        The cells.
    rates
        Rates at which tokens are hidden.
    seed
        Seed of the random draws.
    fixed_epoch
        If given, always draw as in this epoch, so that validation uses the same targets each time.
    """

    def __init__(self, table: CellTable, rates: MaskingRates, *, seed: int = 0, fixed_epoch: int | None = None) -> None:
        self.table, self.rates, self.seed, self.fixed_epoch = table, rates, seed, fixed_epoch

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, key: BatchKey) -> dict[str, torch.Tensor]:
        epoch, rows = key
        epoch = epoch if self.fixed_epoch is None else self.fixed_epoch
        t = self.table
        return drawn_batch(t.take(rows), t.measured, t.layout, self.rates, seed=self.seed, epoch=epoch)


def drawn_batch(
    part: CellPart,
    measured: NDArray[np.bool_],
    layout: TokenLayout,
    rates: MaskingRates,
    *,
    seed: int,
    epoch: int,
    shown: Sequence[int] = (),
    hidden_share: float | None = None,
) -> dict[str, torch.Tensor]:
    """Batch of some cells with randomly hidden tokens; arguments as in `draw_mixed` and `make_batch`.

    Phenotypes whose slots are `shown` are not hidden in the cells where they are known.
    """
    draws: dict[str, Any] = {"seed": seed, "epoch": epoch, "hidden_share": hidden_share}
    masking = draw_mixed(part, measured, layout.n_phenotypes, rates, **draws)
    masking.hidden[:, list(shown)] = part.codes[:, list(shown)] < 0
    return as_tensors({**make_batch(part.cells, masking, layout, part.codes), "rows": part.ids})


def as_tensors(batch: Mapping[str, NDArray[Any]]) -> dict[str, torch.Tensor]:
    """Convert arrays to torch tensors that share their memory if possible."""
    return {name: torch.from_numpy(np.ascontiguousarray(a)) for name, a in batch.items()}


class LengthSampler(Sampler[BatchKey]):
    """Batches of cells of similar length.

    If shuffled, the cells are shuffled, cut into windows of `WINDOW` batches and sorted by length within each window,
    and then the batches are shuffled. Otherwise the longest cells come first, so that the largest batch is seen
    immediately. Batches are formed over all processes and then split, so that all processes get cells of similar
    length. With `parts`, the cells of an optimiser step are split into that many batches; which cells form a step does
    not depend on it.

    Parameters
    ----------
    lengths
        Length of each cell; shape (n_cells,).
    batch_size
        Cells per step, summed over all processes and parts.
    shuffle
        Whether to shuffle; each epoch has a new order.
    seed
        Seed of the shuffling.
    rank, n_ranks
        Rank of this process, and the number of processes.
    parts
        Number of batches per step; near the end of an epoch some may be empty.
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
    ) -> None:
        check_whole(batch_size, "batch_size", 1)
        self.lengths, self.batch_size, self.shuffle, self.seed = lengths, batch_size, shuffle, seed
        self.rank, self.n_ranks, self.parts, self.epoch, self.first = rank, n_ranks, parts, 0, 0

    def __len__(self) -> int:
        return self.parts * -(-len(self.lengths) // self.batch_size)

    def set_epoch(self, epoch: int, first: int = 0) -> None:
        """Set the epoch, and start with step `first` of it."""
        self.epoch, self.first = epoch, first

    def __iter__(self) -> Iterator[BatchKey]:
        epoch = self.epoch
        for rows in self.batches()[self.first :]:
            for part in split_step(rows, self.rank, self.n_ranks, self.parts):
                yield epoch, part

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
            part = part[np.argsort(self.lengths[part], kind="stable")]
            batches += [part[i : i + self.batch_size] for i in range(0, len(part), self.batch_size)]
        return [batches[i] for i in rng.permutation(len(batches))]


def make_loader(dataset: Dataset, sampler: Sampler, **kwargs: Any) -> DataLoader:
    """Create a loader whose items are whole batches."""
    return DataLoader(dataset, sampler=sampler, batch_size=None, **kwargs)


class CellSplitter(pl.LightningDataModule):
    """Feeds training and validation cells to Lightning; scvi-tools' training runner reads its ``n_*`` and ``*_idx``.

    Parameters
    ----------
    train, validation
        The cells; their ``ids`` are row numbers of the data set. There is no validation without validation cells.
    rates
        Rates at which tokens are hidden.
    batch_size
        Cells per optimiser step, summed over all processes and accumulated batches.
    seed
        Seed of the shuffling and of the random draws.
    loader_kwargs
        Passed to :class:`torch.utils.data.DataLoader`, e.g. ``num_workers``.
    """

    def __init__(
        self,
        train: CellTable,
        validation: CellTable | None,
        rates: MaskingRates,
        *,
        batch_size: int,
        seed: int = 0,
        **loader_kwargs: Any,
    ) -> None:
        super().__init__()
        self.train, self.validation, self.rates = train, validation, rates
        self.batch_size, self.seed, self.loader_kwargs = batch_size, seed, loader_kwargs
        self.train_idx = train.ids
        self.val_idx = None if validation is None else validation.ids
        self.n_train, self.n_val = len(train), 0 if validation is None else len(validation)
        self.start = (0, 0)  # epoch to start with, and how many of its steps are done already

    def _ranks(self) -> dict[str, Any]:
        trainer = self.trainer
        return {} if trainer is None else {"rank": trainer.global_rank, "n_ranks": trainer.world_size}

    @property
    def parts(self) -> int:
        """Number of batches per optimiser step."""
        return 1 if self.trainer is None else self.trainer.accumulate_grad_batches

    def train_dataloader(self) -> StepLoader:
        """Shuffled batches with fresh draws in each epoch."""
        kwargs = {"shuffle": True, "seed": self.seed, "parts": self.parts, **self._ranks()}
        sampler = LengthSampler(self.train.cells.lengths, self.batch_size, **kwargs)
        loader = make_loader(BatchDataset(self.train, self.rates, seed=self.seed), sampler, **self.loader_kwargs)
        return StepLoader(loader, self.parts, self.start)

    def val_dataloader(self) -> DataLoader | list[Any]:
        """Batches with the same draws each time; no gene dropout, and all phenotypes hidden."""
        if self.validation is None:
            return []
        rates = replace(self.rates, gene_dropout=0.0, hide_all=1.0)
        batch_size = VALIDATION_FACTOR * -(-self.batch_size // self.parts)
        sampler = LengthSampler(self.validation.cells.lengths, batch_size, **self._ranks())
        dataset = BatchDataset(self.validation, rates, seed=self.seed, fixed_epoch=0)
        return make_loader(dataset, sampler, **self.loader_kwargs)

    def transfer_batch_to_device(
        self, batch: dict[str, torch.Tensor], device: torch.device, dataloader_idx: int
    ) -> dict[str, torch.Tensor]:
        """Move the tensors. Faster than Lightning's search through containers, which takes longer than a small step."""
        return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
