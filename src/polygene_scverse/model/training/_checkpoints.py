"""Where a training is noted on disk, and what is checked before."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from polygene_scverse._validate import shorten

FILE = "last.ckpt"
STATE = "polygene"
"""Entry of a checkpoint that is ours; the others are Lightning's."""
RESERVE = 2**24
"""Bytes of a checkpoint beside weights and moments, and to spare."""


@dataclass(frozen=True)
class Checkpoints:
    """Where and how often a training is noted, so that it can go on after an interruption.

    The last note is kept, as ``last.ckpt``; it is replaced as a whole, never half written.

    Parameters
    ----------
    folder
        Folder of the notes; it is made if it is not there. Each training needs its own.
    every_epochs
        Note it after each so many epochs, and at the end.
    every_steps
        Note it after each so many steps of the optimiser, too.
    resume
        Whether to go on from the note in the folder; without one, training begins at the beginning.
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
        """What the argument `checkpoints` means."""
        if value is None or isinstance(value, cls):
            return value
        return cls(**value) if isinstance(value, Mapping) else cls(value)  # type: ignore[arg-type]

    @property
    def path(self) -> Path:
        """The file."""
        return Path(self.folder) / FILE

    def check_folder(self, n_bytes: int) -> None:
        """Refuse a folder that cannot be written to, is too full, or holds a note that would be lost.

        Parameters
        ----------
        n_bytes
            Size of the weights.

        Raises
        ------
        OSError
            If the folder cannot be written to, or has no room for two notes.
        ValueError
            If it holds a note and `resume` is False.
        """
        if self.path.exists() and not self.resume:
            raise ValueError(
                f"`checkpoints`: {self.path} notes a training that was done or interrupted. Pass resume=True to go on "
                "with it, pass another folder, or delete the file."
            )
        try:
            Path(self.folder).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder) as probe:
                probe.write(b"0")
        except OSError as error:
            raise OSError(
                f"`checkpoints`: {self.folder} cannot be written to ({error}). Pass a folder that can."
            ) from error
        need, free = 2 * (3 * n_bytes + RESERVE), shutil.disk_usage(self.folder).free  # weights and two moments, twice
        if free < need:
            raise OSError(
                f"`checkpoints`: {self.folder} has {free / 1e6:.0f} MB left, but two notes of this training need about "
                f"{need / 1e6:.0f} MB. Make room, or pass another folder."
            )

    def read(self) -> dict[str, Any] | None:
        """What the note says, None if there is none to go on from.

        Raises
        ------
        ValueError
            If the file is no note of ours or holds more than tensors and plain values.
        """
        if not (self.resume and self.path.exists()):
            return None
        try:
            return torch.load(self.path, map_location="cpu", weights_only=True)[STATE]
        except Exception as error:
            raise ValueError(
                f"`checkpoints`: {self.path} was not written by a training of Polygene, is damaged, or holds more than "
                "tensors and plain values. Delete it, or pass another folder."
            ) from error

    def check_same(self, state: Mapping[str, Any], identity: Mapping[str, str]) -> None:
        """Refuse to go on with another training.

        Raises
        ------
        ValueError
            If model, data or arguments differ from those noted.
        """
        then = state["identity"]
        if other := [name for name in identity if identity[name] != then.get(name)]:
            said = [f"{name}: {then.get(name)} then, {identity[name]} now" for name in other]
            raise ValueError(
                f"`checkpoints`: {self.path} notes another training: {shorten(said)}. Pass the same model, data and "
                "arguments to go on with it, or another folder."
            )
