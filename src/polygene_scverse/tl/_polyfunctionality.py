"""Find genes whose role differs between contexts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData

from polygene_scverse._constants import POLYFUNCTIONALITY
from polygene_scverse._validate import check_notes, warn, write_notes
from polygene_scverse.model import Polygene
from polygene_scverse.tl._models import cells_and_model


def polyfunctionality(
    adata: AnnData | MuData,
    groupby: str,
    *,
    group_key: str | None = None,
    min_cells: int = 10,
    n_permutations: int = 100,
    model: Polygene | str | Path | None = None,
    gene_symbols: str | None = None,
    gene_ids: str | None = None,
    mod: str | None = None,
    seed: int = 0,
    batch_size: int = 128,
) -> None:
    """Find genes whose role differs between contexts, such as tissues.

    The role of a gene in a context is the mean embedding of the cells that express it minus that of all cells of the
    context, so it describes which kind of cell expresses the gene. (The phenotype that defines the contexts is excluded
    from the embedding if the model has others.) Roles are compared between contexts of the same donor, after removing
    shifts that are explained by expression, that are common to all genes, or that only make the role of a gene stronger
    or weaker.

    The permutation test exchanges contexts within donors, so that donors rather than cells are the replicates. It needs
    five donors that have the gene in two contexts. The null distribution is pooled over genes, so p-values can be
    smaller than the number of donors alone would allow; this assumes that genes which do not differ vary similarly
    between donors.

    Parameters
    ----------
    adata
        Cells. Genes are matched by name.
    groupby
        Obs column of contexts, such as ``"tissue"``; cells without a value are excluded.
    group_key
        Obs column of donors or samples with cells of several contexts. Without it, genes are ranked but not tested.
    min_cells
        Minimum number of cells of a context and donor that express a gene; otherwise the gene is excluded there.
    n_permutations
        Number of permutations of contexts within donors.
    model
        A model, or the folder it was saved to. By default the one last trained on `adata`.
    gene_symbols, gene_ids
        Columns of ``var`` with gene symbols or Ensembl ids, tried before ``var_names``. By default, genes are matched
        by name, then by common columns such as ``var["gene_ids"]``, then from symbols to Ensembl ids, see
        :meth:`~polygene_scverse.model.Polygene.gene_names`.
    mod
        Modality to use, for MuData; by default the one that the model was trained on, or ``"rna"``.
    seed
        Random seed for the permutations.
    batch_size
        Number of cells per step.

    Returns
    -------
    None. Writes ``uns["polygene"]["polyfunctionality"]``: a ``table`` with a row for each gene, and the arguments. Read
    it with :func:`~polygene_scverse.get.polyfunctionality` and plot it with
    :func:`~polygene_scverse.pl.polyfunctionality`.

    Raises
    ------
    ValueError
        If no model is found, if there are fewer than two contexts, if no gene is expressed in two contexts of a donor,
        if no gene matches, or if expression has the wrong scale.
    KeyError
        If `groupby` or `group_key` is not an obs column.

    Warns
    -----
    UserWarning
        If there are too few donors for a test, or if the model has no phenotype other than that of the contexts.

    Examples
    --------
    >>> pgs.tl.polyfunctionality(adata, "tissue", group_key="donor")
    >>> pgs.get.polyfunctionality(adata).query("fdr < 0.05")
    """
    data, trained = cells_and_model(adata, model, mod)
    check_notes(data, POLYFUNCTIONALITY)
    found = trained.polyfunctionality(
        data,
        groupby=groupby,
        group_key=group_key,
        min_cells=min_cells,
        n_permutations=n_permutations,
        seed=seed,
        gene_symbols=gene_symbols,
        gene_ids=gene_ids,
        batch_size=batch_size,
    )
    known = found.n_groups > 0
    if not known.any():
        raise ValueError(
            f"`min_cells`: no gene is expressed in {min_cells} cells of two contexts of the same group. Pass a smaller "
            "number, larger contexts, or another `group_key`."
        )
    if set(trained.columns.values()) <= {groupby}:
        warn(
            f"`groupby`: the only phenotype of the model is {groupby!r}, so it cannot distinguish kinds of cells "
            "within a context. Train a model with another phenotype as well."
        )
    if not found.n_null:
        warn(
            "`group_key`: too few groups for a test: genes are expressed in two contexts of "
            f"{int(found.n_groups.max())} groups at most, and 5 are needed. Genes are ranked by shift, and p_value "
            "and fdr are NaN."
        )
    contexts = np.array([*found.contexts, ""], dtype=object)
    table = pd.DataFrame(
        {
            "gene": found.genes,
            "shift": found.shift,
            "farthest": contexts[found.farthest],
            "expression_shift": found.expression_shift,
            "n_groups": found.n_groups,
            "p_value": found.p_value,
            "fdr": found.fdr,
        }
    )[known]
    order = np.lexsort((-table["shift"], table["p_value"].fillna(2.0)))
    table = table.iloc[order].reset_index(drop=True)
    table.index = table.index.astype(str)
    note = {"groupby": groupby, "group_key": group_key or "", "min_cells": min_cells, "contexts": found.contexts}
    write_notes(data, **{POLYFUNCTIONALITY: {"table": table, **note, "n_null": found.n_null, "seed": seed}})
