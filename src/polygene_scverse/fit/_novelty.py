"""Reference for novelty: distances of cells to the known categories, and entropies of their predictions.

Shapes: N cells, G genes, K principal components, C categories of a phenotype.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular
from scipy.spatial.distance import cdist
from scipy.special import log_softmax, softmax
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA

from polygene_scverse.fit._gene_scaler import GeneScaler, capped, rescaled

Floats = NDArray[np.float32]
N_PCS: Final = 20
MAX_CELLS: Final = 5_000
"""Maximum number of training cells to which principal components are fitted."""
MAX_FOLD_CELLS: Final = 2_000
"""Maximum number of training cells when each group is compared with the others."""
MAX_FOLDS: Final = 5
"""Maximum number of folds of groups, each compared with the others."""
MAX_GENES: Final = 4_096
"""Maximum number of genes, most variable first."""
ADDED_NOISE: Final = 0.02
"""Added to the residual variance of each gene, so that genes that are hardly expressed are not inflated."""
NOISE_FACTOR: Final = 2.0
"""Factor of the position error due to unmeasured genes, because the residuals of genes are not independent."""
MIN_CELLS: Final = 5
"""Minimum number of cells of a category to compute its centre."""
LEAST_PROBABILITY: Final = 1e-9
"""Added to probabilities, for cells that are predicted to be of a category with too few training cells."""
ROUNDING: Final = 1e-5
"""Relative difference up to which two values are considered equal."""


@dataclass(frozen=True)
class Space:
    """Principal components of standardised expression, and the positions of the categories.

    Parameters
    ----------
    cap, centre, deviation
        As in `GeneScaler`, for the first genes of the model; shape (G,).
    components
        Principal components; shape (K, G).
    noise
        Residual variance of each gene; shape (G,).
    centres
        For each phenotype, the mean position of each category; shape (C, K).
    spreads
        For each phenotype, the covariance of positions within categories; shape (K, K).
    known
        For each phenotype, 1 for categories with enough cells and 0 for others, whose centre is that of all cells;
        shape (C,). All are 0 if none has enough.
    """

    cap: Floats
    centre: Floats
    deviation: Floats
    components: Floats
    noise: Floats
    centres: dict[str, Floats]
    spreads: dict[str, Floats]
    known: dict[str, Floats]

    @property
    def loadings(self) -> NDArray[np.float64]:
        """Weight of each gene's clipped expression along each component; shape (G, K)."""
        components = self.components.astype(np.float64)
        return (components / self.noise / self.deviation).T

    def sums(self, x: sp.csr_matrix) -> NDArray[np.float64]:
        """Sum of each cell's clipped expression, weighted by `loadings`; shape (N, K).

        Parameters
        ----------
        x
            log1p of counts per 10,000; shape (N, at least G).
        """
        x = x[:, : len(self.cap)]
        clipped = sp.csr_matrix((capped(x.data, self.cap[x.indices]), x.indices, x.indptr), shape=x.shape)
        found: NDArray[np.float64] = clipped @ self.loadings
        return found

    def distances(self, sums: NDArray[np.floating], measured: NDArray[np.bool_], phenotype: str) -> NDArray[np.float64]:
        """Squared Mahalanobis distance of each cell to each category; shape (N, C).

        If genes are unmeasured, the position of a cell is estimated from the others by generalised least squares, and
        the variance of its error is added to the spread, so that cells do not appear novel because genes are missing.
        Predictions are then less certain as well, so every category is moved towards the distance of the nearest one,
        in proportion to the share of unmeasured genes.

        Parameters
        ----------
        sums
            As returned by `sums`; shape (N, K).
        measured
            Whether each gene is measured; shape (at least G,), or (N, at least G) if it differs between cells.
        phenotype
            Phenotype whose categories are used.
        """
        kinds, of_cells = np.unique(np.atleast_2d(measured), axis=0, return_inverse=True)
        of_cells = np.broadcast_to(of_cells.reshape(-1), len(sums))
        found = np.zeros((len(sums), len(self.known[phenotype])))
        for i, kind in enumerate(kinds):
            found[of_cells == i] = self._distances(sums[of_cells == i], kind[: len(self.cap)], phenotype)
        return found

    def _distances(
        self, sums: NDArray[np.floating], measured: NDArray[np.bool_], phenotype: str
    ) -> NDArray[np.float64]:
        off = self.covariance(measured)
        spread = self.spreads[phenotype] + NOISE_FACTOR * (off - self.covariance(np.ones_like(measured)))
        whitening = solve_triangular(cholesky(spread, lower=True), np.eye(len(spread)), lower=True)
        positions = (sums - (self.centre * measured) @ self.loadings) @ off  # (N, K)
        centres = self.centres[phenotype].astype(np.float64)
        squares: NDArray[np.float64] = cdist(positions @ whitening.T, centres @ whitening.T, "sqeuclidean")
        known = self.known[phenotype] > 0
        nearest = squares[:, known if known.any() else slice(None)].min(axis=1, keepdims=True)
        found: NDArray[np.float64] = nearest + float(measured.mean()) * (squares - nearest)
        return found

    def expected(self, distances: NDArray[np.floating], p: NDArray[np.floating], phenotype: str) -> NDArray[np.float64]:
        """Distance to each cell's category, averaged over the probabilities of the categories; shape (N,).

        Categories with too few training cells do not count.

        Parameters
        ----------
        distances
            As returned by `distances`; shape (N, C).
        p
            Probabilities of the categories; shape (N, C).
        phenotype
            Phenotype whose categories are used.
        """
        known = self.known[phenotype].astype(np.float64)
        weights = (p + LEAST_PROBABILITY) * (known if known.any() else 1.0)
        found: NDArray[np.float64] = (distances * weights).sum(axis=1) / weights.sum(axis=1)
        return found

    def covariance(self, measured: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Covariance of the error of a position that is estimated from the measured genes; shape (K, K)."""
        components = self.components.astype(np.float64)
        precision = components / self.noise * measured @ components.T + 1e-6 * np.eye(len(components))
        return np.linalg.inv(precision.astype(np.float64))


@dataclass(frozen=True)
class NoveltyReference:
    """Reference for novelty: categories of the training cells, and distances and entropies of other cells.

    Parameters
    ----------
    space
        Principal components and categories.
    distances
        For each phenotype, expected squared distances to the own category of cells that were not used to fit the
        space: held-out cells, or training cells compared with other groups; ascending.
    entropies
        For each phenotype, the entropies of the held-out cells' probabilities, ascending.
    """

    space: Space
    distances: dict[str, Floats] = field(default_factory=dict)
    entropies: dict[str, Floats] = field(default_factory=dict)

    def score(
        self, phenotype: str, logits: NDArray[np.floating], distances: NDArray[np.floating]
    ) -> NDArray[np.float64]:
        """Share of reference cells that are closer to their category, and share predicted with lower entropy.

        Parameters
        ----------
        phenotype
            Phenotype whose logits and categories are used.
        logits
            Logits; shape (N, C).
        distances
            As returned by `Space.distances`; shape (N, C).

        Returns
        -------
        Shares; shape (N, 2).
        """
        far = self.space.expected(distances, softmax(logits.astype(np.float64), axis=1), phenotype)
        far = percentile(far, self.distances[phenotype])
        return np.stack([far, percentile(entropy(logits), self.entropies[phenotype])], axis=1)


def fit_space(
    x: sp.csr_matrix, codes: NDArray[np.integer], measured: NDArray[np.bool_], sizes: Mapping[str, int]
) -> Space | None:
    """Fit principal components to cells, and compute the positions of the categories.

    Parameters
    ----------
    x
        log1p of counts per 10,000; shape (N, G).
    codes
        Category codes, -1 where unknown; shape (N, n_phenotypes).
    measured
        Whether each gene is measured; shape (G,), or (N, G) if it differs between cells.
    sizes
        Number of categories of each phenotype.

    Returns
    -------
    None if there are too few cells or genes.
    """
    x, measured = x[:, :MAX_GENES], measured[..., :MAX_GENES]
    n_pcs = min(N_PCS, x.shape[1] - 1, x.shape[0] // 3)
    if n_pcs < 1:
        return None
    x = rescaled(x)
    scaler = GeneScaler.fit(x, measured)
    standardised = scaler.standardise(x, measured)  # (N, G)
    pca = PCA(n_pcs, svd_solver="randomized", random_state=0).fit(standardised)
    explained = (pca.singular_values_**2 / len(standardised)) @ pca.components_**2  # (G,)
    noise = np.maximum(standardised.var(axis=0) - explained, 0.0) + ADDED_NOISE
    cap, centre, deviation = (_single(a) for a in (scaler.cap, scaler.centre, scaler.deviation))
    space = Space(cap, centre, deviation, _single(pca.components_), _single(noise), {}, {}, {})
    weighted = (standardised @ (space.components / space.noise).T).astype(np.float64)
    positions = weighted @ space.covariance(np.ones(x.shape[1], dtype=np.bool_))
    for (name, n), of_cells in zip(sizes.items(), codes.T, strict=True):
        space.centres[name], space.spreads[name], space.known[name] = _categories(positions, of_cells, n)
    return space


def _categories(
    positions: NDArray[np.float64], codes: NDArray[np.integer], n_categories: int
) -> tuple[Floats, Floats, Floats]:
    """Mean position of each category, covariance within categories, and whether each has enough cells."""
    known = np.bincount(codes[codes >= 0], minlength=n_categories) >= MIN_CELLS
    centres = np.tile(positions.mean(axis=0), (n_categories, 1))  # (C, K)
    for code in np.flatnonzero(known):
        centres[code] = positions[codes == code].mean(axis=0)
    within = positions - positions.mean(axis=0)
    if known.any():
        rows = np.isin(codes, np.flatnonzero(known))
        within = positions[rows] - centres[codes[rows]]
    spread = LedoitWolf(assume_centered=True).fit(within).covariance_
    return _single(centres), _single(spread + 1e-6 * np.eye(len(spread))), known.astype(np.float32)


def fit_novelty(
    train: sp.csr_matrix,
    codes: NDArray[np.integer],
    measured: NDArray[np.bool_],
    held_out: sp.csr_matrix,
    held_out_measured: NDArray[np.bool_],
    logits: Mapping[str, NDArray[np.floating]],
    groups: NDArray[np.integer] | None = None,
) -> NoveltyReference | None:
    """Fit the space to training cells, and compute distances and entropies of other cells.

    Parameters
    ----------
    train
        log1p of counts per 10,000 of training cells; shape (N, G).
    codes
        Their category codes, -1 where unknown; shape (N, n_phenotypes).
    measured
        Whether each gene is measured in them; shape (G,), or (N, G) if it differs between cells.
    held_out, held_out_measured
        The same for held-out cells.
    logits
        For each phenotype, logits of the held-out cells; shape (n_held_out, C).
    groups
        Group of each training cell, as numbers from 0; shape (N,). If there are at least two groups, distances are
        those of each group to the others, and not those of held-out cells. Pass None if held-out cells are of new
        groups, because they are more informative.

    Returns
    -------
    None if there are too few cells or genes.
    """
    sizes = {name: z.shape[1] for name, z in logits.items()}
    space = fit_space(train, codes, measured, sizes)
    if space is None:
        return None
    found: dict[str, list[NDArray[np.float64]]] = {name: [] for name in sizes}
    if groups is not None and len(np.unique(groups)) > 1:
        found = _between_groups(train, codes, measured, groups, sizes)
    distances = {}
    for name, z in logits.items():
        if not found[name]:
            of_categories = space.distances(space.sums(held_out), held_out_measured, name)
            found[name] = [space.expected(of_categories, softmax(z.astype(np.float64), axis=1), name)]
        distances[name] = _single(np.sort(np.concatenate(found[name])))
    return NoveltyReference(space, distances, {name: _single(np.sort(entropy(z))) for name, z in logits.items()})


def _between_groups(
    x: sp.csr_matrix,
    codes: NDArray[np.integer],
    measured: NDArray[np.bool_],
    groups: NDArray[np.integer],
    sizes: Mapping[str, int],
) -> dict[str, list[NDArray[np.float64]]]:
    """Distances of cells to their category in other groups, if these contain it.

    The category is known here, and predicted in other cells: if the probabilities are calibrated, distances to both
    have the same mean.
    """
    rows = np.sort(np.random.default_rng(0).permutation(x.shape[0])[:MAX_FOLD_CELLS])
    x, codes, measured = x[rows], codes[rows], measured if measured.ndim == 1 else measured[rows]
    numbers = np.unique(groups[rows], return_inverse=True)[1].reshape(-1)
    folds = numbers % min(MAX_FOLDS, int(numbers.max(initial=0)) + 1)
    found: dict[str, list[NDArray[np.float64]]] = {name: [] for name in sizes}
    for fold in np.unique(folds):
        rest, own = folds != fold, folds == fold
        space = fit_space(x[rest], codes[rest], measured if measured.ndim == 1 else measured[rest], sizes)
        if space is None:
            continue
        for name, of_cells in zip(sizes, codes.T, strict=True):
            counts = np.bincount(of_cells[rest & (of_cells >= 0)], minlength=int(of_cells.max(initial=0)) + 1)
            cells = np.flatnonzero(own & (of_cells >= 0))
            cells = cells[counts[of_cells[cells]] >= MIN_CELLS]
            if len(cells):
                of_cells_measured = measured if measured.ndim == 1 else measured[cells]
                of_categories = space.distances(space.sums(x[cells]), of_cells_measured, name)
                found[name].append(of_categories[np.arange(len(cells)), of_cells[cells]])
    return found


def entropy(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Entropy of the probabilities, in nats; unlike an energy, it ignores constants in the logits. Shape (n_cells,)."""
    log_p = log_softmax(logits.astype(np.float64), axis=1)
    found: NDArray[np.float64] = -(np.exp(log_p) * log_p).sum(axis=1)
    return found


def percentile(values: NDArray[np.floating], known: NDArray[np.floating]) -> NDArray[np.float64]:
    """Share of reference values that are lower; ties, and one added tie, are counted half.

    Values that differ only by rounding errors are ties, so that results are the same on every machine. Values above all
    reference values, which are not negative, are ordered among themselves: they approach 1 as they grow.
    """
    known = np.sort(np.asarray(known, dtype=np.float32))
    values = values.astype(np.float32)
    margin = ROUNDING * np.abs(values)
    lower, not_higher = np.searchsorted(known, values - margin), np.searchsorted(known, values + margin, side="right")
    found: NDArray[np.float64] = (0.5 * (lower + not_higher) + 0.5) / (len(known) + 1)
    beyond = lower == len(known)
    found[beyond] = 1.0 - 0.5 / (len(known) + 1) * (known[-1] / values[beyond])
    return found


def _single(values: NDArray[np.floating]) -> Floats:
    """Convert to single precision, in which arrays are saved."""
    return np.array(values, dtype=np.float32, order="C")
