"""How unlike the training cells a cell is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from polygene_scverse.abilities._predict import phenotype_logits
from polygene_scverse.data.feed._source import CellSource, draw_cells
from polygene_scverse.data.feed._table import CellTable
from polygene_scverse.engine import Engine
from polygene_scverse.fit import FittedState
from polygene_scverse.fit._novelty import MAX_CELLS, NoveltyReference, fit_novelty, unexplained_expression


def novelty(
    engine: Engine, state: FittedState, reference: NoveltyReference, source: CellSource, phenotype: str
) -> NDArray[np.float64]:
    """Share of the held-out cells that look less novel: by both signs, by entropy, by components; (n_cells, 3).

    Parameters
    ----------
    engine, state
        The network, and what was fitted to it.
    reference
        What cells are compared with.
    source
        The cells.
    phenotype
        Whose logits are looked at.
    """
    strange = np.zeros(len(source))
    arrays = (reference.mean, reference.weights, reference.components)

    def observe(rows: NDArray[np.int64], table: CellTable) -> None:
        measured = np.atleast_2d(table.measured)
        kinds = np.zeros(len(table), dtype=np.int64) if table.kinds is None else table.kinds
        x = table.cells.matrix(table.layout.n_genes)
        for kind in np.unique(kinds):
            members = kinds == kind
            part = x if members.all() else x[members]
            strange[rows[members]] = unexplained_expression(part, *arrays, measured[kind])

    slot = engine.module.layout.phenotype_names.index(phenotype)
    (logits,) = phenotype_logits(engine, state, source, slots=[slot], observe=observe)
    return reference.score(phenotype, logits, strange)


def fit_reference(
    engine: Engine,
    state: FittedState,
    train: CellSource,
    held_out: CellTable | None,
    seed: int,
    logits: Sequence[NDArray[np.float32]] | None = None,
) -> NoveltyReference | None:
    """What novelty is measured against; without held-out cells these are the training cells themselves.

    Parameters
    ----------
    engine, state
        The network, and what was fitted to it.
    train
        The training cells.
    held_out
        Held-out cells.
    seed
        Seed of the draw of training cells.
    logits
        Of the held-out cells, as `phenotype_logits` returns them, if they are there.
    """
    table = draw_cells(train, MAX_CELLS, seed)
    others = table if held_out is None else held_out
    names, n_genes = engine.module.layout.phenotype_names, table.layout.n_genes
    logits = phenotype_logits(engine, state, others) if logits is None else logits
    by_name = dict(zip(names, logits, strict=True))
    return fit_novelty(table.cells.matrix(n_genes), others.cells.matrix(n_genes), by_name)
