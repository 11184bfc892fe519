"""Prediction sets as a table."""

from __future__ import annotations

import numpy as np
import pandas as pd
from anndata import AnnData

from polygene_scverse._constants import prediction_key, set_key
from polygene_scverse.get._lookup import category_table, the_phenotype


def prediction_sets(adata: AnnData, phenotype: str | None = None) -> pd.DataFrame:
    """Return the prediction set of each cell.

    Parameters
    ----------
    adata
        Data with prediction sets from ``pgs.tl.predict_phenotype(adata, coverage=0.9)``.
    phenotype
        A phenotype with prediction sets. Optional if only one phenotype was predicted.

    Returns
    -------
    Table with a row per cell (n_obs x 3): ``predicted``, the predicted category; ``categories``, a list of the
    categories in the set; ``size``, their number. A set of size 0 means that no category is as probable as true
    categories usually are in the calibration cells.

    Raises
    ------
    KeyError
        If there are no prediction sets of the phenotype.
    ValueError
        If several phenotypes have been predicted and `phenotype` is None, if predicted categories are not those in
        ``uns``, because they were renamed, or if the names of the categories are missing from ``uns`` or cells have no
        sets, for example after concatenation.

    Examples
    --------
    >>> pgs.tl.predict_phenotype(adata, coverage=0.9)
    >>> pgs.get.prediction_sets(adata, "cell_type")["size"].value_counts()
    """
    phenotype = the_phenotype(adata, phenotype)
    if prediction_key(phenotype) in adata.obs and set_key(phenotype) not in adata.obsm:
        raise KeyError(
            f"`phenotype`: {phenotype!r} was predicted without sets: adata.obsm has no {set_key(phenotype)!r}. "
            "Call pgs.tl.predict_phenotype(adata, coverage=0.9)."
        )
    table = category_table(adata, phenotype, set_key, "adata, coverage=..., model=model")
    if n_without := int(table.isna().any(axis=1).sum()):
        raise ValueError(
            f"`adata`: {n_without:,} cells have no prediction set, for example after concatenation. Pass "
            f"adata[adata.obs[{prediction_key(phenotype)!r}].notna()], or call pgs.tl.predict_phenotype(adata, "
            "coverage=..., model=model) again."
        )
    names, inside = list(table.columns), table.to_numpy(dtype=bool)
    columns = {
        "predicted": adata.obs[prediction_key(phenotype)],
        "categories": [[names[code] for code in np.flatnonzero(row)] for row in inside],
        "size": inside.sum(axis=1),
    }
    return pd.DataFrame(columns, index=adata.obs_names)
