"""Checks of arguments; errors name the argument, what was found, what is allowed, and what to do."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from polygene_scverse._constants import (
    JOINT_ENDS,
    MISSING_WORDS,
    NOTES,
    NOVELTY,
    PACKAGE,
    UNS,
    audit_key,
    confidence_key,
    expected_key,
    filled_key,
    filled_probability_key,
    name_of_note,
    prediction_key,
)

_GIVEN: Final[ContextVar[set[str] | None]] = ContextVar("given", default=None)
"""Warnings that were given within `warn_once`; None outside of it."""


def shorten(items: Iterable[object], limit: int = 8) -> str:
    """Format a list for an error message, cut after `limit` items, with the number of items left out."""
    items = [str(item) for item in items]
    more = f" and {len(items) - limit} more" if len(items) > limit else ""
    return f"{items[:limit]}{more}"


def label_of(value: Any, missing: Collection[str] = MISSING_WORDS) -> str | None:
    """Label of a value in obs, None if it means "no value".

    Whole numbers are formatted without decimals (1.0 is "1"), because an integer column with missing values is stored
    as floating point. Bytes, as some HDF5 readers return text, are decoded.

    Parameters
    ----------
    value
        The value.
    missing
        Labels, in lower case, that mean "no value", in addition to NaN, None and empty text.
    """
    if value is None or (pd.api.types.is_scalar(value) and pd.isna(value)):
        return None
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        value = int(value)
    text = (value.decode(errors="replace") if isinstance(value, bytes) else str(value)).strip()
    return None if not text or text.lower() in missing else text


def distinct(values: pd.Index | NDArray[Any]) -> list[Any]:
    """Distinct values of a column as a list; numbers keep their precision, which an index would convert to double."""
    return list(np.asarray(values) if pd.api.types.is_float_dtype(values.dtype) else values)


def check_labels(obs: pd.DataFrame, key: str, argument: str, table: str = "adata.obs") -> pd.Series:
    """Column of obs, or of the table called `table`, which must be unique and contain labels.

    Raises
    ------
    ValueError
        If there are two columns of that name, or if values are lists or other objects.
    """
    column: Any = obs[key]
    if isinstance(column, pd.DataFrame):
        raise ValueError(
            f"`{argument}`: {table} has {column.shape[1]} columns called {key!r}, but one is needed. Rename or drop "
            "the others."
        )
    try:
        column.unique()
    except TypeError as error:  # lists, arrays, sets
        kinds = sorted({type(value).__name__ for value in column if not _is_hashable(value)})
        raise ValueError(
            f"`{argument}`: {table}[{key!r}] holds values of the type {' or '.join(kinds)}, but labels are needed. "
            "Convert them to text, or pass another column."
        ) from error
    return column


def _is_hashable(value: object) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def check_anndata(adata: object) -> None:
    """Raise an error unless the data are AnnData, for functions that do not take MuData."""
    if not isinstance(adata, AnnData):
        remedy = " Pass one modality, such as mdata['rna']." if hasattr(adata, "n_mod") else ""
        raise TypeError(f"`adata`: found {type(adata).__name__}, but AnnData is needed.{remedy}")


def check_writable(adata: AnnData) -> None:
    """Reject, before anything is computed, data to which results cannot be written.

    Raises
    ------
    TypeError
        If it is not AnnData.
    ValueError
        If it is a slice of a backed file, or if ``obsm`` has tables of other cells, for example because
        ``adata.obs.reset_index(inplace=True)`` renamed the cells.
    """
    check_anndata(adata)
    if adata.is_view and adata.isbacked:
        raise ValueError(
            "`adata`: found a slice of a backed file, into which no results can be written. Pass the slice in memory, "
            "adata = adata[rows].to_memory(), or the whole file."
        )
    try:
        adata.obsm  # noqa: B018 - checked by anndata when it is looked at
    except ValueError as error:
        raise ValueError(
            f"`adata`: the tables in adata.obsm have other cell names than adata.obs_names, e.g. "
            f"{shorten(adata.obs_names, 3)}, so nothing can be written there. Restore the names, as in "
            "adata.obs_names = names."
        ) from error


def check_data(data: object) -> None:
    """Raise an error unless the data are AnnData or MuData."""
    if not isinstance(data, AnnData) and not hasattr(data, "n_mod"):
        remedy = " Pass adata, or adata.raw.to_adata()." if hasattr(data, "to_adata") else ""
        raise TypeError(f"`adata`: found {type(data).__name__}, but AnnData or MuData is needed.{remedy}")


def modality(data: Any, mod: str) -> AnnData:
    """Modality of a MuData; an AnnData is returned as it is.

    Raises
    ------
    KeyError
        If the modality does not exist.
    TypeError
        If `data` is neither AnnData nor MuData.
    """
    check_data(data)
    if isinstance(data, AnnData):
        return data
    if mod not in list(data.mod):
        raise KeyError(f"`mod`: {mod!r} is not one of the modalities {list(data.mod)}. Pass one of them.")
    return data.mod[mod]


def colors_of_labels(column: pd.Series, colors: Sequence[str]) -> dict[str, str]:
    """Colour of each label of an obs column; scanpy stores one colour per category, also for numbers and booleans."""
    labels = map(label_of, column.astype("category").cat.categories)
    return {label: str(color) for label, color in zip(labels, colors, strict=False) if label is not None}


def check_not_empty(n_obs: int, n_vars: int) -> None:
    """Reject data without cells or without genes."""
    if n_obs == 0 or n_vars == 0:
        raise ValueError(
            f"`adata`: found {n_obs} cells and {n_vars} genes, but at least one of each is needed. "
            "Check the filters that were applied before."
        )


def check_numbers(x: Any, where: str) -> None:
    """Reject a matrix of text, objects or complex numbers, and one with masked values."""
    masked = np.ma.is_masked(x)
    if masked or x.dtype.kind not in "biuf":
        found = "masked values" if masked else f"values of the type {x.dtype}"
        raise ValueError(f"`adata`: {where} has {found}, but numbers are needed. Pass a matrix of numbers.")


def check_unique_names(names: pd.Index, what: str = "adata.var_names") -> None:
    """Reject gene names that are not text, or not unique."""
    if others := [name for name in names if not isinstance(name, str)]:
        raise ValueError(
            f"`adata`: {len(others)} of {what} are not text, e.g. {others[:3]}. Genes are matched by name. Give them "
            "names, as in adata.var_names = adata.var_names.astype(str)."
        )
    if names.is_unique:
        return
    twice = names[names.duplicated()].unique()
    remedy = "Call adata.var_names_make_unique()"
    if "raw" in what:  # var_names_make_unique does not change raw
        remedy = "Take raw = adata.raw.to_adata(), call raw.var_names_make_unique(), and set adata.raw = raw"
    more = " To add up their counts: adata = pgs.pp.sum_genes(adata)." if what == "adata.var_names" else ""
    raise ValueError(
        f"`adata`: {len(twice)} names occur more than once in {what}, e.g. {shorten(twice, 5)}. Genes are matched by "
        f"name. {remedy}, or drop the duplicates.{more}"
    )


def check_columns(
    keys: Sequence[str], obs: pd.DataFrame, argument: str, candidates: Callable[[pd.DataFrame], Sequence[str]]
) -> None:
    """Reject names that are not obs columns with labels; `candidates` finds columns to suggest in the error."""
    absent = [key for key in keys if not _is_hashable(key) or key not in obs.columns]
    if absent:
        found, of_phenotypes = list(candidates(obs)), argument in ("phenotypes", "given")
        kind = "look like phenotypes" if of_phenotypes else "have labels"
        rest = [name for name in obs.columns if name not in found and not str(name).startswith(f"{PACKAGE}_")]
        others = f"; others: {shorten(rest, 12)}" if rest and not of_phenotypes else ""
        raise KeyError(
            f"`{argument}`: {shorten(absent)} are not columns of adata.obs. Columns that {kind}: "
            f"{shorten(found, 12)}{others}. Pass some of them."
        )
    for key in keys:
        check_labels(obs, key, argument)


def check_plain_name(name: str, argument: str) -> None:
    """Reject a name that is a path, or that files and stores do not support."""
    if not isinstance(name, str) or name in ("", ".", "..") or set(name) & set("/\\\0"):
        raise ValueError(
            f"`{argument}`: found {name!r}, but names must be text without '/' and '\\\\', which files and stores "
            "do not support. Pass another name."
        )


def notes_of(data: Any) -> dict[str, Any]:
    """Entries of ``uns["polygene"]``; empty if there are none, or if it is not a mapping."""
    found = data.uns.get(UNS, {})
    return dict(found) if isinstance(found, Mapping) else {}


def check_notes(data: Any, *entries: str, like: str | None = None) -> None:
    """Check, before anything is computed, that no data of the user would be overwritten.

    Parameters
    ----------
    data
        AnnData or MuData.
    entries
        Entries of ``uns["polygene"]`` that will be written.
    like
        Default name of the entries, if the user chose another one.

    Raises
    ------
    ValueError
        If ``uns["polygene"]`` is not a mapping, or one of the entries was not written by a function of this package.
    """
    found = data.uns.get(UNS, {})
    if not isinstance(found, Mapping):
        raise ValueError(
            f"`adata`: adata.uns[{UNS!r}] holds {type(found).__name__} {shorten([found])}, but results are "
            "stored there, in a mapping, and yours would be overwritten. Keep it under another name first: "
            f"adata.uns['my_note'] = adata.uns.pop({UNS!r})."
        )
    for entry in entries:
        parts = NOTES[like or entry]
        note = found.get(entry)
        if note is None or (isinstance(note, Mapping) and all(part in note for part in parts)):
            continue
        raise ValueError(
            f"`adata`: adata.uns[{UNS!r}][{entry!r}] was not written by the function that would "
            f"overwrite it. Keep it under another name first: adata.uns['my_note'] = adata.uns[{UNS!r}].pop({entry!r})."
        )


def write_notes(data: Any, **entries: Any) -> None:
    """Store results in ``uns["polygene"]``; other entries are kept."""
    data.uns[UNS] = {**notes_of(data), **entries}


def check_key_added(key: str, like: str | None = None) -> None:
    """Reject a key that h5ad does not support, or that another function writes.

    Parameters
    ----------
    key
        Key chosen by the user.
    like
        Default name, if it is an entry of ``uns["polygene"]``.
    """
    check_plain_name(key, "key_added")
    if like is not None and key != like and key in NOTES:
        raise ValueError(
            f"`key_added`: found {key!r}, but that entry of adata.uns[{UNS!r}] is written by another function. Pass "
            "another name."
        )


def columns_of(notes: Mapping[str, Any]) -> dict[str, str]:
    """Columns of ``obs`` with results, and the function that wrote each, according to ``uns["polygene"]``."""
    found: dict[str, str] = {}
    for name in map(name_of_note, notes.get("predict", {})):
        found |= dict.fromkeys((prediction_key(name), confidence_key(name), expected_key(name)), "predict_phenotype")
    for name in map(name_of_note, notes.get("fill", {})):
        found |= dict.fromkeys((filled_key(name), filled_probability_key(name)), "fill_phenotype")
    for key in map(name_of_note, notes.get("joint", {})):
        found |= {f"{key}{end}": "joint_phenotype" for end in JOINT_ENDS}
    if "novelty" in notes:
        found[str(notes["novelty"].get("key", NOVELTY))] = "novelty"
    return found | {audit_key(str(name)): "audit" for name in notes.get("audit", {}).get("phenotypes", ())}


def check_free(adata: AnnData, verb: str, keys: Iterable[str], phenotypes: Iterable[str]) -> None:
    """Check that results would not overwrite those of another function, or recorded labels.

    Phenotypes are named by the user: one may be called ``novelty``, so that its predictions have the same column as the
    result of `tl.novelty`.

    Parameters
    ----------
    adata
        Data to which results are written.
    verb
        Function that writes them.
    keys
        Columns of ``obs`` to write.
    phenotypes
        Phenotypes of the model, whose columns contain recorded labels.

    Raises
    ------
    ValueError
        If something would be overwritten.
    """
    owners = dict.fromkeys(map(str, phenotypes), "you") | columns_of(notes_of(adata))
    for key in keys:
        owner = owners.get(key, verb)
        if owner != verb and key in adata.obs:
            whose = "labels that the model has learned" if owner == "you" else f"what pgs.tl.{owner} wrote"
            raise ValueError(
                f"`adata`: {verb} would write adata.obs[{key!r}], but that column holds {whose}, which would "
                f"be overwritten. Keep it under another name first: adata.obs['my_column'] = adata.obs.pop({key!r})."
            )


def check_choice(value: object, choices: Sequence[object], argument: str) -> None:
    """Reject a value that is not one of the choices."""
    if value not in choices:
        raise ValueError(f"`{argument}`: found {value!r}, but it must be one of {list(choices)}. Pass one of them.")


def check_fraction(value: float, argument: str) -> None:
    """Raise an error unless the value is a number from 0 to 1."""
    if not (isinstance(value, Real) and 0 <= value <= 1):
        raise ValueError(f"`{argument}`: found {value!r}, but it must be a fraction. Pass a number from 0 to 1.")


def check_keep(keep: float) -> None:
    """Reject a fraction of genes to show that leaves none to predict."""
    if not (isinstance(keep, Real) and 0.0 <= keep < 1.0):
        raise ValueError(
            f"`keep`: found {keep!r}, but it must be at least 0 and below 1. Pass a number from 0 to 0.95."
        )


def check_whole(value: Any, argument: str, least: int = 0, most: int | None = None) -> int:
    """Return a whole number in a range as an int; reject anything else.

    Parameters
    ----------
    value
        The number.
    argument
        Its name, for the error.
    least, most
        The range, both ends included; None for no upper end.
    """
    if not (isinstance(value, Integral) and least <= int(value) and (most is None or int(value) <= most)):
        limits = f"at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"`{argument}`: found {value!r}, but it must be {limits}. Pass a whole number.")
    return int(value)


def check_seed(seed: Any) -> int:
    """Return a random seed as an int; reject what numpy, torch and scikit-learn cannot all use."""
    return check_whole(seed, "seed", 0, 2**32 - 1)


def check_names(names: Any, argument: str) -> list[Any]:
    """Names that are passed as one or as several; reject mappings and tables, whose values would be ignored."""
    if isinstance(names, str):
        return [names]
    if isinstance(names, (Mapping, pd.DataFrame)) or not isinstance(names, Iterable):
        raise TypeError(
            f"`{argument}`: found {type(names).__name__} {shorten([names])}, but names are needed. Pass one or more."
        )
    return list(names)


def check_some(names: Any, argument: str) -> list[Any]:
    """Names as from `check_names`; reject an empty list."""
    found = check_names(names, argument)
    if not found:
        raise ValueError(f"`{argument}`: found an empty list, but at least one is needed. Pass None for all.")
    return found


def check_kwargs(kwargs: Any, argument: str) -> dict[str, Any]:
    """Arguments that are passed on, as a dict; reject anything but a mapping."""
    if kwargs is not None and not isinstance(kwargs, Mapping):
        raise TypeError(f"`{argument}`: found {type(kwargs).__name__}, but a mapping of names to values is needed.")
    return dict(kwargs or {})


def check_rows(rows: Any, n_obs: int, argument: str) -> NDArray[np.int64]:
    """Row numbers from row numbers, where negative ones count from the end, or from a mask with an entry per cell.

    Parameters
    ----------
    rows
        The row numbers, or the mask.
    n_obs
        Number of cells.
    argument
        Name of the argument, for the error.
    """
    found = np.asarray(rows)
    if found.dtype == bool and found.shape == (n_obs,):
        return np.flatnonzero(found)
    whole = np.issubdtype(found.dtype, np.integer) or not found.size
    if found.ndim != 1 or not whole or (found.size and (found.min() < -n_obs or found.max() >= n_obs)):
        raise ValueError(
            f"`{argument}`: found {shorten(np.ravel(found), 3)}, but row numbers from 0 to {n_obs - 1}, or a mask "
            f"of {n_obs} cells, are needed. Pass one of them."
        )
    return np.where(found < 0, found + n_obs, found).astype(np.int64)


def check_finite(values: NDArray[np.floating], where: str, remedy: str = "") -> None:
    """Reject NaN and infinite values."""
    bad = ~np.isfinite(values)
    if bad.any():
        kinds = [name for name, test in (("NaN", np.isnan), ("infinite", np.isinf)) if test(values).any()]
        raise ValueError(
            f"`adata`: {int(bad.sum())} values of {where} are {' or '.join(kinds)}, but expression must be a number. "
            f"Remove or repair these cells{remedy}."
        )


def check_not_negative(values: NDArray[np.floating], where: str, remedy: str = "") -> None:
    """Reject negative values, as in scaled or otherwise transformed data."""
    if values.size and (lowest := values.min()) < 0:
        raise ValueError(
            f"`adata`: {where} has negative values (lowest {lowest:.3g}), as in scaled or corrected data, but raw "
            f"counts or log1p of counts per 10,000 are needed. Pass unscaled data{remedy}."
        )


def warn(text: str) -> None:
    """Warn with the line of the user's code that called the package, regardless of the depth of the call."""
    if (given := _GIVEN.get()) is not None:
        if text in given:
            return
        given.add(text)
    package, depth, level = str(Path(__file__).parent), 1, 1
    frame = sys._getframe()
    while frame.f_back is not None:
        if frame.f_code.co_filename.startswith(package):
            level = depth + 1  # level of the caller; frames of other libraries may lie between ours
        frame, depth = frame.f_back, depth + 1
    warnings.warn(text, UserWarning, stacklevel=min(level, depth))


@contextmanager
def warn_once() -> Iterator[None]:
    """Give each warning of `warn` once, for functions that read the same data several times."""
    given = _GIVEN.get()
    token = _GIVEN.set(set() if given is None else given)
    try:
        yield
    finally:
        _GIVEN.reset(token)
