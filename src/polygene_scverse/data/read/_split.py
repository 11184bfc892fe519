"""Split into training and validation cells; whole groups (donors, samples) are held out if there are enough of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from polygene_scverse._validate import check_columns, check_fraction, check_rows, shorten, warn
from polygene_scverse.data.read._phenotypes import candidates

Rows = Sequence[int] | NDArray[np.int64]
Split = tuple[Rows, Rows]


MAX_DRAWS = 100
"""Maximum number of draws of held-out cells; the first one that leaves training cells in every category is used."""


def split_cells(
    n_obs: int,
    *,
    validation_size: float = 0.1,
    groups: pd.Series | None = None,
    seed: int = 0,
    labels: Mapping[str, pd.Series] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw the validation cells: whole groups if there are enough, else single cells.

    Whole groups are held out if `validation_size` amounts to at least one group, and if every category keeps training
    cells. With fewer groups, each is too large a part of the training data, so all groups are in training and single
    cells are held out. A draw that removes all cells of a category is repeated. If every draw does, the one that
    removes the fewest categories is used, and a warning names them.

    Parameters
    ----------
    n_obs
        Number of cells.
    validation_size
        Share of the cells, or groups, to hold out; at least one cell. 0 holds out none.
    groups
        Group of each cell, shape (n_obs,). Cells without a group count as one group.
    seed
        Seed of the draw.
    labels
        Columns whose categories must not all be held out; shape (n_obs,) each.

    Returns
    -------
    Ascending row numbers of the training and of the validation cells.

    Raises
    ------
    If no training cells would be left.
        If no cell would be left to train on.
    """
    check_fraction(validation_size, "validation_size")
    rng = np.random.default_rng(seed)
    factors = {name: pd.factorize(column) for name, column in (labels or {}).items()}
    held_out: NDArray[np.bool_] | None = None
    lost: dict[str, list[str]] = {}
    if groups is not None:
        units, names = pd.factorize(groups, use_na_sentinel=False)
        if len(names) > 1 and len(names) * validation_size >= 1.0:
            n_held_out = min(round(len(names) * validation_size), len(names) - 1)
            held_out, lost = _draw(units, len(names), n_held_out, rng, factors)
    if held_out is None or lost:
        n_held_out = max(1, round(n_obs * validation_size)) if validation_size else 0
        held_out, lost = _draw(np.arange(n_obs), n_obs, n_held_out, rng, factors)
    warn_lost(lost)
    train, validation = np.flatnonzero(~held_out), np.flatnonzero(held_out)
    if not len(train):
        raise ValueError(
            f"`validation_size`: {validation_size} of {n_obs} cells leaves none to train on. Pass a smaller fraction."
        )
    return train, validation


def _draw(
    units: NDArray[np.integer],
    n_units: int,
    n_held_out: int,
    rng: np.random.Generator,
    factors: Mapping[str, tuple[NDArray[np.integer], Any]],
) -> tuple[NDArray[np.bool_], dict[str, list[str]]]:
    """Which cells are held out, shape (n_obs,), and the categories without training cells."""
    best: tuple[float, NDArray[np.bool_], dict[str, list[str]]] = (np.inf, np.zeros(len(units), dtype=bool), {})
    for _ in range(MAX_DRAWS if n_held_out and factors else 1):
        held_out = (rng.permutation(n_units) < n_held_out)[units]
        lost = lost_categories(factors, np.flatnonzero(~held_out))
        n_lost = sum(map(len, lost.values()))
        if n_lost < best[0]:
            best = n_lost, held_out, lost
        if not n_lost:
            break
    return best[1:]


def lost_categories(
    factors: Mapping[str, tuple[NDArray[np.integer], Any]], train: NDArray[np.integer]
) -> dict[str, list[str]]:
    """Categories of each factorised column without training cells; columns without such categories are omitted."""
    lost = {}
    for name, (codes, categories) in factors.items():
        found = np.bincount(codes[train][codes[train] >= 0], minlength=len(categories)) == 0
        if found.any():
            lost[name] = [str(category) for category in categories[found]]
    return lost


def warn_lost(lost: Mapping[str, Sequence[str]]) -> None:
    """Warn about categories that training will not see and that are therefore never predicted."""
    for name, categories in lost.items():
        warn(
            f"All cells of {shorten(categories)} of {name!r} are held out, so the model does not learn them and "
            "never predicts them. Pass another split=, seed= or validation_size=, or group_key=None."
        )


def check_split(train: NDArray[np.integer], validation: NDArray[np.integer], groups: pd.Series | None = None) -> None:
    """Raise an error if a side of a split is empty, or if a cell or group is on both sides.

    Raises
    ------
    ValueError
        If the check fails.
    """
    if not len(train) or not len(validation):
        raise ValueError(
            f"`split`: found {len(train)} training and {len(validation)} validation cells, but both must be non-empty."
        )
    if len(both := np.intersect1d(train, validation)):
        raise ValueError(f"`split`: {len(both)} cells are on both sides. Pass disjoint sets of cells.")
    if groups is not None:
        shared = set(groups.iloc[train].dropna()) & set(groups.iloc[validation].dropna())
        if shared:
            raise ValueError(
                f"`split`: the groups {shorten(sorted(map(str, shared)))} are on both sides. Keep groups whole."
            )


def check_sides(split: Any, n_obs: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ascending row numbers, each once, of both sides of a given split."""
    sides = list(split) if isinstance(split, (Sequence, np.ndarray)) and not isinstance(split, str) else []
    if len(sides) != 2:
        raise ValueError(
            f"`split`: found {shorten([split])}, but two sets of cells are needed. Pass row numbers of the training "
            "cells, and of the others."
        )
    train, validation = (np.unique(check_rows(side, n_obs, "split")) for side in sides)
    return train, validation


def resolve_split(
    data: Any,
    group_key: str | None,
    validation_size: float,
    split: Split | None,
    seed: int,
    phenotypes: Sequence[str] = (),
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ascending row numbers of the training and of the validation cells: a given split, or a random one.

    Parameters
    ----------
    data
        Object with ``obs`` and ``n_obs``.
    group_key
        Obs column whose groups are not split.
    validation_size, seed
        As for `split_cells`.
    split
        Row numbers of both sides, instead of a random split.
    phenotypes
        Obs columns whose categories must not all be held out, if that can be avoided.

    Raises
    ------
    KeyError
        If `group_key` is not an obs column.
    ValueError
        As for `split_cells` and `check_split`.
    """
    if group_key is not None:
        check_columns([group_key], data.obs, "group_key", candidates)
    groups = None if group_key is None else data.obs[group_key]
    labels = {name: data.obs[name] for name in phenotypes if name in data.obs}
    if split is None:
        return split_cells(data.n_obs, validation_size=validation_size, groups=groups, seed=seed, labels=labels)
    train, validation = check_sides(split, data.n_obs)
    check_split(train, validation, groups)
    lost = lost_categories({name: pd.factorize(column) for name, column in labels.items()}, train).items()
    warn_lost({name: found for name, found in lost if set(found) & _labels_in(labels[name], validation)})
    return train, validation


def _labels_in(column: pd.Series, rows: NDArray[np.integer]) -> set[str]:
    """Labels that occur in some cells."""
    return {str(label) for label in column.iloc[rows].dropna().unique()}
