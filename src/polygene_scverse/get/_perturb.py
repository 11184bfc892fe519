"""Effects of perturbed genes as a table."""

from __future__ import annotations

import warnings
from typing import Final

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from polygene_scverse._constants import PERTURB
from polygene_scverse._validate import check_choice, warn
from polygene_scverse.get._lookup import note_of
from polygene_scverse.metrics._pooled_p import false_discovery_rate, pooled_p

MIN_NULL: Final = 20
"""Minimum number of random perturbations for a test."""
NEAREST: Final = 30
"""Number of random perturbations, nearest in expression, with which a shift is compared."""


def perturb(adata: AnnData, outcome: str = "embedding") -> pd.DataFrame:
    """Return the shifts of each perturbation, tested against random genes of similar expression.

    Each shift is standardised by the mean and standard deviation of the 30 random perturbations with the most similar
    mean expression (``z``). The p-value is the fraction of random perturbations, standardised in the same way, that are
    at least as extreme, pooled over categories or genes. A small p-value means that the *model* responds more to this
    gene than to other genes, not that the gene has an effect in a cell.

    Parameters
    ----------
    adata
        Result of :func:`~polygene_scverse.tl.perturb`.
    outcome
        A phenotype, for the change of the probability of each of its categories; ``"embedding"``, for the length of the
        embedding shift; ``"expression"``, for the root mean square change of the other genes; or ``"genes"``, for the
        change of each of them.

    Returns
    -------
    Table with the columns ``perturbation``, ``level`` (category, gene or the outcome itself), ``shift``, ``n_cells``,
    ``z``, ``p_value`` and ``fdr`` (Benjamini–Hochberg over the whole table), with the most extreme ``z`` first. For
    ``"embedding"`` and ``"expression"`` the logarithms of the shifts are compared, in a one-sided test. With fewer than
    20 random perturbations of the same number of genes, ``z``, ``p_value`` and ``fdr`` are NaN. For ``"expression"``
    there is also ``specific``, the fraction of the squared shift that remains after regressing out the mean shift of
    the random perturbations.

    Raises
    ------
    KeyError
        If `adata` was not returned by :func:`~polygene_scverse.tl.perturb`.
    ValueError
        If `outcome` is unknown.

    Examples
    --------
    >>> result = pgs.tl.perturb(adata, ["STAT1", "IRF7"])
    >>> pgs.get.perturb(result, "condition").query("fdr < 0.05")
    """
    note = note_of(adata, PERTURB)
    if note is None or "phenotype_shift" not in adata.obsm or "null" not in adata.obs:
        raise KeyError(
            "`adata`: it has no perturbations: uns['polygene']['perturb'] or obs['null'] is missing. Pass the result "
            "of pgs.tl.perturb(adata, [...])."
        )
    phenotypes = np.asarray(note["phenotypes"]).astype(str)
    names = list(dict.fromkeys(phenotypes.tolist()))
    check_choice(outcome, ["embedding", "expression", "genes", *names], "outcome")
    null = adata.obs["null"].to_numpy(dtype=bool)
    specific = None
    if outcome == "embedding":
        shifts, levels = adata.obs["embedding"].to_numpy(dtype=float)[:, None], ["embedding"]
    elif outcome in ("expression", "genes"):
        shifts, levels = np.asarray(adata.X, dtype=float), list(adata.var_names)
        if outcome == "expression":
            specific = _specific(shifts, null)
            shifts, levels = _root_mean_square(shifts)[:, None], ["expression"]
    else:
        at = phenotypes == outcome
        shifts = np.asarray(adata.obsm["phenotype_shift"], dtype=float)[:, at]
        levels = [str(c) for c in np.asarray(note["categories"])[at]]
    sizes = outcome in ("embedding", "expression")
    z, p_value = _test(adata.obs, shifts, null, sizes=sizes)
    columns = {
        "perturbation": np.repeat(adata.obs_names[~null].to_numpy(), len(levels)),
        "level": np.tile(np.array(levels, dtype=object), int((~null).sum())),
        "shift": shifts[~null].ravel(),
        "n_cells": np.repeat(adata.obs["n_cells"].to_numpy()[~null], len(levels)),
        "z": z[~null].ravel(),
        "p_value": p_value[~null].ravel(),
    }
    table = pd.DataFrame(columns)
    table["fdr"] = false_discovery_rate(table["p_value"].to_numpy())
    if specific is not None:
        table["specific"] = specific[~null]
    unusual = table["z"] if sizes else table["z"].abs()
    order = np.lexsort((-table["shift"].abs().to_numpy(), -unusual.fillna(-np.inf).to_numpy()))
    return table.iloc[order].reset_index(drop=True)


def _test(
    obs: pd.DataFrame, shifts: NDArray[np.floating], null: NDArray[np.bool_], *, sizes: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compare with random perturbations of as many genes: z-scores and p-values, NaN if there are too few.

    Shifts that are sizes, which are never negative, are compared by their logarithms, and large ones only are unusual.
    """
    z, p_value = np.full(shifts.shape, np.nan), np.full(shifts.shape, np.nan)
    n_genes, expression = (obs[name].to_numpy(dtype=float) for name in ("n_genes", "expression"))
    few = []
    for size in np.unique(n_genes[~null]):
        rows = n_genes == size
        if (rows & null).sum() < MIN_NULL:
            few.append(int(size))
            continue
        values = np.log(np.maximum(shifts[rows], 1e-12)) if sizes else shifts[rows]
        z[rows] = matched_z(values, expression[rows], null[rows])
        extreme = z if sizes else np.abs(z)
        p_value[rows] = pooled_p(extreme[rows], extreme[rows & null])
    if few:
        warn(
            f"`adata`: fewer than {MIN_NULL} random perturbations of {few} genes, too few for a test: z, p_value and "
            "fdr are NaN there. Pass n_null=200 to pgs.tl.perturb, and a model with more genes."
        )
    return z, p_value


def matched_z(
    values: NDArray[np.floating], expression: NDArray[np.floating], null: NDArray[np.bool_], n_nearest: int = NEAREST
) -> NDArray[np.float64]:
    """Standardise values by the random perturbations nearest in expression, leaving out the perturbation itself.

    Parameters
    ----------
    values
        Values; shape (K, n).
    expression
        Mean expression to match; shape (K,).
    null
        Which perturbations are random; shape (K,).
    n_nearest
        Number of random perturbations to compare with.

    Returns
    -------
    Standardised values, NaN where `values` is NaN; shape (K, n).
    """
    found = np.full(values.shape, np.nan)
    rows = np.flatnonzero(null)
    for i in range(len(values)):
        others = rows[rows != i]
        near = others[np.argsort(np.abs(expression[others] - expression[i]), kind="stable")[:n_nearest]]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # genes that are NaN in all random perturbations
            mean, deviation = np.nanmean(values[near], axis=0), np.nanstd(values[near], axis=0, ddof=1)
        found[i] = (values[i] - mean) / np.maximum(deviation, 1e-12)
    return found


def _root_mean_square(shifts: NDArray[np.floating]) -> NDArray[np.float64]:
    """Root mean square shift over genes that are not perturbed; shape (K,)."""
    known = ~np.isnan(shifts)
    found = np.sqrt((np.nan_to_num(shifts) ** 2).sum(axis=1) / np.maximum(known.sum(axis=1), 1))
    return np.where(known.any(axis=1), found, np.nan)


def _specific(shifts: NDArray[np.floating], null: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Share of the sum of squares that is orthogonal to the mean shift of random perturbations; shape (K,)."""
    usual = np.nan_to_num(np.nan_to_num(shifts[null]).mean(axis=0)) if null.any() else np.zeros(shifts.shape[1])
    known = ~np.isnan(shifts)
    filled, usual = np.nan_to_num(shifts), usual * known  # (K, R) each
    along = (filled * usual).sum(axis=1) ** 2 / np.maximum((usual**2).sum(axis=1), 1e-300)
    total = (filled**2).sum(axis=1)
    return np.where(total > 0, 1.0 - along / np.maximum(total, 1e-300), np.nan)
