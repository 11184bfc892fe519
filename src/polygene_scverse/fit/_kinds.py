"""Combinations of categories among the training cells, and sequencing depths by category.

Shapes: N cells, P phenotypes, C categories of all phenotypes, K combinations of categories, Q quantiles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from polygene_scverse._constants import TARGET_SUM

LEVELS: Final = np.linspace(0.0, 1.0, 21)
"""Quantiles of depths that are stored."""
MIN_CELLS: Final = 20
"""Minimum number of cells of a category for its own depths; otherwise those of all cells are used."""
MOST_KINDS: Final = 20_000
"""Maximum number of combinations of categories that are stored, the most frequent ones."""
TOLERANCE: Final = 0.02
"""Maximum relative deviation of a count from an integer, to allow for rounding errors of its logarithm."""
COUNTED: Final = 0.5
"""Minimum share of cells with integer counts for which depths are estimated."""


@dataclass(frozen=True)
class Kinds:
    """Combinations of categories among the training cells, and their depths.

    Parameters
    ----------
    codes
        Categories of each combination, -1 where unknown; shape (K, P).
    n_cells
        Number of training cells with the combination; shape (K,).
    log_depths
        Log of the quantiles `LEVELS` of the total counts, in all cells (first row) and in each category; shape
        (1 + C, Q), or (0, Q) if expression is not derived from counts.
    """

    codes: NDArray[np.int64]
    n_cells: NDArray[np.float64]
    log_depths: NDArray[np.float32]

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Kinds:
        """Create the object from its fields; arrays may have been converted to tensors or lists."""
        codes, n_cells = np.asarray(plain["codes"], np.int64), np.asarray(plain["n_cells"], np.float64)
        return cls(codes, n_cells, np.asarray(plain["log_depths"], np.float32).reshape(-1, len(LEVELS)))

    def having(self, codes: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Which combinations have the given categories; shape (K,).

        Parameters
        ----------
        codes
            Category of each phenotype, -1 for any; shape (P,).
        """
        found: NDArray[np.bool_] = ((self.codes == codes) | (codes < 0)).all(axis=1)
        return found

    def complete(
        self,
        codes: NDArray[np.integer],
        counts: Sequence[NDArray[np.floating]],
        draws: NDArray[np.floating],
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Draw the phenotypes that are not given, as frequently as in training cells with the given ones.

        If no training cell has all given categories, or none of these has all others labelled, phenotypes are drawn
        independently.

        Parameters
        ----------
        codes
            Categories of each cell, -1 where they are to be drawn; shape (N, P).
        counts
            Number of training cells of each category of each phenotype; P times (categories,).
        draws
            Uniform random numbers from [0, 1); shape (N, 1 + P).

        Returns
        -------
        Categories, shape (N, P), and whether any training cell had the given ones, shape (N,).
        """
        wanted, group = np.unique(codes, axis=0, return_inverse=True)
        found, seen = codes.astype(np.int64), np.ones(len(codes), dtype=bool)
        whole = (self.codes >= 0).all(axis=1)
        for i, row in enumerate(wanted):
            at, fits = np.flatnonzero(group.reshape(-1) == i), self.having(row)
            seen[at] = fits.any()
            if (fits & whole).any():
                usable = np.flatnonzero(fits & whole)
                found[at] = self.codes[usable[_drawn(self.n_cells[usable], draws[at, 0])]]
                continue
            for p in np.flatnonzero(row < 0).tolist():
                found[at, p] = _drawn(counts[p].astype(np.float64), draws[at, 1 + p])
        return found, seen

    def depths(
        self, codes: NDArray[np.integer], n_categories: Sequence[int], draws: NDArray[np.floating]
    ) -> NDArray[np.int64]:
        """Draw total counts; the effects of several phenotypes are added on the log scale.

        Parameters
        ----------
        codes
            Categories of each cell; shape (N, P).
        n_categories
            Number of categories of each phenotype.
        draws
            Uniform random numbers from [0, 1); shape (N,).

        Returns
        -------
        Total counts, at least 1; shape (N,).
        """
        overall, by_category = self.log_depths[0], self.log_depths[1:]
        starts = np.cumsum([0, *n_categories])[:-1]
        kinds, group = np.unique(codes, axis=0, return_inverse=True)
        found = np.zeros(len(codes))
        for i, row in enumerate(kinds):
            known = row >= 0
            quantiles = overall + (by_category[starts[known] + row[known]] - overall).sum(axis=0)
            at = group.reshape(-1) == i
            found[at] = np.interp(draws[at], LEVELS, np.maximum.accumulate(quantiles))
        return np.maximum(np.rint(np.exp(found)), 1).astype(np.int64)


def fit_kinds(
    codes: NDArray[np.integer],
    some_codes: NDArray[np.integer],
    indptr: NDArray[np.integer],
    values: NDArray[np.floating],
    n_categories: Sequence[int],
) -> Kinds:
    """Count combinations of categories, and compute quantiles of depths.

    Parameters
    ----------
    codes
        Categories of the training cells, -1 where unknown; shape (N, P).
    some_codes, indptr, values
        Categories and expression (log1p of counts per 10,000, in CSR order) of a sample of them.
    n_categories
        Number of categories of each phenotype.
    """
    kinds, n_cells = np.unique(codes.astype(np.int64), axis=0, return_counts=True)
    order = np.sort(np.argsort(-n_cells, kind="stable")[:MOST_KINDS])
    depths = cell_depths(indptr, values)
    known = np.isfinite(depths)
    if not len(depths) or known.mean() < COUNTED:
        return Kinds(kinds[order], n_cells[order].astype(np.float64), np.zeros((0, len(LEVELS)), np.float32))
    rows = [known, *(known & (c == k) for c, n in zip(some_codes.T, n_categories, strict=True) for k in range(n))]
    rows = [row if row.sum() >= MIN_CELLS else known for row in rows]
    quantiles = np.log(np.array([np.quantile(depths[row], LEVELS) for row in rows])).astype(np.float32)
    return Kinds(kinds[order], n_cells[order].astype(np.float64), quantiles)


def cell_depths(indptr: NDArray[np.integer], values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Total counts of cells, assuming that their lowest expressed value is a count of one; shape (N,).

    Parameters
    ----------
    indptr, values
        Expression (log1p of counts per 10,000), in CSR order.

    Returns
    -------
    Total counts; NaN if the other values are not integer counts then, or if there are fewer than two values.
    """
    n, lengths = len(indptr) - 1, np.diff(indptr)
    rows, rates = np.repeat(np.arange(n), lengths), np.expm1(values.astype(np.float64))
    one = np.full(n, np.inf)
    np.minimum.at(one, rows, rates)
    counts = rates / one[rows]
    wrong = np.bincount(rows, np.abs(counts - np.rint(counts)) > TOLERANCE * counts, n)
    return np.where((lengths > 1) & (wrong == 0), TARGET_SUM / one, np.nan)


def cell_counts(
    indptr: NDArray[np.integer], values: NDArray[np.floating], depths: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Counts of cells with known total counts; shape of `values`.

    Parameters
    ----------
    indptr, values
        Expression (log1p of counts per 10,000), in CSR order.
    depths
        Total counts of each cell; shape (N,).
    """
    rates = np.expm1(values.astype(np.float64))
    found: NDArray[np.float64] = np.rint(rates * np.repeat(depths / TARGET_SUM, np.diff(indptr)))
    return found


def _drawn(weights: NDArray[np.floating], draws: NDArray[np.floating]) -> NDArray[np.int64]:
    """Draw indices with probabilities proportional to the weights; shape of `draws`."""
    edges = np.cumsum(weights) / max(weights.sum(), 1e-300)
    return np.minimum(np.searchsorted(edges, draws, side="right"), len(weights) - 1)
