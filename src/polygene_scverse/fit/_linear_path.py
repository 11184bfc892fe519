"""The linear path: discriminants of every phenotype from the expressed genes, and its share beside the transformer.

Shapes: G genes, C categories of all phenotypes.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pandas as pd
import scipy.sparse as sp
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
from polygene_scverse.fit._earlier_cells import EarlierCells, KnownSums, known_sums
from polygene_scverse.fit._gene_scaler import GeneScaler, rescale
from polygene_scverse.fit._groups import GroupShift, fit_group_shift
from polygene_scverse.fit._temperature import fit_temperature

MAX_CELLS: Final = 20_000
"""Training cells that discriminants are fitted on."""
MAX_CANDIDATES: Final = 4_096
"""Genes, the most variable first, that the linear path chooses from: its time and memory grow with them."""
N_FOLDS: Final = 5
"""Parts of the training cells, each predicted from the others, that say how sure the discriminants may be."""
PRIOR: Final = 0.5
"""Power of a category's share of the training cells that its logit begins with."""
USUAL_TEMPERATURE: Final = 10.0
"""Temperature of discriminants of thousands of genes, where there are no cells to fit it on."""
USUAL_WEIGHTS: Final = (0.2, 0.8)
"""Weights of the transformer's and the linear path's logits where no held-out cells say otherwise."""
USUAL_SHARE_OF_GROUPS: Final = 0.9
"""Share of the linear path where every group is in training, so that nothing says how both paths do in new ones."""
WEIGHT_STRENGTH: Final = 100.0
"""Inverse variance of the prior that holds both weights there."""


@dataclass(frozen=True)
class LinearFit:
    """What the linear path is made of, for the first genes of the model.

    Parameters
    ----------
    weights, bias
        Of expression cut off and centred; shapes (G, C) and (C,).
    cap, centre
        Where expression is cut off, and its mean; shape (G,).
    shifts
        What new groups cost, for each phenotype; empty where no groups are known.
    temperatures
        What the discriminants of each phenotype were divided by.
    """

    weights: NDArray[np.floating]
    bias: NDArray[np.floating]
    cap: NDArray[np.floating]
    centre: NDArray[np.floating]
    shifts: list[GroupShift] = field(default_factory=list)
    temperatures: tuple[float, ...] = ()


def fit_linear_path(
    x: sp.csr_matrix,
    codes: NDArray[np.integer],
    n_categories: Sequence[int],
    measured: NDArray[np.bool_],
    *,
    groups: pd.Series | None = None,
    drawn: NDArray[np.bool_] | None = None,
    earlier: EarlierCells | None = None,
    seed: int = 0,
) -> LinearFit:
    """Fit the discriminants of every phenotype to training cells.

    Where cells were drawn in place of earlier ones, of which more is known, the sums of the discriminants are those of
    the earlier cells. Drawn cells tell which category they are of, and the genes that are not kept. None is predicted.

    Parameters
    ----------
    x
        log1p of counts per 10,000; of more than `MAX_CANDIDATES` genes the first are looked at. Shape (n_cells, G).
    codes
        Category codes, -1 where unknown; shape (n_cells, n_phenotypes).
    n_categories
        Number of categories of each phenotype.
    measured
        Whether each gene is measured; shape (G,), or (n_cells, G) where cells differ in it.
    groups
        Group of each cell, if there is such a column; shape (n_cells,). Each is then predicted from the others as well.
    drawn
        Which cells were drawn in place of earlier ones; shape (n_cells,).
    earlier
        What is kept of these.
    seed
        Seed of the folds.
    """
    x, measured = x[:, :MAX_CANDIDATES], measured[..., :MAX_CANDIDATES]
    x = sp.csr_matrix((rescale(x.data), x.indices, x.indptr), shape=x.shape)
    scaler = GeneScaler.fit(x, measured)

    def cells(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return scaler.standardise(x[rows], measured if measured.ndim == 1 else measured[rows])

    own = np.arange(x.shape[0]) if earlier is None or drawn is None else np.flatnonzero(~drawn)
    known = known_sums(earlier, drawn, cells, codes, n_categories, scaler)
    folds = np.random.default_rng(seed).permutation(len(own)) % N_FOLDS

    def own_cells(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return cells(own[rows])

    phenotypes = list(zip(codes[own].T, n_categories, known, strict=True))
    found = [fit_discriminants(own_cells, c, n, folds, known=of) for c, n, of in phenotypes]
    weights = np.concatenate([d.weights for d in found], axis=1) / scaler.deviation[:, None]  # (G, C)
    biases = np.concatenate([d.bias for d in found])
    shifts = []
    if groups is not None:
        settings: dict[str, Any] = {"scale": USUAL_TEMPERATURE, "prior": PRIOR, "max_genes": MAX_GENES, "seed": seed}
        settings |= {"name": str(groups.name)}
        numbers = pd.factorize(groups.iloc[own], use_na_sentinel=False)[0]
        shifts = [fit_group_shift(own_cells, c, n, numbers, known=of, **settings) for c, n, of in phenotypes]
    return LinearFit(weights, biases, scaler.cap, scaler.centre, shifts, tuple(d.temperature for d in found))


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
    """Discriminants of one phenotype, as logits.

    Their scale is that which predicts each fold of the cells best from the others. A category's logit begins with half
    the log of its share: a rare category needs more to speak for it, but not as much as its rarity alone would ask.

    Parameters
    ----------
    cells
        Gives the standardised expression of some cells; shape (n_rows, n_genes).
    codes
        Category of each cell, -1 where unknown; shape (n_cells,).
    n_categories
        Number of categories.
    folds
        Fold of each cell; shape (n_cells,).
    shrinkage, prior_cells, max_genes
        As of `ScatterSums.discriminants`.
    prior
        Power of a category's share that its logit begins with.
    known
        Sums over other cells, which each fold is predicted from as well.
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
    """Genes that the discriminants of all cells, or of all but a fold, look at: sums of no others are needed."""
    sums = [VarianceSums.fit(cells(rows), codes[rows], n_categories) for rows in fold_rows]
    total = functools.reduce(operator.add, sums if known is None else [*sums, known.variances])
    chosen = [part.most_different_genes(max_genes) for part in (total, *(total - own for own in sums))]
    return np.unique(np.concatenate(chosen))


def share_of(weights: tuple[float, float]) -> float:
    """Share of the linear path, given the weights of the transformer and of itself."""
    return weights[1] / max(sum(weights), 1e-8)


def fit_path_weights(
    transformer: NDArray[np.floating], linear: NDArray[np.floating], codes: NDArray[np.integer]
) -> tuple[float, float]:
    """Weights of two kinds of logits with which the likelihood of held-out cells is highest.

    Both have a normal prior around `USUAL_WEIGHTS`, which keeps few cells from deciding.

    Parameters
    ----------
    transformer, linear
        Logits of cells whose category is known; shape (n_cells, n_categories) each.
    codes
        Their categories; shape (n_cells,).

    Returns
    -------
    Weight of the transformer's and of the linear path's logits, neither below 0.
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
