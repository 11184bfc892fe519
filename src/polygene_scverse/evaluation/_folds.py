"""Cross-validation: folds of whole groups, and a model trained for each."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import ArrayLike, NDArray
from sklearn.model_selection import KFold, StratifiedGroupKFold

from polygene_scverse._constants import RANK, UNS
from polygene_scverse._progress import hidden, progress
from polygene_scverse._validate import check_choice, check_columns, check_not_empty, check_some, shorten
from polygene_scverse.data.read._phenotypes import (
    candidates,
    categories_of,
    encode,
    missing_words,
    resolve_phenotypes,
)
from polygene_scverse.data.read._split import check_sides, check_split
from polygene_scverse.model import Polygene
from polygene_scverse.model._recipe import train_on_cells

Rows = NDArray[np.int64]
"""Row numbers of cells."""
Codes = NDArray[np.int64]
"""Codes of categories or groups, -1 where unknown; shape (n_cells,)."""
Fold = tuple[Rows, Rows]
"""Training and test cells."""
Split = int | tuple[ArrayLike, ArrayLike]
"""Number of folds, or the rows of the training and the test cells of a single fold."""


@dataclass(frozen=True)
class Labels:
    """The recorded categories of a phenotype.

    Parameters
    ----------
    categories
        Names of the categories.
    codes
        Category of each cell, -1 where it is missing; shape (n_obs,).
    """

    categories: list[str]
    codes: Codes

    @classmethod
    def from_column(
        cls,
        column: pd.Series[Any],
        categories: Sequence[str] | None = None,
        missing: str | Sequence[str] | None = None,
    ) -> Labels:
        """Encode an obs column as the model does; default: all categories that occur. `missing` as for `tl.train`."""
        found = categories_of(column, missing_words(missing)) if categories is None else list(categories)
        return cls(found, encode(column, found)[0])

    def recorded_values(self, values: NDArray[np.floating]) -> NDArray[np.floating]:
        """Values of the recorded categories, from values of all categories; NaN where missing. Shape (n_obs,)."""
        return np.where(self.codes >= 0, values[np.arange(len(self.codes)), self.codes], np.nan)

    def constant_within(self, groups: NDArray[np.integer]) -> bool:
        """Whether each group has at most one category, and at least two groups have one."""
        known = self.codes >= 0
        pairs = pd.DataFrame({"group": groups[known], "code": self.codes[known]}).drop_duplicates()
        return len(pairs) >= 2 and not pairs["group"].duplicated().any()


@dataclass(frozen=True)
class Training:
    """Training settings of the model in each fold.

    Parameters
    ----------
    group_key
        Column of the groups; None if there are none.
    seed
        Seed of the training.
    kwargs
        Arguments of :func:`~polygene_scverse.tl.train`, which take precedence over the others.
    """

    group_key: str | None
    seed: int
    kwargs: Mapping[str, Any]

    def __post_init__(self) -> None:
        for name in ("adata", "model", "phenotypes"):
            if name in self.kwargs:
                raise ValueError(f"`train_kwargs`: found {name}, which is set for each fold. Leave it out.")
        if "save_to" in self.kwargs:
            raise ValueError("`train_kwargs`: found save_to, but the models of folds are not kept. Leave it out.")

    @property
    def is_verbose(self) -> bool:
        """Whether each training shows its own progress."""
        return bool(self.kwargs.get("verbose", False))

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """As `progress`, but no bar is shown beside those of the trainings."""
        with hidden(self.is_verbose), progress(what, total) as advance:
            yield advance


def group_codes(obs: pd.DataFrame, group_key: str | None) -> Codes:
    """Number of each cell's group; without a column each cell is its own group. Missing values form one group."""
    if group_key is None:
        return np.arange(len(obs))
    return pd.factorize(obs[group_key], use_na_sentinel=False, sort=True)[0].astype(np.int64)


def resolve_columns(adata: AnnData, phenotypes: str | Sequence[str] | None, **keys: str | None) -> list[str]:
    """The requested phenotype columns, or those with a common name.

    Parameters
    ----------
    adata
        The cells.
    phenotypes
        Obs columns; None for those with a common name.
    **keys
        Further arguments that name an obs column, or None.

    Raises
    ------
    KeyError
        If a column does not exist.
    ValueError
        If no phenotype was named and none is found.
    """
    names = resolve_phenotypes(adata.obs, phenotypes)
    _check_keys(adata, keys)
    return names


def resolve_model_columns(
    adata: AnnData, model: Polygene, phenotypes: str | Sequence[str] | None, **keys: str | None
) -> list[str]:
    """The requested phenotypes of a model, or all whose columns are in obs; further arguments as in `resolve_columns`.

    Raises
    ------
    KeyError
        If a column does not exist.
    ValueError
        If a name is not a phenotype of the model, or if no column is in obs.
    """
    _check_keys(adata, keys)
    if phenotypes is None:
        names = [name for name, column in model.columns.items() if column in adata.obs]
    else:
        names = check_some(phenotypes, "phenotypes")
    for name in names:
        check_choice(name, model.layout.phenotype_names, "phenotypes")
        check_columns([model.columns[name]], adata.obs, "phenotypes", candidates)
    if not names:
        raise ValueError(
            f"`adata`: obs has none of the columns {list(model.columns.values())} that the model predicts, so there is "
            "nothing to compare. Add the recorded values."
        )
    return names


def _check_keys(adata: AnnData, keys: Mapping[str, str | None]) -> None:
    """Check that the obs columns named by further arguments exist."""
    for argument, key in keys.items():
        if key is not None:
            check_columns([key], adata.obs, argument, candidates)


def make_folds(
    obs: pd.DataFrame,
    group_key: str | None,
    split: Split,
    labels: Mapping[str, Labels],
    seed: int,
    argument: str = "split",
) -> list[Fold]:
    """Rows of the training and test cells of each fold.

    Parameters
    ----------
    obs
        Annotation of the cells.
    group_key
        Column of groups that are kept whole; None to split single cells.
    split
        See `Split`.
    labels
        Labels of each phenotype. Phenotypes that are constant within groups are stratified over folds, and the training
        cells of each fold must have at least two categories.
    seed
        Seed of the split.
    argument
        Name of `split` in errors.

    Raises
    ------
    ValueError
        If there are fewer groups than folds, if a side is empty, if a group is on both sides, or if the training cells
        of a fold have only one category of a phenotype.
    """
    groups = group_codes(obs, group_key)
    if isinstance(split, (int, np.integer)):
        folds = _draw_folds(groups, int(split), group_key, labels, seed, argument)
    else:
        train_rows, test_rows = check_sides(split, len(obs))
        check_split(train_rows, test_rows, None if group_key is None else obs[group_key])
        folds = [(train_rows, test_rows)]
    for i, (rows, _) in enumerate(folds):
        for name, label in labels.items():
            found = np.unique(label.codes[rows][label.codes[rows] >= 0])
            if len(found) < 2:
                raise ValueError(
                    f"`{argument}`: the training cells of fold {i + 1} of {len(folds)} only have the categories "
                    f"{shorten(label.categories[c] for c in found)} of {name!r}, so there is nothing "
                    "to predict. Pass another seed or number of folds, or leave the phenotype out."
                )
    return folds


def _draw_folds(
    groups: Codes, n_folds: int, group_key: str | None, labels: Mapping[str, Labels], seed: int, argument: str
) -> list[Fold]:
    n_groups = len(np.unique(groups))
    if not 2 <= n_folds <= n_groups:
        units = "cells" if group_key is None else f"groups of {group_key!r}"
        if n_groups < 2 and group_key is not None:
            raise ValueError(
                f"`group_key`: all cells belong to one group of {group_key!r}, but two are needed to score on "
                "groups that were not in training. Leave out group_key= to score other cells of the same group; the "
                "accuracy in new groups is then unknown."
            )
        raise ValueError(
            f"`{argument}`: found {n_folds} folds for {n_groups} {units}. Pass 2 or more, at most {n_groups}."
        )
    if group_key is None:
        folds = KFold(n_folds, shuffle=True, random_state=seed).split(groups)
    else:
        strata = np.zeros(len(groups), dtype=np.int64)
        for label in labels.values():
            if label.constant_within(groups):
                strata = strata * (len(label.categories) + 1) + label.codes + 1
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The least populated class")
            strata = np.unique(strata, return_inverse=True)[1]
            folds = list(StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed).split(strata, strata, groups))
    return [(np.sort(train_rows), np.sort(test_rows)) for train_rows, test_rows in folds]


def copy_cells(adata: AnnData, rows: Rows) -> AnnData:
    """Copy cells into memory, also from a backed file; if obs column names are duplicated, the first one is kept."""
    if (twice := adata.obs.columns.duplicated()).any():
        obs, layers = adata.obs.loc[:, ~twice], dict(adata.layers)
        adata = AnnData(adata.X, obs=obs, var=adata.var, uns=adata.uns, layers=layers, raw=adata.raw)
    return adata[rows].to_memory() if adata.isbacked else adata[rows].copy()


def train_fold(adata: AnnData, rows: Rows, phenotypes: Sequence[str], training: Training) -> tuple[Polygene, AnnData]:
    """Train on a copy of some cells, so that the model does not depend on the others.

    Gene ranks in ``var`` may have been computed from all cells, so they are removed and computed again.

    Returns
    -------
    The model and its training cells.
    """
    cells, group_key, kwargs = copy_cells(adata, rows), training.group_key, dict(training.kwargs)
    check_not_empty(*cells.shape)
    cells.var = cells.var.drop(columns=RANK, errors="ignore")
    cells.uns.pop(UNS, None)
    kwargs.pop("verbose", None)
    if kwargs.get("seed", 0) is None:
        del kwargs["seed"]
    defaults = {"group_key": group_key, "enable_progress_bar": training.is_verbose, "seed": training.seed}
    return train_on_cells(cells, phenotypes=list(phenotypes), **(defaults | kwargs)), cells


def fill_columns(table: pd.DataFrame, categories: Sequence[str]) -> NDArray[np.floating]:
    """Columns for `categories`, 0 where the model does not have them; shape (n_cells, n_categories)."""
    return table.reindex(columns=list(categories), fill_value=0.0).to_numpy()
