"""Probability of each category."""

from __future__ import annotations

import numpy as np
import pandas as pd
from anndata import AnnData

from polygene_scverse._constants import probability_key
from polygene_scverse.get._lookup import check_predicted, model_categories


def probabilities(adata: AnnData, phenotype: str) -> pd.DataFrame:
    """Probability of each category of a phenotype.

    Parameters
    ----------
    adata
        Data with predictions from :func:`~polygene_scverse.tl.predict_phenotype`.
    phenotype
        A phenotype that was predicted.

    Returns
    -------
    A copy of what is in ``obsm``: a row per cell, a column per category (n_obs x n_categories), rows sum to 1.

    Raises
    ------
    KeyError
        If the phenotype was not predicted.
    ValueError
        If the names of the categories were lost from ``uns``, as in a concatenation.

    Examples
    --------
    >>> pgs.get.probabilities(adata, "cell_type").idxmax(axis=1)
    """
    check_predicted(adata, phenotype, where="obsm", key_of=probability_key)
    values = np.array(adata.obsm[probability_key(phenotype)])  # (n_obs, n_categories)
    names = model_categories(adata, phenotype)
    if len(names) != values.shape[1]:
        raise ValueError(
            f"`adata`: adata.obsm[{probability_key(phenotype)!r}] has {values.shape[1]} columns, but {len(names)} "
            "categories are known: their names in adata.uns['polygene']['predict'] were lost, as in a concatenation. "
            "Call pgs.tl.predict_phenotype(adata, model=model) again."
        )
    return pd.DataFrame(values, index=adata.obs_names, columns=names)
