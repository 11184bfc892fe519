"""Predicted and observed changes of each gene in another condition, as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from numpy.typing import NDArray

from polygene_scverse._constants import COUNTERFACTUAL, OBSERVED, UNCHANGED
from polygene_scverse._validate import shorten, warn
from polygene_scverse.get._group_null import RAREST, paired, share_alike, unpaired
from polygene_scverse.get._lookup import note_of, recorded_labels

MIN_CELLS: Final = 3
"""Minimum number of cells of a kind for a group to be included in the test."""
MIN_PERMUTATIONS: Final = 100
"""Minimum number of permutations."""


def counterfactual(
    adata: AnnData,
    groupby: str | None = None,
    *,
    group_key: str | None = None,
    n_permutations: int = 1_000,
    seed: int = 0,
) -> pd.DataFrame:
    """Return the predicted shift of each gene, the observed difference, and a permutation test over groups.

    The shift is the change predicted by the model, averaged over the cells that do not have the requested category. The
    observed difference is that between cells recorded with the requested category and all others. The test concerns the
    observed difference: labels are permuted between whole groups (donors, samples), or within groups that have cells of
    both kinds. Cells of one donor are not replicates, so do not report a shift unless its `fdr` is below your
    threshold. A significant association is not necessarily causal: everything that is confounded with the label in all
    groups is significant too.

    Parameters
    ----------
    adata
        Result of :func:`~polygene_scverse.tl.counterfactual`.
    groupby
        Obs column, such as the cell type, to return a row for each gene and level. By default all cells form one level,
        ``"all"``.
    group_key
        Obs column of donors or samples. Means are then computed over groups with equal weight, and differences are
        tested. The test needs six groups with both kinds of cells, or four groups of each kind (at least 20 ways to
        assign the labels); groups with fewer than three cells of a kind are ignored.
    n_permutations
        Maximum number of permutations; if there are more, they are drawn at random.
    seed
        Random seed for the permutations.

    Returns
    -------
    Table with the columns ``gene``, ``level``, ``shift`` and ``observed`` (differences of log1p of counts per 10,000;
    ``observed`` is NaN for unmeasured genes and if one kind of cells is missing), ``n_cells`` (number of cells that the
    shift is averaged over), ``n_groups`` (number of groups in the test), ``p_value`` (fraction of permutations with a
    t-like statistic at least as large) and ``fdr`` (over the genes of a level: mean number of genes with such a
    statistic in permutations, divided by the observed number), sorted by shift within each level. ``p_value`` and
    ``fdr`` are NaN, with a warning, if there are too few groups.

    Raises
    ------
    KeyError
        If `adata` was not returned by :func:`~polygene_scverse.tl.counterfactual`, or if a column does not exist.
    ValueError
        If all values of a column are missing in the cells that are changed, if every cell already has the requested
        category, or if `n_permutations` is below 100.

    References
    ----------
    Tusher, Tibshirani and Chu, PNAS 2001: the statistic and the permutation estimate of the false discovery rate.

    Examples
    --------
    >>> result = pgs.tl.counterfactual(adata, {"condition": "stimulated"})
    >>> pgs.get.counterfactual(result, groupby="cell_type", group_key="donor").query("fdr < 0.05")
    """
    note = note_of(adata, COUNTERFACTUAL)
    there = UNCHANGED in adata.layers and OBSERVED in adata.layers and "measured" in adata.var
    if note is None or "phenotypes" not in note or not there:
        raise KeyError(
            "`adata`: it has no predicted expression: layers['unchanged'], layers['observed'], var['measured'] or "
            "uns['polygene']['counterfactual'] is missing. Pass the result of pgs.tl.counterfactual(adata, {...}); if "
            "it was concatenated, all parts need the same phenotypes, and anndata.concat(..., merge='same', "
            "uns_merge='same')."
        )
    if n_permutations < MIN_PERMUTATIONS:
        raise ValueError(
            f"`n_permutations`: found {n_permutations}, but at least {MIN_PERMUTATIONS} are needed. Pass 1000."
        )
    levels, of_level = _levels(adata, groupby, "groupby")
    groups, of_group = _levels(adata, group_key, "group_key")
    asked, other = _kinds(adata, note)
    if asked.all():
        raise ValueError(
            f"`adata`: every cell is already recorded as {dict(note['phenotypes'])}, so nothing is changed. Pass "
            "cells of other categories to pgs.tl.counterfactual as well."
        )
    if asked[(of_level >= 0) & (of_group >= 0)].all():
        keys = " and ".join(f"adata.obs[{key!r}]" for key in (groupby, group_key) if key is not None)
        raise ValueError(
            f"`{'group_key' if groupby is None else 'groupby'}`: only cells already recorded as "
            f"{dict(note['phenotypes'])} have a value in {keys}, and these are not changed. Pass another column."
        )
    unmeasured = ~adata.var["measured"].to_numpy(dtype=bool)
    tables, too_few = [], []
    for code, level in enumerate(levels):
        rows = np.flatnonzero((of_level == code) & (of_group >= 0))
        if asked[rows].all():
            continue
        part, of_part, changed = adata[rows], of_group[rows], ~asked[rows]
        differences = np.asarray(part.X, dtype=np.float64) - part.layers[UNCHANGED]
        shifts, n_cells = _means(differences[changed], of_part[changed], len(groups))
        shift = shifts[n_cells > 0].mean(axis=0)
        first, second = (
            _means(part.layers[OBSERVED][of], of_part[of], len(groups)) for of in (asked[rows], other[rows])
        )
        found = _compare(first, second, 1 if group_key is None else MIN_CELLS)
        table = pd.DataFrame({"gene": adata.var_names, "level": level, "shift": shift, "observed": found.difference})
        table["n_cells"], table["n_groups"] = int(changed.sum()), 0 if group_key is None else found.n_groups
        table["p_value"], table["fdr"] = np.nan, np.nan
        if group_key is not None and found.enough:
            table["p_value"], table["fdr"] = _null(found, n_permutations, seed)
        elif group_key is not None:
            too_few.append(level)
        table.loc[unmeasured, ["observed", "p_value", "fdr"]] = np.nan
        tables.append(table.iloc[np.argsort(-np.abs(shift), kind="stable")])
    if too_few:
        warn(
            f"`group_key`: too few groups for a test in {shorten(too_few)}: of the {len(groups)} groups of "
            f"{group_key!r}, too few have at least {MIN_CELLS} cells recorded as {dict(note['phenotypes'])}, as "
            "another category, or both. Six groups with both are needed, or four with each. p_value and fdr are NaN."
        )
    return pd.concat(tables, ignore_index=True)


class _Compared(NamedTuple):
    """Groups to compare: differences within them, or their means and whether they have the requested category."""

    values: NDArray[np.float64]
    of_first: NDArray[np.bool_] | None
    enough: bool

    @property
    def difference(self) -> NDArray[np.float64]:
        """Mean difference of each gene, NaN if one kind is missing."""
        if self.of_first is None:
            return self.values.mean(axis=0)
        if self.of_first.all() or not self.of_first.any():
            return np.full(self.values.shape[1], np.nan)
        return self.values[self.of_first].mean(axis=0) - self.values[~self.of_first].mean(axis=0)

    @property
    def n_groups(self) -> int:
        """Number of groups."""
        return len(self.values)


def _compare(
    first: tuple[NDArray[np.float64], NDArray[np.int64]],
    second: tuple[NDArray[np.float64], NDArray[np.int64]],
    least: int,
) -> _Compared:
    """Compare within groups that have both kinds of cells, if there are enough for a test, otherwise between groups."""
    (a, n_a), (b, n_b) = first, second
    has_a, has_b = n_a >= least, n_b >= least
    both, one = has_a & has_b, has_a ^ has_b
    between = share_alike(0, int((one & has_a).sum()), int((one & has_b).sum())) <= RAREST
    within = share_alike(int(both.sum())) <= RAREST
    if both.any() and (within or not between):
        return _Compared(a[both] - b[both], None, within)
    return _Compared(np.where(has_a[:, None], a, b)[one], has_a[one], between)


def _null(found: _Compared, n_permutations: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """P-values and false discovery rates; 1 for genes that do not differ between any groups."""
    p_value, fdr = np.ones(found.values.shape[1]), np.ones(found.values.shape[1])
    varies = found.values.any(axis=0) if found.of_first is None else np.ptp(found.values, axis=0) > 0
    if varies.any():
        values, arguments = found.values[:, varies], (n_permutations, seed)
        tested = paired(values, *arguments) if found.of_first is None else unpaired(values, found.of_first, *arguments)
        p_value[varies], fdr[varies] = tested
    return p_value, fdr


def _kinds(adata: AnnData, note: Mapping[str, Any]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which cells are recorded with the requested category, and which with another one."""
    asked, known = np.ones(adata.n_obs, dtype=bool), np.ones(adata.n_obs, dtype=bool)
    for name, category in note["phenotypes"].items():
        column = note["columns"].get(name)
        if column is None or column not in adata.obs:
            return np.zeros(adata.n_obs, dtype=bool), np.zeros(adata.n_obs, dtype=bool)
        labels = recorded_labels(adata.obs[column], [category])
        known &= labels.notna().to_numpy()
        asked &= (labels == category).to_numpy()
    return asked, known & ~asked


def _means(
    x: NDArray[np.floating] | sp.csr_matrix, of_group: NDArray[np.int64], n_groups: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Mean of each group, shape (n_groups, n_genes), 0 without cells; and numbers of cells, shape (n_groups,)."""
    n_cells = np.bincount(of_group, minlength=n_groups)
    weights = 1.0 / np.maximum(n_cells, 1)[of_group]
    of_cell = sp.csr_matrix((weights, (of_group, np.arange(len(of_group)))), shape=(n_groups, len(of_group)))
    means = of_cell @ x
    return np.asarray(means.todense() if sp.issparse(means) else means), n_cells


def _levels(adata: AnnData, key: str | None, argument: str) -> tuple[list[str], NDArray[np.int64]]:
    """Levels of a column, and the code of each cell, -1 where missing."""
    if key is None:
        return ["all"], np.zeros(adata.n_obs, dtype=np.int64)
    if key not in adata.obs:
        raise KeyError(
            f"`{argument}`: {key!r} is not a column of adata.obs, which has {shorten(adata.obs.columns)}. Pass one of "
            "them, or None."
        )
    codes, levels = pd.factorize(recorded_labels(adata.obs[key]), sort=True)
    if not len(levels):
        raise ValueError(f"`{argument}`: all values of adata.obs[{key!r}] are missing. Pass another column.")
    return [str(level) for level in levels], codes.astype(np.int64)
