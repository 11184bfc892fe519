"""Gene-gene matrices of a context."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from polygene_scverse._constants import GENE_INTERACTIONS, UNS, gene_states_key
from polygene_scverse._validate import check_choice, check_names, shorten
from polygene_scverse.get._lookup import note_of
from polygene_scverse.metrics import gene_interactions as compare
from polygene_scverse.metrics._gene_interactions import Metric


def gene_interactions(
    adata: AnnData,
    context: str | None = None,
    *,
    genes: Sequence[str] | None = None,
    metric: Metric | None = None,
    key: str = GENE_INTERACTIONS,
) -> pd.DataFrame:
    """Return the pairwise similarity of genes in a context.

    Parameters
    ----------
    adata
        Data with states of genes from :func:`~polygene_scverse.tl.gene_interactions`.
    context
        A level of `groupby` in :func:`~polygene_scverse.tl.gene_interactions`. Optional if there is only one.
    genes
        Genes to compare, in this order. By default those with a state in the context, in the order of
        ``adata.var_names``.
    metric
        ``"cosine"`` similarity or ``"mahalanobis"`` distance; by default that of
        :func:`~polygene_scverse.tl.gene_interactions`.
    key
        Key of ``uns["polygene"]`` to read from.

    Returns
    -------
    Symmetric table (n_genes x n_genes), with NaN for genes in `genes` that have no state in the context.

    Raises
    ------
    KeyError
        If there are no gene states, if the context is unknown, or if a gene is not in ``adata.var_names``.
    ValueError
        If there are several contexts and `context` is None, if `metric` is unknown, or if no gene has a state.

    Examples
    --------
    >>> pgs.get.gene_interactions(adata, "B cell")["CD79A"].nlargest(10)
    """
    note = _note(adata, key)
    context = _context(note, context)
    chosen: Metric = note["metric"] if metric is None else metric
    check_choice(chosen, ("cosine", "mahalanobis"), "metric")
    number = [str(name) for name in note["contexts"]].index(context)
    names = adata.var_names if genes is None else pd.Index(list(dict.fromkeys(map(str, check_names(genes, "genes")))))
    if len(absent := names.difference(adata.var_names)):
        raise KeyError(f"`genes`: {shorten(absent)} are not in adata.var_names. Pass only names in it.")
    states = np.asarray(adata.varm[gene_states_key(key)])[adata.var_names.get_indexer(names), number]
    known = ~np.isnan(states[:, 0])
    if not known.any():
        raise ValueError(
            f"`context`: none of these {len(names)} genes has a state in {context!r}: {int(note['min_cells'])} of its "
            "cells must express a gene. Pass other genes, or call pgs.tl.gene_interactions with a smaller min_cells."
        )
    covariance = note["covariance"][number] if chosen == "mahalanobis" else None
    table = pd.DataFrame(compare(states[known], metric=chosen, covariance=covariance), names[known], names[known])
    return table if genes is None else table.reindex(index=names, columns=names)


def _note(adata: AnnData, key: str) -> Mapping[str, Any]:
    note = note_of(adata, key)
    if note is None or gene_states_key(key) not in adata.varm:
        raise KeyError(
            f"`key`: no gene states found; adata.uns[{UNS!r}][{key!r}] and adata.varm[{gene_states_key(key)!r}] are "
            "needed. Call pgs.tl.gene_interactions(adata) first."
        )
    return note


def _context(note: Mapping[str, Any], context: str | None) -> str:
    contexts = [str(name) for name in note["contexts"]]
    if context is None and len(contexts) > 1:
        raise ValueError(f"`context`: there are {len(contexts)}, {shorten(contexts)}. Pass one of them.")
    context = contexts[0] if context is None else str(context)
    if context not in contexts:
        raise KeyError(f"`context`: {context!r} is not among {shorten(contexts, 20)}. Pass one of them.")
    return context
