"""Confusion matrix."""

from __future__ import annotations

from typing import Literal

import pandas as pd
from anndata import AnnData

from polygene_scverse._validate import check_choice
from polygene_scverse.get._lookup import not_recorded, the_phenotype
from polygene_scverse.get._predictions import predictions
from polygene_scverse.metrics import confusion_matrix


def confusion(
    adata: AnnData, phenotype: str | None = None, *, normalize: Literal["true", "pred", "all"] | None = None
) -> pd.DataFrame:
    """Return the confusion matrix of recorded and predicted categories.

    Parameters
    ----------
    adata
        Data with predictions from :func:`~polygene_scverse.tl.predict_phenotype`. Pass a subset, such as held-out
        donors, to see how well new cells are predicted.
    phenotype
        A predicted phenotype that is also recorded in obs. Optional if only one phenotype was predicted.
    normalize
        Normalise over recorded categories (``"true"``), predicted categories (``"pred"``) or all cells (``"all"``), as
        in scikit-learn. None returns counts.

    Returns
    -------
    Table with recorded categories in rows and predicted ones in columns (n_categories x n_categories). Cells without a
    recorded value are excluded. Categories are those of the model, followed by categories that only occur in obs.

    Raises
    ------
    KeyError
        If the phenotype has not been predicted, or is not in obs.
    ValueError
        If several phenotypes have been predicted and `phenotype` is None, if `normalize` is unknown, or if predicted
        categories are not those in ``uns``, because they were renamed.

    Examples
    --------
    >>> pgs.get.confusion(adata, "cell_type", normalize="true")
    """
    phenotype = the_phenotype(adata, phenotype)
    check_choice(normalize, (None, "true", "pred", "all"), "normalize")
    table = predictions(adata, phenotype)
    if "recorded" not in table:
        raise not_recorded(adata, phenotype)
    categories = list(table["recorded"].cat.categories)
    matrix = confusion_matrix(
        table["recorded"].cat.codes,
        table["predicted"].cat.codes,
        n_categories=len(categories),
        normalize=normalize,
    )
    return pd.DataFrame(
        matrix, index=pd.Index(categories, name="recorded"), columns=pd.Index(categories, name="predicted")
    )
