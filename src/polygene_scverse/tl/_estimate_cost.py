"""Estimate the time and memory of a training before running it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from anndata import AnnData
from mudata import MuData
from rich.console import Console
from rich.table import Table

from polygene_scverse._constants import N_GENES
from polygene_scverse._validate import warn_once
from polygene_scverse.model._estimate import estimate
from polygene_scverse.tl._models import anndata_of


def estimate_cost(
    adata: AnnData | MuData,
    *,
    phenotypes: str | Sequence[str] | None = None,
    n_genes: int = N_GENES,
    layer: str | None = None,
    use_raw: bool = False,
    mod: str | None = None,
    max_epochs: int | None = None,
    n_steps: int = 20,
    verbose: bool = True,
    model_kwargs: Mapping[str, Any] | None = None,
    **train_kwargs: Any,
) -> pd.DataFrame:
    """Estimate the time and memory of training and prediction on this machine.

    A few training steps are timed on a sample of the cells.

    Parameters
    ----------
    adata
        Annotated data matrix, in memory or backed; it is not changed.
    phenotypes, n_genes, layer, use_raw, mod, max_epochs
        As for :func:`train`.
    n_steps
        Number of steps to time.
    verbose
        Whether to print a table.
    model_kwargs
        As for :func:`train`.
    **train_kwargs
        Further arguments of :func:`train`, e.g. ``batch_size``, ``validation_size``, ``accelerator``.

    Returns
    -------
    Table with the rows ``training`` and ``prediction`` and the columns ``cells``, ``epochs``, ``steps``,
    ``seconds_per_step``, ``seconds`` and ``memory_gb``. The training time includes reading, ranking genes, validation
    and fitting the linear path. The memory covers tokens, network, gradients and batches; AnnData itself and about half
    a gigabyte for the libraries are not included. These are estimates, and other processes on the machine slow down the
    timed steps.

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
    with warn_once():
        table = estimate(
            anndata_of(adata, mod), phenotypes=phenotypes, n_genes=n_genes, layer=layer, use_raw=use_raw,
            max_epochs=max_epochs, n_steps=n_steps, model_kwargs=model_kwargs, train_kwargs=train_kwargs,
        )  # fmt: skip
    if verbose:
        _print_costs(table)
    return table


def duration(seconds: float) -> str:
    """Format a duration, e.g. ``"2 h 5 min"``."""
    if seconds < 90:
        return f"{seconds:.2g} s" if seconds < 1 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def _print_costs(costs: pd.DataFrame) -> None:
    table = Table("", "cells", "epochs", "steps", "time, about", "memory, about", title="Cost on this machine")
    for name, row in costs.iterrows():
        numbers = [f"{int(row[key]):,}" for key in ("cells", "epochs", "steps")]
        table.add_row(str(name), *numbers, duration(row["seconds"]), f"{row['memory_gb']:.2g} GB")
    Console().print(table)
