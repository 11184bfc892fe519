"""Embed genes by context."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData

from polygene_scverse._constants import GENE_EMBEDDINGS, UNS
from polygene_scverse._validate import check_whole
from polygene_scverse.model import GeneStates, Polygene
from polygene_scverse.tl._models import cells_and_model, requested_genes

logger = logging.getLogger(__name__)


def gene_embeddings(
    adata: AnnData | MuData,
    *,
    groupby: str | None = None,
    group_key: str | None = None,
    genes: Sequence[str] | None = None,
    min_cells: int = 10,
    given: str | Sequence[str] | None = None,
    model: Polygene | str | Path | None = None,
    gene_symbols: str | None = None,
    gene_ids: str | None = None,
    mod: str | None = None,
    batch_size: int = 128,
) -> AnnData:
    """Embed genes by context, for example the same gene in several cell types.

    The embedding of a gene in a context is its hidden state after the last transformer block, averaged over the cells
    of the context that express it. It depends on the gene, its expression and all other genes that the cells express.

    Much of the distance between two contexts is common to all genes, because all genes are seen in the same cells.
    Compare genes within a context, or the shift of one gene with those of others. A distance is not a test for a change
    of function.

    Parameters
    ----------
    adata
        Cells. Genes are matched by name.
    groupby
        Obs column of contexts, such as ``"cell_type"``; cells without a value are excluded. By default all cells form
        one context, ``"all"``.
    group_key
        Obs column of groups (donors, samples). The result then has a row for each gene, context and group, so that
        differences between contexts can be compared with those between donors.
    genes
        Genes of the model; by default all. Genes that too few cells express have no row.
    min_cells
        Minimum number of cells of a context (and group) that express a gene.
    given
        Phenotypes whose recorded values are shown to the model; by default none, so that contexts differ by expression
        alone.
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
    New AnnData with a row for each gene in each context. ``X`` holds the states (n_rows x n_hidden), and ``obs`` the
    columns ``"gene"``, ``"context"``, ``"group"`` (with `group_key`) and ``"n_cells"``; use it with
    :func:`scanpy.pp.neighbors` and other scanpy functions. ``uns["polygene"]["gene_embeddings"]`` has the arguments.
    `adata` is not changed. With 3,000 genes and 64 hidden units the result takes 0.8 MB for each context and group.

    Raises
    ------
    ValueError
        If no model is found, if `min_cells` is below 1, if no gene is expressed in enough cells, if `groupby` has no
        values or too many, if the states would take more than 4 GB, if no gene matches, or if expression has the wrong
        scale.
    KeyError
        If `groupby` or `group_key` is not an obs column, or if a gene is not in the model.

    Examples
    --------
    >>> states = pgs.tl.gene_embeddings(adata, groupby="cell_type")
    >>> sc.pp.neighbors(states, use_rep="X")
    >>> sc.tl.umap(states)
    >>> sc.pl.umap(states, color="context")
    """
    check_whole(min_cells, "min_cells", 1)
    data, trained = cells_and_model(adata, model, mod)
    wanted = np.isin(trained.genes, requested_genes(trained, genes))
    found = trained.get_gene_states(
        data,
        groupby=groupby,
        group_key=group_key,
        given=given,
        gene_symbols=gene_symbols,
        gene_ids=gene_ids,
        batch_size=batch_size,
    )
    kept = (found.n_cells >= min_cells) & wanted
    if not kept.any():
        raise ValueError(
            f"`min_cells`: no gene is expressed in {min_cells} cells of a context. Pass a smaller number, larger "
            "contexts, or other genes."
        )
    result = _as_adata(found, kept)
    logger.info("Embeddings of genes: %d rows x %d, %.3f GB.", *result.shape, 4e-9 * result.n_obs * result.n_vars)
    note = {"groupby": groupby or "", "group_key": group_key or "", "min_cells": min_cells}
    result.uns[UNS] = {GENE_EMBEDDINGS: note}
    return result


def _as_adata(found: GeneStates, kept: np.ndarray) -> AnnData:
    """One row for each gene and context to keep; `kept` has shape (n_contexts, n_genes)."""
    contexts, at = np.nonzero(kept)
    genes = np.array(found.genes, dtype=object)[at]
    columns = {"gene": genes, "context": np.array(found.contexts, dtype=object)[contexts]}
    if found.groups is not None:
        columns["group"] = np.array(found.groups, dtype=object)[contexts]
    obs = pd.DataFrame({name: pd.Categorical(values) for name, values in columns.items()})
    obs["n_cells"] = found.n_cells[kept]
    obs.index = pd.Index([" | ".join(map(str, names)) for names in zip(*columns.values(), strict=True)])
    var = pd.DataFrame(index=[f"hidden_{i}" for i in range(found.means.shape[-1])])
    return AnnData(found.means[kept], obs=obs, var=var)
