"""Genes whose role differs between contexts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData

from polygene_scverse._constants import POLYFUNCTIONALITY
from polygene_scverse._validate import check_notes, warn, write_notes
from polygene_scverse.model import Polygene
from polygene_scverse.tl._models import anndata_of, find


def polyfunctionality(
    adata: AnnData | MuData,
    groupby: str,
    *,
    group_key: str | None = None,
    min_cells: int = 10,
    n_permutations: int = 100,
    model: Polygene | str | Path | None = None,
    mod: str = "rna",
    seed: int = 0,
    batch_size: int = 64,
) -> None:
    """Find genes whose role differs between contexts: which say one thing of a cell here and another there.

    The role of a gene in a context is the mean state of the cells that express it minus that of all cells of the
    context, in the model's embedding (without the phenotype that the contexts are of, if the model has others). So it
    says what kind of cell expresses the gene, as far as the model's phenotypes tell kinds apart. Compared are the
    contexts of the same donor. What expression explains is taken out, and so is a move that is common to genes, and one
    that only makes a gene's role stronger or weaker.

    The null exchanges contexts within donors, so donors count and not cells, and needs five of them that have the
    gene in two contexts. Permuted values of all genes are pooled; a gene that differs between contexts in
    every donor can thus have a p-value below what its donors alone allow, on the assumption that genes which do not
    differ vary alike between donors.

    Parameters
    ----------
    adata
        Cells; genes are matched by name.
    groupby
        Obs column whose levels are the contexts, such as ``"tissue"``; cells without a value are left out.
    group_key
        Obs column of donors (or other samples) that have cells of several contexts. Without it all cells are one group:
        genes are ranked, and there is no null.
    min_cells
        Cells of a context and donor that must express a gene, else it is left out there.
    n_permutations
        Permutations of contexts within donors.
    model
        A model, or the folder it was saved to. By default the one last trained on `adata`.
    mod
        Modality to read and write, for MuData.
    seed
        Seed of the permutations.
    batch_size
        Cells per step.

    Returns
    -------
    Nothing. Writes ``uns["polygene"]["polyfunctionality"]``: a ``table`` with a row for each gene, and the arguments.
    Read it with :func:`~polygene_scverse.get.polyfunctionality`, draw it with
    :func:`~polygene_scverse.pl.polyfunctionality`.

    Raises
    ------
    ValueError
        If no model is found, if the cells are of fewer than two contexts, if no gene is expressed in two contexts of a
        donor, if no gene matches, or if expression has the wrong scale.
    KeyError
        If `groupby` or `group_key` is not an obs column.

    Warns
    -----
    UserWarning
        If there are too few donors for a null, or if the model has no other phenotype than that of the contexts.

    Examples
    --------
    >>> pgs.tl.polyfunctionality(adata, "tissue", group_key="donor")
    >>> pgs.get.polyfunctionality(adata).query("fdr < 0.05")
    """
    data, trained = anndata_of(adata, mod), find(adata, model)
    check_notes(data, POLYFUNCTIONALITY)
    found = trained.polyfunctionality(
        data,
        groupby=groupby,
        group_key=group_key,
        min_cells=min_cells,
        n_permutations=n_permutations,
        seed=seed,
        batch_size=batch_size,
    )
    known = found.n_groups > 0
    if not known.any():
        raise ValueError(
            f"`min_cells`: no gene is expressed by {min_cells} cells of two contexts of the same group. Pass a smaller "
            "number, larger contexts, or another `group_key`."
        )
    if set(trained.columns.values()) <= {groupby}:
        warn(
            f"`groupby`: the model knows no other phenotype than {groupby!r}, so that it tells no kinds of cells apart "
            "within a context, and roles say little. Train a model with another phenotype as well."
        )
    if not found.n_null:
        warn(
            f"`group_key`: no null is possible: genes are expressed in two contexts of {int(found.n_groups.max())} "
            "groups at most, and 5 are needed. Genes are ranked by shift alone; p_value and fdr are NaN."
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
