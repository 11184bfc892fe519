"""Novelty: how much a cell differs from the training cells."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from polygene_scverse.abilities._predict import phenotype_logits
from polygene_scverse.data.feed._source import CellSource, draw_cells
from polygene_scverse.data.feed._table import CellTable
from polygene_scverse.engine import Engine
from polygene_scverse.fit import FittedState
from polygene_scverse.fit._novelty import MAX_CELLS, NoveltyReference, fit_novelty


def novelty(
    engine: Engine, state: FittedState, reference: NoveltyReference, source: CellSource, phenotype: str
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
    distances = np.zeros((len(source), len(reference.space.known[phenotype])), dtype=np.float32)

    def observe(rows: NDArray[np.int64], table: CellTable) -> None:
        measured = np.atleast_2d(table.measured)
        kinds = np.zeros(len(table), dtype=np.int64) if table.kinds is None else table.kinds
        x = table.cells.matrix(table.layout.n_genes)
        for kind in np.unique(kinds):
            members = kinds == kind
            part = x if members.all() else x[members]
            distances[rows[members]] = reference.space.distances(part, measured[kind], phenotype)

    slot = engine.module.layout.phenotype_names.index(phenotype)
    (logits,) = phenotype_logits(engine, state, source, slots=[slot], observe=observe)
    return reference.score(phenotype, logits, distances)


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
