"""Genes whose role differs between contexts, as a table."""

from __future__ import annotations

import pandas as pd
from anndata import AnnData

from polygene_scverse._constants import POLYFUNCTIONALITY, UNS
from polygene_scverse._validate import notes_of


def polyfunctionality(adata: AnnData) -> pd.DataFrame:
    """Return how much the role of each gene differs between contexts.

    Parameters
    ----------
    adata
        Data on which :func:`~polygene_scverse.tl.polyfunctionality` was called.

    Returns
    -------
    A row for each gene that is expressed in two contexts of a group, the one least compatible with the null first, with
    the columns ``gene``, ``shift`` (the length of the move that groups have in common, what expression explains left
    out, in lengths of a median gene's role; 0 where groups do not agree), ``farthest`` (the context whose role is
    farthest from the mean over contexts), ``expression_shift`` (between the highest and the lowest mean of a context,
    log1p of counts per 10,000), ``n_groups``, ``p_value`` and ``fdr`` (Benjamini and Hochberg); these two are NaN where
    there are too few groups for a null, and then genes are ranked by ``shift``.

    Raises
    ------
    KeyError
        If there is no result.

    Examples
    --------
    >>> pgs.get.polyfunctionality(adata).query("fdr < 0.05")
    """
    stored = notes_of(adata).get(POLYFUNCTIONALITY)
    if stored is None:
        raise KeyError(
            f"`adata`: adata.uns[{UNS!r}][{POLYFUNCTIONALITY!r}] is not there. Call "
            "pgs.tl.polyfunctionality(adata, ...) first."
        )
    table: pd.DataFrame = stored["table"].reset_index(drop=True)
    return table
