"""Files that are read in parts (h5ad or zarr, found by pattern); together they form one long table of cells."""

from __future__ import annotations

import glob
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata
import h5py
import pandas as pd
import scipy.sparse as sp
from anndata.io import read_elem, sparse_dataset
from numpy.typing import NDArray

from polygene_scverse._constants import RANK
from polygene_scverse._validate import check_not_empty, check_unique_names, shorten
from polygene_scverse.data.read._source import iterate_rows
from polygene_scverse.data.read._totals import Footing, genes_only

Paths = str | Path | Sequence[str | Path]


@dataclass(frozen=True)
class ShardFile:
    """One file of cells; the expression matrix stays on disk.

    Parameters
    ----------
    path
        The file, or the folder of a zarr store.
    key
        Place of expression in the file, e.g. ``"X"``.
    n_obs
        Number of cells.
    var_names
        Gene names.
    ranks
        ``var["highly_variable_rank"]``, None if it does not exist.
    footing
        Columns that add up to the total count of a cell; None for all.
    noted
        ``uns["log1p"]``, None if it does not exist.
    """

    path: Path
    key: str
    n_obs: int
    var_names: pd.Index
    ranks: pd.Series | None
    footing: Footing | None = None
    noted: Mapping[str, Any] | None = None

    def iterate(self, rows: NDArray[Any]) -> Iterator[sp.csr_matrix]:
        """Read ascending rows in blocks; the file is closed at the end."""
        with opened(self.path) as root:
            yield from iterate_rows(_matrix(root, self.path, self.key), rows)


def open_shard(path: Path, layer: str | None = None, use_raw: bool = False) -> tuple[ShardFile, pd.DataFrame]:
    """Read the cells, genes and obs columns of a file, but not its expression.

    Parameters
    ----------
    path
        The file, or the folder of a zarr store.
    layer
        Layer to read instead of ``X``.
    use_raw
        Whether to read ``raw`` instead.

    Raises
    ------
    ValueError
        If it is not an h5ad file or zarr store, if it is empty, if gene names are not unique, or if expression is
        stored by column.
    KeyError
        If the layer does not exist.
    """
    key = "raw/X" if use_raw else "X" if layer is None else f"layers/{layer}"
    try:
        with opened(path) as root:
            old = isinstance(root["obs"], h5py.Dataset)  # a compound table, as anndata wrote it up to 0.6
            key = "raw.X" if old and use_raw else key
            there, noted = key in root, None
            if there and not old:
                obs, var = read_elem(root["obs"]), read_elem(root["raw/var" if use_raw else "var"])
                noted = read_elem(root["uns/log1p"]) if "uns/log1p" in root else None
            shape = _matrix(root, path, key).shape if there else (0, 0)
            others = list(root["layers"]) if "layers" in root else []
        if there and old:
            obs, var, noted = _old_tables(path, use_raw)
    except (OSError, KeyError) as error:
        raise ValueError(
            f"`adata`: {path} cannot be read as an h5ad file or a zarr store ({type(error).__name__}: {error}). Write "
            "it again, or leave it out."
        ) from error
    if not there:
        raise KeyError(f"`adata`: {key} is not in {path}. Pass another layer=, of {others}, or use_raw=.")
    try:
        check_not_empty(*shape)
        check_unique_names(var.index, "raw.var_names" if use_raw else "var_names")
    except ValueError as error:
        raise ValueError(f"{error} (In {path}.)") from error
    ranks = var.get(RANK)
    noted = noted if noted is None or isinstance(noted, Mapping) else {}
    return ShardFile(path, key, int(shape[0]), var.index.astype(str), ranks, genes_only(var), noted), obs


def _old_tables(path: Path, use_raw: bool) -> tuple[pd.DataFrame, pd.DataFrame, Any]:
    """Tables of cells and genes of a file of anndata 0.6, and what scanpy notes of a logarithm."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the old format
        adata = anndata.read_h5ad(path, backed="r")
    try:
        return adata.obs, adata.raw.var if use_raw else adata.var, adata.uns.get("log1p")
    finally:
        adata.file.close()


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a file or zarr store for reading; gives its root."""
    if path.is_dir():
        import zarr  # a dependency of anndata

        yield zarr.open_group(str(path), mode="r")
    else:
        with h5py.File(path, "r") as file:
            yield file


def _matrix(root: Any, path: Path, key: str) -> Any:
    """Expression as stored on disk."""
    x = root[key]
    if hasattr(x, "shape"):  # dense
        return x
    x = sparse_dataset(x)
    if x.format != "csr":
        raise ValueError(
            f"`adata`: {key} of {path} is stored by column ({x.format}), so that cells cannot be read in part. "
            "Write it with X = X.tocsr()."
        )
    return x


def expand_paths(paths: Paths) -> list[Path]:
    """Files of one or more patterns.

    Parameters
    ----------
    paths
        A path or pattern, or several. Patterns may have braces, ``"shard_{0..46}.h5ad"`` or ``"{blood,lung}.zarr"``,
        and the wildcards of :mod:`glob`, whose matches are in natural order (2 before 10).

    Returns
    -------
    The paths, in the order given.

    Raises
    ------
    FileNotFoundError
        If a file does not exist, or nothing matches a pattern.
    ValueError
        If there are no paths, if a file is named twice, or if one holds MuData.
    TypeError
        If they are not paths.
    """
    patterns = [paths] if isinstance(paths, (str, Path)) else list(paths) if isinstance(paths, (list, tuple)) else None
    if patterns is None or not all(isinstance(pattern, (str, Path)) for pattern in patterns):
        raise TypeError(f"`adata`: found {paths!r}. Pass AnnData, MuData, or the paths of h5ad or zarr files.")
    found = [path for pattern in patterns for path in _expand(str(pattern))]
    if not found:
        raise ValueError(
            "`adata`: found an empty list of files. Pass AnnData, or the paths of some h5ad or zarr files."
        )
    if multimodal := [str(path) for path in found if path.suffix == ".h5mu"]:
        raise ValueError(
            f"`adata`: {shorten(multimodal, 3)} hold MuData, but files of one modality are needed. Write it with "
            "mdata['rna'].write_h5ad('rna.h5ad')."
        )
    files = [path.resolve() for path in found]
    twice = {str(path) for path, file in zip(found, files, strict=True) if files.count(file) > 1}
    if twice:
        raise ValueError(f"`adata`: {shorten(sorted(twice), 3)} found more than once. Pass each file once.")
    return found


def _expand(pattern: str) -> list[Path]:
    if Path(pattern).exists():
        return [Path(pattern)]
    found = []
    for name in _braces(pattern):
        matches = [name] if Path(name).exists() else sorted(glob.glob(name), key=_natural)
        if not matches:
            of = "" if name == pattern else f", of the pattern {pattern!r}"
            raise FileNotFoundError(f"`adata`: no file matches {name!r}{of}. Check the path.")
        found += [Path(match) for match in matches]
    return found


def _braces(pattern: str) -> list[str]:
    """``"a{0..2}"`` -> a0, a1, a2; ``"a{00..10}"`` is padded with zeros; ``"a{x,y}"`` -> ax, ay."""
    match = re.search(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}", pattern)
    if match is None:
        return [pattern]
    first, last, names = match.groups()
    if names is None:
        step = 1 if int(first) <= int(last) else -1
        width = len(first) if first.startswith("0") else 0
        words = [str(i).zfill(width) for i in range(int(first), int(last) + step, step)]
    else:
        words = names.split(",")
    before, after = pattern[: match.start()], pattern[match.end() :]
    return [name for word in words for name in _braces(f"{before}{word}{after}")]


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
