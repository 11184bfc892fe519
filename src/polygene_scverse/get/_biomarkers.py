"""Genes associated with a phenotype in several contexts, or in one, as a table."""

from __future__ import annotations

import pandas as pd
from anndata import AnnData

from polygene_scverse._constants import BIOMARKERS
from polygene_scverse._validate import check_choice, label_of
from polygene_scverse.get._lookup import result_of


def biomarkers(
    adata: AnnData,
    category: str | None = None,
    *,
    fdr: float = 0.05,
    n_top: int = 50,
    by_context: bool = False,
) -> pd.DataFrame:
    """Return the genes that support a category, and the number of contexts in which they do.

    A gene supports a category in a context if its score is positive and its expression is higher in the category, if
    its score is among the `n_top` highest of the context, and, if a test was possible, if its FDR is below `fdr`.

    Parameters
    ----------
    adata
        Data on which :func:`~polygene_scverse.tl.biomarkers` was called.
    category
        A category of the phenotype; all by default.
    fdr
        Threshold of the false discovery rate within a context.
    n_top
        Number of genes with the highest scores to consider in each context.
    by_context
        Whether to return the scores of each context instead.

    Returns
    -------
    Table with a row for each gene and category and the columns ``gene``, ``category``, ``n_contexts`` (number of
    contexts in which the gene supports the category), ``contexts`` (their names), ``n_scored`` (number of contexts in
    which the category has a score), ``n_tested`` (number of contexts in which it was also tested) and ``score`` (mean
    over contexts of the score divided by the highest score of the context), sorted by ``n_contexts``. With
    `by_context`, a row for each gene, category and context, and the columns ``gene``, ``category``, ``context``,
    ``score``, ``log_fold_change``, ``n_groups``, ``p_value``, ``fdr`` and ``carries`` (whether the gene supports the
    category in the context).

    Raises
    ------
    KeyError
        If there is no result.
    ValueError
        If the category is unknown.

    Examples
    --------
    >>> table = pgs.get.biomarkers(adata, "lupus")
    >>> table.query("n_contexts == 1")
    """
    stored = result_of(adata, BIOMARKERS, "pgs.tl.biomarkers(adata, ...)")
    table: pd.DataFrame = stored["table"].reset_index(drop=True)
    if category is not None:
        category = label_of(category, ())
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
        n_scored=("score", "size"),
        n_tested=("fdr", "count"),
        score=("score", "mean"),
    )
    found["n_contexts"] = found["n_contexts"].astype(int)
    return found.reset_index().sort_values(["n_contexts", "score"], ascending=False, kind="stable", ignore_index=True)
