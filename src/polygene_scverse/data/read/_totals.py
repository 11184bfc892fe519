"""Total counts comparable to those in training: which columns count, and which share of the counts they have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from polygene_scverse._constants import TARGET_SUM
from polygene_scverse.data.read._scale import Scale

FEATURE_TYPES: Final = "feature_types"
"""Column of ``var`` in which 10x distinguishes genes from proteins, peaks and guides."""
GENES: Final = "Gene Expression"
NEARLY_ALL: Final = 0.98
"""Minimum share of the counts for which genes are considered complete."""
LEAST_SHARE: Final = 0.002
"""Share of the training counts below which totals cannot be estimated."""
COMPARABLE: Final = 1.5
"""Factor by which the share of some genes may exceed that in training for biological reasons."""


@dataclass(frozen=True)
class Footing:
    """Columns that add up to the total count of a cell, and the share of the counts that they have.

    Parameters
    ----------
    counted
        Whether a column counts; shape (n_vars,).
    share
        Share of the counts in these columns; the total is their sum divided by it.
    note
        Message to the user about the totals; empty if there is nothing to report.
    """

    counted: NDArray[np.bool_]
    share: float = 1.0
    note: str = ""

    def totals(self, x: sp.csr_matrix, scale: Scale) -> NDArray[np.float64]:
        """Total of each cell, in units of `Scale.counts`; shape (n_cells,).

        Parameters
        ----------
        x
            Expression as stored; shape (n_cells, n_vars).
        scale
            Its scale.
        """
        return _sums(x, scale, self.counted) / self.share


def genes_only(var: pd.DataFrame | None) -> Footing | None:
    """Exclude proteins, peaks and guides from totals; None if there are none, or if ``var`` has no feature types.

    Parameters
    ----------
    var
        ``var`` table; 10x has the types in ``var["feature_types"]``.
    """
    if var is None or FEATURE_TYPES not in var:
        return None
    counted = (var[FEATURE_TYPES].astype(str) == GENES).to_numpy()
    return Footing(counted) if counted.any() and not counted.all() else None


def column_shares(
    blocks: Iterable[sp.csr_matrix], var_names: pd.Index, scale: Scale, footing: Footing | None = None
) -> dict[str, float]:
    """Mean share of each column in the counts of a cell.

    Parameters
    ----------
    blocks
        Expression of training cells, block after block; shape (n, n_vars) each.
    var_names
        Names of the columns; shape (n_vars,).
    scale
        Scale of expression.
    footing
        Which columns count.

    Returns
    -------
    The share by name. Shares sum to 1, or to less if genes were removed after a normalisation.
    """
    sums, n_cells = np.zeros(len(var_names)), 0
    for x in blocks:
        values = scale.to_log1p(x, None if footing is None else footing.totals(x, scale))
        sums += np.bincount(x.indices, weights=np.expm1(values.astype(np.float64)), minlength=x.shape[1])
        n_cells += int((np.diff(x.indptr) > 0).sum())
    shares = sums / (TARGET_SUM * max(n_cells, 1))
    counted = np.ones(len(sums), dtype=bool) if footing is None else footing.counted
    return {str(name): float(share) for name, share in zip(var_names[counted], shares[counted], strict=True)}


def same_footing(
    sample: sp.csr_matrix,
    var_names: pd.Index,
    scale: Scale,
    own: Footing | None,
    shares: Mapping[str, float],
) -> Footing | None:
    """Compute totals of new cells over the columns that training had, scaled up for those that are missing.

    Parameters
    ----------
    sample
        Rows spread over the new data, with all columns; shape (n_rows, n_vars).
    var_names
        Names of the columns; shape (n_vars,).
    scale
        Scale of the new data.
    own
        Which of the columns are genes.
    shares
        Result of `column_shares` in training; empty if unknown.

    Returns
    -------
    The footing; None if the totals are comparable to those in training without a change.
    """
    of_training = pd.Series(shares, dtype=np.float64).reindex(var_names).to_numpy()  # (n_vars,)
    common = np.isfinite(of_training) if own is None else np.isfinite(of_training) & own.counted
    there, every = float(of_training[common].sum()), float(sum(shares.values()))
    if there < LEAST_SHARE:
        everything = np.ones(len(var_names), dtype=bool) if own is None else own.counted
        note = (
            f"The genes of these data had {there:.1%} of the counts in training, too few to estimate the total counts "
            "of cells, so expression may be normalised differently than in training. Pass all genes if you can."
        )
        return Footing(everything, note=note) if common.any() else own
    observed = _observed(sample, scale, own, common)
    whole_training = every >= NEARLY_ALL
    if not scale.complete:  # totals are those of all genes, unless training had no others
        return Footing(common) if there >= NEARLY_ALL and observed < NEARLY_ALL else own
    if there >= NEARLY_ALL:
        return own if observed >= NEARLY_ALL else Footing(common)
    if whole_training or observed >= NEARLY_ALL or observed > COMPARABLE * there:
        note = (
            f"The genes of these data had {there:.0%} of the counts in training. The total counts of cells, which are "
            "needed for normalisation, are estimated from them. Pass all genes if you can, or normalise before you "
            "subset genes."
        )
        return Footing(common, there, note)
    return own


def _observed(x: sp.csr_matrix, scale: Scale, own: Footing | None, common: NDArray[np.bool_]) -> float:
    """Share of the counts of some cells in the common columns."""
    totals = scale.counts(x)[1] if own is None or not scale.complete else own.totals(x, scale)
    used = totals > 0
    return float((_sums(x, scale, common)[used] / totals[used]).mean()) if used.any() else 1.0


def _sums(x: sp.csr_matrix, scale: Scale, counted: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Row sums over some columns, in units of `Scale.counts`; shape (n_rows,)."""
    row = np.repeat(np.arange(x.shape[0]), np.diff(x.indptr))
    weights = np.where(counted[x.indices], scale.counts(x)[0], 0.0)
    return np.bincount(row, weights=weights, minlength=x.shape[0]).astype(np.float64)
