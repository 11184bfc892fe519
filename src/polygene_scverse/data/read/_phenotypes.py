"""Encoding of phenotype columns as category codes. Missing and unseen values are -1; obs is never changed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from polygene_scverse._constants import DOUBTFUL_WORDS, MISSING_WORDS, PACKAGE, PHENOTYPE_ALIASES, UNKNOWN
from polygene_scverse._validate import (
    check_columns,
    check_labels,
    check_names,
    check_some,
    distinct,
    label_of,
    shorten,
    warn,
)
from polygene_scverse.data.read._ordered import number_of
from polygene_scverse.data.read._source import spread_rows

MOST_CATEGORIES = 1000
MOST_NUMBERS = 100
MOST_SUGGESTED = 200
"""Number of categories up to which a column is suggested."""
FEWEST_IDENTIFIERS = 20
"""Number of different values from which a column with fewer than two cells of each is taken for an identifier."""
LOOKED_AT = 2000
"""Number of cells that are inspected to suggest columns."""


def missing_words(missing: str | Sequence[str] | None) -> frozenset[str]:
    """Labels, in lower case, that mean a missing value.

    Parameters
    ----------
    missing
        Labels in addition to the usual ones; None for the usual ones only, an empty list for no labels at all.
    """
    if missing is None:
        return MISSING_WORDS
    named = check_names(missing, "missing")
    return MISSING_WORDS | {str(word).strip().lower() for word in named} if named else frozenset()


def labels(
    column: pd.Series, missing: Collection[str] = MISSING_WORDS
) -> tuple[NDArray[np.integer], list[str | None], list[Any]]:
    """Factorise a column: index of each cell's value, labels, and the distinct values themselves."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        values = distinct(column.cat.categories)
        positions = column.cat.codes.to_numpy()
    else:
        positions, unique = pd.factorize(column)
        values = distinct(unique)
    names = [label_of(value, missing) for value in values]
    return np.where(positions < 0, len(values), positions), [*names, None], values


def ordered_labels(column: pd.Series, missing: Collection[str] = MISSING_WORDS) -> list[str]:
    """Labels that occur in a column, in a fixed order.

    A categorical, ordered or not, keeps its order. Numbers, and labels that stand for numbers such as ``"34-year-old
    stage"``, are in numeric order, other labels in alphabetical order.
    """
    positions, names, values = labels(column, missing)
    used = np.bincount(positions, minlength=len(names)) > 0
    found = [label for label, u in zip(names, used, strict=True) if u and label is not None]
    if not isinstance(column.dtype, pd.CategoricalDtype):
        numeric = all(isinstance(v, (int, float, np.number)) and not isinstance(v, bool) for v in values)
        numbers = [float(label) if numeric else number_of(label) for label in found]
        known = [number for number in numbers if number is not None]
        found = [found[i] for i in np.argsort(known, kind="stable")] if len(known) == len(found) else sorted(found)
    return list(dict.fromkeys(found))


def words_found(column: pd.Series, words: Collection[str]) -> dict[str, int]:
    """Count the cells for each of some words, given in lower case, that is a label of a column."""
    positions, names, _ = labels(column, ())
    n_cells = np.bincount(positions, minlength=len(names))
    found = [(name, int(n)) for name, n in zip(names, n_cells, strict=True) if name is not None and n]
    return {name: n for name, n in found if name.lower() in words}


def warn_of_words(columns: Mapping[str, pd.Series], missing: str | Sequence[str] | None = None) -> None:
    """Report once which labels were treated as missing by default, and which possible ones were not.

    Parameters
    ----------
    columns
        Columns of phenotypes by name.
    missing
        Labels given by the user, see `missing_words`.
    """
    if missing is not None:
        return
    found = {name: words_found(column, MISSING_WORDS | DOUBTFUL_WORDS) for name, column in columns.items()}
    sentences = [
        f"{label!r} ({n} cells in {name!r}) is {what}"
        for words, what in ((MISSING_WORDS, "read as missing"), (DOUBTFUL_WORDS, "kept as a label"))
        for name, counts in found.items()
        for label, n in counts.items()
        if label.lower() in words
    ]
    if sentences:
        warn(
            f"{'; '.join(sentences)}. Pass other labels that mean missing in missing=, such as missing=['none'], or "
            "missing=[] to keep every label."
        )


def categories_of(column: pd.Series, missing: Collection[str] = MISSING_WORDS) -> list[str]:
    """Categories of a column, in the order of `ordered_labels`.

    Parameters
    ----------
    column
        The column.
    missing
        Labels, in lower case, that mean a missing value.

    Raises
    ------
    ValueError
        If every value is missing, if there is only one category, or if the column has continuous values.
    """
    name = column.name
    found = ordered_labels(column, missing)
    words = [] if len(found) > 1 else list(words_found(column, missing))
    read = f" {shorten(words)} is read as missing: pass missing=[] to keep every label." if words else ""
    if not found:
        raise ValueError(
            f"`phenotypes`: all {len(column)} values of adata.obs[{name!r}] are missing. Leave the column out, or "
            f"fill it.{read}"
        )
    if len(found) == 1:
        raise ValueError(
            f"`phenotypes`: adata.obs[{name!r}] has only one category, {found[0]!r}, so there is nothing to predict. "
            f"Leave the column out.{read}"
        )
    is_float = pd.api.types.is_float_dtype(column.dtype)
    if len(found) > (MOST_NUMBERS if is_float else MOST_CATEGORIES):
        raise ValueError(
            f"`phenotypes`: adata.obs[{name!r}] has {len(found)} different values, like a measurement or an "
            "identifier, but a phenotype needs categories. Bin it with pd.cut, or leave it out."
        )
    n_cells = int(column.notna().sum())
    if len(found) >= FEWEST_IDENTIFIERS and 2 * len(found) > n_cells:
        raise ValueError(
            f"`phenotypes`: adata.obs[{name!r}] has {len(found)} different values in {n_cells} cells, like an "
            "identifier, but a phenotype needs several cells of each category. Leave it out."
        )
    return found


def encode(
    column: pd.Series, categories: Sequence[str], missing: Collection[str] = MISSING_WORDS
) -> tuple[NDArray[np.int64], list[str]]:
    """Category codes of a column. A label that is a category is never treated as missing.

    Returns
    -------
    Codes, -1 where the value is missing or not among `categories`, shape (n_obs,); and the labels not in `categories`.
    """
    positions, names, _ = labels(column, ())
    code_of = {category: code for code, category in enumerate(categories)}
    table = np.array([UNKNOWN if label is None else code_of.get(label, UNKNOWN) for label in names], dtype=np.int64)
    used = np.bincount(positions, minlength=len(names)) > 0
    others = [label for label, u in zip(names, used, strict=True) if u and label is not None and label not in code_of]
    return table[positions], [label for label in others if label.lower() not in missing]


def encode_all(
    obs: pd.DataFrame, categories: Mapping[str, Sequence[str]], missing: Collection[str] = MISSING_WORDS
) -> tuple[NDArray[np.int64], dict[str, list[str]]]:
    """Codes of several columns; a column that does not exist is unknown in all cells.

    Returns
    -------
    Codes, shape (n_obs, n_phenotypes), and the labels of each column that are not among its categories.
    """
    codes = np.full((len(obs), len(categories)), UNKNOWN, dtype=np.int64)
    unseen: dict[str, list[str]] = {}
    for i, (name, known) in enumerate(categories.items()):
        if name in obs.columns:
            codes[:, i], new = encode(check_labels(obs, name, "adata"), known, missing)
            if new:
                unseen[name] = new
    return codes, unseen


def find_phenotypes(obs: pd.DataFrame) -> list[str]:
    """Columns with a common name of a phenotype and at least two categories; for several common names, the first."""
    found = []
    for names in PHENOTYPE_ALIASES.values():
        there = [name for name in names if (obs.columns == name).sum() == 1]
        present = [name for name in there if looks_like_phenotype(obs[name])]
        found += present[:1]
    return found


def looks_like_phenotype(column: pd.Series) -> bool:
    """Whether a column has at least two categories, and few enough to learn them from this many cells."""
    try:
        _, names, _ = labels(column)
        n = len({label for label in names if label is not None})
        return 2 <= n <= min(MOST_SUGGESTED, max(2, len(column) // 5)) and len(categories_of(column)) > 1
    except (TypeError, ValueError):  # lists and other objects; continuous values
        return False


def candidates(obs: pd.DataFrame) -> list[str]:
    """Columns that look like phenotypes in a sample of the cells, numbers last; not those that this package wrote."""
    rows = spread_rows(len(obs), LOOKED_AT)
    some = obs.iloc[rows].loc[:, ~obs.columns.duplicated(keep=False)]
    own = f"{PACKAGE}_"
    found = [n for n in some.columns if not str(n).startswith(own) and looks_like_phenotype(some[n])]
    numeric = [pd.api.types.is_numeric_dtype(some[n].dtype) for n in found]  # may be counts: last
    return [str(n) for last in (False, True) for n, is_last in zip(found, numeric, strict=True) if is_last is last]


def resolve_phenotypes(obs: pd.DataFrame, phenotypes: str | Sequence[str] | None) -> list[str]:
    """The requested phenotype columns, or those found by their common names.

    Raises
    ------
    KeyError
        If a named column does not exist.
    ValueError
        If none was named and none is found.
    """
    if phenotypes is None:
        found = find_phenotypes(obs)
        if not found:
            usual = [name for names in PHENOTYPE_ALIASES.values() for name in names]
            raise ValueError(
                f"`phenotypes`: found None, but no column of adata.obs has a common name ({shorten(usual, 6)}) and "
                f"two or more categories. Columns that look like phenotypes: {shorten(candidates(obs), 12)}. Pass "
                "some of them."
            )
        return found
    keys = check_some(phenotypes, "phenotypes")
    check_columns(keys, obs, "phenotypes", candidates)
    if others := [key for key in keys if not isinstance(key, str)]:
        raise ValueError(
            f"`phenotypes`: the names {others} of adata.obs are not text, as saved models require. Rename them, as "
            "in adata.obs.columns = adata.obs.columns.astype(str)."
        )
    if len(set(keys)) != len(keys):
        raise ValueError(f"`phenotypes`: found a column twice in {keys}. Pass each once.")
    return keys
