"""Cells drawn from stored statistics of a model's earlier training cells, to prevent forgetting."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from polygene_scverse.abilities._generate import draw_depths, generate_counts
from polygene_scverse.data.feed._table import CellTable
from polygene_scverse.data.read._binning import digitize
from polygene_scverse.data.read._tokens import Cells
from polygene_scverse.engine import Engine
from polygene_scverse.fit import FittedState
from polygene_scverse.fit._earlier_cells import EarlierCells

MOST_CELLS: Final = 20_000
"""Maximum number of drawn cells; all combinations are reduced by the same factor, but not below `FEWEST` cells."""
FEWEST: Final = 50


def missing_kinds(state: FittedState, codes: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Combinations of categories with fewer new cells than training cells, and the difference.

    Parameters
    ----------
    state
        The state fitted to the training cells.
    codes
        Categories of the new cells, -1 where unknown; shape (n_cells, n_phenotypes).

    Returns
    -------
    Shapes (n_kinds, n_phenotypes) and (n_kinds,); None if the model stores nothing to draw cells from.
    """
    if state.kinds is None or state.counts is None or not len(state.kinds.log_depths):
        return None
    there, n_there = np.unique(codes, axis=0, return_counts=True)
    known = {tuple(row): int(n) for row, n in zip(there.tolist(), n_there, strict=True)}
    fewer = [
        n - known.get(tuple(row), 0) for row, n in zip(state.kinds.codes.tolist(), state.kinds.n_cells, strict=True)
    ]
    wanted = np.maximum(np.array(fewer), 0).astype(np.int64)
    wanted[(state.kinds.codes < 0).all(axis=1)] = 0  # cells without any label are not needed
    if (total := wanted.sum()) > MOST_CELLS:
        wanted = np.minimum(wanted, np.maximum(FEWEST, wanted * MOST_CELLS // total))
    return state.kinds.codes[wanted > 0], wanted[wanted > 0]


def rehearsal_cells(
    engine: Engine,
    state: FittedState,
    kinds: NDArray[np.int64],
    n_cells: NDArray[np.int64],
    edges: NDArray[np.float64],
    seed: int,
) -> CellTable:
    """Draw cells of the given combinations of categories.

    Parameters
    ----------
    engine, state
        The network and its fitted state.
    kinds, n_cells
        As returned by `missing_kinds`.
    edges
        Lower edge of each expression bin.
    seed
        Seed of the draws.
    """
    codes, layout = np.repeat(kinds, n_cells, axis=0), engine.module.layout
    if state.counts is None:
        raise ValueError("`state`: there is nothing to draw cells from.")
    depths = draw_depths(engine, state, codes, seed)
    x = generate_counts(engine, state.counts, codes, depths, seed=seed)[0]
    x.sort_indices()
    bins = digitize(x.data, edges).astype(np.int16)
    cells = Cells(x.indptr.astype(np.int64), x.indices.astype(np.int32), bins, x.data).rebin(edges)
    return CellTable(cells, codes, np.arange(len(codes)), layout, np.ones(layout.n_genes, dtype=bool))


def earlier_cells(engine: Engine, state: FittedState, first_id: int) -> EarlierCells | None:
    """Stored statistics of the earlier training cells; None without a linear path or in models of early versions.

    Parameters
    ----------
    engine, state
        The network and its fitted state.
    first_id
        Id of the first drawn cell.
    """
    linear = engine.module.linear
    if linear is None or state.panels is None:
        return None
    return state.panels.as_earlier(linear.centre.numpy(force=True), engine.module.n_categories, first_id)
