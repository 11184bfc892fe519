"""Training: split, bin edges, the call of Lightning, and what is fitted afterwards."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scvi.train import TrainRunner

from polygene_scverse.data._binning import EVERY_VALUE, make_edges
from polygene_scverse.data._dataloader import CellSplitter
from polygene_scverse.data._fields import warn_unseen
from polygene_scverse.data._masking import MaskingRates
from polygene_scverse.data._phenotypes import encode_all
from polygene_scverse.data._rates import resolve_rates
from polygene_scverse.data._split import Split, resolve_split
from polygene_scverse.data._statistics import category_counts
from polygene_scverse.data._table import CellTable
from polygene_scverse.model._checkpointing import Checkpoints
from polygene_scverse.model._evidence import Pairs, seen_pairs
from polygene_scverse.model._running import TrainingRun
from polygene_scverse.model._trainer import trainer_defaults
from polygene_scverse.model._training_plan import PolygeneTrainingPlan

logger = logging.getLogger(__name__)

CELL_VISITS, GENE_VISITS = 50_000, 5_000_000
"""Cells, and expressed genes of them, seen in a training of default length, counting repeats."""
LEAST_EPOCHS, MOST_EPOCHS = 4, 20
LEAK_FREE, ORIGINAL_MASK = "leak-free", "original"
"""Which genes the weights expect to see: no target, or, as the original shows them, the expressed ones among them."""


def default_max_epochs(lengths: NDArray[np.integer]) -> int:
    """Epochs after which about `CELL_VISITS` cells or `GENE_VISITS` genes were seen, between 4 and 20.

    Parameters
    ----------
    lengths
        Number of expressed genes of each training cell; shape (n_cells,).
    """
    epochs = min(CELL_VISITS / max(len(lengths), 1), GENE_VISITS / max(int(lengths.sum()), 1))
    return int(np.clip(round(epochs), LEAST_EPOCHS, MOST_EPOCHS))


class TrainingMixin:
    """`train` of the model."""

    edges_: list[float] | None
    mask_: str = LEAK_FREE
    is_trained_: bool
    pairs_: Pairs | None
    _training_plan_cls = PolygeneTrainingPlan
    _data_splitter_cls = CellSplitter
    _train_runner_cls = TrainRunner

    def train(
        self,
        *,
        max_epochs: int | None = None,
        batch_size: int = 16,
        group_key: str | None = None,
        validation_size: float = 0.1,
        split: Split | None = None,
        masking: MaskingRates | Mapping[str, Any] | str | None = None,
        seed: int = 0,
        plan_kwargs: Mapping[str, Any] | None = None,
        loader_kwargs: Mapping[str, Any] | None = None,
        checkpoints: Checkpoints | Mapping[str, Any] | str | Path | None = None,
        **trainer_kwargs: Any,
    ) -> None:
        """Train the model.

        Parameters
        ----------
        max_epochs
            Number of passes over the training cells. By default so many that about 50,000 cells, or 5 million of
            their expressed genes, are seen.
        batch_size
            Cells per batch, over all processes. Where a GPU has too little memory it is halved, and twice as many
            batches make a step.
        group_key
            Obs column whose groups (donors, samples) are held out as a whole for validation.
        validation_size
            Share of the cells, or groups, to hold out; 0 for none. The model is calibrated on them in the end: give
            `group_key` if predictions for new donors shall be well calibrated, and see ``calibration_``.
        split
            Row numbers of the training and the validation cells, instead of a draw.
        masking
            How much is hidden, see :class:`~polygene_scverse.data._masking.MaskingRates`; ``"original"`` for the rates
            of the original.
        seed
            Seed of split, order, targets and dropout.
        plan_kwargs
            Passed to the training plan, e.g. ``lr``, ``weight_decay``, ``warmup``, ``schedule``,
            ``phenotype_rise``.
        loader_kwargs
            Passed to :class:`torch.utils.data.DataLoader`, e.g. ``num_workers``.
        checkpoints
            Folder in which the training is noted after each epoch, or
            :class:`~polygene_scverse.model.Checkpoints`, which says how often, and whether to go on from a note. By
            default nothing is noted.
        **trainer_kwargs
            Passed to scvi-tools' Trainer, e.g. ``early_stopping`` (of the validation loss), ``accelerator``,
            ``devices``, ``precision``, ``callbacks``. With ``accumulate_grad_batches`` so many batches make a step.

        Raises
        ------
        ValueError
            If the model has no data, if expression is neither raw counts nor log1p of counts per 10,000, or if a side
            of the split is empty.
        KeyError
            If `group_key` is not an obs column.
        OSError
            If the folder of `checkpoints` cannot be written to, or is too full.
        """
        if self.adata is None:
            raise ValueError("`adata`: the model has no data to train on. Set model.adata = adata first.")
        rates = resolve_rates(masking)
        train_rows, validation_rows = resolve_split(self._anndata(self.adata), group_key, validation_size, split, seed)
        train = self._training_table(train_rows, rates)
        self.module.note_counts(torch.from_numpy(category_counts(train.codes, self.module.n_categories)))
        self._fit_gene_decoder(train, seed)
        self.pairs_ = seen_pairs(train.codes, self.pairs_)
        validation = self._table(self.adata, validation_rows) if len(validation_rows) else None
        trainer_kwargs = trainer_defaults(trainer_kwargs, validation is not None)
        per_step = batch_size * int(trainer_kwargs.get("accumulate_grad_batches", 1))
        splitter = self._data_splitter_cls(
            train, validation, rates, batch_size=per_step, seed=seed, **(loader_kwargs or {})
        )
        self._warn_of_mask()
        run = TrainingRun(
            self,
            splitter,
            max_epochs=default_max_epochs(train.lengths) if max_epochs is None else max_epochs,
            plan_kwargs=plan_kwargs or {},
            trainer_kwargs=trainer_kwargs,
            checkpoints=Checkpoints.of(checkpoints),
        )
        try:
            run()
        finally:
            if run.changed:
                self.mask_, self.masking_ = LEAK_FREE, asdict(rates)
        self._fit_linear_path(train, seed)
        groups = None if group_key is None else self._anndata(self.adata).obs[group_key]
        held_out = self._calibrate_on_validation(validation, groups, seed)
        self._fit_novelty(train, held_out, seed)

    def _warn_of_mask(self) -> None:
        if self.mask_ == ORIGINAL_MASK:
            warnings.warn(
                "The weights come from the original, whose mask tells of a hidden gene whether it is expressed. This "
                "training does not tell: what the weights know of genes must be learned anew, and their loss begins "
                "high. Prediction of phenotypes is not concerned.",
                UserWarning,
                stacklevel=3,
            )

    def _training_table(self, rows: NDArray[np.int64], rates: MaskingRates) -> CellTable:
        """Tokens of the training cells; at the first training they decide bin edges."""
        first = self.edges_ is None
        edges = EVERY_VALUE if first else np.array(self.edges_)
        table = self._table(self.adata, rows, self._tokenizer(self.adata, rows, edges))
        warn_unseen(encode_all(self._anndata(self.adata).obs.iloc[rows], self.categories)[1])
        if first:
            edges = make_edges(self.binning_, self.layout.n_bins, table.cells.values)
            table = CellTable(table.cells.rebin(edges), table.codes, table.ids, table.layout, table.measured)
            self.edges_ = edges.tolist()
        if (n_cut := int((table.cells.lengths > rates.max_genes).sum())) > 0:
            logger.info(
                "%d cells express more than max_genes=%d genes; a draw of them is shown.", n_cut, rates.max_genes
            )
        return table
