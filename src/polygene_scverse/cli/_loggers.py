"""Loggers available on the command line."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from polygene_scverse._validate import check_choice

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger

PACKAGES = {"csv": (), "tensorboard": ("tensorboard", "tensorboardX"), "wandb": ("wandb",)}
"""Packages, at least one of which a logger requires."""


def make_logger(name: str, folder: str | Path, project: str) -> Logger:
    """Create one of Lightning's loggers.

    Parameters
    ----------
    name
        ``"csv"`` and ``"tensorboard"`` write to the folder; ``"wandb"`` also sends to Weights & Biases, following its
        own settings (``WANDB_MODE``, ``WANDB_API_KEY``).
    folder
        Folder of the logs.
    project
        Name of the logs, or project of Weights & Biases.

    Raises
    ------
    ValueError
        If the name is unknown.
    ImportError
        If the required package is not installed.
    """
    check_choice(name, list(PACKAGES), "logger")
    if PACKAGES[name] and not any(find_spec(package) for package in PACKAGES[name]):
        raise ImportError(f"`logger`: {name!r} needs a package that is not installed. Run: pip install {name}")
    from lightning.pytorch import loggers

    if name == "wandb":
        Path(folder).mkdir(parents=True, exist_ok=True)
        return loggers.WandbLogger(project=project, save_dir=str(folder))
    return {"csv": loggers.CSVLogger, "tensorboard": loggers.TensorBoardLogger}[name](folder, name=project)
