"""Confusion matrix."""

from __future__ import annotations

from typing import Literal

import pandas as pd
from anndata import AnnData

from polygene_scverse._validate import check_choice
from polygene_scverse.get._lookup import the_phenotype
from polygene_scverse.get._predictions import predictions
from polygene_scverse.metrics import confusion_matrix


def confusion(
    adata: AnnData, phenotype: str | None = None, *, normalize: Literal["true", "pred", "all"] | None = None
) -> pd.DataFrame:
    """Recorded against predicted categories.

    Parameters
    ----------
    adata
        Data with predictions from :func:`~polygene_scverse.tl.predict_phenotype`. Pass a subset, such as held-out
        donors, for figures that say how well new cells are predicted.
    phenotype
        A phenotype that was predicted and is recorded in ``obs``.
        Optional if only one phenotype was predicted.
    normalize
        ``"true"`` divides by the number of cells of each recorded category, ``"pred"`` of each predicted one, ``"all"``
        by the number of cells; None counts cells.

    Returns
    -------
    Table with recorded categories in rows and predicted ones in columns (n_categories x n_categories). Cells without a
    recorded value are left out. Categories are those of the model, then those that are recorded only.

    Raises
    ------
    KeyError
        If the phenotype was not predicted, or is not recorded.
    ValueError
        If several phenotypes are predicted and none is named, or if `normalize` is something else.

    Examples
    --------
    >>> pgs.get.confusion(adata, "cell_type", normalize="true")
    """
    phenotype = the_phenotype(adata, phenotype)
    check_choice(normalize, (None, "true", "pred", "all"), "normalize")
    table = predictions(adata, phenotype)
    if "recorded" not in table:
        raise KeyError(
            f"`phenotype`: {phenotype!r} is predicted but not recorded, adata.obs[{phenotype!r}] is not there, so "
            "there is nothing to compare with. Use pgs.get.predictions(adata, phenotype) instead."
        )
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
