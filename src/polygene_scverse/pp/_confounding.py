"""Measure how far phenotypes are confounded with donors or batches."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from polygene_scverse._validate import check_anndata, check_columns, label_of, shorten
from polygene_scverse.data.read._phenotypes import candidates, categories_of, encode, missing_words, resolve_phenotypes

FEW_GROUPS = 3
"""Number of groups below which a category can hardly be distinguished from the peculiarities of its groups."""


def confounding(adata: AnnData, *, group_key: str, phenotypes: str | Sequence[str] | None = None) -> pd.DataFrame:
    """Measure how far phenotypes are confounded with groups (donors, batches).

    A phenotype that is constant within groups (such as sex, age or disease of a donor) has as many independent
    observations as there are groups, however many cells there are, and a model may learn to recognise the donors
    instead. Check this before training, and score such phenotypes on held-out groups with
    :func:`~polygene_scverse.tl.evaluate`.

    Parameters
    ----------
    adata
        Annotated data matrix; not changed.
    group_key
        Obs column of donors, samples or batches. Cells without a group are left out.
    phenotypes
        Obs columns to check. By default, columns with a common name.

    Returns
    -------
    Table with a row per phenotype (the index) and the columns ``n_cells`` and ``n_groups`` (with a recorded value),
    ``n_categories``, ``theils_u`` (mutual information with the group divided by the entropy of the phenotype; 0 for
    independence, 1 if the group determines it), ``constant`` (whether each group has a single category),
    ``fewest_groups`` (the smallest number of groups of any category), ``in_one_group`` (categories that occur in a
    single group, separated by ``"; "``) and ``note`` (a summary of the problems, empty if there are none). Nothing is
    written.

    Raises
    ------
    KeyError
        If a column does not exist.
    ValueError
        If a phenotype has fewer than two categories, or none is found.

    References
    ----------
    Theil: On the estimation of relationships involving qualitative variables. American Journal of Sociology 1970.

    Examples
    --------
    >>> pgs.pp.confounding(adata, group_key="donor", phenotypes=["sex", "disease"])
    """
    check_anndata(adata)
    names = resolve_phenotypes(adata.obs, phenotypes)
    check_columns([group_key], adata.obs, "group_key", candidates)
    return describe_confounding(adata.obs, group_key, names)


def describe_confounding(
    obs: pd.DataFrame, group_key: str, names: Sequence[str], missing: str | Sequence[str] | None = None
) -> pd.DataFrame:
    """Make the report of `confounding` for existing columns; `missing` as in `tl.train`."""
    groups = pd.factorize(obs[group_key].map(label_of))[0]
    rows = [_describe(obs[name], groups, group_key, missing_words(missing)) for name in names]
    return pd.DataFrame(rows, index=pd.Index(names, name="phenotype"))


def _describe(
    column: pd.Series, groups: NDArray[np.integer], group_key: str, missing: Collection[str]
) -> dict[str, Any]:
    """Row of the report for one phenotype."""
    categories = categories_of(column, missing)
    codes = encode(column, categories)[0]
    known = (codes >= 0) & (groups >= 0)
    table = np.zeros((len(categories), groups.max(initial=-1) + 1))
    np.add.at(table, (codes[known], groups[known]), 1)  # cells by category and group
    n_groups_of = (table > 0).sum(axis=1)
    used = int((table.sum(axis=0) > 0).sum())
    alone = [name for name, n in zip(categories, n_groups_of, strict=True) if n == 1]
    row: dict[str, Any] = {
        "n_cells": int(known.sum()),
        "n_groups": used,
        "n_categories": len(categories),
        "theils_u": theils_u(table),
        "constant": bool(((table > 0).sum(axis=0) <= 1).all()) and used > 1,
        "fewest_groups": int(n_groups_of.min()),
        "in_one_group": "; ".join(alone),
    }
    return row | {"note": _note(row, alone, group_key)}


def theils_u(table: NDArray[np.floating]) -> float:
    """Share of the entropy of the rows that is explained by the columns (Theil's U); NaN if the rows have no entropy.

    Parameters
    ----------
    table
        Number of cells by row and column.
    """
    total = table.sum()
    row_shares = table.sum(axis=1) / max(total, 1)
    within = np.divide(table, table.sum(axis=0), out=np.zeros_like(table), where=table > 0)  # shares within columns
    entropy = -_sum_p_log(row_shares, row_shares)
    if entropy <= 0:
        return float("nan")
    return float(1 + _sum_p_log(table / total, within) / entropy)


def _sum_p_log(weights: NDArray[np.floating], p: NDArray[np.floating]) -> float:
    return float((weights * np.log(np.where(p > 0, p, 1.0))).sum())


def _note(row: dict[str, Any], alone: Sequence[str], group_key: str) -> str:
    """Summarise the problems of a row; empty if there are none."""
    if row["n_groups"] < 2:
        return f"all cells come from a single {group_key}, so accuracy for others cannot be estimated"
    parts = []
    if row["constant"]:
        parts.append(
            f"constant within each {group_key}, so there are {row['n_groups']} independent observations, not "
            f"{row['n_cells']:,}"
        )
        if row["fewest_groups"] < FEW_GROUPS:
            parts.append(
                f"one category has only {row['fewest_groups']} of them, too few to distinguish its effect from that of "
                f"the {group_key}"
            )
    elif alone:
        parts.append(f"{shorten(alone, 4)} occur in a single {group_key} only")
    return "; ".join(parts)
