"""Scores of the model and of baselines as a table."""

from __future__ import annotations

import pandas as pd
from anndata import AnnData

from polygene_scverse.get._lookup import note_of


def evaluation(adata: AnnData, *, by_group: bool = False) -> pd.DataFrame:
    """Return the scores of the model and of baselines on held-out groups.

    Parameters
    ----------
    adata
        Data on which :func:`~polygene_scverse.tl.evaluate` was called.
    by_group
        Whether to return the scores of each test group instead, without intervals.

    Returns
    -------
    A copy of the table of :func:`~polygene_scverse.tl.evaluate`, with a row per phenotype, method and score. The
    printed messages are in ``attrs["notes"]``. With `by_group`, the columns are ``phenotype``, ``group``, ``method``,
    ``score``, ``value`` and ``n_cells``.

    Raises
    ------
    KeyError
        If there is no evaluation, or if `by_group` is True but the evaluation was made without groups.

    Examples
    --------
    >>> table = pgs.get.evaluation(adata)
    >>> table.pivot_table(index=["phenotype", "method"], columns="score", values="value")
    """
    stored = note_of(adata, "evaluate")
    if stored is None:
        raise KeyError(
            "`adata`: no evaluation is stored in adata.uns['polygene']['evaluate']. Call "
            "pgs.tl.evaluate(adata, group_key=...) first."
        )
    if by_group and not len(stored["by_group"]):
        raise KeyError("`by_group`: the evaluation was made without groups. Call pgs.tl.evaluate with group_key=.")
    table = stored["by_group" if by_group else "table"].reset_index(drop=True)
    table.attrs["notes"] = [str(sentence) for sentence in stored["notes"]]
    return table
