"""Losses and scores by epoch."""

from __future__ import annotations

import numpy as np
import pandas as pd
from anndata import AnnData

from polygene_scverse._constants import name_of_note
from polygene_scverse.get._lookup import training_note


def history(adata: AnnData) -> pd.DataFrame:
    """Losses and scores of the last training on these data.

    Parameters
    ----------
    adata
        Data that :func:`~polygene_scverse.tl.train` was called with.

    Returns
    -------
    Table with a row per epoch, counted from 0 as in the model's ``history_``, and a column per metric
    (n_epochs x n_metrics); NaN where a metric was not computed. Names that end in ``_train`` or begin with ``train_``
    belong to the training cells, with ``validation`` to the cells that were held out. Among these are
    ``gene_nll_validation``, the mean negative log-likelihood of hidden expression bins, and scores of phenotypes by the
    transformer alone. ``<phenotype>_accuracy_final`` and ``<phenotype>_macro_f1_final`` stand in the last row: they are
    those of the finished model on the held-out cells (at most 10,000), as it predicts, which uses the linear path too.
    Its share and the temperatures are fitted to these cells, so that new donors may be predicted less well.

    Raises
    ------
    KeyError
        If no training is recorded.

    Examples
    --------
    >>> pgs.get.history(adata)["validation_loss"].idxmin()
    """
    metrics = training_note(adata).get("history", {})
    if not len(metrics):
        raise KeyError(
            "`adata`: no training is recorded, adata.uns['polygene']['train']['history'] is not there. Call "
            "pgs.tl.train(adata) first; it records the training in the object that it is called with."
        )
    table = pd.DataFrame({name_of_note(n): pd.Series(np.asarray(v, dtype=float)) for n, v in metrics.items()})
    return table.rename_axis(index="epoch")
