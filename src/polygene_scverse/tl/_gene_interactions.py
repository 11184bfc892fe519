"""Compute states of genes by context, for gene-gene matrices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData

from polygene_scverse._constants import GENE_INTERACTIONS, gene_cells_key, gene_states_key
from polygene_scverse._validate import (
    check_choice,
    check_key_added,
    check_notes,
    check_whole,
    shorten,
    warn,
    write_notes,
)
from polygene_scverse.metrics._gene_interactions import Metric, gene_covariance
from polygene_scverse.model import GeneStates, Polygene
from polygene_scverse.tl._models import cells_and_model, gene_names, genes_in_var, requested_genes


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
    gene_symbols: str | None = None,
    gene_ids: str | None = None,
    mod: str | None = None,
    batch_size: int = 128,
) -> None:
    """Compare genes by their hidden states in each context.

    The hidden state of a gene after the last transformer block depends on its expression and on all other tokens of the
    cell. It is averaged over the cells of a context that express the gene. Two genes are compared by the cosine
    similarity of their states, or by the Mahalanobis distance with the covariance of all genes of the context
    (Ledoit–Wolf shrinkage).

    Similar states mean that the model treats two genes alike. They do not imply a physical interaction.

    Parameters
    ----------
    adata
        Cells. Genes are matched by name.
    groupby
        Obs column of contexts, such as ``"cell_type"``; cells without a value are excluded. By default all cells form
        one context, ``"all"``.
    genes
        Genes of the model whose states are written; by default all. Distances do not depend on this choice.
    metric
        ``"cosine"`` similarity or ``"mahalanobis"`` distance, the default of
        :func:`~polygene_scverse.get.gene_interactions` and :func:`~polygene_scverse.pl.gene_interactions`. Both can be
        computed from the stored states.
    min_cells
        Minimum number of cells of a context that express a gene; otherwise the gene has no state there.
    given
        Phenotypes whose recorded values are shown to the model; by default none, so that contexts differ by expression
        alone.
    key_added
        Key of ``uns["polygene"]`` to write to, and part of the names of two keys of ``varm``.
    model
        A model, or the folder it was saved to. By default the one last trained on `adata`.
    gene_symbols, gene_ids
        Columns of ``var`` with gene symbols or Ensembl ids, tried before ``var_names``. By default, genes are matched
        by name, then by common columns such as ``var["gene_ids"]``, then from symbols to Ensembl ids, see
        :meth:`~polygene_scverse.model.Polygene.gene_names`.
    mod
        Modality to use, for MuData; by default the one that the model was trained on, or ``"rna"``.
    batch_size
        Number of cells per step.

    Returns
    -------
    None. Writes ``varm["polygene_gene_interactions_states"]``, the states (n_vars x n_contexts x n_hidden; NaN for
    genes that are not in the model or have too few cells), ``varm["polygene_gene_interactions_n_cells"]`` (n_vars x
    n_contexts), and ``uns["polygene"]["gene_interactions"]``: the names of the contexts and their covariances
    (n_contexts x n_hidden x n_hidden), the genes from most to least variable, and the arguments. The gene-gene matrices
    are computed on demand, because they would be much larger than the states; this takes a fraction of a second for
    2,000 genes.

    Raises
    ------
    ValueError
        If no model is found, if `metric` is unknown, if `min_cells` is below 1, if `groupby` has no values or too many,
        if no gene matches, or if expression has the wrong scale.
    KeyError
        If `groupby` is not an obs column, or if a gene is not in the model.

    Examples
    --------
    >>> pgs.tl.gene_interactions(adata, groupby="cell_type")
    >>> pgs.get.gene_interactions(adata, context="B cell", metric="mahalanobis")
    >>> pgs.pl.gene_interactions(adata, context="B cell")
    """
    check_choice(metric, ("cosine", "mahalanobis"), "metric")
    check_whole(min_cells, "min_cells", 1)
    check_key_added(key_added, GENE_INTERACTIONS)
    data, trained = cells_and_model(adata, model, mod)
    check_notes(data, key_added, like=GENE_INTERACTIONS)
    wanted = requested_genes(trained, genes)
    found = trained.get_gene_states(
        data, groupby=groupby, given=given, gene_symbols=gene_symbols, gene_ids=gene_ids, batch_size=batch_size
    )
    means = np.where(found.n_cells[..., None] >= min_cells, found.means, np.nan)  # (contexts, genes, hidden)
    _warn_of_empty(found, means, min_cells)
    names = gene_names(data, trained, gene_symbols, gene_ids)
    _warn_of_lost(found, names)
    data.varm[gene_states_key(key_added)] = _by_var(means, found.genes, names, wanted, np.nan)
    data.varm[gene_cells_key(key_added)] = _by_var(found.n_cells, found.genes, names, wanted, 0)
    note: dict[str, Any] = {
        "contexts": found.contexts,
        "most_variable": list(genes_in_var(data, trained, found.genes, gene_symbols, gene_ids)[1]),
        "covariance": np.stack([gene_covariance(x[~np.isnan(x[:, 0])]) for x in means]),
        "groupby": groupby or "",
        "metric": metric,
        "min_cells": min_cells,
    }
    write_notes(data, **{key_added: note})


def _by_var(
    values: np.ndarray, model_genes: Sequence[str], var_names: pd.Index, genes: Sequence[str], fill: float
) -> np.ndarray:
    """Reorder gene values of shape (n_contexts, n_genes, ...) to the order of var; shape (n_vars, n_contexts, ...)."""
    at = pd.Index(model_genes).get_indexer(var_names)
    wanted = (at >= 0) & var_names.isin(genes)
    table = np.full((len(var_names), len(values), *values.shape[2:]), fill, dtype=values.dtype)
    table[wanted] = values.swapaxes(0, 1)[at[wanted]]
    return table


def _warn_of_empty(found: GeneStates, means: np.ndarray, min_cells: int) -> None:
    empty = [name for name, x in zip(found.contexts, means, strict=True) if np.isnan(x).all()]
    if empty:
        warn(
            f"`min_cells`: no gene is expressed in {min_cells} cells of {shorten(empty)}, so there are no gene states "
            "in these contexts. Pass a smaller number, or other contexts."
        )


def _warn_of_lost(found: GeneStates, var_names: pd.Index) -> None:
    seen = pd.Index(found.genes)[np.flatnonzero(found.n_cells.any(axis=0))]
    if len(lost := seen.difference(var_names)):
        warn(
            f"{len(lost)} genes of the model, e.g. {shorten(lost, 3)}, are in adata.raw but not in adata.var_names, "
            "so their states cannot be stored. Pass adata.raw.to_adata() and a model trained on it."
        )
