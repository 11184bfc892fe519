"""Genes that carry a category in several contexts, and in one."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes

from polygene_scverse._validate import check_choice
from polygene_scverse.get import biomarkers as get_biomarkers
from polygene_scverse.pl._finish import finish


def biomarkers(
    adata: AnnData,
    category: str | None = None,
    *,
    n_genes: int = 5,
    fdr: float = 0.05,
    ax: Axes | None = None,
    show: bool | None = None,
    save: bool | str | Path | None = None,
) -> Axes | None:
    """Draw which genes carry a category in several contexts, and which in one.

    A row for each gene: first those that carry the category in most contexts, then of each context those that carry it
    there alone. Colour is the score, in units of the highest one of the context; a dot marks the contexts in which the
    gene carries the category (see :func:`~polygene_scverse.get.biomarkers`).

    Parameters
    ----------
    adata
        Data that :func:`~polygene_scverse.tl.biomarkers` was called with.
    category
        A category of the phenotype; by default the last one.
    n_genes
        Genes of each context, and twice as many that are shared.
    fdr
        False discovery rate below which a gene counts, where there is a null.
    ax
        Axes to draw into.
    show
        Whether to show the figure; by default as ``scanpy.settings.autoshow`` says.
    save
        Whether to save the figure to ``scanpy.settings.figdir``; a name is appended to the default one, a path with a
        folder is taken as it is.

    Returns
    -------
    Axes, None if the figure is shown.

    Raises
    ------
    KeyError
        If there is no result.
    ValueError
        If there is no such category, or no gene carries it.

    Examples
    --------
    >>> pgs.pl.biomarkers(adata, "lupus")
    """
    rows = get_biomarkers(adata, category, fdr=fdr, by_context=True)
    category = sorted(rows["category"].unique())[-1] if category is None else category
    check_choice(category, sorted(rows["category"].unique()), "category")
    rows = rows[rows["category"] == category]
    contexts = sorted(rows["context"].unique())
    scores = rows.pivot(index="gene", columns="context", values="score")[contexts]
    carries = rows.pivot(index="gene", columns="context", values="carries")[contexts].fillna(value=False).astype(bool)
    scores = scores / scores.max()
    genes = _chosen(get_biomarkers(adata, category, fdr=fdr), contexts, n_genes)
    if not genes:
        raise ValueError(
            f"`category`: no gene carries {category!r} in any context at FDR {fdr:g}. Pass a higher `fdr`."
        )
    if ax is None:
        size = (1.8 + 0.32 * len(contexts), 1.6 + 0.16 * len(genes))
        ax = plt.subplots(figsize=size, layout="constrained")[1]
    image = ax.imshow(scores.loc[genes], cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
    y, x = np.nonzero(carries.loc[genes].to_numpy())
    ax.scatter(x, y, s=9, color="black", linewidths=0)
    ax.set_xticks(range(len(contexts)), contexts, rotation=90, fontsize=8)
    ax.set_yticks(range(len(genes)), genes, fontsize=7)
    ax.tick_params(length=0)
    ax.set_title(str(category), fontsize=10)
    ax.grid(visible=False)
    ax.figure.colorbar(image, ax=ax, shrink=0.6, label="score / highest of the context")
    return finish(ax, ax, "biomarkers", show, save)


def _chosen(table: pd.DataFrame, contexts: list[str], n_genes: int) -> list[str]:
    """Shared genes, then those of each context alone."""
    shared = table[table["n_contexts"] > 1]["gene"].head(2 * n_genes).tolist()
    alone = table[table["n_contexts"] == 1]
    return shared + [gene for name in contexts for gene in alone[alone["contexts"] == name]["gene"].head(n_genes)]
