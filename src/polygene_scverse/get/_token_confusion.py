"""Confusion matrix of hidden tokens."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
from anndata import AnnData

from polygene_scverse._constants import TOKENS, name_of_note, note_key
from polygene_scverse._validate import check_choice
from polygene_scverse.get._lookup import token_note


def token_confusion(
    adata: AnnData,
    phenotype: str | None = None,
    *,
    normalize: Literal["true", "pred", "all"] | None = None,
    key: str = TOKENS,
) -> pd.DataFrame:
    """Return the confusion matrix of hidden and predicted tokens.

    Parameters
    ----------
    adata
        Data with scores from :func:`~polygene_scverse.tl.score_tokens`.
    phenotype
        A phenotype; None for the expression bins of hidden genes.
    normalize
        Normalise over hidden tokens (``"true"``), predicted tokens (``"pred"``) or all tokens (``"all"``), as in
        scikit-learn. None returns counts.
    key
        Key of ``uns["polygene"]`` to read from.

    Returns
    -------
    Table with hidden tokens in rows and predicted tokens in columns (n_tokens x n_tokens). Scores, including the NLL,
    are returned by :func:`~polygene_scverse.get.token_scores`.

    Raises
    ------
    KeyError
        If there are no scores, or if the phenotype was not scored.
    ValueError
        If `normalize` is unknown.

    Examples
    --------
    >>> pgs.get.token_confusion(adata).to_csv("bins.csv")
    """
    check_choice(normalize, (None, "true", "pred", "all"), "normalize")
    note = token_note(adata, key)
    scored = [name_of_note(name) for name in note["phenotypes"]]
    if phenotype is not None and phenotype not in scored:
        raise KeyError(
            f"`phenotype`: {phenotype!r} is not one of the scored phenotypes {scored}. Pass one of them, or None for "
            "genes."
        )
    key = "" if phenotype is None else note_key(phenotype)
    counts = np.array(note["genes"] if phenotype is None else note["phenotypes"][key])
    names = [f"bin {b}" for b in range(len(counts))] if phenotype is None else list(note["categories"][key])
    return pd.DataFrame(
        _normalized(counts, normalize), index=pd.Index(names, name="hidden"), columns=pd.Index(names, name="guessed")
    )


def _normalized(counts: np.ndarray, normalize: str | None) -> np.ndarray:
    if normalize is None:
        return counts
    axis = {"true": 1, "pred": 0, "all": None}[normalize]
    total = counts.sum(axis=axis, keepdims=True)
    return np.divide(counts, total, out=np.zeros(counts.shape), where=total > 0)
