"""Cells of lower sequencing depth than the training cells: find them, and fit the certainty of predictions."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from polygene_scverse.abilities._predict import linear_logits
from polygene_scverse.data.feed._source import CellSource, draw_cells
from polygene_scverse.data.feed._table import CellTable
from polygene_scverse.engine import Batch, Engine, Query
from polygene_scverse.fit._calibration import MIN_CELLS
from polygene_scverse.fit._depth import SHARES, fit_slope, thin, usual_genes
from polygene_scverse.fit._kinds import COUNTED, cell_depths
from polygene_scverse.fit._temperature import fit_temperature

TRIAL_CELLS: Final = 1_000
"""Number of held-out cells whose counts are thinned."""


def fit_depth(engine: Engine, train: CellTable, held_out: CellTable, seed: int) -> None:
    """Fit how much less certain the linear path is about shallow cells, from held-out cells whose counts are thinned.

    With few counts, expressed genes have larger values and others are missed by chance, which the discriminants of
    deeper cells take for evidence. Phenotypes with few held-out cells, and data whose counts are not known, have no
    adjustment.

    Parameters
    ----------
    engine
        The network; the slopes of its linear path are set.
    train
        Some training cells.
    held_out
        Held-out cells.
    seed
        Seed of the draws.
    """
    if (linear := engine.module.linear) is None:
        return
    some = draw_cells(held_out, TRIAL_CELLS, seed)
    depths = cell_depths(some.cells.indptr, some.cells.values)
    rows = np.flatnonzero(np.isfinite(depths))
    if len(rows) < max(COUNTED * len(some), MIN_CELLS):
        return
    some, depths, random = some.read(rows), depths[rows], np.random.default_rng(seed)
    n_genes = engine.module.layout.n_genes
    usual = usual_genes(train.cells.matrix(n_genes), train.measured_in(np.arange(len(train))))
    shallow_below = (some.measured_in(np.arange(len(some))) * usual).sum(axis=-1)
    relative, trials = [], [linear_logits(engine, some)]
    for share in SHARES:
        thinned = _with_values(some, thin(some.cells.indptr, some.cells.values, depths, share, random))
        relative.append(np.minimum(thinned.lengths / np.maximum(shallow_below, 1e-8), 1.0))
        trials.append(linear_logits(engine, thinned))
    priors = np.split(linear.prior.numpy(force=True).astype(np.float64), np.cumsum(engine.module.n_categories)[:-1])
    slopes = []
    for full, *of_trials, codes, prior in zip(*trials, some.codes.T, priors, strict=True):
        known = codes >= 0
        if known.sum() < MIN_CELLS:
            slopes.append(0.0)
            continue
        logits, depth = np.concatenate([z[known] for z in of_trials]), np.concatenate([x[known] for x in relative])
        temperature = fit_temperature(full[known], codes[known])
        slopes.append(fit_slope(logits, prior, depth, np.tile(codes[known], len(SHARES)), temperature))
    linear.set_depth(usual, np.repeat(slopes, engine.module.n_categories))


def shallow_cells(engine: Engine, source: CellSource) -> NDArray[np.bool_]:
    """Whether each cell expresses fewer genes than nearly all training cells; shape (n_cells,)."""

    def depth(batch: Batch) -> list[Tensor]:
        return [engine.module.relative_depth(batch["values"], batch["measured"])[:, None]]

    return engine.gather(source, Query(), depth)[0][:, 0] < 1.0


def _with_values(table: CellTable, values: NDArray[np.float32]) -> CellTable:
    """Cells with other expression; genes whose value is 0 are removed, and bins are not updated."""
    return replace(table, cells=replace(table.cells, values=values).keep(values > 0))
