"""One training: Lightning is called, and called again with smaller batches if memory ran out."""

from __future__ import annotations

import gc
import signal
import tempfile
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch

from polygene_scverse._compat import seeded
from polygene_scverse.data.feed._loader import CellSplitter
from polygene_scverse.model.training._checkpoint_writer import CheckpointWriter, table_of
from polygene_scverse.model.training._checkpoints import Checkpoints
from polygene_scverse.model.training._fingerprint import identity_of
from polygene_scverse.model.training._loggers import hand_over
from polygene_scverse.model.training._trainer import is_distributed, quiet_lightning

OutOfMemoryError = getattr(torch, "OutOfMemoryError", torch.cuda.OutOfMemoryError)  # its name up to torch 2.4
NOTED = ("precision", "gradient_clip_val", "early_stopping")
"""Arguments of the trainer that decide the weights."""


class TrainingRun:
    """One training of a model.

    Parameters
    ----------
    model
        The model.
    splitter
        The cells.
    max_epochs
        Number of passes over the training cells.
    plan_kwargs
        Of the training plan.
    trainer_kwargs
        Of the trainer.
    checkpoints
        Where the training is noted, if anywhere.
    """

    def __init__(
        self,
        model: Any,
        splitter: CellSplitter,
        *,
        max_epochs: int,
        plan_kwargs: Mapping[str, Any],
        trainer_kwargs: Mapping[str, Any],
        checkpoints: Checkpoints | None = None,
    ) -> None:
        self.model, self.splitter, self.max_epochs = model, splitter, max_epochs
        self.plan_kwargs, self.trainer_kwargs, self.checkpoints = dict(plan_kwargs), dict(trainer_kwargs), checkpoints
        self.parts = int(self.trainer_kwargs.pop("accumulate_grad_batches", 1))
        self.runner: Any = None
        self.writer: CheckpointWriter | None = None
        self.before = (model.is_trained_, model.history_)
        self.resumed, self.done = False, False

    def __call__(self) -> None:
        """Train; in the end, or after an error, the model is in evaluation mode."""
        path = self._prepare()
        weights = {name: value.detach().cpu().clone() for name, value in self.model.module.state_dict().items()}
        while True:
            try:
                with self._sane_after_errors():
                    self._fit(path)
                self.done = True
                return
            except OutOfMemoryError:
                if not self._can_halve():
                    raise
            gc.collect()  # the error held tensors
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            path = self._halve(weights)

    @property
    def n_steps(self) -> int:
        """Steps behind the weights, those before an interruption included."""
        return 0 if self.runner is None else self.runner.trainer.global_step

    @property
    def changed(self) -> bool:
        """Whether the model has other weights than before."""
        return self.done or self.n_steps > 0

    def _prepare(self) -> Path | None:
        """Check the folder of checkpoints before anything is spent, and find the one to go on from."""
        if self.checkpoints is None:
            return None
        module = self.model.module
        self.checkpoints.check_folder(sum(p.numel() * p.element_size() for p in module.parameters()))
        arguments = {"max_epochs": self.max_epochs, "plan_kwargs": dict(sorted(self.plan_kwargs.items()))}
        arguments |= {name: self.trainer_kwargs.get(name) for name in NOTED}
        identity = identity_of(module, self.splitter, self.model.edges_, arguments)
        if (state := self.checkpoints.read()) is not None:
            self.checkpoints.check_same(state, identity)
            self.resumed = True
            history = state["history_before"]
            self.before = (state["trained_before"], None if history is None else table_of(history))
        extra = {"edges": self.model.edges_, "trained_before": self.before[0], "history_before": self.before[1]}
        self.writer = CheckpointWriter(self.checkpoints, identity, extra)
        return None if state is None else self.checkpoints.path

    def _fit(self, path: Path | None) -> None:
        model, (trained, history) = self.model, self.before
        model.history_ = history
        model.is_trained_ = trained and history is not None  # scvi-tools prolongs a history, imported weights have none
        self.splitter.start = (0, 0)
        plan = model._training_plan_cls(model.module, **self.plan_kwargs)
        kwargs = {**self.trainer_kwargs, "callbacks": list(self.trainer_kwargs.get("callbacks", []))}
        if self.writer is not None:
            kwargs["callbacks"].append(self.writer)
        with ExitStack() as stack:
            stack.enter_context(seeded(self.splitter.seed))
            stack.enter_context(quiet_lightning())
            if is_distributed(kwargs.get("strategy")) and "log_save_dir" not in kwargs:
                # other processes hand the history over in a file
                kwargs["log_save_dir"] = stack.enter_context(tempfile.TemporaryDirectory(prefix="polygene_"))
                hand_over(kwargs.get("logger"), kwargs["log_save_dir"])
            self.runner = model._train_runner_cls(
                model,
                training_plan=plan,
                data_splitter=self.splitter,
                max_epochs=self.max_epochs,
                accumulate_grad_batches=self.parts,
                ckpt_path=None if path is None else str(path),
                **kwargs,
            )
            model.module.train()  # a trained model is in eval mode, and Lightning keeps the mode it finds
            self.runner()
        model.first_process = self.runner.trainer.is_global_zero
        if self.runner.trainer.interrupted:  # Lightning before 2.5 swallows the interruption
            raise KeyboardInterrupt

    @contextmanager
    def _sane_after_errors(self) -> Iterator[None]:
        """After an error the model can be used, and the error says in what state it is."""
        model, on_main = self.model, threading.current_thread() is threading.main_thread()
        handler = signal.getsignal(signal.SIGINT)
        try:
            yield
        except BaseException as error:
            model.module.eval()
            model.is_trained_ = self.before[0] or self.n_steps > 0
            if not self.n_steps:
                model.history_ = self.before[1]
            interrupted = isinstance(error, SystemExit) and isinstance(error.__context__, KeyboardInterrupt)
            told: BaseException = KeyboardInterrupt() if interrupted else error  # Lightning would end the process
            if not isinstance(error, OutOfMemoryError) or not self._can_halve():
                told.add_note(self._what_remains())
            if told is error:
                raise
            raise told from None
        finally:
            if on_main and handler is not None:
                signal.signal(signal.SIGINT, handler)  # Lightning turns it off after the first interruption

    def _what_remains(self) -> str:
        if not self.n_steps:
            return "No step of training was done: the model is as it was before."
        self.model.train_indices, self.model.validation_indices = self.splitter.train_idx, self.splitter.val_idx
        trainer = self.runner.trainer
        text = (
            f"The training ended after {trainer.global_step} steps, in epoch {trainer.current_epoch + 1} of "
            f"{self.max_epochs}. The model has the weights of that step: it can be used and saved, and to call train() "
            "again trains them further, with a schedule from its beginning."
        )
        if self.checkpoints is not None and self.checkpoints.path.exists():
            text += f" To go on where {self.checkpoints.path} was written, pass checkpoints with resume=True."
        return text

    @property
    def _largest_batch(self) -> int:
        return -(-self.splitter.batch_size // self.parts)

    def _can_halve(self) -> bool:
        trainer = None if self.runner is None else self.runner.trainer
        return trainer is not None and trainer.world_size == 1 and self._largest_batch > 1

    def _halve(self, weights: dict[str, torch.Tensor]) -> Path | None:
        """Twice as many batches make a step of as many cells. Begins at the last checkpoint, or anew."""
        model, was = self.model, self._largest_batch
        self.parts *= 2
        noted = self.writer is not None and (self.writer.written is not None or self.resumed)
        where = "goes on from the last checkpoint" if noted else "begins anew"
        warnings.warn(
            f"Memory ran out with {was} cells in a batch. Training {where} with {self._largest_batch}: a step still "
            f"has {self.splitter.batch_size} cells, in {self.parts} batches. Pass a smaller batch_size and "
            f"accumulate_grad_batches={self.parts} to begin so.",
            UserWarning,
            stacklevel=4,
        )
        model.module.load_state_dict(weights)
        return self.checkpoints.path if noted and self.checkpoints is not None else None
