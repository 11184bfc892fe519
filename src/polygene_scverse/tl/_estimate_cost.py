"""Time and memory of a training, before it is done."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from rich.console import Console
from rich.table import Table

from polygene_scverse._constants import N_GENES, RANK
from polygene_scverse._validate import check_fraction
from polygene_scverse.data.read._phenotypes import resolve_phenotypes
from polygene_scverse.data.read._source import BLOCK, expression, read_rows
from polygene_scverse.model import Polygene
from polygene_scverse.model._linear_path import MOST_CELLS
from polygene_scverse.model._training import default_max_epochs
from polygene_scverse.model.training._cost import BYTES_PER_ENTRY, PREDICTED, WARM_UP, Cost, measure_cost

SAMPLE = 1024
"""Cells that are looked at, at least."""
READINGS = 3
"""How often cells are read before training: for their scale, to rank genes, and into tokens."""
PASSED_OVER = ("checkpoints", "group_key", "mod", "save_to", "split", "verbose")
"""Arguments of `train` that cost next to nothing."""


def estimate_cost(
    adata: AnnData,
    *,
    phenotypes: str | Sequence[str] | None = None,
    n_genes: int = N_GENES,
    layer: str | None = None,
    use_raw: bool = False,
    max_epochs: int | None = None,
    n_steps: int = 20,
    verbose: bool = True,
    model_kwargs: Mapping[str, Any] | None = None,
    **train_kwargs: Any,
) -> pd.DataFrame:
    """Say what training and prediction would cost on this machine, from a few timed steps on a sample of the cells.

    Parameters
    ----------
    adata
        Annotated data matrix, in memory or backed; it is not changed. Of a MuData pass the modality.
    phenotypes, n_genes, layer, use_raw, max_epochs
        As for :func:`train`.
    n_steps
        Steps to time.
    verbose
        Whether to print a table.
    model_kwargs
        As for :func:`train`.
    **train_kwargs
        Further arguments of :func:`train`, e.g. ``batch_size``, ``validation_size``, ``accelerator``.

    Returns
    -------
    Rows ``training`` and ``prediction``; columns ``cells``, ``epochs``, ``steps``, ``seconds_per_step``, ``seconds``
    and ``memory_gb``. The time of a training includes reading, ranking genes, looking at the held-out cells and fitting
    the linear path. Memory is that of tokens, and of network, gradients and batches or that of the fit; AnnData and
    about half a gigabyte of libraries come to it. All are estimates: other work on the machine slows the timed steps,
    too.

    Raises
    ------
    ValueError
        If `n_steps` is below 1, or as for :func:`train`.
    KeyError
        As for :func:`train`.

    Examples
    --------
    >>> pgs.tl.estimate_cost(adata, model_kwargs={"size": "2432"})
    """
    if n_steps < 1:
        raise ValueError(f"`n_steps`: found {n_steps}, but at least one step must be timed. Pass 1 or more.")
    arguments = {name: value for name, value in train_kwargs.items() if name not in PASSED_OVER}
    share = arguments.pop("validation_size", 0.1)
    check_fraction(share, "validation_size")
    per_step = arguments.get("batch_size", 16) * arguments.get("accumulate_grad_batches", 1)
    names = resolve_phenotypes(adata.obs, phenotypes)
    sample = _sample(adata, names, max(SAMPLE, per_step * (n_steps + WARM_UP)), layer, use_raw)
    Polygene.setup_anndata(sample, phenotype_keys=names)
    model = Polygene(sample, n_genes=n_genes, **(model_kwargs or {}))
    cost = measure_cost(model, n_steps, **arguments)
    table = _extrapolate(cost, adata.n_obs, round(adata.n_obs * share), per_step, max_epochs)
    if verbose:
        _say(table)
    return table


def _sample(adata: AnnData, phenotypes: Sequence[str], n_cells: int, layer: str | None, use_raw: bool) -> AnnData:
    """Some cells in memory; among them one of each category, so that the network has its size."""
    x, var_names = expression(adata, layer, use_raw)
    rng = np.random.default_rng(0)
    rows = rng.choice(adata.n_obs, min(n_cells, adata.n_obs), replace=False)
    obs = adata.obs[list(phenotypes)]
    firsts = [np.flatnonzero(~obs[name].duplicated().to_numpy()) for name in phenotypes]
    rows = np.unique(np.concatenate([rows, *firsts]))
    var = (adata.raw.var if use_raw else adata.var).reindex(columns=[RANK]).dropna(axis=1)
    return AnnData(read_rows(x, rows), obs=obs.iloc[rows].copy(), var=pd.DataFrame(var, index=var_names))


def _extrapolate(cost: Cost, n_cells: int, n_held_out: int, per_step: int, max_epochs: int | None) -> pd.DataFrame:
    n_train, bytes_per_cell = n_cells - n_held_out, cost.lengths.mean() * BYTES_PER_ENTRY
    epochs = default_max_epochs(np.resize(cost.lengths, n_train)) if max_epochs is None else max_epochs
    steps = epochs * math.ceil(n_train / per_step)
    seconds = steps * cost.step_seconds + n_cells * READINGS * cost.read_seconds
    seconds += epochs * n_held_out * cost.predict_seconds
    n_fitted = min(n_train, MOST_CELLS)
    seconds += cost.path_seconds + n_fitted * cost.path_cell_seconds
    most_bytes = max(cost.train_bytes, cost.path_bytes + n_fitted * cost.path_cell_bytes)  # one after the other
    rows = {
        "training": {
            "cells": n_train,
            "epochs": epochs,
            "steps": steps,
            "seconds_per_step": cost.step_seconds,
            "seconds": seconds,
            "memory_gb": (most_bytes + n_cells * bytes_per_cell) / 1e9,
        },
        "prediction": {
            "cells": n_cells,
            "epochs": 1,
            "steps": math.ceil(n_cells / PREDICTED),
            "seconds_per_step": cost.predict_seconds * PREDICTED,
            "seconds": cost.predict_seconds * n_cells,
            "memory_gb": (cost.predict_bytes + min(n_cells, BLOCK) * bytes_per_cell) / 1e9,
        },
    }
    return pd.DataFrame.from_dict(rows, orient="index").astype({"cells": int, "epochs": int, "steps": int})


def duration(seconds: float) -> str:
    """A time in words, e.g. ``"2 h 5 min"``."""
    if seconds < 90:
        return f"{seconds:.2g} s" if seconds < 1 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def _say(costs: pd.DataFrame) -> None:
    table = Table("", "cells", "epochs", "steps", "time, about", "memory, about", title="Cost on this machine")
    for name, row in costs.iterrows():
        numbers = [f"{int(row[key]):,}" for key in ("cells", "epochs", "steps")]
        table.add_row(str(name), *numbers, duration(row["seconds"]), f"{row['memory_gb']:.2g} GB")
    Console().print(table)
