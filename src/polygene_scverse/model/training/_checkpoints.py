"""Settings and validation of training checkpoints."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from polygene_scverse._validate import shorten

FILE_NAME = "last.ckpt"
STATE_KEY = "polygene"
"""Entry of a checkpoint that this package adds to those of Lightning."""
RESERVE = 2**24
"""Bytes of a checkpoint in addition to weights and moments, with a margin."""


@dataclass(frozen=True)
class Checkpoints:
    """Settings for saving checkpoints, to resume a training after an interruption.

    Only the last checkpoint is kept, as ``last.ckpt``. It is replaced atomically.

    Parameters
    ----------
    folder
        Folder of the checkpoint; created if it does not exist. Each training needs its own folder.
    every_epochs
        Save a checkpoint every this many epochs, and at the end.
    every_steps
        Also save a checkpoint every this many optimiser steps.
    resume
        Whether to resume from the checkpoint in the folder. If there is none, a new training starts.
    """

    folder: str | Path
    every_epochs: int = 1
    every_steps: int | None = None
    resume: bool = False

    def __post_init__(self) -> None:
        for name in ("every_epochs", "every_steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"`checkpoints`: found {name}={value}, but it must be at least 1.")

    @classmethod
    def of(cls, value: Checkpoints | Mapping[str, Any] | str | Path | None) -> Checkpoints | None:
        """Convert the argument `checkpoints`."""
        if value is None or isinstance(value, cls):
            return value
        return cls(**value) if isinstance(value, Mapping) else cls(value)  # type: ignore[arg-type]

    @property
    def path(self) -> Path:
        """File of the checkpoint."""
        return Path(self.folder) / FILE_NAME

    def check_folder(self, n_bytes: int) -> None:
        """Raise an error for a folder that is not writable, is too full, or has a checkpoint that would be lost.

        Parameters
        ----------
        n_bytes
            Size of the weights.

        Raises
        ------
        OSError
            If the folder is not writable, or has no space for two checkpoints.
        ValueError
            If the folder has a checkpoint and `resume` is False.
        """
        if self.path.exists() and not self.resume:
            raise ValueError(
                f"`checkpoints`: {self.path} is the checkpoint of a finished or interrupted training. Pass "
                "resume=True to resume it, pass another folder, or delete the file."
            )
        try:
            Path(self.folder).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder) as probe:
                probe.write(b"0")
        except OSError as error:
            raise OSError(
                f"`checkpoints`: {self.folder} cannot be written to ({error}). Pass a writable folder."
            ) from error
        need, free = 2 * (3 * n_bytes + RESERVE), shutil.disk_usage(self.folder).free  # weights and two moments, twice
        if free < need:
            raise OSError(
                f"`checkpoints`: {self.folder} has {free / 1e6:.0f} MB left, but two checkpoints of this training need "
                f"about {need / 1e6:.0f} MB. Make room, or pass another folder."
            )

    def read(self) -> dict[str, Any] | None:
        """Read this package's entry of the checkpoint, None if there is none to resume from.

        Raises
        ------
        ValueError
            If the file is not a checkpoint of this package or contains more than tensors and plain values.
        """
        if not (self.resume and self.path.exists()):
            return None
        try:
            return torch.load(self.path, map_location="cpu", weights_only=True)[STATE_KEY]
        except Exception as error:
            raise ValueError(
                f"`checkpoints`: {self.path} was not written by a training of Polygene, is damaged, or holds more than "
                "tensors and plain values. Delete it, or pass another folder."
            ) from error

    def check_same(self, state: Mapping[str, Any], identity: Mapping[str, str]) -> None:
        """Raise an error if the checkpoint belongs to another training.

        Raises
        ------
        ValueError
            If model, data or arguments differ from those of the checkpoint.
        """
        then = state["identity"]
        names = [name for name in identity if identity[name] != then.get(name)]
        if differences := [f"{name}: {then.get(name)} then, {identity[name]} now" for name in names]:
            raise ValueError(
                f"`checkpoints`: the checkpoint {self.path} belongs to another training: {shorten(differences)}. Pass "
                "the same model, data and arguments to resume it, or another folder."
            )
