"""Confidence against accuracy."""

from __future__ import annotations

import pandas as pd
from anndata import AnnData

from polygene_scverse.get._lookup import recorded_codes, the_phenotype
from polygene_scverse.get._probabilities import probabilities
from polygene_scverse.metrics import reliability as reliability_bins


def reliability(adata: AnnData, phenotype: str | None = None, *, n_bins: int = 15) -> pd.DataFrame:
    """Confidence and accuracy of the most probable category, in bins of confidence.

    Parameters
    ----------
    adata
        Data with predictions from :func:`~polygene_scverse.tl.predict_phenotype`. Pass a subset, such as held-out
        donors, for figures that say how well calibrated predictions of new cells are.
    phenotype
        A phenotype that was predicted and is recorded in ``obs``.
        Optional if only one phenotype was predicted.
    n_bins
        Number of equally wide bins.

    Returns
    -------
    Table with a row per bin that has cells, and the columns ``lower``, ``upper``, ``n_cells``, ``confidence`` and
    ``accuracy`` (n_bins x 5 at most). Cells without a recorded value, or with one that the model does not know, are
    left out.

    Raises
    ------
    KeyError
        If the phenotype was not predicted, or is not recorded.
    ValueError
        If several phenotypes are predicted and none is named, or if the names of the categories were lost from
        ``uns``, as in a concatenation.

    Examples
    --------
    >>> pgs.get.reliability(adata[held_out], "cell_type")
    """
    phenotype = the_phenotype(adata, phenotype)
    table = probabilities(adata, phenotype)
    bins = reliability_bins(recorded_codes(adata, phenotype, list(table.columns)), table.to_numpy(), n_bins=n_bins)
    return pd.DataFrame(bins).query("n_cells > 0").reset_index(drop=True)
