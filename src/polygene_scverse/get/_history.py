"""Training history as a table."""

from __future__ import annotations

import numpy as np
import pandas as pd
from anndata import AnnData

from polygene_scverse._constants import name_of_note
from polygene_scverse.get._lookup import training_note


def history(adata: AnnData) -> pd.DataFrame:
    """Return the losses and scores of each epoch of the last training on these data.

    Parameters
    ----------
    adata
        Data on which :func:`~polygene_scverse.tl.train` was called.

    Returns
    -------
    Table with a row per epoch, counted from 0 as in the model's ``history_``, and a column per metric (n_epochs x
    n_metrics); NaN if a metric was not computed. Metrics of training cells end in ``_train`` or begin with ``train_``,
    metrics of held-out cells contain ``validation``. The latter include ``gene_nll_validation``, the mean negative
    log-likelihood of hidden expression bins, and phenotype scores of the transformer alone. The last row has
    ``<phenotype>_accuracy_final`` and ``<phenotype>_macro_f1_final``, the scores of the finished model, which includes
    the linear path, on the held-out cells (at most 10,000). The calibration is fitted to these cells, so new donors may
    be predicted less well.

    Raises
    ------
    KeyError
        If there is no training history.

    Examples
    --------
    >>> pgs.get.history(adata)["validation_loss"].idxmin()
    """
    metrics = training_note(adata).get("history", {})
    if not len(metrics):
        raise KeyError(
            "`adata`: no training history is stored in adata.uns['polygene']['train']['history']. Call "
            "pgs.tl.train(adata) first; the history is stored in the object that it is called with."
        )
    table = pd.DataFrame({name_of_note(n): pd.Series(np.asarray(v, dtype=float)) for n, v in metrics.items()})
    return table.rename_axis(index="epoch")
