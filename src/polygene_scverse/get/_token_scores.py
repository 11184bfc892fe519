"""Scores of hidden tokens."""

from __future__ import annotations

import pandas as pd
from anndata import AnnData

from polygene_scverse._constants import TOKENS
from polygene_scverse.get._lookup import token_note


def token_scores(adata: AnnData, *, key: str = TOKENS) -> pd.DataFrame:
    """Scores of hidden tokens, as :func:`~polygene_scverse.tl.score_tokens` returned them.

    Parameters
    ----------
    adata
        Data with scores from :func:`~polygene_scverse.tl.score_tokens`.
    key
        Entry of ``uns["polygene"]`` to read.

    Returns
    -------
    Table with a row for each kind of token, and accuracy, NLL (``nll``) and other scores in columns
    (n_kinds x n_scores).

    Raises
    ------
    KeyError
        If no scores are there.

    Examples
    --------
    >>> pgs.get.token_scores(adata).query("words == 'genes'")[["of", "n", "accuracy", "nll"]]
    """
    return pd.DataFrame(token_note(adata, key)["scores"]).copy()
