"""Rank the genes that drive predictions, in the format of scanpy's rank_genes_groups."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData
from numpy.typing import NDArray

from polygene_scverse._constants import PACKAGE, RANK_GENES, prediction_key
from polygene_scverse._validate import check_choice, check_plain_name, check_whole, shorten, warn
from polygene_scverse.model import GeneContributions, Polygene
from polygene_scverse.tl._models import cells_and_model, genes_in_var


def rank_genes(
    adata: AnnData | MuData,
    phenotype: str | None = None,
    *,
    groupby: str | None = None,
    n_genes: int | None = None,
    n_cells: int = 10,
    key_added: str = RANK_GENES,
    model: Polygene | str | Path | None = None,
    gene_symbols: str | None = None,
    gene_ids: str | None = None,
    mod: str | None = None,
    seed: int = 0,
    batch_size: int = 128,
) -> None:
    """Rank the genes that drive the prediction of each category of a phenotype.

    The contribution of a gene in a cell is what its expression adds to the logit of a category, minus what it adds to
    the logits of the others: for the linear path its weight times the expression, for the transformer the change when
    the gene is removed. The score of a gene is its mean contribution in the cells of the category minus that in the
    other cells. A positive score means that expression of the gene is evidence for the category, a negative one that it
    is evidence against it.

    Scores describe the model, not the biology. If several genes carry the same information, the model may use only one
    of them, so a low score does not mean that a gene is not a marker. To find markers, use Wilcoxon tests
    (:func:`scanpy.tl.rank_genes_groups`), which are more consistent between donors (``docs/genes_in_context.md``). For
    the prediction of a single cell, use :func:`~polygene_scverse.tl.explain_prediction`.

    Parameters
    ----------
    adata
        Cells. Genes are matched by name.
    phenotype
        A phenotype of the model. By default the cell type, if a phenotype has one of its common names, otherwise the
        first phenotype.
    groupby
        Obs column with the category of each cell. By default the recorded phenotype or, if it is not in obs, the one
        predicted by :func:`~polygene_scverse.tl.predict_phenotype`.
    n_genes
        Number of genes to write for each category; by default all measured genes.
    n_cells
        Maximum number of cells per category in which genes are removed for the transformer. Run time is proportional to
        it; the linear path is computed on all cells.
    key_added
        Key of ``uns`` to write to.
    model
        A model, or the folder it was saved to. By default the one last trained on `adata`.
    gene_symbols, gene_ids
        Columns of ``var`` with gene symbols or Ensembl ids, tried before ``var_names``. By default, genes are matched
        by name, then by common columns such as ``var["gene_ids"]``, then from symbols to Ensembl ids, see
        :meth:`~polygene_scverse.model.Polygene.gene_names`.
    mod
        Modality to use, for MuData; by default the one that the model was trained on, or ``"rna"``.
    seed
        Random seed for the choice of cells.
    batch_size
        Number of cells per step.

    Returns
    -------
    None. Writes ``uns["polygene_rank_genes"]`` in the format of :func:`scanpy.tl.rank_genes_groups`: ``names``,
    ``scores``, ``logfoldchanges`` (log2 of the ratio of mean expression), ``pvals`` and ``pvals_adj`` (NaN, because
    nothing is tested), and ``params`` with `groupby` and `phenotype`. :func:`scanpy.get.rank_genes_groups_df` and
    scanpy's plots read it with ``key="polygene_rank_genes"``.

    Raises
    ------
    ValueError
        If no model is found, if the model does not have the phenotype, if `adata` has fewer than two of its categories,
        if the key of ``uns`` was written by something else, if no gene matches, or if expression has the wrong scale.
    KeyError
        If `groupby` is not an obs column.

    Examples
    --------
    >>> pgs.tl.rank_genes(adata, "cell_type")
    >>> sc.pl.rank_genes_groups_dotplot(adata, key="polygene_rank_genes", n_genes=5)
    """
    check_plain_name(key_added, "key_added")
    data, trained = cells_and_model(adata, model, mod)
    _check_entry(data, key_added)
    if n_genes is not None:
        check_whole(n_genes, "n_genes", 1)
    name = trained.reference_phenotype if phenotype is None else phenotype
    check_choice(name, list(trained.categories), "phenotype")
    column = _groupby(data, trained, name) if groupby is None else groupby
    _warn_of_numbers(data, column)
    found = trained.gene_contributions(
        data,
        phenotype=name,
        groupby=column,
        n_cells=n_cells,
        seed=seed,
        gene_symbols=gene_symbols,
        gene_ids=gene_ids,
        batch_size=batch_size,
    )
    params = {"groupby": column, "reference": "rest", "method": PACKAGE, "use_raw": False, "phenotype": name}
    data.uns[key_added] = {
        "params": params | {"n_cells": n_cells},
        **_tables(found, *genes_in_var(data, trained, found.genes, gene_symbols, gene_ids), n_genes),
    }


def _groupby(data: AnnData, trained: Polygene, name: str) -> str:
    """Column of the recorded phenotype, else of the predicted one."""
    columns = [trained.columns.get(name, name), prediction_key(name)]
    for column in columns:
        if column in data.obs:
            return column
    raise ValueError(
        f"`groupby`: none of {columns} is a column of adata.obs. Call pgs.tl.predict_phenotype first, or "
        "pass the column that holds the categories."
    )


def _warn_of_numbers(data: AnnData, column: str) -> None:
    """Warn of numbers and booleans, which the plots of scanpy do not find among the categories, which are text."""
    values = data.obs[column].dropna().unique() if column in data.obs else []
    if not all(isinstance(value, str) for value in values):
        warn(
            f"`groupby`: adata.obs[{column!r}] does not hold text, so scanpy's plots will not match its categories. "
            f"Convert it first, as in adata.obs[{column!r}] = adata.obs[{column!r}].map(str)."
        )


def _check_entry(data: AnnData, key: str) -> None:
    """Raise an error if the key belongs to another function."""
    entry = data.uns.get(key)
    params = entry.get("params", {}) if isinstance(entry, Mapping) else {}
    if entry is not None and params.get("method") != PACKAGE:
        raise ValueError(
            f"`key_added`: adata.uns[{key!r}] was not written by pgs.tl.rank_genes, and would "
            "be overwritten. Pass another name."
        )


def _tables(
    found: GeneContributions, there: NDArray[np.int64], names: pd.Index, n_genes: int | None
) -> dict[str, NDArray[Any]]:
    """Genes of each category by descending score, as structured arrays with one field per category.

    Parameters
    ----------
    found
        The scores.
    there, names
        As returned by `genes_in_var`.
    n_genes
        Number of genes to keep.
    """
    if not len(there):
        raise ValueError(
            f"`adata`: the genes of the model, {shorten(found.genes, 3)}, are in adata.raw but not in "
            "adata.var_names. Pass adata.raw.to_adata()."
        )
    tops = [np.argsort(-scores[there], kind="stable")[:n_genes] for scores in found.scores]
    orders = [there[top] for top in tops]
    labels = names.to_numpy(dtype=object)
    nan = np.full(len(orders[0]), np.nan)
    columns: dict[str, list[NDArray[Any]]] = {
        "names": [labels[top] for top in tops],
        "scores": [row[order] for row, order in zip(found.scores, orders, strict=True)],
        "logfoldchanges": [row[order] for row, order in zip(found.log_fold_changes, orders, strict=True)],
        "pvals": [nan] * len(orders),
        "pvals_adj": [nan] * len(orders),
    }
    types = {"names": "O", "scores": "float32", "logfoldchanges": "float32", "pvals": "float64", "pvals_adj": "float64"}
    return {
        key: np.rec.fromarrays(parts, dtype=[(category, types[key]) for category in found.categories])
        for key, parts in columns.items()
    }
