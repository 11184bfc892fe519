"""Where a training is logged: always into the history, and elsewhere only when asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from polygene_scverse._validate import check_choice

NAMES = ("csv", "tensorboard", "wandb")


class HistoryLogger(Logger):
    """Keeps the history as scvi-tools' own logger does, and leaves the metrics as they are for other loggers."""

    name, version = "history", 0
    history_path: str | None = None
    """File that hands the history over to the process that started this one; scvi-tools reads it."""

    def __init__(self) -> None:
        super().__init__()
        self.history: dict[str, pd.DataFrame] = {}

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """Nothing is noted of them."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Note metrics by epoch, or by step where no epoch is said."""
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
            pd.to_pickle(self.history, self.history_path)


def hand_over(loggers: Iterable[Logger] | None, folder: str | Path) -> None:
    """Let the history be written into a folder, where training runs in processes that end before it is read."""
    for logger in loggers or []:
        if isinstance(logger, HistoryLogger):
            logger.history_path = str(Path(folder) / "history.pkl")


def make_logger(name: str, folder: str | Path = "logs", project: str = "polygene") -> Logger:
    """One of Lightning's loggers.

    Parameters
    ----------
    name
        ``"csv"`` and ``"tensorboard"`` write into the folder, ``"wandb"`` also sends to Weights & Biases, as its own
        settings (``WANDB_MODE``, ``WANDB_API_KEY``) say.
    folder
        Folder of the logs.
    project
        Name of the logs, or project of Weights & Biases.

    Raises
    ------
    ValueError
        If there is no logger of this name.
    ImportError
        If the package that it needs is not installed.
    """
    check_choice(name, NAMES, "logger")
    if name == "csv":
        return CSVLogger(folder, name=project)
    if name == "tensorboard":
        if find_spec("tensorboard") is None and find_spec("tensorboardX") is None:
            raise _not_installed(name)
        return TensorBoardLogger(folder, name=project)
    if find_spec("wandb") is None:
        raise _not_installed(name)
    Path(folder).mkdir(parents=True, exist_ok=True)
    return WandbLogger(project=project, save_dir=str(folder))


def with_history(logger: Logger | str | bool | Iterable[Logger | str] | None) -> list[Logger] | None:
    """Loggers for the trainer; that of the history comes first, where scvi-tools looks for it. None for its own.

    Parameters
    ----------
    logger
        A logger of Lightning or the name of one, see `make_logger`, or several; None or False for none.

    Raises
    ------
    ValueError, ImportError
        As `make_logger`.
    """
    if logger is None or logger is False:
        return None
    if logger is True:
        raise ValueError(
            f"`logger`: found True, which names none. Pass one of {list(NAMES)}, or a logger of Lightning."
        )
    several = [logger] if isinstance(logger, (str, Logger)) else list(logger)
    return [HistoryLogger(), *(make_logger(item) if isinstance(item, str) else item for item in several)]


def _not_installed(name: str) -> ImportError:
    return ImportError(f"`logger`: {name!r} needs a package that is not installed. Run: pip install {name}")
