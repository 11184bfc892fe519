"""Finding, reading and writing files of cells."""

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
"""Parts of AnnData that the functions of `tl` write to."""


def split_list(values: Sequence[str] | None) -> list[str] | None:
    """Split names given as separate values or separated by commas."""
    if values is None:
        return None
    return [name.strip() for value in values for name in value.split(",") if name.strip()]


def find_files(*patterns: Sequence[str] | None) -> list[Path]:
    """Find files by pattern, as `pgs.tl.train` does; a ``file://`` prefix, as used by the original, is removed.

    Raises
    ------
    UserError
        If there is no pattern, or if one is a remote location.
    """
    from polygene_scverse.data.shards._files import expand_paths

    found = [pattern.removeprefix("file://") for several in patterns for pattern in several or []]
    if not found:
        raise UserError("DATA: no files were passed. Pass h5ad files or zarr stores. See --help.")
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
        Whether to leave expression on disk, if the format supports it.

    Raises
    ------
    UserError
        If the file has another format.
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
    """Check before a long computation that a folder is writable and that nothing in it would be overwritten.

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
    """File to write for each input: `output` itself for a single input, else files of the same names in that folder.

    Raises
    ------
    UserError
        If a format is unknown, if a file exists and must not be replaced, or if it is an input.
    """
    if form is not None and form not in FORMATS:
        raise UserError(f"--format: found {form!r}, but it must be one of {', '.join(FORMATS)}.")
    single = output.suffix.lstrip(".") in FORMATS
    if single and len(files) > 1:
        raise UserError(f"--output: {output} is a file, but there are {len(files)} inputs. Pass a folder.")
    if single and form is not None and form != output.suffix.lstrip("."):
        raise UserError(f"--format: found {form!r}, which differs from the suffix of {output}. Leave it out.")
    if not single and form is None and output.suffix and len(files) == 1 and not output.is_dir():
        raise UserError(
            f"--output: the format of {output} is unknown. End the name with {', '.join(FORMATS)}, or pass --format to "
            "write into a folder of that name."
        )
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


def write_cells(adata: AnnData, source: Path | None, target: Path) -> None:
    """Write results atomically: the file gets its name when it is complete.

    From h5ad to h5ad, everything else is copied on disk, so that expression need not fit into memory.
    """
    with replace_folder(target) if target.suffix == ".zarr" else replace_file(target) as part:
        if target.suffix == ".zarr":
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Writing zarr v2")  # about a future change in anndata
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
