"""A run of Lightning's trainer, repeated with smaller batches if memory runs out."""

from __future__ import annotations

import gc
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from lightning.pytorch import Trainer
from numpy.typing import NDArray

from polygene_scverse._compat import history_from_plain, seeded
from polygene_scverse._validate import check_whole, warn
from polygene_scverse.data.feed._loader import CellSplitter
from polygene_scverse.model.training._checkpoint_writer import CheckpointWriter
from polygene_scverse.model.training._checkpoints import Checkpoints
from polygene_scverse.model.training._fingerprint import identity_of
from polygene_scverse.model.training._loggers import HistoryLogger
from polygene_scverse.model.training._plan import LR, LR_HIDDEN, PolygeneTrainingPlan
from polygene_scverse.model.training._trainer import is_distributed, quiet_lightning
from polygene_scverse.module import PolygeneModule

OutOfMemoryError = getattr(torch, "OutOfMemoryError", torch.cuda.OutOfMemoryError)  # the name up to torch 2.4
TRAINER_ARGUMENTS = ("precision", "gradient_clip_val", "early_stopping")
"""Arguments of the trainer that affect the weights."""


TRAINING = threading.RLock()
"""Lock held during training: dropout draws from torch's global state, which two threads would otherwise share."""


class TrainableModel(Protocol):
    """Attributes of a model that a training run reads and writes.

    The runner of scvi-tools, which receives the model as well, also writes ``trainer`` and calls ``to_device``.
    """

    module: PolygeneModule
    edges_: list[float] | None
    is_trained_: bool
    history_: dict[str, pd.DataFrame] | None
    train_indices: NDArray[np.int64] | None
    validation_indices: NDArray[np.int64] | None
    first_process: bool
    _training_plan_cls: type[PolygeneTrainingPlan]

    @property
    def _train_runner_cls(self) -> Callable[..., Runner]: ...


class Runner(Protocol):
    """Interface of scvi-tools' ``TrainRunner``, created from a model, a plan, cells and trainer arguments.

    A call fits the model and then writes history, row numbers and device to it.
    """

    trainer: Trainer

    def __call__(self) -> None: ...


class TrainingRun:
    """A training run of a model.

    Parameters
    ----------
    model
        The model.
    splitter
        The cells.
    max_epochs
        Number of passes over the training cells.
    plan_kwargs
        Arguments of the training plan.
    trainer_kwargs
        Arguments of the trainer, as returned by `trainer_defaults`.
    checkpoints
        Settings of checkpoints, None for no checkpoints.
    on_begin
        Called after all checks, when the weights are about to change, and again if training restarts. What was fitted
        to the weights is invalid from then on. An error in the very first step may still leave the weights unchanged,
        see `changed`.

    Raises
    ------
    ValueError
        If `max_epochs` is negative.
    """

    def __init__(
        self,
        model: TrainableModel,
        splitter: CellSplitter,
        *,
        max_epochs: int,
        plan_kwargs: Mapping[str, Any],
        trainer_kwargs: Mapping[str, Any],
        checkpoints: Checkpoints | None = None,
        on_begin: Callable[[], None] | None = None,
    ) -> None:
        check_whole(max_epochs, "max_epochs")
        self.model, self.splitter, self.max_epochs, self.on_begin = model, splitter, int(max_epochs), on_begin
        self.plan_kwargs, self.trainer_kwargs, self.checkpoints = dict(plan_kwargs), dict(trainer_kwargs), checkpoints
        self.batches_per_step = int(self.trainer_kwargs.pop("accumulate_grad_batches", 1))
        self.runner: Runner | None = None
        self.writer: CheckpointWriter | None = None
        self.trained_before, self.history_before = model.is_trained_, model.history_
        self.done = False
        self.weights: dict[str, torch.Tensor] = {}

    def __call__(self) -> None:
        """Train. Leaves the model in evaluation mode, also after an error. Only one training runs at a time."""
        with TRAINING:
            self._run()

    def _run(self) -> None:
        if self.checkpoints is not None:
            self.writer = self._make_writer(self.checkpoints)
        self.weights = {name: value.detach().cpu().clone() for name, value in self.model.module.state_dict().items()}
        while True:
            try:
                with self._sane_after_errors():
                    self._fit()
                self.done = True
                return
            except OutOfMemoryError:
                if not self._can_halve():
                    raise
            gc.collect()  # the error referred to tensors
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            self._halve()
            self.model.module.load_state_dict(self.weights)

    @property
    def n_steps(self) -> int:
        """Number of steps behind the weights, including those before an interruption."""
        return 0 if self.runner is None else self.runner.trainer.global_step

    @property
    def changed(self) -> bool:
        """Whether the weights of the model have changed."""
        return self.done or self.n_steps > 0

    def _make_writer(self, checkpoints: Checkpoints) -> CheckpointWriter:
        """Check the checkpoint folder, and any checkpoint to resume from, before training starts."""
        module = self.model.module
        checkpoints.check_folder(sum(p.numel() * p.element_size() for p in module.parameters()))
        arguments = {"max_epochs": self.max_epochs, "plan_kwargs": dict(sorted(self.plan_kwargs.items()))}
        arguments |= {name: self.trainer_kwargs.get(name) for name in TRAINER_ARGUMENTS}
        arguments["default learning rate"] = f"{LR} with {LR_HIDDEN} hidden units"
        identity = identity_of(module, self.splitter, self.model.edges_, arguments)
        if (state := checkpoints.read()) is not None:
            checkpoints.check_same(state, identity)
            history = state["history_before"]
            self.trained_before = state["trained_before"]
            self.history_before = None if history is None else history_from_plain(history)
        before = {"trained_before": self.trained_before, "history_before": self.history_before}
        return CheckpointWriter(checkpoints, self.splitter, identity, {"edges": self.model.edges_, **before})

    def _fit(self) -> None:
        model, kwargs = self.model, dict(self.trainer_kwargs)
        model.history_ = self.history_before
        # scvi-tools extends an existing history, but imported weights have none
        model.is_trained_ = self.trained_before and self.history_before is not None
        self.splitter.start = (0, 0)
        plan = model._training_plan_cls(model.module, **self.plan_kwargs)
        with ExitStack() as stack:
            stack.enter_context(seeded(self.splitter.seed))
            stack.enter_context(quiet_lightning())
            folder = kwargs.get("log_save_dir")
            if folder is None and is_distributed(kwargs.get("strategy")):
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="polygene_"))
            kwargs["logger"] = [HistoryLogger(folder), *kwargs["logger"]]
            kwargs["callbacks"] = list(kwargs["callbacks"])  # a copy, as scvi-tools appends to the list
            self.runner = model._train_runner_cls(
                model,
                training_plan=plan,
                data_splitter=self.splitter,
                max_epochs=self.max_epochs,
                accumulate_grad_batches=self.batches_per_step,
                ckpt_path=str(self.writer.path) if self.writer is not None and self.writer.path.exists() else None,
                **kwargs,
            )
            if self.writer is not None:
                self.writer.attach(self.runner.trainer)
            self.splitter.train_dataloader()  # raises an error for invalid sizes
            if self.on_begin is not None:
                self.on_begin()
            model.module.train()  # a trained model is in eval mode, which Lightning would not change
            self.runner()
        model.first_process = self.runner.trainer.is_global_zero
        if self.runner.trainer.interrupted:  # Lightning before 2.5 suppresses the interruption
            raise KeyboardInterrupt

    @contextmanager
    def _sane_after_errors(self) -> Iterator[None]:
        """After an error, leave the model usable and add its state to the error."""
        model, on_main = self.model, threading.current_thread() is threading.main_thread()
        handler = signal.getsignal(signal.SIGINT)
        try:
            yield
        except BaseException as error:
            model.module.eval()
            model.is_trained_ = self.trained_before or self.n_steps > 0
            if not self.n_steps:
                model.history_ = self.history_before
            interrupted = isinstance(error, SystemExit) and isinstance(error.__context__, KeyboardInterrupt)
            raised: BaseException = KeyboardInterrupt() if interrupted else error  # Lightning would exit the process
            if not isinstance(error, OutOfMemoryError) or not self._can_halve():
                raised.add_note(self._what_remains())
            if raised is error:
                raise
            raise raised from None
        finally:
            if on_main and handler is not None:
                signal.signal(signal.SIGINT, handler)  # Lightning disables it after the first interruption

    def _what_remains(self) -> str:
        if self.runner is None or not self.n_steps:
            return "No training step was completed, so the model is unchanged."
        self.model.train_indices, self.model.validation_indices = self.splitter.train_idx, self.splitter.val_idx
        trainer = self.runner.trainer
        text = (
            f"The training ended after {trainer.global_step} steps, in epoch {trainer.current_epoch + 1} of "
            f"{self.max_epochs}. The model has the weights of that step and can be used and saved. Calling train() "
            "again trains it further, with a new learning rate schedule."
        )
        if self.checkpoints is not None and self.checkpoints.path.exists():
            text += f" To resume from {self.checkpoints.path}, pass checkpoints with resume=True."
        return text

    @property
    def _largest_batch(self) -> int:
        return -(-self.splitter.batch_size // self.batches_per_step)

    def _can_halve(self) -> bool:
        return self.runner is not None and self.runner.trainer.world_size == 1 and self._largest_batch > 1

    def _halve(self) -> None:
        """Split each step into twice as many batches, and restart from the last checkpoint or from the beginning."""
        size = self._largest_batch
        self.batches_per_step *= 2
        resumes = self.writer is not None and self.writer.path.exists()
        warn(
            f"Memory ran out with {size} cells in a batch. Training "
            f"{'resumes from the last checkpoint' if resumes else 'restarts'} with {self._largest_batch}: a step "
            f"still has {self.splitter.batch_size} cells, in {self.batches_per_step} batches. To avoid this, pass a "
            f"smaller batch_size and accumulate_grad_batches={self.batches_per_step}."
        )
