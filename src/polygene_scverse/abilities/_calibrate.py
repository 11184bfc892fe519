"""Fits that follow training: linear path, mixture weights, temperatures and prediction sets.

The finished model is scored at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from polygene_scverse.abilities._depth import fit_depth
from polygene_scverse.abilities._novelty import fit_reference
from polygene_scverse.abilities._panel import fit_panel_accuracy
from polygene_scverse.abilities._predict import UNSEEN, category_log_shares, phenotype_logits
from polygene_scverse.data.feed._source import CellSource, draw_cells
from polygene_scverse.data.feed._table import CellTable
from polygene_scverse.engine import INPUTS, Batch, Engine, Query, probabilities
from polygene_scverse.fit import FittedState
from polygene_scverse.fit._calibration import fit_calibration
from polygene_scverse.fit._conformal import ConformalScores
from polygene_scverse.fit._count_model import CountModel, fit_count_model
from polygene_scverse.fit._earlier_cells import EarlierCells
from polygene_scverse.fit._expression_factors import fit_expression_factors
from polygene_scverse.fit._final_scores import final_scores
from polygene_scverse.fit._groups import GroupShift
from polygene_scverse.fit._kinds import COUNTED, cell_counts, cell_depths, fit_kinds
from polygene_scverse.fit._linear_path import (
    MAX_CANDIDATES,
    MAX_CELLS,
    PRIOR,
    READ_LOSS,
    SHARE_READ,
    SHARE_READ_OF_GROUPS,
    USUAL_SHARE_OF_GROUPS,
    USUAL_WEIGHTS,
    fit_linear_path,
    fit_path_weights,
    share_of,
)
from polygene_scverse.fit._panels import PanelMoments
from polygene_scverse.fit._path_cells import PathCells

DEPTH_CELLS: Final = 5000
"""Training cells from which depths are estimated."""
MAX_HELD_OUT: Final = 10_000
"""Held-out cells used after training; more would not change the second decimal."""


def fit_after_training(
    engine: Engine,
    state: FittedState,
    train: CellSource,
    held_out: CellTable | None,
    groups: pd.Series | None,
    seed: int,
    earlier: EarlierCells | None = None,
) -> dict[str, dict[str, float]]:
    """Fit everything that depends on the final weights; the order matters because each step uses the previous ones.

    Parameters
    ----------
    engine
        The network; the weights of its linear path are replaced.
    state
        Filled in place.
    train
        The training cells.
    held_out
        Held-out cells, None if there are none.
    groups
        Group of each cell of the data set, if known. Whether whole groups were held out is determined from the cells.
    seed
        Seed of the random draws and folds.
    earlier
        Statistics of the earlier training cells kept by the model that is trained further, if some of the cells were
        drawn from it.

    Returns
    -------
    For each phenotype, the scores of the finished model on the held-out cells, see `final_scores`. Predictions use both
    paths, with all expressed genes and no phenotype shown. Empty without held-out cells.
    """
    names, scores = engine.module.layout.phenotype_names, {}
    shifts = fit_path(engine, state, train, seed, groups, earlier)
    some = draw_cells(train, DEPTH_CELLS, seed)
    state.kinds = fit_kinds(train.codes, some.codes, some.cells.indptr, some.cells.values, engine.module.n_categories)
    state.counts = _fit_counts(some, engine.module.n_categories)
    state.factors = fit_expression_factors(some.cells.matrix(some.layout.n_genes))
    found, held_out_groups = None, None
    if held_out is None:
        for name, n, shift in zip(names, engine.module.n_categories, shifts, strict=True):
            calibrate(state, name, np.empty((0, n), np.float32), np.empty(0, np.int64), None, "held-out", shift)
    else:
        held_out = draw_cells(held_out, MAX_HELD_OUT, seed)
        fit_depth(engine, some, held_out, seed)
        held_out_groups = None if groups is None else new_groups(groups, train.ids, held_out.ids)
        if groups is None or held_out_groups is not None:
            fit_shares(engine, state, held_out, of_new_groups=groups is not None)
        shares = (share.numpy(force=True).astype(np.float64) for share in category_log_shares(engine, state))
        log_shares = dict(zip(names, shares, strict=True))
        found = phenotype_logits(engine, state, held_out)
        for name, logits, codes, shift in zip(names, found, held_out.codes.T, shifts, strict=True):
            calibrate(state, name, logits, codes, held_out_groups, "held-out", shift)
            temperature = state.temperature(name)
            scores[name] = final_scores(probabilities(logits, temperature), codes, log_shares[name], temperature)
        fit_panel_accuracy(engine, state, held_out, log_shares, seed)
    of_novelty = groups if held_out_groups is None else None
    state.novelty = fit_reference(engine, state, train, held_out, seed, found, of_novelty)
    return scores


def new_groups(groups: pd.Series, train: NDArray[np.integer], held_out: NDArray[np.integer]) -> pd.Series | None:
    """Groups of the held-out cells, or None if some of these groups are in training; rows are those of the data set."""
    numbers = pd.factorize(groups, use_na_sentinel=False)[0]
    return None if np.isin(numbers[held_out], numbers[train]).any() else groups.iloc[held_out]


def _fit_counts(table: CellTable, n_categories: Sequence[int]) -> CountModel | None:
    """Fit the count model to the cells whose depth is known; None if it is unknown for most cells."""
    depths = cell_depths(table.cells.indptr, table.cells.values)
    rows = np.flatnonzero(np.isfinite(depths))
    if len(rows) < COUNTED * len(table):
        return None
    known = table.read(rows)
    counts = known.cells.matrix(table.layout.n_genes).astype(np.float64)
    counts.data = cell_counts(known.cells.indptr, known.cells.values, depths[rows])
    return fit_count_model(counts, known.codes, n_categories, known.measured_in(np.arange(len(known))))


def fit_path(
    engine: Engine,
    state: FittedState,
    train: CellSource,
    seed: int,
    groups: pd.Series | None = None,
    earlier: EarlierCells | None = None,
) -> list[GroupShift | None]:
    """Fit the linear path to the training cells or a sample of them, and the shift to new groups in each phenotype."""
    module = engine.module
    if module.linear is None:
        return [None] * module.layout.n_phenotypes
    table = draw_cells(train, MAX_CELLS, seed)
    measured = table.measured_in(np.arange(len(table)))
    x, of_cells = table.cells.matrix(table.layout.n_genes), None if groups is None else groups.iloc[table.ids]
    x, measured = x[:, :MAX_CANDIDATES], measured[..., :MAX_CANDIDATES]
    drawn = None if earlier is None else table.ids >= earlier.first_id
    cells = PathCells.of(x, table.codes, module.n_categories, measured, drawn, earlier)
    found = fit_linear_path(cells, groups=of_cells, seed=seed)
    state.panels = PanelMoments.fit(cells, found.temperatures)
    prior = PRIOR * state.panels.log_shares(module.n_categories)
    module.linear.load(found.weights, found.bias, found.cap, found.centre, prior)
    module.linear.forget_depth()  # it is fitted later, if there are held-out cells
    module.linear.limit(SHARE_READ if groups is None else SHARE_READ_OF_GROUPS, found.importance)
    usual = share_of(USUAL_WEIGHTS) if groups is None else USUAL_SHARE_OF_GROUPS
    state.linear_share = [usual] * table.layout.n_phenotypes
    return found.shifts


def fit_shares(engine: Engine, state: FittedState, held_out: CellTable, *, of_new_groups: bool = False) -> None:
    """Fit the mixture weight of the linear path in each phenotype, and how many genes the transformer reads.

    It reads the smallest share of the genes with which the held-out cells are as likely as with all genes. A quarter is
    only tried on cells of new groups, because those of the training groups do not show how much is lost in new ones.
    """
    if (linear := engine.module.linear) is None:
        return
    linear.limit(1.0)
    loss_of_all, shares_of_all = _mixtures(engine, held_out)
    for share in (SHARE_READ_OF_GROUPS, SHARE_READ) if of_new_groups else (SHARE_READ,):
        linear.limit(share)
        loss, state.linear_share = _mixtures(engine, held_out)
        if loss <= loss_of_all + READ_LOSS:
            return
    linear.limit(1.0)
    state.linear_share = shares_of_all


def _mixtures(engine: Engine, held_out: CellTable) -> tuple[float, list[float]]:
    """Mean negative log-likelihood of held-out cells, and the share of the linear path in each phenotype."""
    module, n = engine.module, held_out.layout.n_phenotypes

    def both(batch: Batch) -> Sequence[Tensor]:
        tokens, positions, key_mask, values, measured = (batch[name] for name in INPUTS)
        transformer = module.transformer_logits(tokens, positions, key_mask)
        return [*transformer, *module.linear_logits(positions, values, measured)]

    logits = replace(engine, for_phenotypes=True).gather(held_out, Query(), both)
    losses, shares = [], []
    for i, codes in enumerate(held_out.codes.T):
        known = codes >= 0
        own, of_genes, codes = logits[i][known], logits[n + i][known], codes[known]
        weights = fit_path_weights(own, of_genes, codes)
        shares.append(share_of(weights))
        mixed = torch.from_numpy(weights[0] * own + weights[1] * of_genes)
        losses.append(float(F.cross_entropy(mixed, torch.from_numpy(codes), reduction="sum")) / max(len(codes), 1))
    return float(np.mean(losses)), shares


def calibrate(
    state: FittedState,
    name: str,
    logits: NDArray[np.float32],
    codes: NDArray[np.int64],
    groups: pd.Series | None,
    cells: Literal["held-out", "given"],
    shift: GroupShift | None = None,
) -> None:
    """Fit the temperature and prediction sets of one phenotype.

    Parameters
    ----------
    state
        Filled in place.
    name
        Name of the phenotype.
    logits
        Logits of some cells; shape (n_cells, n_categories).
    codes
        Their categories, -1 where unknown; shape (n_cells,).
    groups
        Group of each cell, if whole groups were held out.
    cells
        Origin of the cells.
    shift
        Estimate from the training groups of how predictions change in new groups.
    """
    known = (codes >= 0) & (logits[np.arange(len(codes)), codes] > UNSEEN / 2)  # leave out categories not in training
    logits, codes = logits[known], codes[known]
    found = fit_calibration(logits, codes, None if groups is None else groups[known], cells, probabilities, shift)
    state.calibration[name] = found
    if shift is not None and groups is None and len(shift.codes):  # use cross-validated predictions of training groups
        codes, names = shift.codes, shift.groups.astype(np.int32)
        true_probabilities = probabilities(shift.logits, shift.factor)[np.arange(len(codes)), codes]
        state.conformal[name] = ConformalScores(codes.astype(np.int32), true_probabilities, names)
        return
    true_probabilities = probabilities(logits, found.temperature)[np.arange(len(codes)), codes]
    one_group = np.zeros(len(codes) if shift is not None and groups is None else 0, dtype=np.int32)
    state.conformal[name] = ConformalScores(codes.astype(np.int32), true_probabilities, one_group)
