"""Checks whose errors say: which argument, what was found, what there is, what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
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


def label_of(value: Any) -> str | None:
    """The label of one value of obs, None where it means "no value".

    Whole numbers lose their decimals (1.0 is "1"), because a column of integers with a missing value is stored
    as floating point.
    """
    if value is None or pd.isna(value):
        return None
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        value = int(value)
    text = str(value).strip()
    return None if text.lower() in MISSING_WORDS else text


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
    raise ValueError(
        f"`adata`: {len(twice)} names occur more than once in {what}, e.g. {shorten(twice, 5)}. Genes are matched by "
        "name. Call adata.var_names_make_unique(), or drop the duplicates."
    )


def check_columns(
    keys: Sequence[str], adata: AnnData, argument: str, candidates: Callable[[pd.DataFrame], Sequence[str]]
) -> None:
    """Refuse names that are not obs columns; `candidates` finds those to suggest, which takes time, for the error."""
    absent = [key for key in keys if key not in adata.obs.columns]
    if absent:
        raise KeyError(
            f"`{argument}`: {shorten(absent)} not among the columns of adata.obs. Columns that look like "
            f"phenotypes: {shorten(candidates(adata.obs))}. Pass some of them."
        )


def check_plain_name(name: str, argument: str) -> None:
    """Refuse a name that would be a path, or that files and stores cannot hold."""
    if name in ("", ".", "..") or set(name) & set("/\\\0"):
        raise ValueError(
            f"`{argument}`: found {name!r}, but files and stores cannot hold a name with '/' or '\\\\', or an empty one. "
            "Pass another name."
        )


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
