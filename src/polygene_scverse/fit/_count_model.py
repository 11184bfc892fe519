"""Count model from which new cells are drawn: distribution of the counts of each gene, and correlations of genes.

The count distribution of a gene is given by frequencies of levels (0, 1, 2 … 8, then wider ones), which are log-linear
in the phenotypes. Correlations of genes within combinations of phenotypes are a Gaussian copula with few factors. A
frequent combination has its own factors, to which cells of other combinations contribute with less weight.

Shapes: N cells, G genes, V levels, P phenotypes, K combinations of categories, F factors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from polygene_scverse.fit._class_frequencies import Priors, count_bins, fit_class_frequencies, one_hot

EXACT: Final = 9
"""Counts below this have their own level."""
STEP: Final = 1.3
"""Ratio of the bounds of the wider levels."""
MOST: Final = 1e5
"""Lower bound of the last level."""
MOST_CELLS: Final = 4_000
"""Maximum number of cells to which factors are fitted."""
INFORMATIVE: Final = 400
"""Number of genes in which factors are found, those with the most informative counts; others are regressed on them."""
OTHERS: Final = 500.0
"""Total weight, in cells, of all other combinations when factors are fitted to one."""
MOST_KINDS: Final = 16
"""Maximum number of combinations with their own factors, the most frequent ones; others use those of all cells."""
MOST_FACTORS: Final = 64
"""Maximum number of factors, the largest ones."""
MIN_CELLS: Final = 50
"""Minimum number of cells to fit anything."""
EXPRESSED_PRIOR: Final = 0.5
"""As in `Priors`; low, because the count distribution of a gene is specific to it."""
CLASS_PRIOR: Final = 0.1
"""The same; stronger priors make categories more alike, see benchmarks/results/choices_generation.md."""
PAIR_PRIOR: Final = 0.3
"""The same for pairs of categories."""
LEAST_VARIANCE: Final = 0.05
"""Lower limit of the variance of a gene's scores by which correlations are divided; those of rare genes are noisy."""
MOST_SHARED: Final = 0.95
"""Maximum share of a gene's variance explained by factors."""


def level_edges() -> NDArray[np.int64]:
    """Lowest count of each level; shape (V,)."""
    n = int(np.log(MOST / EXACT) / np.log(STEP)) + 1
    wide = np.unique(np.rint(EXACT * STEP ** np.arange(n)).astype(np.int64))
    return np.concatenate([np.arange(EXACT), wide])


@dataclass(frozen=True)
class CountModel:
    """Frequencies of count levels, and factors.

    Parameters
    ----------
    bias, effects, pairs, interactions
        Frequencies of the levels of each gene, as in `ClassFrequencies`.
    edges
        Lowest count of each level; shape (V,).
    loadings
        Correlation of each gene with each factor, in all cells and in each of `kinds`; shape (1 + K, G, F).
    kinds
        Combinations of categories with their own factors; shape (K, P).
    """

    bias: NDArray[np.float32]
    effects: NDArray[np.float32]
    pairs: NDArray[np.int64]
    interactions: NDArray[np.float32]
    edges: NDArray[np.int64]
    loadings: NDArray[np.float32]
    kinds: NDArray[np.int64]

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> CountModel:
        """Create the model from its fields; arrays may have been converted to tensors or lists."""
        whole = ("pairs", "edges", "kinds")
        fields: dict[str, Any] = {
            n: np.asarray(value, np.int64 if n in whole else np.float32) for n, value in plain.items()
        }
        if fields["loadings"].ndim == 2:  # file of a version in which combinations had no factors of their own
            fields |= {"loadings": fields["loadings"][None], "kinds": np.zeros((0, 0), np.int64)}
        return cls(**fields)

    @property
    def n_factors(self) -> int:
        """Largest number of factors of a combination."""
        return int(self.loadings.shape[-1])

    def draw(
        self,
        codes: NDArray[np.integer],
        n_categories: Sequence[int],
        of_factors: NDArray[np.floating],
        of_genes: NDArray[np.floating],
        temperature: float = 1.0,
    ) -> NDArray[np.int64]:
        """Draw the counts of some cells; shape (N, G).

        Parameters
        ----------
        codes
            Categories of each cell; shape (N, P).
        n_categories
            Number of categories of each phenotype.
        of_factors, of_genes
            Random numbers between 0 and 1; shape (N, F) and (N, G).
        temperature
            Divisor of the log frequencies.
        """
        kinds, of_cell = np.unique(codes, axis=0, return_inverse=True)
        found = np.zeros(of_genes.shape, dtype=np.int64)
        for i, kind in enumerate(kinds):
            rows = np.flatnonzero(of_cell.reshape(-1) == i)
            loadings = self._loadings(kind).astype(np.float64)
            own = np.sqrt(np.maximum(1.0 - (loadings**2).sum(axis=1), 0.0))
            u = ndtr(ndtri(of_factors[rows]) @ loadings.T + ndtri(of_genes[rows]) * own)  # (n, G)
            logits = self._logits(kind, n_categories) / temperature
            probabilities = np.exp(logits - logits.max(axis=-1, keepdims=True))
            ends = np.cumsum(probabilities / probabilities.sum(axis=-1, keepdims=True), axis=-1)  # (G, V)
            found[rows] = self._counts(u, ends)
        return found

    def _loadings(self, kind: NDArray[np.integer]) -> NDArray[np.float32]:
        """Loadings of a combination of categories, or those of all cells if it has no own factors; shape (G, F)."""
        same = np.flatnonzero((self.kinds == kind).all(axis=1)) if len(self.kinds) else np.zeros(0, dtype=np.int64)
        found: NDArray[np.float32] = self.loadings[1 + int(same[0]) if len(same) else 0]
        return found

    def _logits(self, kind: NDArray[np.integer], n_categories: Sequence[int]) -> NDArray[np.float64]:
        """Unnormalised log frequencies of the levels in one combination of categories; shape (G, V)."""
        shown = one_hot(kind[None], n_categories)[0]
        both = shown[self.pairs[:, 0]] * shown[self.pairs[:, 1]]
        logits = self.bias + np.tensordot(shown, self.effects, 1) + np.tensordot(both, self.interactions, 1)
        return np.asarray(logits, dtype=np.float64)

    def _counts(self, u: NDArray[np.floating], ends: NDArray[np.floating]) -> NDArray[np.int64]:
        """Counts at given quantiles; within a level they are uniform on the log scale. Shape (n, G)."""
        level = np.zeros(u.shape, dtype=np.int64)
        for v in range(ends.shape[1] - 1):
            level += u >= ends[:, v]
        starts = np.concatenate([np.zeros((len(ends), 1)), ends[:, :-1]], axis=1)
        genes = np.arange(len(ends))
        low, high = starts[genes, level], ends[genes, level]
        share = np.clip((u - low) / np.maximum(high - low, 1e-12), 0.0, 1.0 - 1e-9)
        above = np.append(self.edges[1:], self.edges[-1] + 1)
        first, last = self.edges[level].astype(float), above[level].astype(float)
        wide = np.floor(np.exp(np.log(np.maximum(first, 1)) * (1 - share) + np.log(last) * share))
        return np.where(last - first > 1, wide, first).astype(np.int64)


def fit_count_model(
    counts: sp.csr_matrix, codes: NDArray[np.integer], n_categories: Sequence[int], measured: NDArray[np.bool_]
) -> CountModel | None:
    """Fit frequencies and factors to cells with known counts; None if there are too few cells.

    Parameters
    ----------
    counts
        Counts; shape (N, G).
    codes
        Categories of each cell, -1 where unknown; shape (N, P).
    n_categories
        Number of categories of each phenotype.
    measured
        Whether each gene is measured; shape (G,) or (N, G).
    """
    if counts.shape[0] < MIN_CELLS:
        return None
    edges = level_edges()
    edges = edges[: max(2, int(np.searchsorted(edges, counts.data.max(initial=1.0), side="right")))]
    columns = sp.csc_matrix(counts)
    levels = np.searchsorted(edges, columns.data, side="right") - 1
    kinds, of_cell = np.unique(codes, axis=0, return_inverse=True)
    of_cell = of_cell.reshape(-1)

    def count(block: slice) -> NDArray[np.float64]:
        start, stop = columns.indptr[block.start], columns.indptr[block.stop]
        part = columns.indptr[block.start : block.stop + 1] - start
        inputs = (columns.indices[start:stop], part, levels[start:stop], of_cell, len(edges), measured[..., block])
        return count_bins(*inputs)

    n_genes = counts.shape[1]
    priors = Priors(CLASS_PRIOR, PAIR_PRIOR, EXPRESSED_PRIOR)
    frequencies = fit_class_frequencies(count, n_genes, kinds, n_categories, priors)
    some = np.sort(np.random.default_rng(0).permutation(len(of_cell))[:MOST_CELLS])
    scores = _scores(sp.csr_matrix(counts)[some].toarray(), of_cell[some], edges)
    loadings, own = _fit_loadings(scores, of_cell[some])
    return CountModel(**vars(frequencies), edges=edges, loadings=loadings, kinds=kinds[own].astype(np.int64))


def _fit_loadings(
    scores: NDArray[np.floating], groups: NDArray[np.integer]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Loadings of all cells and of the most frequent groups, shape (1 + K, G, F), and these groups, shape (K,)."""
    present, n_cells = np.unique(groups, return_counts=True)
    often = np.argsort(-n_cells, kind="stable")[:MOST_KINDS]
    own = np.sort(present[often[n_cells[often] >= MIN_CELLS]]) if len(present) > 1 else present[:0]
    parts = [factors(scores, np.ones(len(groups)), len(present))]
    for group in own:
        weights = np.where(groups == group, 1.0, min(1.0, OTHERS / max(1, int((groups != group).sum()))))
        parts.append(factors(scores, weights, len(present)))
    found = np.zeros((len(parts), scores.shape[1], max(part.shape[1] for part in parts)), dtype=np.float32)
    for i, part in enumerate(parts):
        found[i, :, : part.shape[1]] = part
    return found, own.astype(np.int64)


def factors(scores: NDArray[np.floating], weights: NDArray[np.floating], n_means: int) -> NDArray[np.float32]:
    """Loadings of the latent Gaussian variables whose conditional means are given; shape (G, F).

    To first order, the covariance of two genes' scores is their latent correlation times the variances of the scores.
    Principal directions are computed from the genes with the largest variances, because rare genes add more noise than
    signal. Directions with the variance of noise are left out, and the others are shrunk optimally for spikes in noise.
    Loadings of the other genes follow by regression, shrunk by the share of their variance that is not noise.

    Parameters
    ----------
    scores
        Mean of a standard normal variable given a gene's count, within combinations of phenotypes; shape (N, G).
    weights
        Weight of each cell; shape (N,).
    n_means
        Number of combinations.

    References
    ----------
    Gavish and Donoho, IEEE Transactions on Information Theory 2017; Johnstone, Annals of Statistics 2001.
    """
    n, n_genes = scores.shape
    shares = weights / weights.sum()
    size = 1.0 / float((shares**2).sum())  # effective number of cells
    free = max(2.0, size * (1.0 - n_means / n))
    weighted = scores * np.sqrt(shares * size)[:, None]
    variances = (weighted**2).sum(axis=0) / size
    z = (weighted / np.sqrt(np.maximum(variances, 1e-9)) / np.sqrt(free)).astype(np.float64)
    most = np.sort(np.argsort(-variances, kind="stable")[:INFORMATIVE])
    rest = np.setdiff1d(np.arange(n_genes), most)
    values, vectors = _principal(z[:, most])
    shape = len(most) / free
    keep = np.flatnonzero(values > (1.0 + np.sqrt(shape)) ** 2)[-MOST_FACTORS:]
    values, vectors = values[keep], vectors[:, keep]
    b = values + 1.0 - shape
    spikes = (b + np.sqrt(np.maximum(b**2 - 4.0 * values, 0.0))) / 2.0
    cosines = (1.0 - shape / (spikes - 1.0) ** 2) / (1.0 + shape / (spikes - 1.0))  # squared
    sizes = np.sqrt(np.maximum((spikes - 1.0) * cosines, 1e-12))
    loadings = np.zeros((n_genes, len(keep)))
    loadings[most] = vectors * sizes
    if len(rest) and len(keep):
        regressed = z[:, rest].T @ (z[:, most] @ vectors) / sizes
        noise = values / free / sizes**2
        loadings[rest] = regressed * np.maximum(0.0, 1.0 - noise / np.maximum((regressed**2).mean(axis=0), 1e-12))
    loadings /= np.sqrt(np.maximum(variances, LEAST_VARIANCE))[:, None]
    shared = (loadings**2).sum(axis=1)
    loadings *= np.sqrt(np.minimum(1.0, MOST_SHARED / np.maximum(shared, 1e-12)))[:, None]
    return loadings.astype(np.float32)


def _principal(z: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Eigenvalues of the covariance, ascending, and eigenvectors in columns; shape (k,) and (n_genes, k)."""
    if len(z) <= z.shape[1]:
        values, left = np.linalg.eigh(z @ z.T)
        return values, z.T @ left / np.sqrt(np.maximum(values, 1e-12))
    values, vectors = np.linalg.eigh(z.T @ z)
    return values, vectors


def _scores(
    counts: NDArray[np.floating], groups: NDArray[np.integer], edges: NDArray[np.integer]
) -> NDArray[np.float32]:
    """Mean of a standard normal variable given the level of a gene's count, within each group; shape (N, G)."""
    found = np.zeros(counts.shape, dtype=np.float32)
    levels = np.searchsorted(edges, counts, side="right") - 1
    genes = np.arange(counts.shape[1])
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        flat = (genes * len(edges) + levels[rows]).ravel()
        n = np.bincount(flat, minlength=len(genes) * len(edges)).reshape(len(genes), len(edges)) / len(rows)
        ends = np.concatenate([np.zeros((len(genes), 1)), np.cumsum(n, axis=1).clip(0.0, 1.0)], axis=1)
        ends[:, -1] = 1.0
        density = np.exp(-0.5 * ndtri(ends) ** 2) / np.sqrt(2 * np.pi)  # (G, V + 1)
        means = (density[:, :-1] - density[:, 1:]) / np.maximum(n, 1e-12)
        found[rows] = np.where(n > 0, means, 0.0)[genes, levels[rows]]
    return found
