"""Probability of each category."""

from __future__ import annotations

import pandas as pd
from anndata import AnnData

from polygene_scverse._constants import probability_key
from polygene_scverse.get._lookup import category_table, the_phenotype


def probabilities(adata: AnnData, phenotype: str | None = None) -> pd.DataFrame:
    """Probability of each category of a phenotype.

    Parameters
    ----------
    adata
        Data with predictions from :func:`~polygene_scverse.tl.predict_phenotype`.
    phenotype
        A phenotype that was predicted.
        Optional if only one phenotype was predicted.

    Returns
    -------
    A copy of what is in ``obsm``: a row per cell, a column per category (n_obs x n_categories), rows sum to 1.

    Raises
    ------
    KeyError
        If the phenotype was not predicted.
    ValueError
        If several phenotypes are predicted and none is named, or if the names of the categories were lost from
        ``uns``, as in a concatenation.

    Examples
    --------
    >>> pgs.get.probabilities(adata, "cell_type").idxmax(axis=1)
    """
    phenotype = the_phenotype(adata, phenotype)
    return category_table(adata, phenotype, probability_key, "adata, model=model")
