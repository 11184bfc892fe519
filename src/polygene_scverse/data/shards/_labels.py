"""One obs column joined over several files."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import anndata
import numpy as np
import pandas as pd
from anndata import AnnData

KINDS = {"string": "text", "integer": "numbers", "floating": "numbers", "mixed-integer-float": "numbers"}
KINDS |= {"boolean": "booleans", "empty": ""}


def join_columns(parts: Sequence[pd.Series], names: Sequence[str], argument: str) -> pd.Series:
    """Join the column of all files; categories are in the order of :func:`anndata.concat`.

    Text is stored as categories, so that a label takes one or two bytes.

    Parameters
    ----------
    parts
        The column of each file.
    names
        Names of the files in errors.
    argument
        Name of the argument that selected the column, for errors.

    Raises
    ------
    ValueError
        If the column is text in some files and numeric in others.
    """
    kinds = [_kind(part) for part in parts]
    _check_kinds(kinds, names, str(parts[0].name), argument)
    dtype = _common_categories([part for part, kind in zip(parts, kinds, strict=True) if kind])
    text = "text" in kinds
    if dtype is None and text:
        found = {value for part in parts for value in part.dropna().unique()}
        dtype = pd.CategoricalDtype(sorted(found))
    if dtype is None:
        joined = pd.concat([_uncoded(part) for part in parts], ignore_index=True)
    else:
        codes = [pd.Categorical(part.astype(object), dtype=dtype).codes for part in parts]
        joined = pd.Series(pd.Categorical.from_codes(np.concatenate(codes), dtype=dtype))
    return joined.rename(str(parts[0].name))


def _kind(column: pd.Series) -> str:
    values = column.cat.categories if isinstance(column.dtype, pd.CategoricalDtype) else column.dropna().unique()
    found = pd.api.types.infer_dtype(values, skipna=True) if len(values) else "empty"
    return KINDS.get(found, found)


def _check_kinds(kinds: Sequence[str], names: Sequence[str], column: str, argument: str) -> None:
    first: dict[str, str] = {}
    for kind, name in zip(kinds, names, strict=True):
        if kind:
            first.setdefault(kind, name)
    if len(first) > 1:
        (a, in_a), (b, in_b) = list(first.items())[:2]
        raise ValueError(
            f"`{argument}`: obs[{column!r}] holds {a} in {in_a}, but {b} in {in_b}. Use the same labels in all files."
        )


def _common_categories(parts: Sequence[pd.Series]) -> pd.CategoricalDtype | None:
    """Union of the categories of all parts, None unless each part is categorical."""
    if not parts or not all(isinstance(part.dtype, pd.CategoricalDtype) for part in parts):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the names of empty tables
        empty = [AnnData(obs=part.iloc[:0].rename("column").to_frame()) for part in parts]
        dtype = anndata.concat(empty).obs["column"].dtype
    return dtype if isinstance(dtype, pd.CategoricalDtype) else None


def _uncoded(column: pd.Series) -> pd.Series:
    return column.astype(object).infer_objects() if isinstance(column.dtype, pd.CategoricalDtype) else column
