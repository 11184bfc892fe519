"""Recorded and predicted categories as a table."""

from __future__ import annotations

import pandas as pd
from anndata import AnnData

from polygene_scverse._constants import confidence_key, prediction_key
from polygene_scverse.get._lookup import (
    check_predicted,
    codes_among,
    model_categories,
    recorded_column,
    recorded_labels,
    the_phenotype,
)


def predictions(adata: AnnData, phenotype: str | None = None) -> pd.DataFrame:
    """Return the recorded and the predicted category of each cell, and the confidence.

    Parameters
    ----------
    adata
        Data with predictions from :func:`~polygene_scverse.tl.predict_phenotype`.
    phenotype
        A predicted phenotype. Optional if only one phenotype was predicted.

    Returns
    -------
    Table with a row per cell (n_obs x 3) and the columns ``recorded`` (if obs has the phenotype; missing values are
    NaN), ``predicted`` and ``confidence``. ``recorded`` and ``predicted`` have the same categories, so that they can be
    compared: those of the model, followed by categories that only occur in obs.

    Raises
    ------
    KeyError
        If the phenotype has not been predicted.
    ValueError
        If several phenotypes have been predicted and `phenotype` is None, or if predicted categories are not those in
        ``uns``, because they were renamed.

    Examples
    --------
    >>> table = pgs.get.predictions(adata, "cell_type")
    >>> wrong = table[table["recorded"] != table["predicted"]]
    """
    phenotype = the_phenotype(adata, phenotype)
    check_predicted(adata, phenotype)
    categories = model_categories(adata, phenotype)
    column = recorded_column(adata, phenotype)
    recorded = None if column is None else recorded_labels(adata.obs[column], categories)
    if recorded is not None:
        categories += sorted(set(recorded.dropna()) - set(categories))
    columns = {
        "recorded": recorded,
        "predicted": adata.obs[prediction_key(phenotype)].astype(object),
        "confidence": adata.obs[confidence_key(phenotype)],
    }
    table = pd.DataFrame({name: column for name, column in columns.items() if column is not None})
    for name in {"recorded", "predicted"} & set(table):
        table[name] = pd.Categorical.from_codes(codes_among(table[name], categories), pd.Index(categories))
    return table
