"""Training: split, bin edges, gene scales, and the call of Lightning."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from lightning.pytorch.callbacks import RichProgressBar
from numpy.typing import NDArray
from scvi.train import TrainRunner

from polygene_scverse._compat import seeded
from polygene_scverse._validate import check_columns
from polygene_scverse.data._binning import make_edges
from polygene_scverse.data._dataloader import CellSplitter, CellTable
from polygene_scverse.data._fields import warn_unseen
from polygene_scverse.data._masking import MaskingRates
from polygene_scverse.data._phenotypes import candidates, encode_all
from polygene_scverse.data._split import check_split, split_cells
from polygene_scverse.data._statistics import category_counts, gene_scale
from polygene_scverse.model._training_plan import PolygeneTrainingPlan

logger = logging.getLogger(__name__)

Rows = Sequence[int] | NDArray[np.int64]
Split = tuple[Rows, Rows]

CELL_VISITS, GENE_VISITS = 50_000, 6_000_000
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
        masking: MaskingRates | Mapping[str, Any] | None = None,
        seed: int = 0,
        early_stopping: bool = False,
        plan_kwargs: Mapping[str, Any] | None = None,
        loader_kwargs: Mapping[str, Any] | None = None,
        **trainer_kwargs: Any,
    ) -> None:
        """Train the model.

        Parameters
        ----------
        max_epochs
            Number of passes over the training cells. By default so many that about 50,000 cells, or 6 million of
            their expressed genes, are seen.
        batch_size
            Cells per step, over all processes.
        group_key
            Obs column whose groups (donors, samples) are held out as a whole for validation.
        validation_size
            Share of the cells, or groups, to hold out; 0 for none.
        split
            Row numbers of the training and the validation cells, instead of a draw.
        masking
            How much is hidden, see :class:`~polygene_scverse.data._masking.MaskingRates`.
        seed
            Seed of split, order, targets and dropout.
        early_stopping
            Whether to stop when the validation loss no longer falls.
        plan_kwargs
            Passed to the training plan, e.g. ``lr``, ``weight_decay``, ``warmup``, ``schedule``.
        loader_kwargs
            Passed to :class:`torch.utils.data.DataLoader`, e.g. ``num_workers``.
        **trainer_kwargs
            Passed to scvi-tools' Trainer, e.g. ``accelerator``, ``devices``, ``precision``, ``callbacks``.

        Raises
        ------
        ValueError
            If the model has no data, if expression is neither raw counts nor log1p of counts per 10,000, or if a side
            of the split is empty.
        KeyError
            If `group_key` is not an obs column.
        """
        if self.adata is None:
            raise ValueError("`adata`: the model has no data to train on. Set model.adata = adata first.")
        rates = masking if isinstance(masking, MaskingRates) else MaskingRates(**(masking or {}))
        train_rows, validation_rows = self._split(group_key, validation_size, split, seed)
        train = self._training_table(train_rows, rates)
        self.module.category_counts.copy_(torch.from_numpy(category_counts(train.codes, self.module.n_categories)))
        validation = self._table(self.adata, validation_rows) if len(validation_rows) else None
        splitter = self._data_splitter_cls(
            train, validation, rates, batch_size=batch_size, seed=seed, **(loader_kwargs or {})
        )
        self._warn_of_mask()
        plan = self._training_plan_cls(self.module, **(plan_kwargs or {}))
        trainer_kwargs = _trainer_defaults(trainer_kwargs, early_stopping and validation is not None)
        if validation is None:
            trainer_kwargs["limit_val_batches"] = 0
        with seeded(seed), warnings.catch_warnings(), _quiet_lightning():
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            warnings.filterwarnings("ignore", message=".*early_stopping was automatically disabled.*")
            warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
            runner = self._train_runner_cls(
                self,
                training_plan=plan,
                data_splitter=splitter,
                max_epochs=default_max_epochs(train.cells.lengths) if max_epochs is None else max_epochs,
                **trainer_kwargs,
            )
            self.module.train()  # a trained model is in eval mode, and Lightning keeps the mode it finds
            trained, self.is_trained_ = self.is_trained_, self.is_trained_ and self.history_ is not None
            try:  # scvi-tools prolongs the history of a trained model, but imported weights have none
                runner()
            finally:
                self.is_trained_ = self.is_trained_ or trained
        self.mask_ = LEAK_FREE

    def _warn_of_mask(self) -> None:
        if self.mask_ == ORIGINAL_MASK:
            warnings.warn(
                "The weights come from the original, whose mask tells of a hidden gene whether it is expressed. This "
                "training does not tell: what the weights know of genes must be learned anew, and their loss begins "
                "high. Prediction of phenotypes is not concerned.",
                UserWarning,
                stacklevel=3,
            )

    def _split(
        self,
        group_key: str | None,
        validation_size: float,
        split: Split | None,
        seed: int,
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        obs = self._anndata(self.adata).obs
        if group_key is not None:
            check_columns([group_key], self._anndata(self.adata), "group_key", candidates(obs))
        groups = None if group_key is None else obs[group_key]
        if split is None:
            return split_cells(len(obs), validation_size=validation_size, groups=groups, seed=seed)
        train, validation = (np.sort(np.asarray(side, dtype=np.int64)) for side in split)
        check_split(train, validation, groups)
        return train, validation

    def _training_table(self, rows: NDArray[np.int64], rates: MaskingRates) -> CellTable:
        """Tokens of the training cells; at the first training they decide bin edges and gene scales."""
        first = self.edges_ is None
        edges = np.array([0.0, np.nextafter(0.0, 1.0)] if first else self.edges_)  # at first any value is expressed
        table = self._table(self.adata, rows, self._tokenizer(self.adata, rows, edges))
        warn_unseen(encode_all(self._anndata(self.adata).obs.iloc[rows], self.categories)[1])
        if first:
            edges = make_edges(self.binning_, self.layout.n_bins, table.cells.values)
            table = CellTable(table.cells.rebin(edges), table.codes, table.ids, table.layout, table.measured)
            self.edges_ = edges.tolist()
            self.module.gene_scale.copy_(torch.from_numpy(gene_scale(table.cells, self.layout.n_genes)))
        if (n_cut := int((table.cells.lengths > rates.max_genes).sum())) > 0:
            logger.info(
                "%d cells express more than max_genes=%d genes; a draw of them is shown.", n_cut, rates.max_genes
            )
        return table


def _trainer_defaults(kwargs: Mapping[str, Any], early_stopping: bool) -> dict[str, Any]:
    """scvi-tools' Trainer with validation in each epoch, clipping, a rich progress bar, and nothing written to disk."""
    kwargs = {
        "check_val_every_n_epoch": 1,
        "gradient_clip_val": 1.0,
        "early_stopping": early_stopping,
        "early_stopping_monitor": "validation_loss",
        "early_stopping_patience": 5,
        "enable_progress_bar": True,
        "simple_progress_bar": False,
        "log_every_n_steps": 1,
        "use_distributed_sampler": False,
    } | dict(kwargs)
    callbacks: list[Any] = list(kwargs.pop("callbacks", None) or [])  # type: ignore[call-overload]  # scvi-tools appends to the list it is given
    if kwargs["enable_progress_bar"]:
        callbacks.append(RichProgressBar(refresh_rate=10, leave=False))
    return kwargs | {"callbacks": callbacks}


class _quiet_lightning:  # noqa: N801 - used as a function
    """Lightning's remarks on devices and on "max_epochs reached" are not for the user of a model."""

    def __enter__(self) -> None:
        self.loggers = [
            logging.getLogger("lightning.pytorch.utilities.rank_zero"),
            logging.getLogger("lightning.pytorch"),
        ]
        self.levels = [log.level for log in self.loggers]
        for log in self.loggers:
            log.setLevel(logging.WARNING)

    def __exit__(self, *_: object) -> None:
        for log, level in zip(self.loggers, self.levels, strict=True):
            log.setLevel(level)
