"""Many files of cells as one data set that need not fit into memory.

Cells are numbered through all files in the given order, and this number is the id that seeds their draws. Only the
required obs columns are kept in memory; expression is read in buffers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from polygene_scverse._constants import PHENOTYPE_ALIASES
from polygene_scverse._validate import check_labels, check_names, shorten, warn
from polygene_scverse.data.read._phenotypes import candidates, resolve_phenotypes
from polygene_scverse.data.read._tokens import Cells, Tokenizer
from polygene_scverse.data.shards._files import Paths, ShardFile, expand_paths, open_shard
from polygene_scverse.data.shards._labels import join_columns


@dataclass(frozen=True)
class ShardSet:
    """Files, and the required obs columns of all their cells.

    Parameters
    ----------
    files
        The files.
    obs
        Phenotypes and groups; shape (n_obs, n_columns).
    layer, use_raw
        Place of expression in each file.
    """

    files: tuple[ShardFile, ...]
    obs: pd.DataFrame
    layer: str | None = None
    use_raw: bool = False

    @classmethod
    def open(
        cls,
        paths: Paths,
        phenotypes: str | Sequence[str] | None = None,
        group_key: str | None = None,
        layer: str | None = None,
        use_raw: bool = False,
    ) -> ShardSet:
        """Find the files and read their small parts: gene names, ranks, phenotypes and groups.

        Parameters
        ----------
        paths
            Paths or patterns, see `expand_paths`.
        phenotypes
            Obs columns to read. By default those with a common name that all files have.
        group_key
            Obs column with the groups.
        layer, use_raw
            Place of expression in each file.

        Raises
        ------
        KeyError
            If a file lacks a named column or layer.
        ValueError, FileNotFoundError
            If a file cannot be used, or if files have no gene in common or labels of different types.
        """
        files: list[ShardFile] = []
        tables: list[pd.DataFrame] = []
        wanted = None if phenotypes is None else check_names(phenotypes, "phenotypes")
        for path in expand_paths(paths):
            file, obs = open_shard(path, layer, use_raw)
            same = next((f.var_names for f in files if f.var_names.equals(file.var_names)), file.var_names)
            ranks = None if file.ranks is None else file.ranks.set_axis(same)  # names are stored once
            files.append(replace(file, var_names=same, ranks=ranks))
            tables.append(_used_columns(obs, path, wanted, group_key))
        _check_common_genes(files)
        names = [file.path.name for file in files]
        keys = [key for key in tables[0] if all(key in table for table in tables)]
        _warn_left_out([str(key) for key in keys], tables)
        columns = {
            key: join_columns(
                [table[key] for table in tables], names, "group_key" if key == group_key else "phenotypes"
            )
            for key in keys
        }
        n_obs = sum(file.n_obs for file in files)
        return cls(tuple(files), pd.DataFrame(columns, index=pd.RangeIndex(n_obs)), layer, use_raw)

    @property
    def n_obs(self) -> int:
        """Number of cells of all files."""
        return len(self.obs)

    @property
    def where(self) -> str:
        """Name of the expression matrix in messages."""
        return f"{self.files[0].key} of {len(self.files)} files"

    @property
    def n_vars(self) -> int:
        """Number of genes of all files."""
        return len(self.var_names)

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """Number of the first cell of each file, and the number of all cells; shape (n_files + 1,)."""
        return np.concatenate([[0], np.cumsum([file.n_obs for file in self.files])]).astype(np.int64)

    @cached_property
    def var_names(self) -> pd.Index:
        """Genes of all files, in order of first occurrence."""
        index = self.files[0].var_names
        for file in self.files[1:]:
            if file.var_names is not index:
                index = index.append(file.var_names[~file.var_names.isin(index)])
        return index

    def by_file(self, rows: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """Split ascending cell numbers by file: index of the file, and rows within it."""
        cuts = np.searchsorted(rows, self.starts)
        for k, (a, b) in enumerate(pairwise(cuts)):
            if b > a:
                yield k, rows[a:b] - self.starts[k]

    def read(self, rows: NDArray[np.int64], tokenizers: Sequence[Tokenizer]) -> Cells:
        """Tokens of cells, given by ascending numbers; `tokenizers` has one for each file."""
        parts = [tokenizers[k](block) for k, own in self.by_file(rows) for block in self.files[k].iterate(own)]
        return Cells.concatenate(parts)


def _used_columns(
    obs: pd.DataFrame, path: object, phenotypes: Sequence[str] | None, group_key: str | None
) -> pd.DataFrame:
    named = [("phenotypes", key) for key in phenotypes or []]
    named += [] if group_key is None else [("group_key", group_key)]
    for argument, key in named:
        if key not in obs:
            raise KeyError(
                f"`{argument}`: {key!r} is not a column of obs in {path}. Columns that look like phenotypes: "
                f"{shorten(candidates(obs))}. Pass one that every file has."
            )
        check_labels(obs, key, argument)
    keys = [key for _, key in named]
    if phenotypes is None:
        usual = [name for names in PHENOTYPE_ALIASES.values() for name in names if (obs.columns == name).sum() == 1]
        keys += usual or resolve_phenotypes(obs, None)  # its error lists the candidates
    return obs[list(dict.fromkeys(keys))].reset_index(drop=True)


def _warn_left_out(keys: Sequence[str], tables: Sequence[pd.DataFrame]) -> None:
    """Warn about usual phenotypes that are not learned because a file lacks them."""
    found = {str(key) for table in tables for key in table}
    usual = [[name for name in names if name in found] for names in PHENOTYPE_ALIASES.values()]
    if left_out := [name for names in usual if not set(names) & set(keys) for name in names]:
        warn(
            f"{shorten(left_out)} are not columns of obs in every file, and are not learned. Add them to all "
            "files to learn them, with missing values where they are not known."
        )


def _check_common_genes(files: Sequence[ShardFile]) -> None:
    """Check that each file shares a gene with another; otherwise its gene names are of another type."""
    n_files = pd.concat([file.var_names.to_series() for file in files]).value_counts()
    for file in files if len(files) > 1 else []:
        if n_files[file.var_names].max() == 1:
            others = next(other for other in files if other is not file)
            raise ValueError(
                f"`adata`: {file.path} has no gene in common with the other files: {shorten(file.var_names, 3)} there, "
                f"{shorten(others.var_names, 3)} in {others.path}. Genes are matched by name: use the same kind of "
                "identifier in all."
            )
