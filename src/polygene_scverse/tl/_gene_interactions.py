"""Contextual states of genes, from which gene-gene matrices are read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData

from polygene_scverse._constants import GENE_INTERACTIONS, gene_cells_key, gene_states_key
from polygene_scverse._validate import check_choice, check_key_added, check_notes, shorten, warn, write_notes
from polygene_scverse.metrics._gene_interactions import Metric, gene_covariance
from polygene_scverse.model import GeneStates, Polygene
from polygene_scverse.tl._models import anndata_of, find, gene_names, genes_in_var


def gene_interactions(
    adata: AnnData | MuData,
    *,
    groupby: str | None = None,
    genes: Sequence[str] | None = None,
    metric: Metric = "cosine",
    min_cells: int = 10,
    given: str | Sequence[str] | None = None,
    key_added: str = GENE_INTERACTIONS,
    model: Polygene | str | Path | None = None,
    mod: str = "rna",
    batch_size: int = 64,
) -> None:
    """Compare genes by what the model makes of them in a context.

    The state of a gene after the last block depends on its expression and on all else that the cell shows. Its mean
    over the cells of a context that express the gene stands for the gene in this context; two genes are compared by the
    cosine of their states or by their Mahalanobis distance, which measures in units of the spread of all genes of the
    context (its covariance is shrunk as Ledoit and Wolf do).

    Similar states say that the model treats two genes alike. They are no measurement of a physical interaction.

    Parameters
    ----------
    adata
        Cells; genes are matched by name.
    groupby
        Obs column whose levels are the contexts, such as ``"cell_type"``; cells without a value are left out. By
        default all cells are one context, called ``"all"``.
    genes
        Genes of the model whose states are written; all by default. Distances do not depend on this choice.
    metric
        ``"cosine"`` similarity or ``"mahalanobis"`` distance: what :func:`~polygene_scverse.get.gene_interactions`
        and :func:`~polygene_scverse.pl.gene_interactions` take by default. Both can be had from what is written.
    min_cells
        A gene that fewer cells of a context express has no state there.
    given
        Phenotypes whose recorded value is shown to the model; by default none, so that contexts differ by expression
        alone.
    key_added
        Entry of ``uns["polygene"]`` to write, and part of the names of two entries of ``varm``.
    model
        A model, or the folder it was saved to. By default the one last trained on `adata`.
    mod
        Modality to read and write, for MuData.
    batch_size
        Cells per step.

    Returns
    -------
    Nothing. Writes ``varm["polygene_gene_interactions_states"]``, the states (n_vars x n_contexts x n_hidden; NaN for
    genes that are not the model's or have too few cells), ``varm["polygene_gene_interactions_n_cells"]`` (n_vars x
    n_contexts), and ``uns["polygene"]["gene_interactions"]``: the names of the contexts and their covariances
    (n_contexts x n_hidden x n_hidden), the genes from most to least variable, which is the order in which they are
    drawn by default, and the arguments. The matrices are computed from these when they are read: they would be many
    times as large, and take a fraction of a second for 2,000 genes.

    Raises
    ------
    ValueError
        If no model is found, if `metric` or `min_cells` is out of range, if `groupby` has no value or too many, if no
        gene matches, or if expression has the wrong scale.
    KeyError
        If `groupby` is not an obs column, or a gene is not the model's.

    Examples
    --------
    >>> pgs.tl.gene_interactions(adata, groupby="cell_type")
    >>> pgs.get.gene_interactions(adata, context="B cell", metric="mahalanobis")
    >>> pgs.pl.gene_interactions(adata, context="B cell")
    """
    check_choice(metric, ("cosine", "mahalanobis"), "metric")
    if min_cells < 1:
        raise ValueError(f"`min_cells`: found {min_cells}, but a state is the mean of one cell at least.")
    check_key_added(key_added, GENE_INTERACTIONS)
    data = anndata_of(adata, mod)
    check_notes(data, key_added, like=GENE_INTERACTIONS)
    trained = find(adata, model)
    if genes is not None and (absent := sorted(set(genes) - set(trained.genes))):
        raise KeyError(f"`genes`: {shorten(absent)} not among the genes of the model. Pass some of model.genes.")
    found = trained.get_gene_states(data, groupby=groupby, given=given, batch_size=batch_size)
    means = np.where(found.n_cells[..., None] >= min_cells, found.means, np.nan)  # (contexts, genes, hidden)
    _warn_of_empty(found, means, min_cells)
    names = gene_names(data, trained)
    _warn_of_lost(found, names)
    data.varm[gene_states_key(key_added)] = _by_var(means, found.genes, names, genes, np.nan)
    data.varm[gene_cells_key(key_added)] = _by_var(found.n_cells, found.genes, names, genes, 0)
    note: dict[str, Any] = {
        "contexts": found.contexts,
        "most_variable": list(genes_in_var(data, trained, found.genes)[1]),
        "covariance": np.stack([gene_covariance(x[~np.isnan(x[:, 0])]) for x in means]),
        "groupby": groupby or "",
        "metric": metric,
        "min_cells": min_cells,
    }
    write_notes(data, **{key_added: note})


def _by_var(
    values: np.ndarray, model_genes: Sequence[str], var_names: pd.Index, genes: Sequence[str] | None, fill: float
) -> np.ndarray:
    """Values of genes, shape (n_contexts, n_genes, ...), in the order of var; shape (n_vars, n_contexts, ...)."""
    at = pd.Index(model_genes).get_indexer(var_names)
    wanted = (at >= 0) & (True if genes is None else var_names.isin(list(genes)))
    table = np.full((len(var_names), len(values), *values.shape[2:]), fill, dtype=values.dtype)
    table[wanted] = values.swapaxes(0, 1)[at[wanted]]
    return table


def _warn_of_empty(found: GeneStates, means: np.ndarray, min_cells: int) -> None:
    empty = [name for name, x in zip(found.contexts, means, strict=True) if np.isnan(x).all()]
    if empty:
        warn(
            f"`min_cells`: no gene is expressed in {min_cells} cells of {shorten(empty)}; there are no states of genes "
            "in these contexts. Pass a smaller number, or other contexts."
        )


def _warn_of_lost(found: GeneStates, var_names: pd.Index) -> None:
    seen = pd.Index(found.genes)[np.flatnonzero(found.n_cells.any(axis=0))]
    if len(lost := seen.difference(var_names)):
        warn(
            f"{len(lost)} genes of the model, e.g. {shorten(lost, 3)}, are in adata.raw but not in adata.var_names, so "
            "that their states have no place. Pass adata.raw.to_adata() and a model of it to keep them."
        )
