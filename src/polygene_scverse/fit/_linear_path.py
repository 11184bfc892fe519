"""The linear path: discriminants of every phenotype, and their share in the mixture with the transformer.

Shapes: G genes, C categories of all phenotypes.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import logsumexp, softmax

from polygene_scverse.fit._discriminants import (
    MAX_GENES,
    PRIOR_CELLS,
    SHRINKAGE,
    Discriminants,
    ScatterSums,
    VarianceSums,
)
from polygene_scverse.fit._earlier_cells import KnownSums
from polygene_scverse.fit._groups import GroupShift, fit_group_shift
from polygene_scverse.fit._path_cells import PathCells
from polygene_scverse.fit._temperature import fit_temperature

MAX_CELLS: Final = 20_000
"""Maximum number of training cells to which discriminants are fitted."""
MAX_CANDIDATES: Final = 4_096
"""Number of genes, most variable first, from which the linear path chooses; limits its time and memory."""
N_FOLDS: Final = 5
"""Number of cross-validation folds to fit the scale of the discriminants."""
PRIOR: Final = 0.5
"""Exponent of a category's share of the training cells in its prior; PRIOR * log(share) is added to the logit."""
USUAL_TEMPERATURE: Final = 10.0
"""Default temperature of discriminants with thousands of genes, if there are no cells to fit it to."""
USUAL_WEIGHTS: Final = (0.2, 0.8)
"""Default weights of the logits of the transformer and of the linear path, without held-out cells."""
USUAL_SHARE_OF_GROUPS: Final = 0.9
"""Share of the linear path if every group is in training, so that both paths cannot be compared in new groups."""
WEIGHT_STRENGTH: Final = 100.0
"""Inverse variance of the prior of both weights."""
SHARE_READ: Final = 0.5
"""Share of a cell's expressed genes that the transformer reads to predict phenotypes."""
SHARE_READ_OF_GROUPS: Final = 0.25
"""The same if groups are known, where the share of the transformer in the prediction suits new groups."""
READ_LOSS: Final = 0.01
"""Maximum increase of the negative log-likelihood of held-out cells, in nats, for which not all genes are read."""


@dataclass(frozen=True)
class LinearFit:
    """Parameters of the linear path, for the first genes of the model.

    Parameters
    ----------
    weights, bias
        Weights and bias for clipped and centred expression; shapes (G, C) and (C,).
    cap, centre
        Upper limit and mean of expression; shape (G,).
    shifts
        Effect of new groups, for each phenotype; None if groups are not known.
    temperatures
        Temperature of the discriminants of each phenotype.
    importance
        Sum over phenotypes of the share of each gene in the squared weights of standardised expression; shape (G,).
    """

    weights: NDArray[np.floating]
    bias: NDArray[np.floating]
    cap: NDArray[np.floating]
    centre: NDArray[np.floating]
    shifts: list[GroupShift | None]
    temperatures: tuple[float, ...]
    importance: NDArray[np.float64]


def fit_linear_path(cells: PathCells, *, groups: pd.Series | None = None, seed: int = 0) -> LinearFit:
    """Fit the discriminants of every phenotype to training cells.

    If cells were drawn to replace earlier ones, the discriminants use the stored moments of the earlier cells. Drawn
    cells provide the numbers of cells by category, and genes without stored moments. They are not predicted in
    cross-validation.

    Parameters
    ----------
    cells
        The cells.
    groups
        Group of each cell, if known; shape (n_cells,). Groups are then also predicted from each other.
    seed
        Seed of the folds.
    """
    own, scaler = cells.own, cells.scaler
    folds = np.random.default_rng(seed).permutation(len(own)) % N_FOLDS

    def own_cells(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return cells.standardised(own[rows])

    phenotypes = list(zip(cells.codes[own].T, cells.n_categories, cells.known, strict=True))
    found = [fit_discriminants(own_cells, c, n, folds, known=of) for c, n, of in phenotypes]
    weights = np.concatenate([d.weights for d in found], axis=1) / scaler.deviation[:, None]  # (G, C)
    biases = np.concatenate([d.bias for d in found])
    shifts: list[GroupShift | None] = [None] * len(phenotypes)
    if groups is not None:
        settings: dict[str, Any] = {"scale": USUAL_TEMPERATURE, "prior": PRIOR, "name": str(groups.name), "seed": seed}
        numbers = pd.factorize(groups.iloc[own], use_na_sentinel=False)[0]
        shifts = [fit_group_shift(own_cells, c, n, numbers, known=of, **settings) for c, n, of in phenotypes]
    squares = [(d.weights**2).sum(axis=1) for d in found]
    importance = np.sum([of_one / max(of_one.sum(), 1e-300) for of_one in squares], axis=0)
    temperatures = tuple(d.temperature for d in found)
    return LinearFit(weights, biases, scaler.cap, scaler.centre, shifts, temperatures, importance)


def fit_discriminants(
    cells: Callable[[NDArray[np.int64]], NDArray[np.float32]],
    codes: NDArray[np.integer],
    n_categories: int,
    folds: NDArray[np.integer],
    *,
    shrinkage: float = SHRINKAGE,
    prior_cells: float = PRIOR_CELLS,
    max_genes: int = MAX_GENES,
    prior: float = PRIOR,
    known: KnownSums | None = None,
) -> Discriminants:
    """Fit the discriminants of one phenotype, scaled as logits.

    The scale is the one with the highest likelihood when each fold of the cells is predicted from the others. Half the
    log of a category's share is added to its logit: a rare category needs stronger evidence, but less than its share
    alone would require.

    Parameters
    ----------
    cells
        Function that returns the standardised expression of some cells; shape (n_rows, n_genes).
    codes
        Category of each cell, -1 where unknown; shape (n_cells,).
    n_categories
        Number of categories.
    folds
        Fold of each cell; shape (n_cells,).
    shrinkage, prior_cells, max_genes
        As for `ScatterSums.discriminants`.
    prior
        Exponent of a category's share in its prior; prior * log(share) is added to the logit.
    known
        Sums over other cells that are included in the training cells of each fold.
    """
    fold_rows = [np.flatnonzero((folds == fold) & (codes >= 0)) for fold in range(N_FOLDS)]
    genes = _genes_of_any_fold(cells, codes, n_categories, fold_rows, max_genes, known)
    fold_cells = [cells(rows)[:, genes] for rows in fold_rows]
    sums = [ScatterSums.fit(x, codes[rows], n_categories) for x, rows in zip(fold_cells, fold_rows, strict=True)]
    total = functools.reduce(operator.add, sums if known is None else [*sums, known.scatter(genes)])
    settings = (shrinkage, prior_cells, max_genes)
    logits = [(total - own).discriminants(*settings)(x) for x, own in zip(fold_cells, sums, strict=True)]
    scaled = np.concatenate(logits) / USUAL_TEMPERATURE
    temperature = USUAL_TEMPERATURE * fit_temperature(scaled, codes[np.concatenate(fold_rows)])
    if known is not None:
        temperature = known.temperature_beside(temperature, len(scaled))
    found = total.discriminants(*settings)
    weights = np.zeros((cells(fold_rows[0][:0]).shape[1], n_categories))
    weights[genes] = found.weights
    shares = np.maximum(total.counts, 0.5) / max(total.counts.sum(), 1.0)
    return Discriminants(weights / temperature, found.bias / temperature + prior * np.log(shares), temperature)


def _genes_of_any_fold(
    cells: Callable[[NDArray[np.int64]], NDArray[np.float32]],
    codes: NDArray[np.integer],
    n_categories: int,
    fold_rows: Sequence[NDArray[np.int64]],
    max_genes: int,
    known: KnownSums | None,
) -> NDArray[np.int64]:
    """Genes used by the discriminants of all cells or of all but one fold; scatter sums are limited to these."""
    sums = [VarianceSums.fit(cells(rows), codes[rows], n_categories) for rows in fold_rows]
    total = functools.reduce(operator.add, sums if known is None else [*sums, known.variances])
    chosen = [part.most_different_genes(max_genes) for part in (total, *(total - own for own in sums))]
    return np.unique(np.concatenate(chosen))


def share_of(weights: tuple[float, float]) -> float:
    """Share of the linear path, given the weights of the transformer and of the linear path."""
    return weights[1] / max(sum(weights), 1e-8)


def fit_path_weights(
    transformer: NDArray[np.floating], linear: NDArray[np.floating], codes: NDArray[np.integer]
) -> tuple[float, float]:
    """Fit the weights of both paths' logits by maximum likelihood on held-out cells.

    Both have a normal prior around `USUAL_WEIGHTS`, which limits the influence of few cells.

    Parameters
    ----------
    transformer, linear
        Logits of cells whose category is known; shape (n_cells, n_categories) each.
    codes
        Their categories; shape (n_cells,).

    Returns
    -------
    Weights of the transformer's and of the linear path's logits, at least 0.
    """
    both = np.stack([transformer, linear]).astype(np.float64)  # (2, n_cells, n_categories)
    cells = np.arange(len(codes))

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        logits = np.tensordot(weights, both, 1)
        residual = softmax(logits, axis=1)
        residual[cells, codes] -= 1.0
        off = weights - USUAL_WEIGHTS
        value = (logsumexp(logits, axis=1) - logits[cells, codes]).sum() + 0.5 * WEIGHT_STRENGTH * (off**2).sum()
        return float(value), (residual * both).sum(axis=(1, 2)) + WEIGHT_STRENGTH * off

    found = minimize(loss, USUAL_WEIGHTS, jac=True, bounds=[(0.0, 10.0)] * 2, method="L-BFGS-B").x
    return float(found[0]), float(found[1])
