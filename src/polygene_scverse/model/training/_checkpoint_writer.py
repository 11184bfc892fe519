"""Saving of training checkpoints, and resuming from them.

Lightning's `ModelCheckpoint` names the file and saves it every few steps. The rest is implemented here, because
`ModelCheckpoint` supports intervals of steps or epochs but not both, saves at the end of an epoch before the losses of
that epoch are in the history, and does not save at the end of training. Lightning also writes a file to the system's
temporary folder and moves it, which is not atomic across file systems, and a write error ends training: see
`WholeFiles`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins import TorchCheckpointIO

from polygene_scverse._compat import add_callback, history_from_plain, plain, set_loop_position
from polygene_scverse._files import replace_file
from polygene_scverse._validate import warn
from polygene_scverse.data.feed._loader import CellSplitter
from polygene_scverse.model.training._checkpoints import STATE_KEY, Checkpoints
from polygene_scverse.model.training._loggers import HistoryLogger


@dataclass(frozen=True)
class Position:
    """Progress of a training.

    Parameters
    ----------
    epoch, step
        Number of completed epochs, and of steps completed in the current one.
    global_step
        Number of steps completed in all epochs.
    finished
        Whether training has ended.
    """

    epoch: int = 0
    step: int = 0
    global_step: int = 0
    finished: bool = False


class WholeFiles(TorchCheckpointIO):
    """Replaces the checkpoint file atomically, so that a complete one exists at any time.

    If writing fails, a warning is issued once and training continues.
    """

    last_step: int | None = None
    """Step of the existing file."""
    _warned = False

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint, on the first process only."""
        path, step = Path(path), checkpoint["global_step"]
        try:
            with replace_file(path) as part, part.open("wb") as file:
                torch.save(checkpoint, file)
            self.last_step = step
        except OSError as error:
            if not self._warned:
                last = "there is none yet" if self.last_step is None else f"the last one is of step {self.last_step}"
                text = f"The checkpoint of step {step} could not be written to {path} ({error}); {last}."
                warn(f"{text} Training continues, and saving is tried again later.")
            self._warned = True

    def load_checkpoint(self, path: str | Path, *_: Any, **__: Any) -> dict[str, Any]:
        """Read tensors and plain values only."""
        return torch.load(path, map_location="cpu", weights_only=True)


class CheckpointWriter(ModelCheckpoint):
    """Saves everything needed to resume training bit for bit: Lightning's state, position, history and random state.

    Parameters
    ----------
    checkpoints
        Folder and frequency of checkpoints.
    splitter
        The cells, whose order depends on the position in training.
    identity
        Identity of the training, see `identity_of`.
    extra
        Plain values to save as well.
    """

    def __init__(
        self, checkpoints: Checkpoints, splitter: CellSplitter, identity: Mapping[str, str], extra: Mapping[str, Any]
    ) -> None:
        self.path = checkpoints.path.absolute()
        steps = checkpoints.every_steps or 0
        super().__init__(self.path.parent, self.path.stem, every_n_train_steps=steps, enable_version_counter=False)
        self.checkpoints, self.splitter, self.files = checkpoints, splitter, WholeFiles()
        self.identity, self.extra = dict(identity), plain(dict(extra))
        self._random_state: dict[str, Any] | None = None

    def attach(self, trainer: Trainer) -> None:
        """Add checkpointing to a trainer, as that of scvi-tools accepts only its own `ModelCheckpoint` as argument."""
        self.position = Position()
        add_callback(trainer, self)
        trainer.strategy.checkpoint_io = self.files

    def on_train_start(self, trainer: Trainer, plan: LightningModule) -> None:
        """Restore torch's random state if training resumes at the start of an epoch."""
        if self.position.step == 0:
            self._restore_random_state()

    def on_train_epoch_start(self, trainer: Trainer, plan: LightningModule) -> None:
        """Save after completed epochs; their losses are in the history by now."""
        epoch = trainer.current_epoch
        if epoch > self.position.epoch:
            self.position = Position(epoch, 0, trainer.global_step)
            if epoch % self.checkpoints.every_epochs == 0:
                trainer.save_checkpoint(self.path)

    def on_train_batch_start(self, trainer: Trainer, plan: LightningModule, *_: Any) -> None:
        """Restore the random state within an epoch, after the loader has drawn from it before the first batch."""
        self._restore_random_state()

    def on_train_batch_end(
        self, trainer: Trainer, plan: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save after steps; the last step of an epoch is left to the start of the next epoch."""
        step, rest = divmod(batch_idx + 1, trainer.accumulate_grad_batches)
        if not (rest or trainer.is_last_batch):
            self.position = Position(trainer.current_epoch, step, trainer.global_step)
            super().on_train_batch_end(trainer, plan, outputs, batch, batch_idx)

    def on_train_end(self, trainer: Trainer, plan: LightningModule) -> None:
        """Save at the end of training."""
        self.position = Position(trainer.current_epoch, 0, trainer.global_step, finished=True)
        trainer.save_checkpoint(self.path)

    def state_dict(self) -> dict[str, Any]:
        """Empty: the paths that `ModelCheckpoint` stores would be wrong after the folder is moved."""
        return {}

    def on_save_checkpoint(self, trainer: Trainer, plan: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add what Lightning does not save."""
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        checkpoint[STATE_KEY] = {
            **self.extra,
            "identity": self.identity,
            "position": asdict(self.position),
            "history": plain(trainer.logger.history) if isinstance(trainer.logger, HistoryLogger) else {},
            "rng": {"cpu": torch.get_rng_state(), "cuda": cuda},
        }

    def on_load_checkpoint(self, trainer: Trainer, plan: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Restore the order of cells, counters, history and random state."""
        state, splitter = checkpoint[STATE_KEY], self.splitter
        self.position, self._random_state = Position(**state["position"]), state["rng"]
        splitter.start = (self.position.epoch, self.position.step)
        n_steps = -(-splitter.n_train // splitter.batch_size)
        set_loop_position(checkpoint, state["position"], n_steps, trainer.accumulate_grad_batches)
        trainer.should_stop, self.files.last_step = self.position.finished, self.position.global_step
        if trainer.is_global_zero and isinstance(trainer.logger, HistoryLogger):
            trainer.logger.history.update(history_from_plain(state["history"]))

    def _restore_random_state(self) -> None:
        if self._random_state is not None:
            torch.set_rng_state(self._random_state["cpu"])
            if len(self._random_state["cuda"]) == torch.cuda.device_count() > 0:
                torch.cuda.set_rng_state_all(self._random_state["cuda"])
            self._random_state = None
