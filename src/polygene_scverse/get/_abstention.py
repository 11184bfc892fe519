"""Risk–coverage curve."""

from __future__ import annotations

import pandas as pd
from anndata import AnnData

from polygene_scverse._constants import UNASSIGNED, confidence_key, prediction_key
from polygene_scverse.get._lookup import (
    check_predicted,
    codes_among,
    is_predicted,
    model_categories,
    recorded_codes,
    the_phenotype,
)
from polygene_scverse.metrics import risk_coverage


def abstention(adata: AnnData, phenotype: str | None = None) -> pd.DataFrame:
    """Return the risk–coverage curve: the error among the cells with the highest confidence.

    Use it to choose `min_confidence` of :func:`~polygene_scverse.tl.predict_phenotype`.

    Parameters
    ----------
    adata
        Data with predictions from :func:`~polygene_scverse.tl.predict_phenotype`, without `min_confidence`. Pass a
        subset, such as held-out donors, for errors that hold for new cells.
    phenotype
        A predicted phenotype that is also recorded in obs. Optional if only one phenotype was predicted.

    Returns
    -------
    Table with a row per threshold, in decreasing order, and the columns ``min_confidence``, ``answered`` (fraction of
    cells with at least this confidence) and ``error`` (fraction of these whose predicted category is not the recorded
    one). Cells without a prediction or a recorded value, or with one that the model does not know, are excluded.

    Raises
    ------
    KeyError
        If the phenotype has not been predicted, or is not in obs.
    ValueError
        If several phenotypes have been predicted and `phenotype` is None, if cells are unassigned, because their most
        probable category is not stored, or if predicted categories are not those in ``uns``, because they were renamed.

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
            f"`adata`: {n} cells are {UNASSIGNED!r}, so their most probable category is not known. Call "
            "pgs.tl.predict_phenotype(adata) without `min_confidence` first."
        )
    categories = model_categories(adata, phenotype)
    there = is_predicted(adata, phenotype)
    curve = risk_coverage(
        recorded_codes(adata, phenotype, categories)[there],
        codes_among(labels, categories)[there],
        adata.obs[confidence_key(phenotype)][there],
    )
    return pd.DataFrame(curve).set_axis(["min_confidence", "answered", "error"], axis=1)
