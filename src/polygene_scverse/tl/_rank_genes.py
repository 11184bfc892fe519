"""Genes that carry a prediction, in the form of scanpy's rank_genes_groups."""

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
from polygene_scverse._validate import check_plain_name, shorten
from polygene_scverse.model import GeneContributions, Polygene
from polygene_scverse.tl._models import anndata_of, find, genes_in_var


def rank_genes(
    adata: AnnData | MuData,
    phenotype: str | None = None,
    *,
    groupby: str | None = None,
    n_genes: int | None = None,
    n_cells: int = 10,
    key_added: str = RANK_GENES,
    model: Polygene | str | Path | None = None,
    mod: str = "rna",
    seed: int = 0,
    batch_size: int = 64,
) -> None:
    """Rank the genes that carry the prediction of each category of a phenotype.

    The contribution of a gene in a cell is what its expression adds to the logit of a category, minus what it adds to
    the logits of the others: for the linear path its weight times the expression, for the transformer the change when
    the gene is removed. The score of a gene is its mean contribution in the cells of the category minus that in the
    other cells. A positive score means that expression of the gene is evidence for the category, a negative one that it
    is evidence against it.

    Scores describe this model. If several genes carry the same information the model may use only one of them, so a low
    score does not mean that a gene is not a marker. To find markers, use Wilcoxon tests
    (:func:`scanpy.tl.rank_genes_groups`), which agree better between donors (``docs/genes_in_context.md``).

    Parameters
    ----------
    adata
        Cells; genes are matched by name.
    phenotype
        A phenotype of the model. By default the cell type, if a phenotype has one of the usual names of it, else the
        first phenotype.
    groupby
        Obs column that says which category each cell is of. By default the recorded phenotype, or, where there is none,
        the predicted one that :func:`~polygene_scverse.tl.predict_phenotype` wrote.
    n_genes
        Genes of each category that are written; all that are measured by default.
    n_cells
        Cells of each category, at most, in which genes are removed for the transformer. Time grows with this number
        times the number of genes that a cell expresses; the linear path is computed on all cells.
    key_added
        Entry of ``uns`` to write.
    model
        A model, or the folder it was saved to. By default the one last trained on `adata`.
    mod
        Modality to read and write, for MuData.
    seed
        Seed of the draw of cells.
    batch_size
        Cells per step.

    Returns
    -------
    Nothing. Writes ``uns["polygene_rank_genes"]`` as :func:`scanpy.tl.rank_genes_groups` does: ``names``, ``scores``,
    ``logfoldchanges`` (log2 of the ratio of mean expression), and ``pvals`` and ``pvals_adj``, which are NaN because
    nothing is tested; in ``params`` the `groupby` and `phenotype`. :func:`scanpy.get.rank_genes_groups_df` and
    scanpy's plots read it with ``key="polygene_rank_genes"``.

    Raises
    ------
    ValueError
        If no model is found, if the phenotype is not the model's, if `adata` holds fewer than two of its categories, if
        the entry of ``uns`` holds something else, if no gene matches, or if expression has the wrong scale.
    KeyError
        If `groupby` is not an obs column.

    Examples
    --------
    >>> pgs.tl.rank_genes(adata, "cell_type")
    >>> sc.pl.rank_genes_groups_dotplot(adata, key="polygene_rank_genes", n_genes=5)
    """
    check_plain_name(key_added, "key_added")
    data = anndata_of(adata, mod)
    _check_entry(data, key_added)
    if n_genes is not None and n_genes < 1:
        raise ValueError(f"`n_genes`: found {n_genes}, but at least one gene is needed. Pass 1 or more, or None.")
    trained = find(adata, model)
    name = trained.reference_phenotype if phenotype is None else phenotype
    column = _groupby(data, trained, name) if groupby is None else groupby
    found = trained.gene_contributions(
        data, phenotype=name, groupby=column, n_cells=n_cells, seed=seed, batch_size=batch_size
    )
    params = {"groupby": column, "reference": "rest", "method": PACKAGE, "use_raw": False, "phenotype": name}
    data.uns[key_added] = {
        "params": params | {"n_cells": n_cells},
        **_tables(found, *genes_in_var(data, trained, found.genes), n_genes),
    }


def _groupby(data: AnnData, trained: Polygene, name: str) -> str:
    """The column of the recorded phenotype, or else of the predicted one."""
    columns = [trained.columns.get(name, name), prediction_key(name)]
    for column in columns:
        if column in data.obs:
            return column
    raise ValueError(
        f"`groupby`: neither of {columns} is among the columns of adata.obs. Call pgs.tl.predict_phenotype first, or "
        "pass the column that holds the categories."
    )


def _check_entry(data: AnnData, key: str) -> None:
    """Refuse to write over what another function wrote."""
    entry = data.uns.get(key)
    params = entry.get("params", {}) if isinstance(entry, Mapping) else {}
    if entry is not None and params.get("method") != PACKAGE:
        raise ValueError(
            f"`key_added`: adata.uns[{key!r}] holds what pgs.tl.rank_genes did not write, and would "
            "be overwritten. Pass another name."
        )


def _tables(
    found: GeneContributions, there: NDArray[np.int64], names: pd.Index, n_genes: int | None
) -> dict[str, NDArray[Any]]:
    """Genes of each category from the highest score to the lowest, as arrays with a field for each category.

    Parameters
    ----------
    found
        The scores.
    there, names
        As `genes_in_var` returns them.
    n_genes
        How many are kept.
    """
    if not len(there):
        raise ValueError(
            f"`adata`: the genes that were read, {shorten(found.genes, 3)}, are in adata.raw but not in "
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
