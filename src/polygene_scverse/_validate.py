"""Checks whose errors say: which argument, what was found, what there is, what to do."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from polygene_scverse._constants import MISSING_WORDS


def shorten(items: Iterable[object], limit: int = 8) -> str:
    """A list for an error text, cut after `limit` items with the number of those left out."""
    items = [str(item) for item in items]
    more = f" and {len(items) - limit} more" if len(items) > limit else ""
    return f"{items[:limit]}{more}"


def label_of(value: Any, missing: Collection[str] = MISSING_WORDS) -> str | None:
    """The label of one value of obs, None where it means "no value".

    Whole numbers lose their decimals (1.0 is "1"), because a column of integers with a missing value is stored
    as floating point.

    Parameters
    ----------
    value
        The value.
    missing
        Labels, in lower case, that mean "no value", besides NaN, None and empty text.
    """
    if value is None or (pd.api.types.is_scalar(value) and pd.isna(value)):
        return None
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        value = int(value)
    text = str(value).strip()
    return None if not text or text.lower() in missing else text


def check_labels(obs: pd.DataFrame, key: str, argument: str) -> pd.Series:
    """A column of obs, which must be there once and hold labels.

    Raises
    ------
    ValueError
        If there are two columns of that name, or if values are lists or other objects.
    """
    column: Any = obs[key]
    if isinstance(column, pd.DataFrame):
        raise ValueError(
            f"`{argument}`: adata.obs has {column.shape[1]} columns called {key!r}, but one is needed. Rename or drop "
            "the others."
        )
    try:
        column.unique()
    except TypeError as error:  # lists, arrays, sets
        kinds = sorted({type(value).__name__ for value in column if not _is_hashable(value)})
        raise ValueError(
            f"`{argument}`: adata.obs[{key!r}] holds values of the type {' or '.join(kinds)}, but labels are needed. "
            "Make them text, or pass another column."
        ) from error
    return column


def _is_hashable(value: object) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def check_writable(adata: AnnData) -> None:
    """Refuse a slice of a backed file before anything is computed: results cannot be written into it."""
    if adata.is_view and adata.isbacked:
        raise ValueError(
            "`adata`: found a slice of a backed file, into which no results can be written. Pass the slice in memory, "
            "adata = adata[rows].to_memory(), or the whole file."
        )


def check_not_empty(n_obs: int, n_vars: int) -> None:
    """Refuse data without cells or without genes."""
    if n_obs == 0 or n_vars == 0:
        raise ValueError(
            f"`adata`: found {n_obs} cells and {n_vars} genes, but at least one of each is needed. "
            "Look at the filter that came before."
        )


def check_unique_names(names: pd.Index, what: str = "adata.var_names") -> None:
    """Refuse gene names that are not unique."""
    if names.is_unique:
        return
    twice = names[names.duplicated()].unique()
    remedy = "Call adata.var_names_make_unique()"
    if "raw" in what:  # which that does not reach
        remedy = "Take raw = adata.raw.to_adata(), call raw.var_names_make_unique(), and set adata.raw = raw"
    raise ValueError(
        f"`adata`: {len(twice)} names occur more than once in {what}, e.g. {shorten(twice, 5)}. Genes are matched by "
        f"name. {remedy}, or drop the duplicates."
    )


def check_columns(
    keys: Sequence[str], adata: AnnData, argument: str, candidates: Callable[[pd.DataFrame], Sequence[str]]
) -> None:
    """Refuse names that are not obs columns of labels; `candidates` finds those to suggest, for the error only."""
    absent = [key for key in keys if key not in adata.obs.columns]
    if absent:
        raise KeyError(
            f"`{argument}`: {shorten(absent)} not among the columns of adata.obs. Columns that look like "
            f"phenotypes: {shorten(candidates(adata.obs))}. Pass some of them."
        )
    for key in keys:
        check_labels(adata.obs, key, argument)


def check_choice(value: object, choices: Sequence[object], argument: str) -> None:
    """Refuse a value that is not one of a few choices."""
    if value not in choices:
        raise ValueError(f"`{argument}`: found {value!r}, but it must be one of {list(choices)}. Pass one of them.")


def check_fraction(value: float, argument: str) -> None:
    """Refuse a number outside of 0 … 1."""
    if not 0 <= value <= 1:
        raise ValueError(f"`{argument}`: found {value}, but it is a share. Pass a number from 0 to 1.")


def check_finite(values: NDArray[np.floating], where: str, remedy: str = "") -> None:
    """Refuse NaN and infinite values."""
    bad = ~np.isfinite(values)
    if bad.any():
        kinds = [name for name, test in (("NaN", np.isnan), ("infinite", np.isinf)) if test(values).any()]
        raise ValueError(
            f"`adata`: {int(bad.sum())} values of {where} are {' or '.join(kinds)}, but expression must be a number. "
            f"Remove or repair these cells{remedy}."
        )


def check_not_negative(values: NDArray[np.floating], where: str, remedy: str = "") -> None:
    """Refuse negative values: scaled or otherwise transformed data."""
    if values.size and (lowest := values.min()) < 0:
        raise ValueError(
            f"`adata`: {where} has negative values (lowest {lowest:.3g}), as scaled or corrected data have, but raw "
            f"counts or log1p of counts per 10,000 are needed. Pass unscaled data{remedy}."
        )
