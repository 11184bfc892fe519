"""Probabilities of categories as a table."""

from __future__ import annotations

import pandas as pd
from anndata import AnnData

from polygene_scverse._constants import probability_key
from polygene_scverse.get._lookup import category_table, the_phenotype


def probabilities(adata: AnnData, phenotype: str | None = None) -> pd.DataFrame:
    """Return the probability of each category of a phenotype.

    Parameters
    ----------
    adata
        Data with predictions from :func:`~polygene_scverse.tl.predict_phenotype`.
    phenotype
        A predicted phenotype. Optional if only one phenotype was predicted.

    Returns
    -------
    Table with a row per cell and a column per category (n_obs x n_categories); rows sum to 1. It is a copy of the entry
    of ``obsm``.

    Raises
    ------
    KeyError
        If the phenotype has not been predicted.
    ValueError
        If several phenotypes have been predicted and `phenotype` is None, if predicted categories are not those in
        ``uns``, because they were renamed, or if their names are missing from ``uns``, for example after concatenation.

    Examples
    --------
    >>> pgs.get.probabilities(adata, "cell_type").idxmax(axis=1)
    """
    phenotype = the_phenotype(adata, phenotype)
    return category_table(adata, phenotype, probability_key, "adata, model=model")
