"""Novelty: how much a cell differs from the training cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from polygene_scverse.abilities._predict import phenotype_logits
from polygene_scverse.data.feed._adata_cells import AnnDataCells
from polygene_scverse.data.feed._source import CellSource, draw_cells
from polygene_scverse.data.feed._table import CellTable
from polygene_scverse.engine import Batch, Engine
from polygene_scverse.fit import FittedState
from polygene_scverse.fit._novelty import MAX_CELLS, NoveltyReference, fit_novelty

MOST_SCORED: Final = 50_000
"""Approximate number of cells that are scored at a time, which limits memory."""


def novelty(
    engine: Engine, state: FittedState, reference: NoveltyReference, source: AnnDataCells | CellTable, phenotype: str
) -> NDArray[np.float64]:
    """Share of reference cells closer to their category, and share predicted more confidently; shape (n_cells, 2).

    Parameters
    ----------
    engine, state
        The network and its fitted state.
    reference
        Reference distribution of distances and predictions.
    source
        The cells.
    phenotype
        Phenotype whose categories and logits are used.
    """
    space, layout = reference.space, engine.module.layout
    n_other = layout.n_genes - len(space.cap)  # genes that are not used here
    loadings = torch.from_numpy(np.pad(space.loadings, ((0, n_other), (0, 0)))).float()  # (G, K)
    cap = torch.from_numpy(np.pad(space.cap, (0, n_other)))

    def sums(batch: Batch) -> list[Tensor]:
        return [engine.module.expression_sums(batch["positions"], batch["values"], cap, loadings)]

    slot = layout.phenotype_names.index(phenotype)
    logits, found = phenotype_logits(engine, state, source, slots=[slot], also=sums)

    def scores(rows: NDArray[np.int64]) -> NDArray[np.float64]:
        distances = space.distances(found[rows], source.measured_in(rows), phenotype)
        return reference.score(phenotype, logits[rows], distances)

    return np.concatenate(
        [scores(rows) for rows in np.array_split(np.arange(len(source)), 1 + len(source) // MOST_SCORED)]
    )


def fit_reference(
    engine: Engine,
    state: FittedState,
    train: CellSource,
    held_out: CellTable | None,
    seed: int,
    logits: Sequence[NDArray[np.float32]] | None = None,
    groups: pd.Series | None = None,
) -> NoveltyReference | None:
    """Fit the reference that novelty is measured against.

    Parameters
    ----------
    engine, state
        The network and its fitted state.
    train
        The training cells.
    held_out
        Held-out cells. Without held-out cells and groups, the training cells are compared with themselves.
    seed
        Seed of the sample of training cells.
    logits
        Logits of the held-out cells as returned by `phenotype_logits`, if already computed.
    groups
        Group of each cell of the data set, if training groups are to be compared with each other, instead of held-out
        cells with all training cells.
    """
    table = draw_cells(train, MAX_CELLS, seed)
    others = table if held_out is None else held_out
    names, n_genes = engine.module.layout.phenotype_names, table.layout.n_genes
    logits = phenotype_logits(engine, state, others) if logits is None else logits
    numbers = None if groups is None else pd.factorize(groups.iloc[table.ids], use_na_sentinel=False)[0]
    (x, measured), (x_held_out, of_held_out) = (
        (part.cells.matrix(n_genes), part.measured_in(np.arange(len(part)))) for part in (table, others)
    )
    by_name = dict(zip(names, logits, strict=True))
    return fit_novelty(x, table.codes, measured, x_held_out, of_held_out, by_name, numbers)
