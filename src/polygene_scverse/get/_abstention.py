"""Errors that are left when unsure cells are not answered."""

from __future__ import annotations

import pandas as pd
from anndata import AnnData

from polygene_scverse._constants import UNASSIGNED, confidence_key, prediction_key
from polygene_scverse.get._lookup import check_predicted, codes_among, model_categories, recorded_codes, the_phenotype
from polygene_scverse.metrics import risk_coverage


def abstention(adata: AnnData, phenotype: str | None = None) -> pd.DataFrame:
    """Risk–coverage curve: share of wrong predictions among the cells with the highest confidence.

    It helps to choose `min_confidence` of :func:`~polygene_scverse.tl.predict_phenotype`.

    Parameters
    ----------
    adata
        Data with predictions from :func:`~polygene_scverse.tl.predict_phenotype`, every cell answered. Pass a subset,
        such as held-out donors, for figures that hold for new cells.
    phenotype
        A phenotype that was predicted and is recorded in ``obs``.
        Optional if only one phenotype was predicted.

    Returns
    -------
    Table with a row per threshold, from the highest down: ``min_confidence``; ``answered``, the share of the cells with
    at least this confidence; ``error``, the share of these whose chosen category is not the recorded one. Cells without
    a recorded value, or with one that the model does not know, are left out.

    Raises
    ------
    KeyError
        If the phenotype was not predicted, or is not recorded.
    ValueError
        If several phenotypes are predicted and none is named, or if cells were left unassigned, because
        their most probable category is not stored.

    Examples
    --------
    >>> table = pgs.get.abstention(adata[held_out], "cell_type")
    >>> table[table["error"] <= 0.05].iloc[-1]
    """
    phenotype = the_phenotype(adata, phenotype)
    check_predicted(adata, phenotype)
    labels = adata.obs[prediction_key(phenotype)].astype(object)
    if n := int((labels == UNASSIGNED).sum()):
        raise ValueError(
            f"`adata`: {n} cells are {UNASSIGNED!r}, so their most probable category is not stored. Call "
            "pgs.tl.predict_phenotype(adata) without `min_confidence` first."
        )
    categories = model_categories(adata, phenotype)
    curve = risk_coverage(
        recorded_codes(adata, phenotype, categories),
        codes_among(labels, categories),
        adata.obs[confidence_key(phenotype)],
    )
    return pd.DataFrame(curve).set_axis(["min_confidence", "answered", "error"], axis=1)
