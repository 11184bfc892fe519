"""Discriminants for a subset of the genes, as if they had been fitted to these genes alone.

They are computed from stored moments of the training cells: mean products of pairs of genes, and means of categories.
Shapes: K genes with stored moments, C categories of all phenotypes, G genes of the linear path.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.isotonic import IsotonicRegression

from polygene_scverse.fit._discriminants import Discriminants, ScatterSums, VarianceSums
from polygene_scverse.fit._earlier_cells import EarlierCells, KnownSums
from polygene_scverse.fit._path_cells import PathCells

MAX_GENES: Final = 2_000
"""Maximum number of genes with stored moments, the most informative about categories; their products take 4 MB."""
BLOCK: Final = 2_048
RIDGES: Final = (1e-3, 1e-2, 1e-1, 1.0)
"""Shares of the mean variance that are added, in turn, if a covariance matrix is singular."""
SPREAD: Final = 2.0
"""Factor on the standard deviations of simulated cells, because training cells are separated too well."""
KNOWN_SHARE, LEAST_SHARE = 0.7, 0.3
"""Share of the genes down to which the transformer was trained, and at which its share of the mixture reaches 0."""


def transformer_part(measured: NDArray[np.bool_]) -> float:
    """Fraction of its share that the transformer keeps if genes are unmeasured, from 1 to 0.

    Parameters
    ----------
    measured
        Whether each gene of the model is measured; shape (n_genes,).
    """
    return float(np.clip((measured.mean() - LEAST_SHARE) / (KNOWN_SHARE - LEAST_SHARE), 0.0, 1.0))


@dataclass(frozen=True)
class PanelAccuracy:
    """Temperature and accuracy on held-out cells with random subsets of the genes.

    Parameters
    ----------
    simulated
        Accuracy of the discriminants of each panel on simulated cells, ascending; shape (n_panels,).
    accuracy
        Accuracy of the finished model on held-out cells with these panels, not descending; shape (n_panels,), or empty
        as long as it is not measured.
    n_cells
        Number of held-out cells whose category is known.
    factors
        Temperature of the discriminants of each panel, relative to that of the most informative one, not descending;
        shape (n_panels,), or empty if it was not fitted. Discriminants of many genes are too certain, because the
        residuals of genes are not independent, and must be divided by more than those of few genes.
    """

    simulated: list[float]
    accuracy: list[float]
    n_cells: int
    factors: list[float] = field(default_factory=list)

    @classmethod
    def of(cls, simulated: ArrayLike, n_cells: int, temperatures: ArrayLike | None = None) -> Self:
        """Sort the panels, and fit a monotonic curve to their temperatures, if these are known."""
        ascending = np.unique(simulated).tolist()
        if temperatures is None:
            return cls(ascending, [], n_cells)
        curve = _rising(simulated, np.log(temperatures))
        return cls(ascending, [], n_cells, np.exp(curve - curve[-1]).tolist())

    def with_accuracy(self, simulated: ArrayLike, accuracy: ArrayLike) -> Self:
        """Add the accuracy of the panels, as a monotonic curve so that more informative ones are not rated worse."""
        return replace(self, accuracy=_rising(simulated, accuracy).tolist())

    def expected(self, simulated: float) -> float:
        """Expected accuracy of a panel, given the accuracy of its discriminants on simulated cells."""
        return float(np.interp(simulated, self.simulated, self.accuracy))

    def factor(self, simulated: float) -> float:
        """Relative temperature of the discriminants of a panel, given their accuracy on simulated cells."""
        return float(np.exp(np.interp(simulated, self.simulated, np.log(self.factors)))) if self.factors else 1.0


def _rising(x: ArrayLike, y: ArrayLike) -> NDArray[np.float64]:
    """Values, at the ascending unique `x`, of the best fitting function that does not decrease."""
    fitted = IsotonicRegression().fit(np.asarray(x), np.asarray(y))
    found: NDArray[np.float64] = fitted.predict(np.unique(x))
    return found


@dataclass(frozen=True)
class PanelMoments:
    """Stored moments of the training cells.

    Parameters
    ----------
    genes
        Genes with stored moments, ascending; shape (K,).
    products
        Mean product of two standardised genes over the training cells: the upper triangle with the diagonal, row by
        row; shape (K * (K + 1) / 2,).
    deviations
        Scale by which centred expression is divided; shape (K,).
    means
        Mean of the training cells of each category; shape (C, K).
    counts
        Number of training cells of each category; shape (C,).
    temperatures
        Temperature of the discriminants of each phenotype; shape (n_phenotypes,).
    """

    genes: NDArray[np.int32]
    products: NDArray[np.float16]
    deviations: NDArray[np.float32]
    means: NDArray[np.float32]
    counts: NDArray[np.float32]
    temperatures: NDArray[np.float32]

    @classmethod
    def fit(cls, cells: PathCells, temperatures: Sequence[float]) -> Self:
        """Compute the moments of some cells.

        Parameters
        ----------
        cells
            The cells.
        temperatures
            Temperature of the discriminants of each phenotype.
        """
        (n_cells, n_genes), own, n_categories = cells.x.shape, cells.own, cells.n_categories
        sums = [VarianceSums(np.zeros(n_genes), np.zeros((n, n_genes)), np.zeros(n)) for n in n_categories]

        def blocks() -> Any:
            for start in range(0, len(own), BLOCK):
                rows = own[start : start + BLOCK]
                yield cells.codes[rows], cells.standardised(rows)

        for of_block, z in blocks():
            for i, n in enumerate(n_categories):
                sums[i] += VarianceSums.fit(z, of_block[:, i], n)
        sums = [part if of is None else part + of.variances for part, of in zip(sums, cells.known, strict=True)]
        ranks = [np.argsort(np.argsort(-part.analysis_of_variance(), kind="stable")) for part in sums]
        genes = np.sort(np.argsort(np.min(ranks, axis=0), kind="stable")[:MAX_GENES])
        products = np.zeros((len(genes), len(genes)))
        for _, z in blocks():
            products += z[:, genes].T @ z[:, genes]
        products += _mean_scatter(cells.known, genes) * (n_cells - len(own))
        counts = np.concatenate([part.counts for part in sums])
        totals = np.concatenate([part.sums[:, genes] for part in sums])
        return cls(
            genes.astype(np.int32),
            (products[np.triu_indices(len(genes))] / max(n_cells, 1)).astype(np.float16),
            cells.scaler.deviation[genes].astype(np.float32),
            (totals / np.maximum(counts, 1.0)[:, None]).astype(np.float32),
            counts.astype(np.float32),
            np.asarray(temperatures, dtype=np.float32),
        )

    def discriminants(
        self, measured: NDArray[np.bool_], n_categories: Sequence[int]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Weights of the measured genes, and biases, scaled as logits of equally frequent categories.

        Parameters
        ----------
        measured
            Whether each gene of the model is measured; shape (n_genes,).
        n_categories
            Number of categories of each phenotype.

        Returns
        -------
        Weights of expression that is centred but not scaled, (n_genes, C), and biases, (C,).
        """
        there = np.flatnonzero(measured[self.genes])
        found = np.zeros((len(measured), len(self.counts)))
        biases = np.zeros(len(self.counts))
        part, start = self._products(there), 0
        for n, temperature in zip(n_categories, self.temperatures.astype(np.float64), strict=True):
            of = slice(start, start + n)
            start += n
            counts, means = self.counts[of].astype(np.float64), self.means[of, there].astype(np.float64)
            scatter = ScatterSums(part * max(counts.sum(), 1.0), means * counts[:, None], counts)
            linear = _discriminants(scatter)
            found[self.genes[there], of] = linear.weights / temperature / self.deviations[there, None]
            biases[of] = linear.bias / temperature
        return found, biases

    def log_shares(self, n_categories: Sequence[int]) -> NDArray[np.float64]:
        """Log of each category's share of the training cells; shape (C,)."""
        parts = np.split(self.counts.astype(np.float64), np.cumsum(n_categories)[:-1])
        return np.concatenate([np.log(np.maximum(part, 0.5) / max(part.sum(), 1.0)) for part in parts])

    def as_earlier(self, centre: NDArray[np.floating], n_categories: Sequence[int], first_id: int) -> EarlierCells:
        """Convert the moments to those of earlier cells for further training.

        Parameters
        ----------
        centre
            Mean of each gene of the linear path, which was subtracted from expression; shape (G,).
        n_categories
            Number of categories of each phenotype.
        first_id
            Id of the first cell that was drawn to replace the training cells.
        """
        return EarlierCells(
            self.genes,
            self._products(np.arange(len(self.genes))),
            centre[self.genes].astype(np.float64),
            self.deviations.astype(np.float64),
            self.means.astype(np.float64),
            self.counts.astype(np.float64),
            self.temperatures.astype(np.float64),
            tuple(n_categories),
            first_id,
        )

    def simulated_accuracy(
        self,
        weights: NDArray[np.floating],
        bias: NDArray[np.floating],
        n_categories: Sequence[int],
        n_draws: int = 4_000,
    ) -> NDArray[np.float64]:
        """Accuracy of discriminants on cells drawn from the normal distributions of the categories; (n_phenotypes,).

        It is higher than on new cells, because the moments are those of the training cells, but suffices to compare
        panels.

        Parameters
        ----------
        weights, bias
            As returned by `weights`.
        n_categories
            Number of categories of each phenotype.
        n_draws
            Number of cells drawn for each phenotype.
        """
        standard = weights[self.genes] * self.deviations[:, None].astype(np.float64)  # (K, C)
        used = np.flatnonzero(standard.any(axis=1))
        products, found, start = self._products(used), [], 0
        for n in n_categories:
            of = slice(start, start + n)
            start += n
            random = np.random.default_rng(0)
            counts, means = self.counts[of].astype(np.float64), self.means[of][:, used].astype(np.float64)
            w, shares = standard[used, of], counts / max(counts.sum(), 1.0)
            within = w.T @ products @ w - (w.T @ means.T * shares) @ (means @ w)  # (n, n)
            values, vectors = np.linalg.eigh((within + within.T) / 2)
            root = vectors * np.sqrt(np.maximum(values, 0.0))
            codes = np.searchsorted(np.cumsum(shares), (np.arange(n_draws) + 0.5) / n_draws * shares.sum())
            codes = np.minimum(codes, n - 1)
            logits = (means @ w + bias[of])[codes] + SPREAD * random.standard_normal((n_draws, n)) @ root.T
            found.append(float((logits.argmax(axis=1) == codes).mean()))
        return np.array(found)

    def _products(self, kept: NDArray[np.integer]) -> NDArray[np.float64]:
        """Mean products of a subset of the genes with stored moments, given by their indices among these."""
        n = len(self.genes)
        whole = np.zeros((n, n), dtype=np.float32)
        whole[np.triu_indices(n)] = self.products
        part: NDArray[np.float64] = whole[np.ix_(kept, kept)].astype(np.float64)
        return part + part.T - np.diag(np.diag(part))


def _mean_scatter(known: Sequence[KnownSums | None], genes: NDArray[np.integer]) -> NDArray[np.float64] | float:
    """Mean product of two genes over earlier cells, averaged over the phenotypes for which they are known; (K, K)."""
    found = [of.scatter(genes).scatter / of.n_drawn for of in known if of is not None and of.n_drawn]
    return sum(found) / max(len(found), 1)


def _discriminants(sums: ScatterSums) -> Discriminants:
    """Discriminants from sums that are not exact, with the smallest ridge penalty that makes them computable.

    Because of half precision, and of cells of unknown category in the products, the covariance within categories may
    not be positive definite, in particular if few cells have a category, or if those of a category hardly differ. A
    ridge as large as the variance between categories is always sufficient.
    """
    variance = max(float(np.trace(sums.scatter)) / max(len(sums.scatter), 1), 1e-8)
    between = float((sums.sums**2 / np.maximum(sums.counts, 1.0)[:, None]).sum())
    for ridge in (0.0, *RIDGES, 1.0 + between / variance):
        scatter = sums.scatter + ridge * variance * np.eye(len(sums.scatter))
        try:
            return replace(sums, scatter=scatter).discriminants()
        except np.linalg.LinAlgError:
            continue
    raise np.linalg.LinAlgError("The covariance of the measured genes has no inverse.")
