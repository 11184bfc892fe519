"""Sums over the cells of an earlier training, from the moments stored in a model; they replace those of drawn cells.

The stored means and products of genes are exact, while drawn cells only resemble the earlier ones: discriminants fitted
to drawn and new cells would separate drawn from real cells more than categories from each other.

Shapes: K genes with stored moments, G genes of the linear path, C categories of a phenotype, C_all of all phenotypes.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from polygene_scverse.fit._discriminants import ScatterSums, VarianceSums
from polygene_scverse.fit._gene_scaler import GeneScaler

Cells = Callable[[NDArray[np.int64]], NDArray[np.float32]]
"""Function that returns the standardised expression of some cells; shape (n_rows, G)."""
BLOCK: Final = 2_048
"""Number of drawn cells that are processed together."""
RIDGE: Final = 0.5
"""Ridge penalty in the regression of genes without stored moments, relative to the mean variance of the others."""
TOLERANCE: Final = 0.01
"""Negative variance that is attributed to rounding, relative to the mean variance."""


@dataclass(frozen=True)
class EarlierCells:
    """Moments of the training cells of the model that is trained further.

    Parameters
    ----------
    genes
        Genes with stored moments, ascending; shape (K,).
    products
        Mean product of two standardised genes over the cells; shape (K, K).
    centre, deviation
        Centre and scale with which their expression was standardised; shape (K,).
    means
        Mean of the standardised cells of each category; shape (C_all, K).
    counts
        Number of cells of each category; shape (C_all,).
    temperatures
        Temperature of the discriminants of each phenotype.
    n_categories
        Number of categories of each phenotype at that time.
    first_id
        Id of the first cell that was drawn from the model; cells with lower ids are new.
    """

    genes: NDArray[np.int32]
    products: NDArray[np.float64]
    centre: NDArray[np.float64]
    deviation: NDArray[np.float64]
    means: NDArray[np.float64]
    counts: NDArray[np.float64]
    temperatures: NDArray[np.float64]
    n_categories: Sequence[int]
    first_id: int

    def sums(self, phenotype: int, n_drawn: NDArray[np.floating], scaler: GeneScaler) -> ScatterSums:
        """Sums over earlier cells, weighted as if there were as many of each category as drawn cells; counts are 0.

        Parameters
        ----------
        phenotype
            Index of the phenotype.
        n_drawn
            Number of drawn cells of each of its categories; shape (C,).
        scaler
            Current standardisation of expression.
        """
        n_genes = len(self.genes)
        sums, scatter = np.zeros((len(n_drawn), n_genes)), np.zeros((n_genes, n_genes))
        if phenotype < len(self.n_categories) and n_drawn.any():
            within, means = self._within(phenotype)
            n = n_drawn[: len(means)].astype(np.float64)  # no cells are drawn for new categories
            scale = self.deviation / scaler.deviation[self.genes]
            means = means * scale + (self.centre - scaler.centre[self.genes]) / scaler.deviation[self.genes]
            sums[: len(means)] = n[:, None] * means
            scatter = n.sum() * within * np.outer(scale, scale) + (means.T * n) @ means
        return ScatterSums(scatter, sums, np.zeros(len(n_drawn)))

    def _within(self, phenotype: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Covariance within the categories of a phenotype, shape (K, K), and their means, shape (C, K)."""
        start = sum(self.n_categories[:phenotype])
        of = slice(start, start + self.n_categories[phenotype])
        counts, means = self.counts[of], self.means[of]
        shares = counts / max(counts.sum(), 1.0)
        return _no_negative_variance(self.products - (means.T * shares) @ means), means


@dataclass(frozen=True)
class KnownSums:
    """Sums over cells that are included in every fit of a phenotype, also if a fold is left out.

    Parameters
    ----------
    cells, rows, codes
        Function that returns the standardised expression of cells; rows and categories of the drawn cells.
    drawn
        Sums over the drawn cells for single genes, for all G genes.
    earlier
        Sums over as many earlier cells, for the genes with stored moments.
    genes
        Genes with stored moments; shape (K,).
    temperature
        Temperature of the discriminants of the earlier cells.
    """

    cells: Cells
    rows: NDArray[np.int64]
    codes: NDArray[np.integer]
    drawn: VarianceSums
    earlier: ScatterSums
    genes: NDArray[np.int32]
    temperature: float

    @property
    def n_drawn(self) -> float:
        """Number of drawn cells."""
        return float(self.drawn.counts.sum())

    @functools.cached_property
    def variances(self) -> VarianceSums:
        """Sums for single genes, for all genes."""
        squares, sums = self.drawn.squares.copy(), self.drawn.sums.copy()
        squares[self.genes] = np.diag(self.earlier.scatter)
        sums[:, self.genes] = self.earlier.sums
        return VarianceSums(squares, sums, self.drawn.counts)

    def scatter(self, genes: NDArray[np.integer]) -> ScatterSums:
        """Sums for the given genes; genes without stored moments are predicted from the others as in drawn cells.

        Within categories they are a linear function of the others, by ridge regression in the drawn cells, plus the
        residual covariance there. The result is therefore a valid covariance matrix.

        Parameters
        ----------
        genes
            Genes, ascending.
        """
        there = np.isin(genes, self.genes)
        kept, others = np.flatnonzero(there), np.flatnonzero(~there)
        places = np.searchsorted(self.genes, genes[kept])
        scatter, sums = self.earlier.scatter[np.ix_(places, places)], self.earlier.sums[:, places]
        counts = self.drawn.counts
        if len(others) and self.n_drawn:
            n = np.maximum(counts, 1.0)[:, None]
            parts = [
                ScatterSums.fit(self.cells(rows)[:, genes], codes, len(counts))
                for rows, codes in blocks_of(self.rows, self.codes)
            ]
            drawn = functools.reduce(operator.add, parts)
            within = drawn.scatter - (drawn.sums / n).T @ drawn.sums
            both = within[np.ix_(kept, kept)]
            ridge = RIDGE * max(float(np.trace(both)) / max(len(kept), 1), 1e-8)
            solved = cho_solve(cho_factor(both + ridge * np.eye(len(kept))), within[np.ix_(kept, others)])  # (K, n)
            slopes = np.zeros((len(genes), len(kept)))
            slopes[kept, np.arange(len(kept))], slopes[others] = 1.0, solved.T
            residual = np.eye(len(genes))[others]
            residual[:, kept] = -solved.T
            of_kept = scatter - (sums / n).T @ sums
            all_sums = drawn.sums
            all_sums[:, kept] = sums
            scatter = slopes @ of_kept @ slopes.T + (all_sums / n).T @ all_sums
            scatter[np.ix_(others, others)] += residual @ within @ residual.T
            sums = all_sums
        elif len(others):
            scatter, sums = np.zeros((len(genes), len(genes))), np.zeros((len(counts), len(genes)))
        return ScatterSums(scatter, sums, counts)

    def temperature_beside(self, own: float, n_own: int) -> float:
        """Temperature of new and drawn cells: the geometric mean, weighted by the numbers of cells.

        Parameters
        ----------
        own
            Temperature of the new cells.
        n_own
            Number of new cells.
        """
        share = self.n_drawn / max(self.n_drawn + n_own, 1.0)
        return float(self.temperature**share * own ** (1.0 - share))


def known_sums(
    earlier: EarlierCells | None,
    drawn: NDArray[np.bool_] | None,
    cells: Cells,
    codes: NDArray[np.integer],
    n_categories: Sequence[int],
    scaler: GeneScaler,
) -> list[KnownSums | None]:
    """Sums for each phenotype, None without earlier cells.

    Parameters
    ----------
    earlier
        Moments of the earlier cells.
    drawn
        Which cells were drawn to replace earlier ones; shape (n_cells,).
    cells
        Function that returns the standardised expression of some cells.
    codes
        Category codes, -1 where unknown; shape (n_cells, n_phenotypes).
    n_categories
        Number of categories of each phenotype.
    scaler
        Standardisation of expression.
    """
    if earlier is None or drawn is None:
        return [None] * len(n_categories)
    found: list[KnownSums | None] = []
    for i, n in enumerate(n_categories):
        rows = np.flatnonzero(drawn & (codes[:, i] >= 0))
        parts = [VarianceSums.fit(cells(part), of_part, n) for part, of_part in blocks_of(rows, codes[rows, i])]
        nothing = VarianceSums(np.zeros(len(scaler.cap)), np.zeros((n, len(scaler.cap))), np.zeros(n))
        sums = functools.reduce(operator.add, parts, nothing)
        of_earlier = earlier.sums(i, sums.counts, scaler)
        temperature = float(earlier.temperatures[i]) if i < len(earlier.n_categories) else 1.0
        found.append(KnownSums(cells, rows, codes[rows, i], sums, of_earlier, earlier.genes, temperature))
    return found


def blocks_of(
    rows: NDArray[np.int64], codes: NDArray[np.integer]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.integer]]]:
    """Yield rows and their categories in blocks, because expression is dense."""
    for start in range(0, len(rows), BLOCK):
        yield rows[start : start + BLOCK], codes[start : start + BLOCK]


def _no_negative_variance(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """The covariance, or the nearest matrix without negative variances (apart from rounding errors).

    Variances can be negative because cells of unknown category are included in the products.
    """
    variance = max(float(np.trace(covariance)) / max(len(covariance), 1), 1e-8)
    try:
        cho_factor(covariance + TOLERANCE * variance * np.eye(len(covariance)))
    except LinAlgError:
        values, vectors = np.linalg.eigh(covariance)
        covariance = (vectors * np.maximum(values, 0.0)) @ vectors.T
    return covariance
