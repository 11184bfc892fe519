"""Training of a model: its cells, its length, the run of Lightning, and the fits that follow."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from polygene_scverse._layout import TokenLayout
from polygene_scverse._progress import hidden
from polygene_scverse._threads import one_blas_pool
from polygene_scverse._validate import warn
from polygene_scverse.abilities._calibrate import fit_after_training
from polygene_scverse.data.feed._adata_cells import AnnDataCells
from polygene_scverse.data.feed._loader import CellSplitter
from polygene_scverse.data.feed._masking import MaskingRates
from polygene_scverse.data.feed._table import CellTable
from polygene_scverse.data.read._binning import EVERY_VALUE, make_edges
from polygene_scverse.data.read._expression import Expression
from polygene_scverse.data.read._source import spread_rows
from polygene_scverse.data.read._totals import column_shares
from polygene_scverse.data.shards._feed import ShardFeed
from polygene_scverse.data.shards._loader import ShardSplitter
from polygene_scverse.engine import Engine
from polygene_scverse.fit import FittedState
from polygene_scverse.fit._category_counts import category_counts, category_pairs
from polygene_scverse.fit._earlier_cells import EarlierCells
from polygene_scverse.fit._state import LEAK_FREE, ORIGINAL_MASK
from polygene_scverse.model.training._arguments import cells_per_step, refuse_unknown
from polygene_scverse.model.training._checkpoints import Checkpoints
from polygene_scverse.model.training._final_scores import with_final_scores, without_final_scores
from polygene_scverse.model.training._gene_decoder import fit_gene_decoder
from polygene_scverse.model.training._gene_embeddings import init_gene_embeddings
from polygene_scverse.model.training._plan import LR
from polygene_scverse.model.training._run import TrainableModel, TrainingRun
from polygene_scverse.model.training._trainer import trainer_defaults

logger = logging.getLogger(__name__)

SHARE_CELLS = 1024
"""Number of training cells from which the share of each gene in the counts is computed."""
CELL_VISITS, GENE_VISITS = 25_000, 2_500_000
"""Number of cells, and of their expressed genes, seen in training of default length, including repeats."""
MIN_EPOCHS, MAX_EPOCHS = 4, 12


class Trainable(TrainableModel, Protocol):
    """Attributes of a model that training changes, in addition to those in `TrainableModel`."""

    fitted_: FittedState


@dataclass(frozen=True)
class TrainingCells:
    """Cells for training and validation.

    Parameters
    ----------
    train
        Training cells, in memory or in files.
    validation
        Held-out cells, None if there are none.
    edges
        Lower edge of each expression bin.
    groups
        Group of each cell of the data set, if known.
    shares
        Mean share of each column in the counts of a cell, by name.
    earlier
        What a model that is trained further stores about its earlier training cells, if some were drawn from it.
    """

    train: CellTable | ShardFeed
    validation: CellTable | None
    edges: list[float]
    groups: pd.Series | None = None
    shares: Mapping[str, float] | None = None
    earlier: EarlierCells | None = None


def read_training_cells(
    expression: Expression,
    obs: pd.DataFrame,
    rows: tuple[NDArray[np.int64], NDArray[np.int64]],
    layout: TokenLayout,
    columns: Mapping[str, list[str]],
    binning: str | Sequence[float] | NDArray[np.float64],
    groups: pd.Series | None,
) -> TrainingCells:
    """Read training and held-out cells of a data set into memory.

    Parameters
    ----------
    expression, obs
        The data set.
    rows
        Row numbers of the training and of the held-out cells.
    layout
        Token ids and positions.
    columns
        Obs column of each phenotype, and its categories.
    binning
        How bin edges are computed from the training cells, see `make_edges`; or an array of edges of an earlier
        training.
    groups
        Group of each cell, if known.
    """
    edges = binning if isinstance(binning, np.ndarray) else EVERY_VALUE
    source = AnnDataCells.of(expression, obs, rows[0], layout, columns, edges)
    source.warn_unmeasured()
    train = source.read_all()
    if not isinstance(binning, np.ndarray):
        edges = make_edges(binning, layout.n_bins, train.cells.values)
        train = train.rebinned(edges)
    held_out = None
    if len(rows[1]):
        held_out = AnnDataCells.of(expression, obs, rows[1], layout, columns, edges).read_all()
    some = rows[0][spread_rows(len(rows[0]), SHARE_CELLS)]
    shares = column_shares(expression.blocks(some), expression.var_names, expression.scale, expression.footing)
    return TrainingCells(train, held_out, edges.tolist(), groups, shares)


def default_max_epochs(lengths: NDArray[np.integer]) -> int:
    """Epochs until about `CELL_VISITS` cells or `GENE_VISITS` genes are seen, between 4 and 12.

    Parameters
    ----------
    lengths
        Number of expressed genes of each training cell; shape (n_cells,).
    """
    epochs = min(CELL_VISITS / max(len(lengths), 1), GENE_VISITS / max(int(lengths.sum()), 1))
    return int(np.clip(round(epochs), MIN_EPOCHS, MAX_EPOCHS))


def train_model(
    model: Trainable,
    cells: TrainingCells,
    rates: MaskingRates,
    *,
    max_epochs: int | None = None,
    batch_size: int = 16,
    seed: int = 0,
    plan_kwargs: Mapping[str, Any] | None = None,
    loader_kwargs: Mapping[str, Any] | None = None,
    checkpoints: Checkpoints | Mapping[str, Any] | str | Path | None = None,
    **trainer_kwargs: Any,
) -> None:
    """Train a model on some cells, then fit all that depends on its weights; arguments as in `Polygene.train`."""
    refuse_unknown(trainer_kwargs, plan_kwargs or {})
    train, state = cells.train, model.fitted_
    if (n_cut := int((train.lengths > rates.max_genes).sum())) > 0:
        logger.info("%d cells express more than max_genes=%d genes; a random subset is shown.", n_cut, rates.max_genes)
    trainer_kwargs = trainer_defaults(trainer_kwargs, cells.validation is not None)
    per_step = cells_per_step(batch_size, trainer_kwargs)
    splitter_cls = ShardSplitter if isinstance(train, ShardFeed) else CellSplitter
    splitter = splitter_cls(train, cells.validation, rates, batch_size=per_step, seed=seed, **(loader_kwargs or {}))  # type: ignore[arg-type]
    warn_of_mask(state)
    counts = category_counts(train.codes, model.module.n_categories)
    pairs = category_pairs(train.codes, state.pairs)
    before, edges_before, is_new = replace(state), model.edges_, not model.is_trained_

    def begin() -> None:
        state.invalidate(counts, pairs, cells.shares)
        fit_gene_decoder(model.module, train, seed)
        if is_new:
            init_gene_embeddings(model.module, train, seed)

    run = TrainingRun(
        model,
        splitter,
        max_epochs=default_max_epochs(train.lengths) if max_epochs is None else max_epochs,
        plan_kwargs=plan_kwargs or {},
        trainer_kwargs=trainer_kwargs,
        checkpoints=Checkpoints.of(checkpoints),
        on_begin=begin,
    )
    model.edges_ = cells.edges
    diverged = False
    try:
        run()
        diverged = not all(bool(torch.isfinite(w).all()) for w in model.module.parameters())
    finally:
        if run.changed and not diverged:
            state.mask, state.masking = LEAK_FREE, asdict(rates)
            model.history_ = without_final_scores(model.history_)
        else:  # refused, diverged, or ended before the first step: restore the previous state
            model.edges_ = edges_before
            vars(state).update(vars(before))
            if run.weights:  # including the parts fitted in closed form
                model.module.load_state_dict(run.weights)
    if diverged:
        model.is_trained_, model.history_ = run.trained_before, run.history_before
        raise ValueError(
            "`plan_kwargs`: the training diverged: weights became NaN or infinite. The model is unchanged. Pass a "
            f"lower learning rate, such as plan_kwargs={{'lr': {LR}}}, which is the default for small networks."
        )
    engine, held_out = Engine(model.module), cells.validation
    with one_blas_pool(), hidden(not trainer_kwargs.get("enable_progress_bar", True)):
        scores = fit_after_training(engine, state, train, held_out, cells.groups, seed, cells.earlier)
    model.history_ = with_final_scores(model.history_, scores)


def warn_of_mask(state: FittedState) -> None:
    """Warn that the gene weights of an original checkpoint have to be relearned."""
    if state.mask == ORIGINAL_MASK:
        warn(
            "The weights are from the original, whose attention mask reveals whether a hidden gene is expressed. This "
            "training does not reveal it, so the loss of genes is high at the beginning. The prediction of phenotypes "
            "is not affected."
        )
