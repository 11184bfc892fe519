"""The linear path: discriminants fitted to the training cells, and how much they count beside the transformer."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import logsumexp, softmax
from torch import Tensor

from polygene_scverse.data.feed._table import CellTable, draw_part
from polygene_scverse.fit._discriminants import PRIOR_CELLS, SHRINKAGE, TELLING_GENES, Discriminants, Moments, Spread
from polygene_scverse.fit._gene_scaler import GeneStatistics, dilute
from polygene_scverse.fit._temperature import fit_temperature
from polygene_scverse.model._inference import INPUTS, Batch

MOST_CELLS: Final = 20_000
"""Training cells that discriminants are fitted on."""
MOST_GENES: Final = 4_096
"""Genes, the most variable first, that the linear path chooses from: its time and memory grow with them."""
N_FOLDS: Final = 5
"""Parts of the training cells, each predicted from the others, that say how sure the discriminants may be."""
PRIOR: Final = 0.5
"""Power of a category's share of the training cells that its logit begins with."""
USUAL_TEMPERATURE: Final = 10.0
"""Temperature of discriminants of thousands of genes, where there are no cells to fit it on."""
USUAL_MIX: Final = (0.2, 0.8)
"""Weights of the transformer's and the linear path's logits where no held-out cells say otherwise."""
MIX_STRENGTH: Final = 100.0
"""Inverse variance of the prior that holds both weights there."""
BATCH_SIZE: Final = 64


def fit_mix(
    transformer: NDArray[np.floating], linear: NDArray[np.floating], codes: NDArray[np.integer]
) -> tuple[float, float]:
    """Weights of two kinds of logits with which the likelihood of held-out cells is highest.

    Both have a normal prior around `USUAL_MIX`, which keeps few cells from deciding.

    Parameters
    ----------
    transformer, linear
        Logits; shape (n_cells, n_categories) each.
    codes
        True codes; shape (n_cells,).

    Returns
    -------
    Weight of the transformer's and of the linear path's logits, neither below 0.
    """
    both = np.stack([transformer, linear]).astype(np.float64)  # (2, n_cells, n_categories)
    cells = np.arange(len(codes))

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        mixed = np.tensordot(weights, both, 1)
        residual = softmax(mixed, axis=1)
        residual[cells, codes] -= 1.0
        off = weights - USUAL_MIX
        value = (logsumexp(mixed, axis=1) - mixed[cells, codes]).sum() + 0.5 * MIX_STRENGTH * (off**2).sum()
        return float(value), (residual * both).sum(axis=(1, 2)) + MIX_STRENGTH * off

    found = minimize(loss, USUAL_MIX, jac=True, bounds=[(0.0, 10.0)] * 2, method="L-BFGS-B").x
    return float(found[0]), float(found[1])


class LinearPathMixin:
    """The linear path of the model."""

    def _fit_linear_path(self, train: Any, seed: int) -> None:
        """Fit the discriminants of every phenotype to the training cells, or to a draw of them.

        Parameters
        ----------
        train
            The training cells.
        seed
            Seed of the draw and the folds.
        """
        path = self.module.linear
        if path is None:
            return
        table = draw_part(train, MOST_CELLS, seed)
        n_genes = min(self.layout.n_genes, MOST_GENES)
        x = table.cells.matrix(self.layout.n_genes)[:, :n_genes]
        x.data = dilute(x.data)
        measured = table.measured_in(np.arange(len(table)))[..., :n_genes]
        genes = GeneStatistics.of(x, measured)
        folds = np.random.default_rng(seed).permutation(len(table)) % N_FOLDS

        def cells(rows: NDArray[np.int64]) -> NDArray[np.float32]:
            return genes.standardise(x[rows], measured if measured.ndim == 1 else measured[rows])

        parts = [fit_path(cells, *of, folds) for of in zip(table.codes.T, self.module.n_categories, strict=True)]
        weights = np.concatenate([part.weights for part in parts], axis=1) / genes.deviation[:, None]  # (G, C)
        path.note(weights, np.concatenate([part.bias for part in parts]), genes.cap, genes.centre)
        self.module.mix.fill_(share_of(USUAL_MIX))

    def _fit_mix(self, table: CellTable) -> None:
        """How much the linear path counts in each phenotype, by held-out cells.

        Parameters
        ----------
        table
            The cells.
        """
        if self.module.linear is None:
            return

        def both(batch: Batch) -> list[Tensor]:
            tokens, positions, key_mask, values, measured = (batch[name].to(self.module.device) for name in INPUTS)
            of_transformer = self.module.transformer_logits(tokens, positions, key_mask)
            return [*of_transformer, *self.module.linear_logits(positions, values, measured)]

        outputs = self._outputs([(0, table)], len(table), both, BATCH_SIZE, self._shown(None))
        n = self.layout.n_phenotypes
        for i, codes in enumerate(table.codes.T):
            known = codes >= 0
            self.module.mix[i] = share_of(fit_mix(outputs[i][known], outputs[n + i][known], codes[known]))


def share_of(weights: tuple[float, float]) -> float:
    """Share of the linear path, given the weights of the transformer and of itself."""
    return weights[1] / max(sum(weights), 1e-8)


def fit_path(
    cells: Callable[[NDArray[np.int64]], NDArray[np.float32]],
    codes: NDArray[np.integer],
    n_categories: int,
    folds: NDArray[np.integer],
    *,
    shrinkage: float = SHRINKAGE,
    prior_cells: float = PRIOR_CELLS,
    most_genes: int = TELLING_GENES,
    prior: float = PRIOR,
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
    shrinkage, prior_cells, most_genes
        As of `Moments.discriminants`.
    prior
        Power of a category's share that its logit begins with.
    """
    rows_of = [np.flatnonzero((folds == fold) & (codes >= 0)) for fold in range(N_FOLDS)]
    columns = _columns(cells, codes, n_categories, rows_of, most_genes)
    of_folds = [cells(rows)[:, columns] for rows in rows_of]
    parts = [Moments.of(x, codes[rows], n_categories) for x, rows in zip(of_folds, rows_of, strict=True)]
    total = functools.reduce(operator.add, parts)
    settings = (shrinkage, prior_cells, most_genes)
    logits = [(total - part).discriminants(*settings)(x) for x, part in zip(of_folds, parts, strict=True)]
    scaled = np.concatenate(logits) / USUAL_TEMPERATURE
    temperature = USUAL_TEMPERATURE * fit_temperature(scaled, codes[np.concatenate(rows_of)])
    found = total.discriminants(*settings)
    weights = np.zeros((cells(rows_of[0][:0]).shape[1], n_categories))
    weights[columns] = found.weights
    shares = np.maximum(total.counts, 0.5) / max(total.counts.sum(), 1.0)
    return Discriminants(weights / temperature, found.bias / temperature + prior * np.log(shares))


def _columns(
    cells: Callable[[NDArray[np.int64]], NDArray[np.float32]],
    codes: NDArray[np.integer],
    n_categories: int,
    rows_of: Sequence[NDArray[np.int64]],
    most_genes: int,
) -> NDArray[np.int64]:
    """Genes that the discriminants of all cells, or of all but a fold, look at: moments of no others are needed."""
    parts = [Spread.of(cells(rows), codes[rows], n_categories) for rows in rows_of]
    total = functools.reduce(operator.add, parts)
    looked_at = [spread.telling(most_genes) for spread in (total, *(total - part for part in parts))]
    return np.unique(np.concatenate(looked_at))
