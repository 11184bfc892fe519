"""Genes whose role differs between contexts, as a table."""

from __future__ import annotations

import pandas as pd
from anndata import AnnData

from polygene_scverse._constants import POLYFUNCTIONALITY
from polygene_scverse.get._lookup import result_of


def polyfunctionality(adata: AnnData) -> pd.DataFrame:
    """Return how much the role of each gene differs between contexts.

    Parameters
    ----------
    adata
        Data on which :func:`~polygene_scverse.tl.polyfunctionality` was called.

    Returns
    -------
    Table with a row for each gene that is expressed in two contexts of a group, the most significant first, and the
    columns ``gene``, ``shift`` (length of the shift that the groups have in common, after removing the part explained
    by expression, relative to the role of a median gene; 0 if groups do not agree), ``farthest`` (the context with the
    largest distance from the mean over contexts), ``expression_shift`` (difference between the highest and the lowest
    mean of a context, log1p of counts per 10,000), ``n_groups``, ``p_value`` and ``fdr`` (Benjamini–Hochberg); the last
    two are NaN if there are too few groups for a test, and genes are then ranked by ``shift``.

    Raises
    ------
    KeyError
        If there is no result.

    Examples
    --------
    >>> pgs.get.polyfunctionality(adata).query("fdr < 0.05")
    """
    stored = result_of(adata, POLYFUNCTIONALITY, "pgs.tl.polyfunctionality(adata, ...)")
    return stored["table"].reset_index(drop=True)
