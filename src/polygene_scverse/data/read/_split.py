"""Training and validation cells; groups (donors, samples) are never split between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from polygene_scverse._validate import check_columns, check_fraction, shorten
from polygene_scverse.data.read._phenotypes import candidates

Rows = Sequence[int] | NDArray[np.int64]
Split = tuple[Rows, Rows]


def split_cells(
    n_obs: int, *, validation_size: float = 0.1, groups: pd.Series | None = None, seed: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw the validation cells, whole groups at a time where `groups` is given.

    Parameters
    ----------
    n_obs
        Number of cells.
    validation_size
        Share of the cells, or groups, to hold out, at least one; 0 for none.
    groups
        Group of each cell, shape (n_obs,). Cells without a group count as one group.
    seed
        Seed of the draw.

    Returns
    -------
    Ascending row numbers of the training and of the validation cells.

    Raises
    ------
    ValueError
        If no cell would be left to train on, or there is one group only.
    """
    check_fraction(validation_size, "validation_size")
    rng = np.random.default_rng(seed)
    if validation_size == 0:
        held_out = np.zeros(n_obs, dtype=bool)
    elif groups is None:
        held_out = rng.permutation(n_obs) < max(1, round(n_obs * validation_size))
    else:
        codes, names = pd.factorize(groups, use_na_sentinel=False)
        if len(names) < 2:
            raise ValueError(
                f"`group_key`: found the one group {shorten(names)}, but whole groups are held out, so two or more are "
                "needed. Pass another column, or None to hold out single cells."
            )
        n_held_out = min(max(1, round(len(names) * validation_size)), len(names) - 1)
        held_out = (rng.permutation(len(names)) < n_held_out)[codes]
    train, validation = np.flatnonzero(~held_out), np.flatnonzero(held_out)
    if not len(train):
        raise ValueError(
            f"`validation_size`: {validation_size} of {n_obs} cells leaves none to train on. Pass a smaller share."
        )
    return train, validation


def check_split(train: NDArray[np.integer], validation: NDArray[np.integer], groups: pd.Series | None = None) -> None:
    """Refuse a split with a side that is empty, a cell on both sides, or a group on both sides.

    Raises
    ------
    ValueError
        As said.
    """
    if not len(train) or not len(validation):
        raise ValueError(
            f"`split`: found {len(train)} training and {len(validation)} validation cells, but both sides need some."
        )
    if len(both := np.intersect1d(train, validation)):
        raise ValueError(f"`split`: {len(both)} cells are on both sides. Give each cell one side.")
    if groups is not None:
        shared = set(groups.iloc[train].dropna()) & set(groups.iloc[validation].dropna())
        if shared:
            raise ValueError(
                f"`split`: the groups {shorten(sorted(map(str, shared)))} are on both sides. Keep groups whole."
            )


def resolve_split(
    data: Any, group_key: str | None, validation_size: float, split: Split | None, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ascending row numbers of the training and of the validation cells: those passed, or a draw.

    Parameters
    ----------
    data
        What has the cells: ``obs`` and ``n_obs`` are read.
    group_key
        Obs column whose groups stay whole.
    validation_size, seed
        As for `split_cells`.
    split
        Row numbers of both sides, instead of a draw.

    Raises
    ------
    KeyError
        If `group_key` is not an obs column.
    ValueError
        As for `split_cells` and `check_split`.
    """
    if group_key is not None:
        check_columns([group_key], data, "group_key", candidates)
    groups = None if group_key is None else data.obs[group_key]
    if split is None:
        return split_cells(data.n_obs, validation_size=validation_size, groups=groups, seed=seed)
    train, validation = (np.sort(np.asarray(side, dtype=np.int64)) for side in split)
    check_split(train, validation, groups)
    return train, validation
