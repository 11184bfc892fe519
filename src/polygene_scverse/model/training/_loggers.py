"""Logging of training: always to the history, and to other loggers on request."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only


class HistoryLogger(Logger):
    """Records the history like scvi-tools' logger, but does not change the metrics that other loggers receive.

    Parameters
    ----------
    folder
        Folder for ``history.pkl``, written at the end. scvi-tools reads it if training runs in processes that end
        before the history is read.
    """

    name, version = "history", 0

    def __init__(self, folder: str | Path | None = None) -> None:
        super().__init__()
        self.history: dict[str, pd.DataFrame] = {}
        self.history_path = None if folder is None else str(Path(folder) / "history.pkl")

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """Do nothing; hyperparameters are not recorded."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Record metrics by epoch, or by step if no epoch is given."""
        kind = "epoch" if "epoch" in metrics else "step"
        at = metrics.get("epoch", step)
        for name, value in metrics.items():
            if name != "epoch":
                empty = pd.DataFrame(columns=[name], index=pd.Index([], name=kind))
                self.history.setdefault(name, empty).loc[at, name] = float(value)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write the file."""
        if self.history_path is not None:
            Path(self.history_path).parent.mkdir(parents=True, exist_ok=True)
            Path(self.history_path).write_bytes(pickle.dumps(self.history))


def check_loggers(logger: Logger | Iterable[Logger] | bool | None) -> list[Logger]:
    """Convert the argument `logger` to a list.

    Raises
    ------
    ValueError
        If it is not a logger of Lightning, several of them, None or False.
    """
    if logger is None or logger is False:
        return []
    items: list[object] = list(logger) if isinstance(logger, Iterable) and not isinstance(logger, str) else [logger]
    loggers = [item for item in items if isinstance(item, Logger)]
    if len(loggers) < len(items):
        raise ValueError(
            f"`logger`: found {logger!r}, which is not a logger. Pass a logger of Lightning, e.g. "
            "lightning.pytorch.loggers.CSVLogger('logs'), or a list of loggers."
        )
    return loggers
