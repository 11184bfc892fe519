"""How Lightning's trainer is set up."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.strategies import DDPStrategy

from polygene_scverse._quiet import quiet
from polygene_scverse.model.training._loggers import with_history
from polygene_scverse.model.training._progress import ProgressBar

NOT_FOR_USERS = (
    ".*does not have many workers.*",
    ".*early_stopping was automatically disabled.*",
    ".*isinstance.treespec, LeafSpec.*",
)
"""Warnings of libraries that say nothing to the user of a model."""


def is_distributed(strategy: Any) -> bool:
    """Whether a strategy is for several processes."""
    return "ddp" in strategy if isinstance(strategy, str) else isinstance(strategy, DDPStrategy)


def trainer_defaults(kwargs: Mapping[str, Any], validated: bool) -> dict[str, Any]:
    """scvi-tools' Trainer with validation in each epoch, clipping, a rich progress bar, and nothing written to disk.

    Parameters
    ----------
    kwargs
        What the user said.
    validated
        Whether there are validation cells; without them nothing can stop early.
    """
    kwargs = {
        "check_val_every_n_epoch": 1,
        "gradient_clip_val": 1.0,
        "early_stopping": False,
        "early_stopping_monitor": "validation_loss",
        "early_stopping_patience": 5,
        "enable_progress_bar": True,
        "simple_progress_bar": False,
        "log_every_n_steps": 1,
        "use_distributed_sampler": False,
    } | dict(kwargs)
    kwargs["logger"] = with_history(kwargs.get("logger"))  # type: ignore[arg-type]
    callbacks: list[Any] = list(kwargs.pop("callbacks", None) or [])  # type: ignore[call-overload]  # scvi-tools appends to the list it is given
    if kwargs["enable_progress_bar"]:
        callbacks.append(ProgressBar())
    if not validated:
        kwargs |= {"early_stopping": False, "limit_val_batches": 0}
    if kwargs["early_stopping"] and is_distributed(kwargs.get("strategy")):
        # scvi-tools turns it off there; our validation loss is that of all processes, so that they stop together
        callbacks.append(_early_stopping(kwargs))
    return kwargs | {"callbacks": callbacks}


def _early_stopping(kwargs: Mapping[str, Any]) -> EarlyStopping:
    names = {"min_delta": 0.0, "mode": "min", "patience": 5}
    of_trainer = {name: kwargs.get(f"early_stopping_{name}", default) for name, default in names.items()}
    return EarlyStopping(kwargs["early_stopping_monitor"], **of_trainer)


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Lightning's remarks on devices and on "max_epochs reached" are not for the user of a model."""
    with quiet("lightning.pytorch.utilities.rank_zero", "lightning.pytorch"), warnings.catch_warnings():
        for message in NOT_FOR_USERS:
            warnings.filterwarnings("ignore", message=message)
        yield
