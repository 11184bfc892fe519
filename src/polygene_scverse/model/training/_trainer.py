"""Setup of Lightning's trainer."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.strategies import DDPStrategy, Strategy

from polygene_scverse._quiet import quiet
from polygene_scverse._validate import warn
from polygene_scverse.model.training._loggers import check_loggers
from polygene_scverse.model.training._progress import ProgressBar

NOT_FOR_USERS = (
    ".*does not have many workers.*",
    ".*early_stopping was automatically disabled.*",
    ".*isinstance.treespec, LeafSpec.*",
    "Checkpoint directory .* exists and is not empty",
)
"""Library warnings that are not relevant to users of a model."""


def is_distributed(strategy: Strategy | str | None) -> bool:
    """Whether a strategy uses several processes."""
    return "ddp" in strategy if isinstance(strategy, str) else isinstance(strategy, DDPStrategy)


def trainer_defaults(kwargs: Mapping[str, Any], validated: bool) -> dict[str, Any]:
    """scvi-tools' Trainer with validation in each epoch, gradient clipping, a rich progress bar, and no files written.

    Parameters
    ----------
    kwargs
        Arguments given by the user.
    validated
        Whether there are validation cells, which early stopping requires.
    """
    settings: dict[str, Any] = {
        "check_val_every_n_epoch": 1,
        "gradient_clip_val": 1.0,
        "early_stopping": False,
        "early_stopping_monitor": "validation_loss",
        "early_stopping_min_delta": 0.0,
        "early_stopping_patience": 5,
        "early_stopping_mode": "min",
        "enable_progress_bar": True,
        "simple_progress_bar": False,
        "log_every_n_steps": 1,
        "use_distributed_sampler": False,
    } | dict(kwargs)
    callbacks = list(settings.get("callbacks") or [])
    if settings["enable_progress_bar"]:
        callbacks.append(ProgressBar())
    if not validated:
        if settings["early_stopping"]:
            warn(
                "`early_stopping`: it has no effect, because no cells are held out for validation. Pass a "
                "`validation_size` above 0, or leave it out."
            )
        settings |= {"early_stopping": False, "limit_val_batches": 0}
    if settings["early_stopping"] and is_distributed(settings.get("strategy")):
        # scvi-tools disables it there; our validation loss is over all processes, so that they stop together
        names = ("monitor", "min_delta", "patience", "mode")
        callbacks.append(EarlyStopping(**{name: settings[f"early_stopping_{name}"] for name in names}))
    return settings | {"callbacks": callbacks, "logger": check_loggers(settings.get("logger"))}


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Suppress Lightning's messages about devices and "max_epochs reached"."""
    with quiet("lightning.pytorch.utilities.rank_zero", "lightning.pytorch"), warnings.catch_warnings():
        for message in NOT_FOR_USERS:
            warnings.filterwarnings("ignore", message=message)
        yield
