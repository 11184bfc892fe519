"""Scores beside rivals."""

from __future__ import annotations

import pandas as pd
from anndata import AnnData

from polygene_scverse._validate import notes_of


def evaluation(adata: AnnData, *, by_group: bool = False) -> pd.DataFrame:
    """Scores of the model and its rivals on held-out groups.

    Parameters
    ----------
    adata
        Data that :func:`~polygene_scverse.tl.evaluate` was called with.
    by_group
        Whether to return the scores in each test group instead, which have no interval.

    Returns
    -------
    A copy of the table of :func:`~polygene_scverse.tl.evaluate`, a row per phenotype, method and score. What it says in
    words is in ``attrs["words"]``. With `by_group` the columns are ``phenotype``, ``group``, ``method``, ``score``,
    ``value`` and ``n_cells``.

    Raises
    ------
    KeyError
        If no evaluation is noted, or it was made without groups and `by_group` is asked for.

    Examples
    --------
    >>> table = pgs.get.evaluation(adata)
    >>> table.pivot_table(index=["phenotype", "method"], columns="score", values="value")
    """
    note = notes_of(adata).get("evaluate")
    if note is None:
        raise KeyError(
            "`adata`: no evaluation is noted, adata.uns['polygene']['evaluate'] is not there. Call "
            "pgs.tl.evaluate(adata, group_key=...) first."
        )
    if by_group and not len(note["by_group"]):
        raise KeyError("`by_group`: the evaluation was made without groups. Call pgs.tl.evaluate with group_key=.")
    table = note["by_group" if by_group else "table"].reset_index(drop=True)
    table.attrs["words"] = [str(sentence) for sentence in note["words"]]
    return table
