"""Linear discriminants of the categories of a phenotype, fitted in closed form to the expression of cells.

Shapes: G genes, C categories.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

SHRINKAGE: Final = 0.6
"""Share of the covariance that is replaced by the same variance for every gene."""
MAX_GENES: Final = 1000
"""Maximum number of genes, those whose means differ most between categories; the others are mostly noise."""
PRIOR_CELLS: Final = 5.0
"""Cells at the overall mean that are added to each category, because means of rare categories are noisy."""
MIN_SHARE: Final = 1e-3
"""Lower limit of the variance within categories, relative to the mean square of all cells, to avoid rounding errors."""


class _Sums:
    """Sums over cells that can be added and subtracted field by field."""

    def __add__(self, other: Self) -> Self:
        return self._each(operator.add, other)

    def __sub__(self, other: Self) -> Self:
        return self._each(operator.sub, other)

    def _each(self, operation: Callable[[Any, Any], Any], other: Self) -> Self:
        return type(self)(**{name: operation(value, getattr(other, name)) for name, value in vars(self).items()})


def _by_category(
    x: NDArray[np.floating], codes: NDArray[np.integer], n_categories: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum over the cells of each category, shape (C, G), and number of cells, shape (C,)."""
    cells = np.arange(len(codes))
    ones = sp.csr_matrix((np.ones(len(codes)), (codes, cells)), shape=(n_categories, len(codes)))
    return ones @ x.astype(np.float64), np.bincount(codes, minlength=n_categories).astype(np.float64)


@dataclass(frozen=True)
class VarianceSums(_Sums):
    """Sums over cells that determine the variance of each gene between and within categories.

    Parameters
    ----------
    squares
        Sum of squares over the cells; shape (G,).
    sums
        Sum over the cells of each category; shape (C, G).
    counts
        Number of cells of each category; shape (C,).
    """

    squares: NDArray[np.float64]
    sums: NDArray[np.float64]
    counts: NDArray[np.float64]

    @classmethod
    def fit(cls, x: NDArray[np.floating], codes: NDArray[np.integer], n_categories: int) -> VarianceSums:
        """Compute the sums for some cells; arguments as for `ScatterSums.fit`."""
        known = codes >= 0
        x, codes = x[known], codes[known]
        return cls(np.einsum("ij,ij->j", x, x, dtype=np.float64), *_by_category(x, codes, n_categories))

    def analysis_of_variance(self) -> NDArray[np.float64]:
        """F statistic of each gene, variance between over variance within categories; shape (G,).

        It is 0 for constant genes, and for all genes if there are fewer than two categories.
        """
        n, n_known = self.counts.sum(), np.count_nonzero(self.counts)
        if n_known < 2 or n <= n_known:
            return np.zeros(len(self.squares))
        category_squares = (self.sums**2 / np.maximum(self.counts, 1.0)[:, None]).sum(axis=0)
        total_squares = self.sums.sum(axis=0) ** 2 / n
        within = np.maximum(self.squares - category_squares, 0.0)
        f = (category_squares - total_squares) / (n_known - 1) / np.maximum(within / (n - n_known), 1e-12)
        varies = self.squares - total_squares > 1e-9 * np.maximum(self.squares, 1.0)  # more than rounding errors
        return np.where(varies, np.maximum(f, 0.0), 0.0)

    def most_different_genes(self, n_genes: int) -> NDArray[np.int64]:
        """Genes with the highest F statistic, sorted; shape (K,), at most `n_genes`."""
        return np.sort(np.argsort(-self.analysis_of_variance(), kind="stable")[:n_genes])


@dataclass(frozen=True)
class ScatterSums(_Sums):
    """Sums over cells from which discriminants are computed; they can be added and subtracted.

    Parameters
    ----------
    scatter
        Sum of outer products over the cells; shape (G, G).
    sums
        Sum over the cells of each category; shape (C, G).
    counts
        Number of cells of each category; shape (C,).
    """

    scatter: NDArray[np.float64]
    sums: NDArray[np.float64]
    counts: NDArray[np.float64]

    @classmethod
    def fit(cls, x: NDArray[np.floating], codes: NDArray[np.integer], n_categories: int) -> ScatterSums:
        """Compute the sums for some cells.

        Parameters
        ----------
        x
            Standardised expression; shape (n_cells, G).
        codes
            Category of each cell, -1 where unknown; shape (n_cells,).
        n_categories
            Number of categories.
        """
        known = codes >= 0
        x, codes = x[known], codes[known]
        return cls((x.T @ x).astype(np.float64), *_by_category(x, codes, n_categories))

    @property
    def variance_sums(self) -> VarianceSums:
        """The sums for single genes."""
        return VarianceSums(np.diag(self.scatter), self.sums, self.counts)

    def discriminants(
        self, shrinkage: float = SHRINKAGE, prior_cells: float = PRIOR_CELLS, max_genes: int = MAX_GENES
    ) -> Discriminants:
        """Linear discriminants under the assumption that all categories are equally frequent.

        A discriminant is the log of the normal density of a category, up to a common term. The covariance is the one
        within categories, shrunk towards a multiple of the identity; means are shrunk towards the overall mean.
        Categories without cells have weights of 0 and the lowest bias.

        Parameters
        ----------
        shrinkage
            Share of the covariance that is replaced; above 0.
        prior_cells
            Weight of the overall mean in the mean of a category, in cells.
        max_genes
            Maximum number of genes, those with the highest F statistic; the others have weights of 0.

        References
        ----------
        Friedman: Regularized discriminant analysis. JASA 1989. Tibshirani, Hastie, Narasimhan, Chu: Diagnosis of
        multiple cancer types by shrunken centroids of gene expression. PNAS 2002. Fan, Fan: High-dimensional
        classification using features annealed independence rules. Annals of Statistics 2008.
        """
        n_all = len(self.scatter)
        kept = self.variance_sums.most_different_genes(max_genes)  # (K,)
        scatter = self.scatter[np.ix_(kept, kept)] if len(kept) < n_all else self.scatter
        sums = self.sums[:, kept]
        n, n_genes = max(self.counts.sum(), 1.0), len(kept)
        mean = sums.sum(axis=0) / n
        means = sums / np.maximum(self.counts, 1.0)[:, None]  # (C, K)
        covariance = (scatter - sums.T @ means) / n
        means = (means - mean) * (self.counts / np.maximum(self.counts + prior_cells, 1e-12))[:, None]
        least = MIN_SHARE * float(np.trace(scatter)) / n  # if all cells of a category are the same
        variance = max(float(np.trace(covariance)), least, 1e-8) / n_genes
        covariance *= 1.0 - shrinkage
        covariance[np.diag_indices(n_genes)] += shrinkage * variance
        kept_weights = cho_solve(cho_factor(covariance, overwrite_a=True), means.T)  # (K, C)
        bias = -0.5 * (means.T * kept_weights).sum(axis=0) - mean @ kept_weights
        weights = np.zeros((n_all, len(self.counts)))
        weights[kept] = kept_weights
        return Discriminants(weights, np.where(self.counts > 0, bias, bias.min()))


@dataclass(frozen=True)
class Discriminants:
    """Linear function of standardised expression for each category.

    Parameters
    ----------
    weights
        Weights; shape (G, C).
    bias
        Bias; shape (C,).
    temperature
        Divisor that has been applied to both.
    """

    weights: NDArray[np.float64]
    bias: NDArray[np.float64]
    temperature: float = 1.0

    def __call__(self, x: NDArray[np.floating]) -> NDArray[np.float64]:
        """Discriminants of cells, from (n_cells, G) to (n_cells, C)."""
        return x @ self.weights + self.bias
