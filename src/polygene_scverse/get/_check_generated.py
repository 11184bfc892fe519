"""Comparison of generated and real cells as a table."""

from __future__ import annotations

import pandas as pd
from anndata import AnnData

from polygene_scverse._constants import CHECK_GENERATED
from polygene_scverse._validate import check_choice
from polygene_scverse.get._lookup import result_of


def check_generated(adata: AnnData, level: str | None = None) -> pd.DataFrame:
    """Return the metrics of generated cells and of baselines.

    Parameters
    ----------
    adata
        Generated cells on which :func:`~polygene_scverse.tl.check_generated` was called.
    level
        Return only the rows of this class, or of all cells together (``"all"``). By default all rows.

    Returns
    -------
    Table with a row for each class and metric, and the columns ``level``, ``metric``, ``best``, ``n_cells``,
    ``generated``, a column for each baseline, and ``reference``, described in
    :func:`~polygene_scverse.tl.check_generated`.

    Raises
    ------
    KeyError
        If there is no result.
    ValueError
        If the class is unknown.

    Examples
    --------
    >>> pgs.get.check_generated(cells, "all").set_index("metric")[["generated", "Gaussian copula"]]
    """
    note = result_of(adata, CHECK_GENERATED, "pgs.tl.check_generated(adata, reference, groupby=...)")
    table = pd.DataFrame(note["table"])
    if level is not None:
        check_choice(level, list(dict.fromkeys(table["level"])), "level")
        table = table[table["level"] == level].reset_index(drop=True)
    return table.copy()
