"""Optimiser steps whose cells are split into several batches, with losses normalised over the whole step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Batch = dict[str, torch.Tensor]


def split_step(rows: NDArray[np.int64], rank: int, n_ranks: int, parts: int) -> list[NDArray[np.int64]]:
    """Split the cells of a step into the batches of one process."""
    return [rows[rank + n_ranks * part :: n_ranks * parts] for part in range(parts)]


def count_asked(batch: Batch) -> torch.Tensor:
    """Number of gene targets, and of hidden known values of each phenotype, in a batch; shape (1 + n_phenotypes,)."""
    known = batch["phenotype_hidden"] & (batch["phenotypes"] >= 0)
    return torch.cat([(batch["target_bins"] >= 0).sum()[None], known.sum(0)])


class StepLoader:
    """Batches of a loader, with the denominators of the losses of their step added.

    Gradients are averaged over the batches of a step. As a mean of batch means is not the mean over the cells of the
    step, the denominators are those of an average batch of the step.

    Parameters
    ----------
    loader
        Yields the batches; its sampler has ``set_epoch(epoch, first)``, where `first` counts steps.
    parts
        Number of batches per step.
    start
        Epoch to start with, and how many of its steps are done already.
    """

    def __init__(self, loader: Any, parts: int = 1, start: tuple[int, int] = (0, 0)) -> None:
        self.loader, self.parts = loader, parts
        self.epoch, self.first = start

    @property
    def sampler(self) -> StepLoader:
        """The object on which Lightning sets the epoch."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch; it begins at its first step unless it is the epoch to start with."""
        if epoch != self.epoch:
            self.epoch, self.first = epoch, 0

    def state_dict(self) -> dict[str, Any]:
        """Empty, as the position is in the checkpoint; the method tells Lightning that the position is saved."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Do nothing, see `state_dict`."""

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        # a generator, so that workers start after the epoch is set
        self.loader.sampler.set_epoch(self.epoch, self.first)
        if self.parts == 1:
            yield from self.loader
            return
        step: list[Batch] = []
        for batch in self.loader:
            step.append(batch)
            if len(step) == self.parts:
                yield from self._with_denominators(step)
                step = []
        yield from self._with_denominators(step)

    def _with_denominators(self, step: list[Batch]) -> list[Batch]:
        if not step:
            return []
        denominators = torch.stack([count_asked(batch) for batch in step]).sum(0).float() / self.parts  # (1 + P,)
        return [{**batch, "denominators": denominators} for batch in step]
