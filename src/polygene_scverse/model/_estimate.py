"""Time and memory of training, estimated from a few timed steps on a sample of the cells."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from polygene_scverse._constants import RANK
from polygene_scverse._validate import check_fraction, check_kwargs, check_whole
from polygene_scverse.data.read._expression import DEPTHS, Expression
from polygene_scverse.data.read._phenotypes import resolve_phenotypes
from polygene_scverse.data.read._source import BLOCK
from polygene_scverse.fit._linear_path import MAX_CELLS
from polygene_scverse.model._polygene import Polygene
from polygene_scverse.model.training._arguments import cells_per_step
from polygene_scverse.model.training._cost import BYTES_PER_ENTRY, PREDICTED, WARM_UP, Cost, measure_cost
from polygene_scverse.model.training._training import default_max_epochs

SAMPLE = 1024
"""Minimum number of cells in the sample."""
PASSED_OVER = ("checkpoints", "gene_ids", "gene_symbols", "group_key", "mod", "save_to", "split", "verbose")
"""Arguments of `train` with negligible cost."""


def estimate(
    adata: AnnData,
    *,
    phenotypes: str | Sequence[str] | None,
    n_genes: int,
    layer: str | None,
    use_raw: bool,
    max_epochs: int | None,
    n_steps: int,
    model_kwargs: Mapping[str, Any] | None,
    train_kwargs: Mapping[str, Any],
) -> pd.DataFrame:
    """Estimate training and prediction costs; arguments and result as in :func:`~polygene_scverse.tl.estimate_cost`."""
    check_whole(n_steps, "n_steps", 1)
    if max_epochs is not None:
        check_whole(max_epochs, "max_epochs")
    arguments = {name: value for name, value in dict(train_kwargs).items() if name not in PASSED_OVER}
    share = arguments.pop("validation_size", 0.1)
    check_fraction(share, "validation_size")
    per_step = cells_per_step(arguments.get("batch_size", 16), arguments)
    setup = {name: arguments.pop(name, None) for name in ("ordered", "missing")}
    names = resolve_phenotypes(adata.obs, phenotypes)
    sample = _sample(adata, names, max(SAMPLE, per_step * (n_steps + WARM_UP)), layer, use_raw)
    Polygene.setup_anndata(sample, phenotype_keys=names, **setup)
    model = Polygene(sample, n_genes=n_genes, **check_kwargs(model_kwargs, "model_kwargs"))
    model.deregister_manager(sample)  # otherwise scvi-tools' registry of managers keeps it in memory
    cost = measure_cost(model, n_steps, **arguments)
    return _extrapolate(cost, adata.n_obs, round(adata.n_obs * share), per_step, max_epochs)


def _sample(adata: AnnData, phenotypes: Sequence[str], n_cells: int, layer: str | None, use_raw: bool) -> AnnData:
    """Sample cells into memory, with at least one of each category so that the network has its full size.

    Total counts in ``obs`` and ``uns["log1p"]`` are kept, because the scale of expression is detected from them.
    """
    expression = Expression.of(adata, layer, use_raw)
    rng = np.random.default_rng(0)
    rows = rng.choice(adata.n_obs, min(n_cells, adata.n_obs), replace=False)
    firsts = [np.flatnonzero(~adata.obs[name].duplicated().to_numpy()) for name in phenotypes]
    rows = np.unique(np.concatenate([rows, *firsts]))
    obs = adata.obs[list(dict.fromkeys([*phenotypes, *(name for name in DEPTHS if name in adata.obs)]))].iloc[rows]
    var = (adata.raw.var if use_raw else adata.var).reindex(columns=[RANK]).dropna(axis=1)
    uns = {"log1p": adata.uns["log1p"]} if "log1p" in adata.uns else {}
    var = pd.DataFrame(var, index=expression.var_names)
    return AnnData(expression.rows(rows), obs=obs.copy(), var=var, uns=uns)


def _extrapolate(cost: Cost, n_cells: int, n_held_out: int, per_step: int, max_epochs: int | None) -> pd.DataFrame:
    n_train, bytes_per_cell = n_cells - n_held_out, cost.lengths.mean() * BYTES_PER_ENTRY
    epochs = default_max_epochs(np.resize(cost.lengths, n_train)) if max_epochs is None else max_epochs
    steps = epochs * math.ceil(n_train / per_step)
    seconds = steps * cost.step_seconds + n_cells * cost.read_seconds
    seconds += epochs * n_held_out * cost.predict_seconds
    n_fitted = min(n_train, MAX_CELLS)
    seconds += cost.path_seconds + n_fitted * cost.path_cell_seconds
    most_bytes = max(cost.train_bytes, cost.path_bytes + n_fitted * cost.path_cell_bytes)  # they run in turn
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
