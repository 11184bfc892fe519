"""What a training costs on this machine, from a few steps of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from polygene_scverse.abilities._calibrate import fit_path
from polygene_scverse.data.feed._loader import BatchDataset
from polygene_scverse.data.feed._rates import resolve_rates
from polygene_scverse.data.feed._table import CellTable
from polygene_scverse.engine import Engine, Query
from polygene_scverse.fit import FittedState
from polygene_scverse.fit._discriminants import MAX_GENES
from polygene_scverse.fit._linear_path import MAX_CANDIDATES, N_FOLDS
from polygene_scverse.model._polygene import Polygene
from polygene_scverse.module import PolygeneModule

T = TypeVar("T")

WARM_UP = 3
"""Steps that are not timed."""
BYTES_PER_ENTRY = 10
"""Of an expressed gene in memory: its slot, bin and value."""
PREDICTED = 64
"""Cells of a batch of prediction."""
BYTES_PER_PAIR = 72
"""Of two genes that the linear path looks at, in its fit: nine matrices of numbers of eight bytes."""
BYTES_PER_VALUE = 20
"""Of a cell and a gene there, of the cells of a fold: twice in eight bytes, once in four."""
BYTES_PER_KEPT = 4
"""Of any cell and a gene that is looked at."""


@dataclass(frozen=True)
class Cost:
    """What was measured.

    Parameters
    ----------
    step_seconds
        Time of a step of the optimiser.
    read_seconds
        Time to read one cell into tokens.
    predict_seconds
        Time to predict one cell, reading included.
    lengths
        Number of expressed genes of the cells looked at.
    train_bytes
        Memory of network, gradients, moments, and of what a batch of the longest cells keeps for the gradients.
    predict_bytes
        Memory of network, and of one layer of a batch.
    path_seconds, path_cell_seconds
        Time to fit the linear path: whatever the number of cells, and of each cell.
    path_bytes, path_cell_bytes
        Memory of that fit likewise.
    """

    step_seconds: float
    read_seconds: float
    predict_seconds: float
    lengths: np.ndarray
    train_bytes: int
    predict_bytes: int
    path_seconds: float = 0.0
    path_cell_seconds: float = 0.0
    path_bytes: int = 0
    path_cell_bytes: int = 0


class StepClock(Callback):
    """Times the steps after the first few."""

    def __init__(self) -> None:
        self.started = self.ended = 0.0
        self.first = self.last = 0

    def on_train_batch_end(self, trainer: Trainer, plan: LightningModule, *_: Any) -> None:
        """Look at the clock."""
        if plan.device.type == "cuda":
            torch.cuda.synchronize()
        self.last, self.ended = trainer.global_step, time.perf_counter()
        if self.last <= WARM_UP:
            self.first, self.started = self.last, self.ended

    @property
    def seconds(self) -> float:
        """Mean time of a step."""
        return (self.ended - self.started) / max(self.last - self.first, 1)


def measure_cost(model: Polygene, n_steps: int, **train_kwargs: Any) -> Cost:
    """Train and predict for a moment. The model is of no use afterwards.

    Parameters
    ----------
    model
        An untrained model of a sample of cells.
    n_steps
        Steps to time.
    **train_kwargs
        Of its ``train``.
    """
    clock, cells = StepClock(), np.arange(model.adata.n_obs)
    callbacks = [*(train_kwargs.pop("callbacks", None) or []), clock]
    quiet = {"enable_progress_bar": False, "validation_size": 0.0, "max_epochs": 1000, "max_steps": WARM_UP + n_steps}
    model.train(**{**train_kwargs, **quiet, "callbacks": callbacks})
    read, table = _timed(lambda: _read_cells(model, cells))
    predict, _ = _timed(model.predict_phenotype)
    longest = np.argsort(-table.cells.lengths, kind="stable")
    rates = resolve_rates(train_kwargs.get("masking"))
    batch = BatchDataset(table, rates)[0, longest[: train_kwargs.get("batch_size", 16)]]
    shown = Query().batch(table, longest[:PREDICTED])
    weights = sum(p.numel() * p.element_size() for p in model.module.parameters())
    layers = max(model.module.config.n_layers, 1)
    n_genes = 0 if model.module.linear is None else min(model.layout.n_genes, MAX_CANDIDATES)
    n_looked_at = min(n_genes, MAX_GENES * 5 // 4)  # folds look at some more than one alone
    half = table.read(cells[::2])
    half_seconds, all_seconds = (_timed(lambda t=t: _fit_linear_path(model, t))[0] for t in (half, table))  # type: ignore[misc]
    path_cell_seconds = max(all_seconds - half_seconds, 0.0) / max(len(table) - len(half), 1)
    return Cost(
        step_seconds=clock.seconds,
        read_seconds=read / len(cells),
        predict_seconds=predict / len(cells),
        lengths=table.cells.lengths,
        train_bytes=4 * weights + kept_bytes(model.module, batch),
        predict_bytes=weights + kept_bytes(model.module, shown) // layers,
        path_seconds=max(all_seconds - len(table) * path_cell_seconds, 0.0),
        path_cell_seconds=path_cell_seconds,
        path_bytes=BYTES_PER_PAIR * n_looked_at**2,
        path_cell_bytes=BYTES_PER_VALUE * n_genes // N_FOLDS + BYTES_PER_KEPT * n_looked_at,
    )


def kept_bytes(module: PolygeneModule, batch: dict[str, Tensor]) -> int:
    """Memory that the forward pass of a batch keeps for the gradients, without the weights."""
    weights = {p.untyped_storage().data_ptr() for p in module.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    training = module.training
    module.train()
    try:
        with torch.random.fork_rng(), saved_tensors_hooks(keep, lambda tensor: tensor):
            batch = {name: tensor.to(module.device) for name, tensor in batch.items()}
            outputs = module.inference(**module._get_inference_input(batch))
            loss = module.loss(batch, outputs, module.generative(**outputs))  # holds on to what is kept
    finally:
        module.train(training)
    del loss
    return sum(kept.values())


def _read_cells(model: Polygene, rows: np.ndarray) -> CellTable:
    return model._cells(model.adata, rows).read_all()


def _fit_linear_path(model: Polygene, table: CellTable) -> None:
    fit_path(Engine(model.module), FittedState(), table, 0)


def _timed(function: Callable[[], T]) -> tuple[float, T]:
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result
