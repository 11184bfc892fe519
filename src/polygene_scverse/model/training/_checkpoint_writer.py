"""Notes a training on disk, and puts it back to where it was noted."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import Any

import pandas as pd
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from polygene_scverse._compat import plain
from polygene_scverse.model.training._checkpoints import STATE, Checkpoints


class CheckpointWriter(Callback):
    """Notes the training, and puts it back to where the note was taken.

    Parameters
    ----------
    checkpoints
        Where and how often.
    identity
        What training it is.
    extra
        Plain values to note along.
    """

    def __init__(self, checkpoints: Checkpoints, identity: Mapping[str, str], extra: Mapping[str, Any]) -> None:
        self.checkpoints, self.identity, self.extra = checkpoints, dict(identity), plain(dict(extra))
        self.position: dict[str, Any] = {"epoch": 0, "step": 0, "global_step": 0, "finished": False}
        self.written: int | None = None
        self._rng: dict[str, Any] | None = None
        self._seen = 0
        self._said = False

    def on_train_start(self, trainer: Trainer, plan: LightningModule) -> None:
        """Torch's random state is as it was where an epoch began."""
        if self.position["step"] == 0:
            self._restore_rng()

    def on_train_epoch_start(self, trainer: Trainer, plan: LightningModule) -> None:
        """Note the epochs that are over; by now their losses are in the history."""
        epoch = trainer.current_epoch
        if epoch > self.position["epoch"] and epoch % self.checkpoints.every_epochs == 0:
            self._save(trainer, epoch, 0)

    def on_train_batch_start(self, trainer: Trainer, plan: LightningModule, *_: Any) -> None:
        """Within an epoch the loader draws from the random state before the first batch, so it is put back now."""
        self._restore_rng()

    def on_train_batch_end(
        self, trainer: Trainer, plan: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note some steps; the last of an epoch belongs to the next."""
        every, n = self.checkpoints.every_steps, trainer.global_step
        moved, self._seen = n != self._seen, n
        if every and moved and n % every == 0 and not trainer.is_last_batch:
            self._save(trainer, trainer.current_epoch, (batch_idx + 1) // trainer.accumulate_grad_batches)

    def on_train_end(self, trainer: Trainer, plan: LightningModule) -> None:
        """Note the end."""
        self._save(trainer, trainer.current_epoch, 0, finished=True)

    def on_save_checkpoint(self, trainer: Trainer, plan: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add what Lightning does not note."""
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        checkpoint[STATE] = {
            **self.extra,
            "identity": self.identity,
            "position": self.position,
            "history": plain(getattr(trainer.logger, "history", {})),
            "rng": {"cpu": torch.get_rng_state(), "cuda": cuda},
        }

    def on_load_checkpoint(self, trainer: Trainer, plan: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Put order of cells, counters, history and random state back."""
        state = checkpoint[STATE]
        self.position, self._rng = state["position"], state["rng"]
        data = trainer.datamodule  # type: ignore[attr-defined]
        data.start = (self.position["epoch"], self.position["step"])
        n_steps, parts = -(-data.n_train // data.batch_size), trainer.accumulate_grad_batches
        _place(checkpoint["loops"]["fit_loop"], self.position, n_steps, parts)
        trainer.should_stop = self.position["finished"]
        if trainer.is_global_zero and (history := getattr(trainer.logger, "history", None)) is not None:
            history.update(table_of(state["history"]))

    def _save(self, trainer: Trainer, epoch: int, step: int, *, finished: bool = False) -> None:
        """Write beside the last note and move there: at any time a whole note is in place."""
        steps = trainer.global_step
        self.position = {"epoch": epoch, "step": step, "global_step": steps, "finished": finished}
        path = self.checkpoints.path
        part = path.with_suffix(".part")
        try:
            trainer.save_checkpoint(part)
            if trainer.is_global_zero:
                os.replace(part, path)
            self.written = steps
        except OSError as error:
            if trainer.world_size > 1:  # others wait
                raise
            part.unlink(missing_ok=True)
            if self._said:
                return
            self._said = True
            last = "there is none yet" if self.written is None else f"the last one is of step {self.written}"
            warnings.warn(
                f"The checkpoint of step {steps} could not be written to {path} ({error}); {last}. Training goes on, "
                "and tries again.",
                UserWarning,
                stacklevel=2,
            )

    def _restore_rng(self) -> None:
        if self._rng is not None:
            torch.set_rng_state(self._rng["cpu"])
            if len(self._rng["cuda"]) == torch.cuda.device_count() > 0:
                torch.cuda.set_rng_state_all(self._rng["cuda"])
            self._rng = None


def _place(fit: dict[str, Any], position: Mapping[str, Any], steps_per_epoch: int, parts: int) -> None:
    """Write a position into the counters of Lightning's loops, which count batches."""
    epoch, step = position["epoch"], position["step"]
    within, begun = int(step > 0), int(not position["finished"])
    counts = {"ready": epoch + begun, "started": epoch + within, "processed": epoch, "completed": epoch}
    batches = fit["epoch_loop.batch_progress"]
    batches["is_last_batch"] = False
    for kind in ("total", "current"):
        fit["epoch_progress"][kind].update(counts)
        n = (step + (epoch * steps_per_epoch if kind == "total" else 0)) * parts
        batches[kind].update(dict.fromkeys(("ready", "started", "processed", "completed"), n))
    # at the beginning of an epoch Lightning goes once around the loop without a batch, and counts it
    fit["epoch_loop.state_dict"]["_batches_that_stepped"] = position["global_step"] - begun * (1 - within)


def table_of(history: Mapping[str, Mapping[str, Any]]) -> dict[str, pd.DataFrame]:
    """The history of a training as scvi-tools keeps it, of plain values."""
    return {
        name: pd.DataFrame({name: column["values"]}, index=pd.Index(column["index"], name="epoch"))
        for name, column in history.items()
    }
