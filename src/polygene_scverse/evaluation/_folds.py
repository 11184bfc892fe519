"""Models that have not seen the cells they predict: folds of whole groups, and a training for each."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from sklearn.model_selection import KFold, StratifiedGroupKFold

from polygene_scverse._constants import RANK, UNS
from polygene_scverse._validate import check_not_empty, shorten
from polygene_scverse.data.read._phenotypes import categories_of, encode, missing_words
from polygene_scverse.data.read._split import check_split
from polygene_scverse.model import Polygene
from polygene_scverse.model._recipe import train_on_cells

Rows = NDArray[np.int64]
LEAST_GROUPS = 5
"""Training groups from which on whole ones are held out inside a training, for its own validation. One of fewer is a
large part of what there is to learn from, which rivals have: cells are held out instead."""


@dataclass(frozen=True)
class Labels:
    """The recorded categories of a phenotype.

    Parameters
    ----------
    names
        Categories that occur.
    codes
        Category of each cell, -1 where it is missing; shape (n_obs,).
    """

    names: list[str]
    codes: Rows

    @classmethod
    def of(cls, column: pd.Series, missing: str | Sequence[str] | None = None) -> Labels:
        """Read an obs column as the model does; `missing` as of `tl.train`."""
        names = categories_of(column, missing_words(missing))
        return cls(names, encode(column, names)[0])

    def constant_within(self, groups: NDArray[np.integer]) -> bool:
        """Whether each group has one category at most, and two groups or more have one."""
        known = self.codes >= 0
        pairs = pd.DataFrame({"group": groups[known], "code": self.codes[known]}).drop_duplicates()
        return len(pairs) >= 2 and not pairs["group"].duplicated().any()


def group_codes(obs: pd.DataFrame, group_key: str | None) -> NDArray[np.int64]:
    """Number of each cell's group; without a column each cell is its own. Missing values are one group."""
    if group_key is None:
        return np.arange(len(obs))
    return pd.factorize(obs[group_key], use_na_sentinel=False, sort=True)[0].astype(np.int64)


def make_folds(
    obs: pd.DataFrame, group_key: str | None, split: int | tuple, labels: Mapping[str, Labels], seed: int
) -> list[tuple[Rows, Rows]]:
    """Row numbers of training and test cells, fold by fold.

    Parameters
    ----------
    obs
        The cells.
    group_key
        Column whose groups stay whole; None splits single cells.
    split
        Number of folds; or the rows of the training and of the test cells, which make one.
    labels
        Labels of each phenotype: folds get alike shares of what is constant within groups, and each must leave two
        categories to learn.
    seed
        Seed of the draw.

    Raises
    ------
    ValueError
        If there are fewer groups than folds, if a side is empty, if a group is on both sides, or if a fold leaves one
        category of a phenotype.
    """
    groups = group_codes(obs, group_key)
    if isinstance(split, (int, np.integer)):
        folds = _draw(groups, int(split), group_key, labels, seed)
    else:
        train_rows, test_rows = (np.sort(np.asarray(side, dtype=np.int64)) for side in split)
        check_split(train_rows, test_rows, None if group_key is None else obs[group_key])
        folds = [(train_rows, test_rows)]
    for i, (rows, _) in enumerate(folds):
        for name, label in labels.items():
            found = np.unique(label.codes[rows][label.codes[rows] >= 0])
            if len(found) < 2:
                raise ValueError(
                    f"`split`: the training cells of fold {i + 1} of {len(folds)} have the categories "
                    f"{shorten(label.names[c] for c in found)} of {name!r} only, so that there is nothing to tell "
                    "apart. Pass another seed or number of folds, or leave the phenotype out."
                )
    return folds


def _draw(
    groups: Rows, n_folds: int, group_key: str | None, labels: Mapping[str, Labels], seed: int
) -> list[tuple[Rows, Rows]]:
    n_groups = len(np.unique(groups))
    if not 2 <= n_folds <= n_groups:
        what = "cells" if group_key is None else f"groups of {group_key!r}"
        raise ValueError(f"`split`: found {n_folds} folds for {n_groups} {what}. Pass from 2 to {n_groups}.")
    if group_key is None:
        folds = KFold(n_folds, shuffle=True, random_state=seed).split(groups)
    else:
        strata = np.zeros(len(groups), dtype=np.int64)
        for label in labels.values():
            if label.constant_within(groups):
                strata = strata * (len(label.names) + 1) + label.codes + 1
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The least populated class")
            strata = np.unique(strata, return_inverse=True)[1]
            folds = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed).split(strata, strata, groups)
    return [(np.sort(train_rows), np.sort(test_rows)) for train_rows, test_rows in folds]


def cells_of(adata: AnnData, rows: Rows) -> AnnData:
    """Some cells in memory, also of a backed file; of obs columns of one name, which cannot be copied, the first."""
    if (twice := adata.obs.columns.duplicated()).any():
        obs, layers = adata.obs.loc[:, ~twice], dict(adata.layers)
        adata = AnnData(adata.X, obs=obs, var=adata.var, uns=adata.uns, layers=layers, raw=adata.raw)
    return adata[rows].to_memory() if adata.isbacked else adata[rows].copy()


def train_fold(
    adata: AnnData,
    rows: Rows,
    phenotypes: Sequence[str],
    *,
    group_key: str | None,
    seed: int,
    train_kwargs: Mapping[str, Any] | None = None,
) -> tuple[Polygene, AnnData]:
    """Train on some cells that are copied before, so that nothing of the others reaches the model.

    Ranks of genes in ``var`` may come from all cells, so they are left out and computed anew.

    Returns
    -------
    The model and its training cells.
    """
    side = cells_of(adata, rows)
    check_not_empty(*side.shape)
    side.var = side.var.drop(columns=RANK, errors="ignore")
    side.uns.pop(UNS, None)
    enough = group_key is not None and side.obs[group_key].nunique(dropna=False) >= LEAST_GROUPS
    defaults = {"group_key": group_key if enough else None, "enable_progress_bar": False, "seed": seed}
    return train_on_cells(side, phenotypes=list(phenotypes), **(defaults | dict(train_kwargs or {}))), side


def fill_columns(table: pd.DataFrame, names: Sequence[str]) -> NDArray[np.float64]:
    """Probabilities with a column for each of `names`, 0 where the model does not have it; (n_cells, n_names)."""
    return table.reindex(columns=list(names), fill_value=0.0).to_numpy(dtype=np.float64)
