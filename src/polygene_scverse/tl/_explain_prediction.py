"""Explain the prediction of each cell by its genes, as AnnData."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData

from polygene_scverse._constants import EXPLAIN_PREDICTION, UNS
from polygene_scverse._validate import check_names, shorten
from polygene_scverse.model import Polygene
from polygene_scverse.tl._models import cells_and_model, genes_in_var


def explain_prediction(
    adata: AnnData | MuData,
    cells: str | Sequence[str] | None = None,
    *,
    phenotype: str | None = None,
    category: str | None = None,
    model: Polygene | str | Path | None = None,
    gene_symbols: str | None = None,
    gene_ids: str | None = None,
    mod: str | None = None,
    batch_size: int = 128,
) -> AnnData:
    """Explain predictions of single cells by the contribution of each expressed gene to the log-odds of the category.

    The explained category is compared with its closest competitor: the category that would come nearest after removing
    the 20 genes with the strongest evidence against it. The top genes are therefore those that the prediction depends
    on, which deleting them confirms (``docs/genes_in_context.md``). For genes that distinguish a category from all
    others, use :func:`~polygene_scverse.tl.rank_genes`.

    The contribution of a gene is what would be lost if the cell did not express it. For the linear path, this is weight
    times expression; the transformer is run once for each gene it reads, which takes up to a second per cell.

    Contributions describe this model. If several genes carry the same information, it may use only one of them.

    Parameters
    ----------
    adata
        Cells; genes are matched by name.
    cells
        Names of the cells, as in ``obs_names``; all by default.
    phenotype
        A phenotype of the model. By default the cell type, if a phenotype has one of its common names, otherwise the
        first phenotype.
    category
        Category to explain, whether or not it is predicted. By default the one that
        :func:`~polygene_scverse.tl.predict_phenotype` predicts for each cell.
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
    New AnnData (cells x genes of the model). ``X`` (sparse) contains the contribution of each gene to the log-odds
    (natural logarithm), 0 where it is not expressed. ``obs`` has the columns ``"category"`` (explained), ``"against"``
    (compared with) and ``"probability"``. ``uns["polygene"]["explain_prediction"]`` contains the phenotype. `adata` is
    not changed.

    Raises
    ------
    ValueError
        If no model is found, if the model does not have the phenotype or category, if `cells` is empty, if no gene
        matches, or if expression has the wrong scale.
    KeyError
        If a cell is not in ``obs_names``.

    Examples
    --------
    >>> why = pgs.tl.explain_prediction(adata, adata.obs_names[:5])
    >>> why.to_df().iloc[0].nlargest(10)
    """
    data, trained = cells_and_model(adata, model, mod)
    name = trained.reference_phenotype if phenotype is None else phenotype
    rows = _rows(data, cells)
    found = trained.explain_prediction(
        data,
        phenotype=name,
        category=category,
        indices=rows,
        gene_symbols=gene_symbols,
        gene_ids=gene_ids,
        batch_size=batch_size,
    )
    there, var_names = genes_in_var(data, trained, trained.genes, gene_symbols, gene_ids)
    known = np.array(trained.categories[name], dtype=object)
    obs = pd.DataFrame(
        {
            "category": pd.Categorical(known[found.codes], categories=known),
            "against": pd.Categorical(known[found.against], categories=known),
            "probability": found.probabilities[np.arange(len(found.codes)), found.codes],
        },
        index=data.obs_names if rows is None else data.obs_names[rows],
    )
    result = AnnData(found.contributions[:, there], obs=obs, var=pd.DataFrame(index=var_names))
    result.uns[UNS] = {EXPLAIN_PREDICTION: {"phenotype": name}}
    return result


def _rows(data: AnnData, cells: str | Sequence[str] | None) -> np.ndarray | None:
    """Row numbers of cells by name; None for all cells."""
    if cells is None:
        return None
    names = pd.Index(check_names(cells, "cells"))
    if not len(names):
        raise ValueError("`cells`: found none, but at least one is needed. Pass names of cells, or None for all.")
    if absent := sorted(set(names) - set(data.obs_names)):
        raise KeyError(f"`cells`: {shorten(absent)} are not in adata.obs_names. Pass names of cells, or None for all.")
    if not data.obs_names.is_unique:
        return np.flatnonzero(data.obs_names.isin(names))
    return data.obs_names.get_indexer(names)
