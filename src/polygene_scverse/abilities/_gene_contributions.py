"""Contribution of each gene's expression to the phenotype logits of the full model (both paths).

Shapes: G genes, C categories of the phenotype, V visible genes of a cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polygene_scverse._layout import PAD
from polygene_scverse.abilities._predict import category_log_shares, linear_share
from polygene_scverse.data.feed._source import CellSource
from polygene_scverse.data.feed._table import CellTable
from polygene_scverse.engine import INPUTS, Batch, Engine, Query
from polygene_scverse.fit import FittedState
from polygene_scverse.fit._gene_scaler import capped

COPIES: Final = 256
"""Copies of a cell, each with a different gene removed, in one forward pass."""
SMALL: Final = 1e-9
"""Added to means when fold changes are computed, as in scanpy."""


@dataclass(frozen=True)
class GeneContributions:
    """Contribution of each gene to the prediction of each category of a phenotype.

    Parameters
    ----------
    categories
        Categories that some of the cells have.
    genes
        Genes of the model that are measured in the cells.
    scores
        Contribution in the cells of a category minus that in the other cells, positive if expression of the gene is
        evidence for the category; shape (n_categories, n_genes).
    log_fold_changes
        Log2 of the ratio of mean expression in the same two sets of cells; shape (n_categories, n_genes).
    n_cells
        Number of cells of each category; shape (n_categories,).
    """

    categories: list[str]
    genes: list[str]
    scores: NDArray[np.float32]
    log_fold_changes: NDArray[np.float32]
    n_cells: NDArray[np.int64]


def gene_contributions(
    engine: Engine,
    state: FittedState,
    source: CellSource,
    slot: int,
    codes: NDArray[np.int64],
    n_cells: int,
    seed: int,
) -> GeneContributions:
    """Contribution of each gene to each category, with both paths weighted as in prediction.

    The contribution of a gene to a category is its effect on the logit of the category minus the mean effect on the
    other logits, weighted by their shares of the training cells. For the linear path it is exact: weight times
    expression. For the transformer it is the change when the gene is removed (occlusion), in a sample of the cells.

    Parameters
    ----------
    engine, state
        The network and its fitted state.
    source
        The cells.
    slot
        Slot of the phenotype.
    codes
        Category of each cell, with at least two categories. Shape (n_cells,).
    n_cells
        Maximum number of cells of each category used for occlusion.
    seed
        Seed of the sample.
    """
    n = engine.module.n_categories[slot]
    sums, drawn = sum_expression(engine, source, codes, n), draw(codes, n_cells, seed)
    return contributions_of(
        engine, state, slot, sums, np.bincount(codes, minlength=n), source.read(drawn), codes[drawn]
    )


def contributions_of(
    engine: Engine,
    state: FittedState,
    slot: int,
    sums: NDArray[np.float64],
    counts: NDArray[np.int64],
    drawn: CellTable,
    codes: NDArray[np.int64],
) -> GeneContributions:
    """As `gene_contributions`, for cells whose expression has already been summed.

    Parameters
    ----------
    engine, state, slot
        As for `gene_contributions`.
    sums
        Output of `sum_expression` by category; shape (2, C, G).
    counts
        Number of cells of each category; shape (C,).
    drawn
        Cells used for occlusion.
    codes
        Category of the cells in `drawn`; shape (n_drawn,).
    """
    layout, contrasts, present = engine.module.layout, contrasts_of(engine, state, slot), np.flatnonzero(counts)
    linear, expression = (_differences(total, counts)[present] for total in sums)  # (n_present, G)
    own_share = float(linear_share(engine, state)[slot])
    effects = np.zeros((len(present), layout.n_genes))
    if engine.module.linear is not None:
        effects += own_share * (linear_weights(engine, slot) @ contrasts).T[present] * linear
    else:
        own_share = 0.0
    if own_share < 1.0:
        effects += (1.0 - own_share) * _occlusion(engine, drawn, slot, codes, counts, contrasts)[present]
    measured = np.flatnonzero(np.atleast_2d(drawn.measured).any(0))
    more, fewer = (np.expm1(mean) + SMALL for mean in _means(sums[1], counts, present))
    return GeneContributions(
        [layout.phenotypes[slot].categories[code] for code in present],
        [layout.genes[gene] for gene in measured],
        (np.sign(expression) * effects)[:, measured].astype(np.float32),
        np.log2(more / fewer)[:, measured].astype(np.float32),
        counts[present],
    )


def contrasts_of(engine: Engine, state: FittedState, slot: int) -> NDArray[np.float64]:
    """Contrasts of each category against the others, one per column, by which logits are multiplied; shape (C, C)."""
    shares = category_log_shares(engine, state)[slot].double().exp().cpu().numpy()
    others = np.where(np.eye(len(shares), dtype=bool), 0.0, shares[:, None])
    contrasts: NDArray[np.float64] = np.eye(len(shares)) - others / np.maximum(others.sum(0), 1e-12)
    return contrasts


def linear_weights(engine: Engine, slot: int) -> NDArray[np.float64]:
    """Weights of the linear path for the categories of a phenotype; shape (G, C)."""
    module = engine.module
    if module.linear is None:
        raise ValueError("`linear_path`: the model has none. Create it with linear_path=True, the default.")
    return torch.split(module.linear.weights, module.n_categories, dim=1)[slot].double().cpu().numpy()


def draw(codes: NDArray[np.int64], n_cells: int, seed: int) -> NDArray[np.int64]:
    """Positions of at most `n_cells` random cells of each category, sorted."""
    order = np.random.default_rng(seed).permutation(len(codes))
    drawn = [order[codes[order] == code][:n_cells] for code in np.unique(codes)]
    return np.sort(np.concatenate(drawn))


def occlude(engine: Engine, batch: Batch, slot: int) -> Tensor:
    """Contribution of each visible gene to the transformer's logits; 0 on padding, shape (B, V, C).

    Genes that the transformer does not read have none, and removing a gene does not change which others are read.
    """
    module, s = engine.module, engine.module.layout.n_special
    tokens, positions, mask = (batch[name] for name in INPUTS[:3])
    found = torch.zeros(len(tokens), mask.shape[1] - s, module.n_categories[slot], dtype=torch.float64)
    for cell, (columns, read) in enumerate(zip(*module.columns_read(positions, mask), strict=True)):
        columns = columns[read].to(tokens.device)
        n = len(columns)
        kept = torch.ones(n - s + 1, n, dtype=torch.bool)  # the last copy is the cell itself
        kept[torch.arange(n - s), torch.arange(s, n)] = False
        parts = []
        for part in torch.split(kept, COPIES):
            words = torch.where(part, tokens[cell, columns], PAD)  # removed genes become padding
            states = module.inference(words, torch.where(part, positions[cell, columns], 0), part)
            parts.append(module.generative(**states)["phenotype_logits"][slot])
        logits = torch.cat(parts).double().cpu()  # (V + 1, C)
        found[cell, columns[s:] - s] = logits[-1] - logits[:-1]
    return found


def _occlusion(
    engine: Engine,
    source: CellSource,
    slot: int,
    codes: NDArray[np.int64],
    counts: NDArray[np.int64],
    contrasts: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Difference of the transformer's contributions between each category and the others; shape (C, G).

    Parameters
    ----------
    engine, source, slot, codes
        As for `gene_contributions`, for the drawn cells.
    counts
        Number of cells of each category before the draw, used to weight categories; shape (C,).
    contrasts
        As returned by `contrasts_of`.
    """
    weights = counts / np.maximum(np.bincount(codes, minlength=len(counts)), 1)
    own, total = np.zeros((2, engine.module.layout.n_genes, len(counts)))

    def contributions(batch: Batch) -> Sequence[Tensor]:
        return [occlude(engine, batch, slot), *visible_genes(engine, batch)]

    def add(rows: NDArray[np.int64], outputs: Sequence[Tensor]) -> None:
        found, all_genes, masks = (output.numpy() for output in outputs)
        for code, part, genes, mask in zip(codes[rows], found, all_genes, masks, strict=True):
            weighted = weights[code] * (part[mask] @ contrasts)  # (V, C)
            total[genes[mask]] += weighted
            own[genes[mask], code] += weighted[:, code]

    engine.run(source, Query(), contributions, add)
    difference: NDArray[np.float64] = own / np.maximum(counts, 1) - (total - own) / np.maximum(counts.sum() - counts, 1)
    return difference.T


def visible_genes(engine: Engine, batch: Batch) -> list[Tensor]:
    """Visible genes of a batch, and a mask that is False on padding; shape (B, V) each."""
    layout = engine.module.layout
    part = slice(layout.n_special, batch["key_mask"].shape[1])
    return [batch["positions"][:, part] - layout.first_gene_position, batch["key_mask"][:, part]]


def sum_expression(
    engine: Engine, source: CellSource, codes: NDArray[np.int64], n_categories: int
) -> NDArray[np.float64]:
    """Sum the input of the linear path, and log1p of counts per 10,000, by category; shape (2, C, G)."""
    layout, linear = engine.module.layout, engine.module.linear
    cap = np.full(layout.n_genes, np.inf) if linear is None else linear.cap.double().cpu().numpy()
    sums = np.zeros((2, n_categories, layout.n_genes))

    def add(rows: NDArray[np.int64], outputs: Sequence[Tensor]) -> None:
        values, genes, mask = (output.numpy() for output in outputs)
        of_cell = np.broadcast_to(codes[rows][:, None], mask.shape)[mask]
        seen, expression = genes[mask], values[mask].astype(np.float64)
        np.add.at(sums[0], (of_cell, seen), capped(expression, cap[seen]))
        np.add.at(sums[1], (of_cell, seen), expression)

    engine.run(source, Query(), lambda batch: [batch["values"], *visible_genes(engine, batch)], add)
    return sums


def _means(
    sums: NDArray[np.float64], counts: NDArray[np.int64], of: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean over the cells of each category, and over all other cells; shape (n, G) each."""
    n = counts[of, None]
    return sums[of] / n, (sums.sum(0) - sums[of]) / np.maximum(counts.sum() - n, 1)


def _differences(sums: NDArray[np.float64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean over the cells of each category minus the mean over all other cells; shape (C, G)."""
    own, others = _means(sums, np.maximum(counts, 1), np.arange(len(counts)))
    return own - others
