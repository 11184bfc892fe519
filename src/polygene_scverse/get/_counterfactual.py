"""Shifts of a what-if question, gene by gene."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scipy.stats import false_discovery_control

from polygene_scverse._constants import COUNTERFACTUAL, UNCHANGED, UNS
from polygene_scverse._validate import shorten, warn
from polygene_scverse.get._lookup import recorded_labels

MIN_GROUPS: Final = 6
"""Groups from which on flipped signs can give a p-value below 0.05."""
EXACT_GROUPS: Final = 12
"""Groups up to which all flips are made."""
ALIKE: Final = 1e-5
"""Shifts that differ by less do not differ between groups, but for rounding."""


def counterfactual(
    adata: AnnData,
    *,
    groupby: str | None = None,
    group_key: str | None = None,
    n_permutations: int = 10_000,
    seed: int = 0,
) -> pd.DataFrame:
    """Mean shift of each gene when phenotypes are set, with p-values from groups.

    The null flips the sign of the shift of whole groups (donors, samples): its p-value says how often flipped signs
    make the mean over groups as large. It tells whether groups agree in what the *model* expects of them. All groups
    are asked of one model, so a small p-value is no evidence that the model is right, nor of a cause: for that, compare
    with shifts that were measured. Where groups are told alike, as with ``keep=0`` when nothing else that is shown
    differs between them, there is nothing to test and p-values are NaN.

    Parameters
    ----------
    adata
        Result of :func:`~polygene_scverse.tl.counterfactual`.
    groupby
        Obs column, such as the cell type: a row for each gene and level. By default all cells are one level, ``"all"``.
    group_key
        Obs column of donors or samples. Means are then over groups, each counting once, and there is a null; at least
        six groups are needed for it.
    n_permutations
        Draws of signs for more than 12 groups; up to 12 all flips are made.
    seed
        Seed of these draws.

    Returns
    -------
    Table with the columns ``gene``, ``level``, ``shift`` (difference of log1p of counts per 10,000), ``n_cells``,
    ``n_groups``, ``p_value`` and ``fdr`` (Benjamini and Hochberg, over the genes of a level); the largest shifts of
    each level first. With G groups no p-value is below 2 / 2^G. NaN where there is no null.

    Raises
    ------
    KeyError
        If `adata` is no such result, or a column is not there.
    ValueError
        If a column has no value at all.

    Examples
    --------
    >>> result = pgs.tl.counterfactual(adata, {"condition": "stimulated"}, keep=0.5)
    >>> pgs.get.counterfactual(result, groupby="cell_type", group_key="donor").query("fdr < 0.05")
    """
    if UNCHANGED not in adata.layers or COUNTERFACTUAL not in adata.uns.get(UNS, {}):
        raise KeyError(
            "`adata`: it holds no expected expression, layers['unchanged'] or uns['polygene']['counterfactual'] is not "
            "there. Pass what pgs.tl.counterfactual(adata, {...}) returns."
        )
    levels, of_level = _levels(adata, groupby, "groupby")
    groups, of_group = _levels(adata, group_key, "group_key")
    shifts = np.asarray(adata.X, dtype=np.float64) - np.asarray(adata.layers[UNCHANGED], dtype=np.float64)
    tables, few, alike = [], [], []
    for code, level in enumerate(levels):
        cells = (of_level == code) & (of_group >= 0)
        present = np.unique(of_group[cells])
        of_groups = np.array([shifts[cells & (of_group == g)].mean(axis=0) for g in present])  # (G, n_genes)
        if not len(present):
            continue
        p_value = np.full(adata.n_vars, np.nan)
        if group_key is not None:
            if len(present) < MIN_GROUPS:
                few.append(level)
            elif np.ptp(of_groups, axis=0).max(initial=0.0) < ALIKE:
                alike.append(level)
            else:
                p_value = sign_flips(of_groups, n_permutations, seed)
        fdr = p_value if np.isnan(p_value).any() else false_discovery_control(p_value, method="bh")
        columns = {"gene": adata.var_names, "level": level, "shift": of_groups.mean(axis=0)}
        columns |= {"n_cells": int(cells.sum()), "n_groups": len(present) if group_key is not None else 0}
        table = pd.DataFrame({**columns, "p_value": p_value, "fdr": fdr})
        tables.append(table.iloc[np.argsort(-np.abs(table["shift"].to_numpy()), kind="stable")])
    _warn(few, alike, group_key, len(groups))
    return pd.concat(tables, ignore_index=True)


def sign_flips(shifts: NDArray[np.float64], n_permutations: int, seed: int) -> NDArray[np.float64]:
    """Share of the flips of the groups' signs whose mean is as far from 0; all flips, or draws of them.

    Parameters
    ----------
    shifts
        Shift of each group; shape (n_groups, n_genes).
    n_permutations
        Draws for more than `EXACT_GROUPS` groups; the signs as they are count as one more.
    seed
        Seed of the draws.

    Returns
    -------
    Shape (n_genes,).
    """
    n = len(shifts)
    if n <= EXACT_GROUPS:
        signs = 1.0 - 2.0 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)
    else:
        signs = np.random.default_rng(seed).choice([-1.0, 1.0], (n_permutations, n))
        signs = np.concatenate([np.ones((1, n)), signs])
    observed = np.abs(shifts.mean(axis=0))
    reached = np.zeros(shifts.shape[1])
    for part in np.array_split(signs, max(1, len(signs) // 512)):
        reached += (np.abs(part @ shifts) / n >= observed * (1.0 - 1e-9)).sum(axis=0)
    return reached / len(signs)


def _levels(adata: AnnData, key: str | None, argument: str) -> tuple[list[str], NDArray[np.int64]]:
    """Levels of a column and the code of each cell, -1 where it has none."""
    if key is None:
        return ["all"], np.zeros(adata.n_obs, dtype=np.int64)
    if key not in adata.obs:
        raise KeyError(
            f"`{argument}`: {key!r} is not among the columns of adata.obs, {shorten(adata.obs.columns)}. Pass one of "
            "them, or None."
        )
    codes, levels = pd.factorize(recorded_labels(adata.obs[key]), sort=True)
    if not len(levels):
        raise ValueError(f"`{argument}`: all values of adata.obs[{key!r}] are missing. Pass another column.")
    return [str(level) for level in levels], codes.astype(np.int64)


def _warn(few: list[str], alike: list[str], group_key: str | None, n_groups: int) -> None:
    if few:
        warn(
            f"`group_key`: fewer than {MIN_GROUPS} groups of {group_key!r} (of {n_groups} in all) have cells of "
            f"{shorten(few)}, too few for a sign-flip test: p_value and fdr are NaN there."
        )
    if alike:
        warn(
            f"`adata`: the model expects the same shift in every group of {group_key!r} in {shorten(alike)}, since "
            "nothing that it was shown differs between them: there is nothing to test, p_value and fdr are NaN. Pass "
            "keep= above 0 to pgs.tl.counterfactual."
        )
