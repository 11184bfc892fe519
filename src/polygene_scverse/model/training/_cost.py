"""Cost of training on this machine, measured on a few steps."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from polygene_scverse.abilities._calibrate import fit_path
from polygene_scverse.data.feed._loader import BatchDataset
from polygene_scverse.data.feed._rates import resolve_rates
from polygene_scverse.engine import Engine, Query
from polygene_scverse.fit import FittedState
from polygene_scverse.fit._discriminants import MAX_GENES
from polygene_scverse.fit._linear_path import MAX_CANDIDATES, N_FOLDS
from polygene_scverse.model._polygene import Polygene
from polygene_scverse.module import PolygeneModule

T = TypeVar("T")

WARM_UP = 3
"""Number of initial steps that are not timed."""
BYTES_PER_ENTRY = 10
"""Bytes per expressed gene in memory: slot, bin and value."""
PREDICTED = 128
"""Cells per batch in prediction."""
BYTES_PER_PAIR = 72
"""Bytes per pair of genes in the fit of the linear path: nine matrices of 8-byte numbers."""
BYTES_PER_VALUE = 20
"""Bytes per cell and gene in that fit, for the cells of a fold: two 8-byte copies and one 4-byte copy."""
BYTES_PER_KEPT = 4
"""Bytes per cell and candidate gene in that fit, for all cells."""


@dataclass(frozen=True)
class Cost:
    """Measured costs.

    Parameters
    ----------
    step_seconds
        Time per optimiser step.
    read_seconds
        Time to read and tokenise one cell.
    predict_seconds
        Time to predict one cell, including reading.
    lengths
        Number of expressed genes of the sampled cells.
    train_bytes
        Memory of network, gradients, moments, and of the activations stored for a batch of the longest cells.
    predict_bytes
        Memory of the network and of one layer of a batch.
    path_seconds, path_cell_seconds
        Time to fit the linear path: constant part, and per cell.
    path_bytes, path_cell_bytes
        Memory of that fit: constant part, and per cell.
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
    """Times the steps after the warm-up."""

    def __init__(self) -> None:
        self.started = self.ended = 0.0
        self.first = self.last = 0

    def on_train_batch_end(self, trainer: Trainer, plan: LightningModule, *_: Any) -> None:
        """Record the time."""
        if plan.device.type == "cuda":
            torch.cuda.synchronize()
        self.last, self.ended = trainer.global_step, time.perf_counter()
        if self.last <= WARM_UP:
            self.first, self.started = self.last, self.ended

    @property
    def seconds(self) -> float:
        """Mean time per step."""
        return (self.ended - self.started) / max(self.last - self.first, 1)


def measure_cost(model: Polygene, n_steps: int, **train_kwargs: Any) -> Cost:
    """Train and predict briefly. The model cannot be used afterwards.

    Parameters
    ----------
    model
        An untrained model of a sample of cells.
    n_steps
        Number of steps to time.
    **train_kwargs
        Arguments of ``train``.
    """
    clock, cells = StepClock(), np.arange(model.adata.n_obs)
    callbacks = [*(train_kwargs.pop("callbacks", None) or []), clock]
    quiet = {"enable_progress_bar": False, "validation_size": 0.0, "max_epochs": 1000, "max_steps": WARM_UP + n_steps}
    model.train(**{**train_kwargs, **quiet, "callbacks": callbacks})
    read, table = _timed(lambda: model._cells(model.adata, cells).read_all())
    predict, _ = _timed(model.predict_phenotype)
    longest = np.argsort(-table.cells.lengths, kind="stable")
    rates = resolve_rates(train_kwargs.get("masking"))
    batch = BatchDataset(table, rates)[0, longest[: train_kwargs.get("batch_size", 16)]]
    shown = Query().batch(table, longest[:PREDICTED])
    weights = sum(p.numel() * p.element_size() for p in model.module.parameters())
    layers = max(model.module.config.n_layers, 1)
    n_genes = 0 if model.module.linear is None else min(model.layout.n_genes, MAX_CANDIDATES)
    n_looked_at = min(n_genes, MAX_GENES * 5 // 4)  # folds together use somewhat more genes than one
    half = table.read(cells[::2])
    engine = Engine(model.module)
    half_seconds, all_seconds = (_timed(partial(fit_path, engine, FittedState(), t, 0))[0] for t in (half, table))
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
    """Memory of the activations that the forward pass of a batch stores for the gradients, without the weights."""
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
            loss = module.loss(batch, outputs, module.generative(**outputs))  # keeps the stored activations alive
    finally:
        module.train(training)
    del loss
    return sum(kept.values())


def _timed(function: Callable[[], T]) -> tuple[float, T]:
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result
