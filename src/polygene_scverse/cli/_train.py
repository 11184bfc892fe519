"""`polygene train`."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from polygene_scverse._files import replace_file
from polygene_scverse.cli._cells import check_folder, find_files, read_cells
from polygene_scverse.cli._errors import UserError
from polygene_scverse.cli._loggers import make_logger
from polygene_scverse.cli._settings import needed
from polygene_scverse.cli._train_arguments import columns_of, train_arguments, without_none
from polygene_scverse.cli._train_settings import TrainSettings

BATCH_SIZE = 16
"""Default number of cells per step."""


def train(s: TrainSettings) -> None:
    """Train a model, save it, and write its history next to it."""
    (output,) = needed(s, "output")
    arguments = train_arguments(s)
    arguments["verbose"] = arguments["verbose"] and is_first_process()
    files = find_files(s.paths, s.train_data)
    held_out = find_files(s.eval_data) if s.eval_data else []
    check_folder(output, overwrite=bool(s.overwrite or s.resume) or not is_first_process())
    from polygene_scverse import tl

    if (checkpoints := _checkpoints(s, files, output)) is not None:
        arguments["checkpoints"] = checkpoints
    arguments |= _labels(s, [*files, *held_out], arguments.get("phenotypes"), arguments.get("missing"))
    if held_out:
        arguments["split"] = _split(files, held_out)
    if s.logger is not None:
        arguments["logger"] = make_logger(s.logger, s.log_dir or output / "logs", s.project or "polygene")
    data: Any = [*files, *held_out]
    if len(data) == 1 and s.buffer_cells is None:
        data = read_cells(files[0])
    model = tl.train(
        data,
        save_to=output,
        **{"enable_progress_bar": not s.quiet and sys.stdout.isatty(), **arguments},
    )
    if not is_first_process():
        return
    history = write_history(model.history_, output / "history.csv")
    if held_out:
        from polygene_scverse.cli._evaluate import score_files, write_scores

        counts = score_files(model, held_out, batch_size=s.eval_batch_size)
        write_scores(counts, model.mask_, output / "held_out", figures=False)
    if not s.quiet:
        for name, value in history.items():
            typer.echo(f"{name}: {value:.4g}")
        typer.echo(f"The model is in {output}.")


def is_first_process() -> bool:
    """Whether this is rank 0, which prints and writes, of the processes started by torchrun, Lightning or SLURM."""
    ranks = (os.environ.get(name) for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))
    return next((rank for rank in ranks if rank), "0") == "0"


def _checkpoints(s: TrainSettings, files: Sequence[Path], output: Path) -> dict[str, Any] | None:
    """Settings of checkpoints; None if no option requests them."""
    if s.save_steps is None and s.save_epochs is None and s.checkpoints is None and not s.resume:
        return None
    from polygene_scverse.model import Checkpoints

    folder = s.checkpoints or output / "checkpoints"
    if s.overwrite and not s.resume:
        Checkpoints(folder).path.unlink(missing_ok=True)
    steps = s.save_steps
    if steps is not None and steps < 1:  # a fraction of an epoch, as in the original
        per_step = (s.batch_size or BATCH_SIZE) * (s.accumulate or 1)
        steps = max(1, round(steps * math.ceil(count_cells(files) / per_step)))
    every_steps = None if steps is None else int(steps)
    return without_none(
        {"folder": folder, "every_epochs": s.save_epochs, "every_steps": every_steps, "resume": s.resume}
    )


def count_cells(files: Sequence[Path]) -> int:
    """Number of cells in some files."""
    return sum(len(_obs_of(path)) for path in files)


def write_history(history: Any, path: Path) -> dict[str, float]:
    """Write losses and scores by epoch, and return the last ones."""
    import pandas as pd

    table = pd.DataFrame({name: column.iloc[:, 0].astype(float) for name, column in (history or {}).items()})
    with replace_file(path) as part:
        table.rename_axis(index="epoch").to_csv(part)
    return {str(name): float(column.dropna().iloc[-1]) for name, column in table.items() if column.notna().any()}


def _split(files: Sequence[Path], held_out: Sequence[Path]) -> tuple[Any, Any]:
    """Numbers of the training and of the held-out cells, counted through all files."""
    import numpy as np

    n_cells = [count_cells(paths) for paths in (files, held_out)]
    return np.arange(n_cells[0]), np.arange(n_cells[0], sum(n_cells))


def _labels(
    s: TrainSettings, files: Sequence[Path], names: list[str] | None, missing: list[str] | None
) -> dict[str, Any]:
    """Obs columns of the phenotypes; if a vocabulary is given, their labels must be in it."""
    if names is None and s.vocabulary is None:
        return {}
    from polygene_scverse.data.read._phenotypes import missing_words
    from polygene_scverse.model.original._files import ORIGINAL_COLUMNS, read_vocabulary

    obs = [_obs_of(path) for path in files]
    present = [str(column) for column in obs[0].columns]
    if s.vocabulary is None:
        return {"phenotypes": columns_of(names, present)}
    categories = read_vocabulary(s.vocabulary)[1]
    known = {ORIGINAL_COLUMNS[name]: labels for name, labels in categories.items()}
    columns = columns_of(names, present) or [column for column in known if column in present]
    for column in columns:
        for path, table in zip(files, obs, strict=True):
            _check_labels(table, column, known, path, missing_words(missing))
    return {"phenotypes": columns}


def _obs_of(path: Path) -> Any:
    import h5py
    from anndata.io import read_elem

    if path.is_dir():
        return read_cells(path).obs
    try:
        with h5py.File(path, "r") as file:
            return read_elem(file["obs"])
    except (OSError, KeyError) as error:
        raise UserError(f"{path} cannot be read as an h5ad file ({type(error).__name__}: {error}).") from error


def _check_labels(obs: Any, column: str, known: dict[str, list[str]], path: Path, missing: frozenset[str]) -> None:
    from polygene_scverse._validate import label_of, shorten

    if column not in known:
        raise UserError(
            f"--vocabulary: it has no list for {column!r}, only for {shorten(known)}. Pass these as --phenotypes."
        )
    if column not in obs:
        raise UserError(f"--phenotypes: {column!r} is not a column of obs in {path}.")
    found = {label_of(value, missing) for value in obs[column].unique()} - {None}
    if unknown := sorted(str(label) for label in found - set(known[column])):
        raise UserError(
            f"--vocabulary: {shorten(unknown, 5)} of obs[{column!r}] in {path} are not in the list. Correct them, or "
            "leave --vocabulary out: categories are then read from the cells."
        )
