"""Scores of hidden tokens as a table."""

from __future__ import annotations

import pandas as pd
from anndata import AnnData

from polygene_scverse._constants import TOKENS
from polygene_scverse.get._lookup import token_note


def token_scores(adata: AnnData, *, key: str = TOKENS) -> pd.DataFrame:
    """Return the scores of hidden tokens from :func:`~polygene_scverse.tl.score_tokens`.

    Parameters
    ----------
    adata
        Data with scores from :func:`~polygene_scverse.tl.score_tokens`.
    key
        Key of ``uns["polygene"]`` to read from.

    Returns
    -------
    Table with a row for each kind of token and a column for each score, such as accuracy and NLL (n_kinds x n_scores).

    Raises
    ------
    KeyError
        If there are no scores.

    Examples
    --------
    >>> pgs.get.token_scores(adata).query("tokens == 'genes'")[["of", "n", "accuracy", "nll"]]
    """
    return pd.DataFrame(token_note(adata, key)["scores"]).copy()
