"""Plot a confusion matrix of hidden tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from anndata import AnnData
from matplotlib.axes import Axes

from polygene_scverse._constants import TOKENS, TRANSFORMER
from polygene_scverse.get import token_confusion as get_token_confusion
from polygene_scverse.get import token_scores
from polygene_scverse.pl._confusion import draw_matrix, used_words, with_counts
from polygene_scverse.pl._finish import finish


def token_confusion(
    adata: AnnData,
    phenotype: str | None = None,
    *,
    normalize: Literal["true", "pred", "all"] | None = "true",
    key: str = TOKENS,
    cmap: str = "Blues",
    ax: Axes | None = None,
    show: bool | None = None,
    save: bool | str | Path | None = None,
) -> Axes | None:
    """Plot the confusion matrix of hidden and predicted tokens as a heatmap.

    Tokens that were neither hidden nor predicted are not drawn. Numbers in parentheses are numbers of hidden tokens,
    and the title shows the mean negative log-likelihood (NLL). Phenotypes are predicted by the transformer alone.

    Parameters
    ----------
    adata
        Data with scores from :func:`~polygene_scverse.tl.score_tokens`.
    phenotype
        A phenotype; None for the expression bins of hidden genes.
    normalize
        Normalise over hidden tokens (``"true"``), predicted tokens (``"pred"``) or all tokens (``"all"``), as in
        scikit-learn. None shows counts.
    key
        Key of ``uns["polygene"]`` to read from.
    cmap
        Colour map.
    ax
        Axes to draw into.
    show
        Whether to show the figure; defaults to ``scanpy.settings.autoshow``.
    save
        Whether to save the figure. A string is appended to the default file name in ``scanpy.settings.figdir``; a path
        with a folder is used as is.

    Returns
    -------
    Axes, or None if the figure is shown.

    Raises
    ------
    KeyError
        If there are no scores, or if the phenotype was not scored.
    ValueError
        If `normalize` is unknown, or no token of this kind was hidden.

    Examples
    --------
    >>> pgs.pl.token_confusion(adata, "cell_type")
    """
    matrix = get_token_confusion(adata, phenotype, normalize=normalize, key=key)
    counts = get_token_confusion(adata, phenotype, key=key)
    used = used_words(counts)
    what = "hidden genes" if phenotype is None else phenotype
    if not used.any():
        raise ValueError(
            f"`phenotype`: no known token of {what!r} was hidden, so there is nothing to draw. Score "
            "cells that have recorded values."
        )
    words = {"true": "share of hidden tokens", "pred": "share of predictions", "all": "share of all hidden tokens"}
    ax = draw_matrix(
        with_counts(matrix.loc[used, used], counts.sum(axis=1)[used]),
        ax=ax,
        cmap=cmap,
        vmax=1 if normalize in ("true", "pred") else None,
        title=_title(adata, phenotype, key),
        labels=("predicted", "hidden (tokens)", words.get(normalize or "", "hidden tokens")),
    )
    return finish(ax, ax, "token_confusion", show, save)


def _title(adata: AnnData, phenotype: str | None, key: str) -> str:
    """Kind of hidden tokens, and their mean NLL."""
    tokens, of = ("genes", "") if phenotype is None else ("phenotypes", f"{TRANSFORMER}, {phenotype}")
    title = "hidden genes" if phenotype is None else f"{phenotype}, {TRANSFORMER}"
    scores = token_scores(adata, key=key)
    if "nll" not in scores:  # written by an older version
        return title
    return f"{title}: NLL {scores.loc[(scores['tokens'] == tokens) & (scores['of'] == of), 'nll'].item():.3g}"
