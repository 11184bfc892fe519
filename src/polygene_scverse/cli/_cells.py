"""Files of cells: found, read, and written beside what they were."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from polygene_scverse._files import replace_file, replace_folder
from polygene_scverse.cli._errors import UserError

if TYPE_CHECKING:
    from anndata import AnnData

FORMATS = ("h5ad", "zarr", "csv", "tsv")
WRITTEN = ("obs", "obsm", "obsp", "uns")
"""What the verbs of `tl` write into."""


def split_list(values: Sequence[str] | None) -> list[str] | None:
    """Names that were given one by one, or with commas."""
    if values is None:
        return None
    return [name.strip() for value in values for name in value.split(",") if name.strip()]


def find_files(*patterns: Sequence[str] | None) -> list[Path]:
    """Files of patterns, as `pgs.tl.train` finds them; ``file://`` is left out, as the original writes it.

    Raises
    ------
    UserError
        If there is no pattern, or one names a place that is not on this machine.
    """
    from polygene_scverse.data.shards._files import expand_paths

    found = [pattern.removeprefix("file://") for several in patterns for pattern in several or []]
    if not found:
        raise UserError("no data: pass h5ad files or zarr stores. See --help.")
    if remote := [pattern for pattern in found if "://" in pattern]:
        raise UserError(f"{remote[0]} is a remote address. Download it first, and pass the file.")
    return expand_paths(found)


def read_cells(path: Path, *, backed: bool = False) -> AnnData:
    """Read a file of cells.

    Parameters
    ----------
    path
        An h5ad file or a zarr store.
    backed
        Whether to leave expression on disk, where the format allows it.

    Raises
    ------
    UserError
        If it is neither.
    """
    import anndata

    try:
        if path.is_dir():
            return anndata.read_zarr(path)
        return anndata.read_h5ad(path, backed="r" if backed else None)
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise UserError(
            f"{path} cannot be read as an h5ad file or a zarr store ({type(error).__name__}: {error})."
        ) from error


def check_folder(folder: Path, *, overwrite: bool) -> None:
    """Refuse, before hours are spent, a folder that cannot be written to or holds something.

    Raises
    ------
    UserError
        If the check fails.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--output: {folder} is a file. Pass a folder.")
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise UserError(f"--output: {folder} is not empty. Pass --overwrite, or another folder.")
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise UserError(f"--output: {folder} cannot be written to. Pass another folder.")


def plan_outputs(files: Sequence[Path], output: Path, form: str | None, *, overwrite: bool) -> list[Path]:
    """File to write for each input: `output` itself for one, files of the same names in it for several.

    Raises
    ------
    UserError
        If a format is unknown, if a file is there and is not to be replaced, or if it is an input.
    """
    if form is not None and form not in FORMATS:
        raise UserError(f"--format: found {form!r}, but it must be one of {', '.join(FORMATS)}.")
    single = output.suffix.lstrip(".") in FORMATS
    if single and len(files) > 1:
        raise UserError(f"--output: {output} is a file, but there are {len(files)} inputs. Pass a folder.")
    if single and form is not None and form != output.suffix.lstrip("."):
        raise UserError(f"--format: found {form!r}, which differs from the suffix of {output}. Leave it out.")
    planned = [output] if single else [output / f"{path.stem}.{form or path.suffix.lstrip('.')}" for path in files]
    for path, target in zip(files, planned, strict=True):
        if target.suffix.lstrip(".") not in FORMATS:
            raise UserError(f"--output: the format of {target} is unknown. End the name with {', '.join(FORMATS)}.")
        if target.resolve() in {file.resolve() for file in files}:
            raise UserError(f"--output: {target} is an input, which is never overwritten. Pass another file.")
        if target.exists() and not overwrite:
            raise UserError(f"--output: {target} already exists. Pass --overwrite, or another name.")
        if len({*planned}) < len(planned):
            raise UserError(f"--output: two inputs have the name {path.stem}. Process them separately.")
    for target in planned:
        target.parent.mkdir(parents=True, exist_ok=True)
    return planned


def write_new(adata: AnnData, target: Path) -> None:
    """Write new cells; the file appears under its name when it is whole."""
    write_cells(adata, None, target)


def write_cells(adata: AnnData, source: Path | None, target: Path) -> None:
    """Write results; the file appears under its name when it is whole.

    From h5ad to h5ad all else is copied as it stands on disk, so that expression need not be in memory.
    """
    with replace_folder(target) if target.suffix == ".zarr" else replace_file(target) as part:
        if target.suffix == ".zarr":
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Writing zarr v2")  # anndata says what it will do one day
                (adata.to_memory() if adata.isbacked else adata).write_zarr(part)
        elif source is not None and source.is_file():
            _write_beside(adata, source, part)
        else:
            adata.write_h5ad(part)


def _write_beside(adata: AnnData, source: Path, target: Path) -> None:
    import h5py
    from anndata.io import write_elem

    shutil.copyfile(source, target)
    with h5py.File(target, "r+") as file:
        for part in WRITTEN:
            if part in file:
                del file[part]
            value = getattr(adata, part)
            write_elem(file, part, value if part == "obs" else dict(value))
