"""Reliability of predictions as a table."""

from __future__ import annotations

import numpy as np
import pandas as pd
from anndata import AnnData

from polygene_scverse.get._lookup import is_predicted, recorded_codes, the_phenotype
from polygene_scverse.get._probabilities import probabilities
from polygene_scverse.metrics import reliability as reliability_bins


def reliability(adata: AnnData, phenotype: str | None = None, *, n_bins: int = 15) -> pd.DataFrame:
    """Return the confidence and accuracy of the most probable category, in bins of confidence.

    Parameters
    ----------
    adata
        Data with predictions from :func:`~polygene_scverse.tl.predict_phenotype`. Pass a subset, such as held-out
        donors, to see how well calibrated predictions of new cells are.
    phenotype
        A predicted phenotype that is also recorded in obs. Optional if only one phenotype was predicted.
    n_bins
        Number of bins of equal width.

    Returns
    -------
    Table with a row per non-empty bin and the columns ``lower``, ``upper``, ``n_cells``, ``confidence`` and
    ``accuracy`` (n_bins x 5 at most). Cells without a prediction or a recorded value, or with one that the model does
    not know, are excluded.

    Raises
    ------
    KeyError
        If the phenotype has not been predicted, or is not in obs.
    ValueError
        If several phenotypes have been predicted and `phenotype` is None, if predicted categories are not those in
        ``uns``, because they were renamed, or if their names are missing from ``uns``, for example after concatenation.

    Examples
    --------
    >>> pgs.get.reliability(adata[held_out], "cell_type")
    """
    phenotype = the_phenotype(adata, phenotype)
    table = probabilities(adata, phenotype)
    codes = np.where(is_predicted(adata, phenotype), recorded_codes(adata, phenotype, list(table.columns)), -1)
    bins = reliability_bins(codes, table.to_numpy(), n_bins=n_bins)
    return pd.DataFrame(bins).query("n_cells > 0").reset_index(drop=True)
