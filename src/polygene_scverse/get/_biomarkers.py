"""Genes that carry a phenotype in several contexts, or in one, as a table."""

from __future__ import annotations

import pandas as pd
from anndata import AnnData

from polygene_scverse._constants import BIOMARKERS, UNS
from polygene_scverse._validate import check_choice, notes_of


def biomarkers(
    adata: AnnData,
    category: str | None = None,
    *,
    fdr: float = 0.05,
    n_top: int = 50,
    by_context: bool = False,
) -> pd.DataFrame:
    """Genes that carry a category of a phenotype, and in how many contexts they do.

    A gene carries a category in a context if its expression speaks for the category (its score is positive, and it is
    higher there), if it is among the `n_top` highest scores of the context, and, where there is a null, if its FDR is
    below `fdr`.

    Parameters
    ----------
    adata
        Data that :func:`~polygene_scverse.tl.biomarkers` was called with.
    category
        A category of the phenotype; all by default.
    fdr
        False discovery rate, within a context.
    n_top
        Highest scores of each context that count.
    by_context
        Whether to return the scores of each context instead.

    Returns
    -------
    A row for each gene and category that some context has, with the columns ``gene``, ``category``, ``n_contexts`` (in
    which it carries the category), ``contexts`` (their names), ``n_tested`` (contexts in which there is a score),
    and ``score`` (the mean over contexts of the score in units of the highest one of the context); genes of most
    contexts first, those of one context have ``n_contexts`` 1. With `by_context` a row for each gene, category and
    context, with the columns ``gene``, ``category``, ``context``, ``score``, ``log_fold_change``, ``n_groups``,
    ``p_value``, ``fdr`` and ``carries``.

    Raises
    ------
    KeyError
        If there is no such result.
    ValueError
        If there is no such category.

    Examples
    --------
    >>> table = pgs.get.biomarkers(adata, "lupus")
    >>> table.query("n_contexts == 1")
    """
    stored = notes_of(adata).get(BIOMARKERS)
    if stored is None:
        raise KeyError(
            f"`adata`: adata.uns[{UNS!r}][{BIOMARKERS!r}] is not there. Call pgs.tl.biomarkers(adata, ...) first."
        )
    table: pd.DataFrame = stored["table"].reset_index(drop=True)
    if category is not None:
        check_choice(category, list(dict.fromkeys(table["category"])), "category")
        table = table[table["category"] == category].reset_index(drop=True)
    of_context = table.groupby(["category", "context"], observed=True)["score"]
    high = (table["score"] > 0) & (table["log_fold_change"] > 0)
    table["carries"] = high & (of_context.rank(ascending=False) <= n_top) & ~(table["fdr"] >= fdr)
    if by_context:
        return table.sort_values("score", ascending=False, kind="stable", ignore_index=True)
    table["score"] = table["score"] / of_context.transform("max").clip(lower=1e-12)
    table["contexts"] = table["context"].where(table["carries"])
    keys = ["gene", "category"]
    found = table.groupby(keys, observed=True, sort=False).agg(
        n_contexts=("carries", "sum"),
        contexts=("contexts", lambda names: ", ".join(map(str, names.dropna()))),
        n_tested=("score", "size"),
        score=("score", "mean"),
    )
    found["n_contexts"] = found["n_contexts"].astype(int)
    return found.reset_index().sort_values(["n_contexts", "score"], ascending=False, kind="stable", ignore_index=True)
