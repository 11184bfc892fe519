"""The cells of a step of the optimiser may come in several batches; its losses are divided by what the step has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Batch = dict[str, torch.Tensor]


def split_step(rows: NDArray[np.int64], rank: int, n_ranks: int, parts: int) -> list[NDArray[np.int64]]:
    """The batches that one process makes of the cells of a step."""
    return [rows[rank + n_ranks * part :: n_ranks * parts] for part in range(parts)]


def count_asked(batch: Batch) -> torch.Tensor:
    """Number of gene targets of a batch, and of hidden known values of each phenotype; shape (1 + n_phenotypes,)."""
    known = batch["phenotype_hidden"] & (batch["phenotypes"] >= 0)
    return torch.cat([(batch["target_bins"] >= 0).sum()[None], known.sum(0)])


class StepLoader:
    """Batches of a loader, each told what the losses of its step are divided by.

    Gradients of the batches of a step are averaged. A mean of the batches' means would not be the mean over the cells
    of the step, so the denominators are those of an average batch of the step.

    Parameters
    ----------
    loader
        Gives the batches; its sampler has ``set_epoch(epoch, first)``, where `first` counts steps.
    parts
        Batches that make a step.
    start
        Epoch to begin with, and how many of its steps were done before.
    """

    def __init__(self, loader: Any, parts: int = 1, start: tuple[int, int] = (0, 0)) -> None:
        self.loader, self.parts = loader, parts
        self.epoch, self.first = start

    @property
    def sampler(self) -> StepLoader:
        """Whom Lightning tells the epoch."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Shuffle as in this epoch, from its beginning if it is not the one to begin with."""
        if epoch != self.epoch:
            self.epoch, self.first = epoch, 0

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the position in an epoch stands in the checkpoint. To Lightning it says that a position is kept."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing, see `state_dict`."""

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        # written as a generator, so that workers begin when the epoch is known
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
