"""Plot a gene-gene matrix."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from numpy.typing import NDArray
from scipy.cluster.hierarchy import dendrogram, leaves_list, linkage
from scipy.spatial.distance import squareform

from polygene_scverse._constants import GENE_INTERACTIONS, UNS, gene_cells_key
from polygene_scverse._validate import check_names, shorten
from polygene_scverse.get import gene_interactions as get_gene_interactions
from polygene_scverse.get._lookup import note_of
from polygene_scverse.pl._finish import finish
from polygene_scverse.pl._style import text_width

MOST_LABELS = 100
"""Maximum number of genes whose names are written."""
FONT = 7
HEIGHT = 0.14
"""Height of the dendrogram as a fraction of that of the heat map."""


def gene_interactions(
    adata: AnnData,
    context: str | None = None,
    *,
    genes: Sequence[str] | int | None = 50,
    metric: Literal["cosine", "mahalanobis"] | None = None,
    cluster: bool = True,
    key: str = GENE_INTERACTIONS,
    cmap: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: bool | str | Path | None = None,
) -> Axes | None:
    """Plot the similarity of genes in a context as a clustered heatmap.

    Parameters
    ----------
    adata
        Data with states of genes from :func:`~polygene_scverse.tl.gene_interactions`.
    context
        A level of `groupby` in :func:`~polygene_scverse.tl.gene_interactions`. Optional if there is only one.
    genes
        Genes to draw, or how many of the most variable genes to draw; None for all. Genes without a state in the
        context are not drawn.
    metric
        ``"cosine"`` similarity or ``"mahalanobis"`` distance; by default the one passed to
        :func:`~polygene_scverse.tl.gene_interactions`.
    cluster
        Whether to order genes by hierarchical clustering (average linkage), with a dendrogram unless `ax` is passed. If
        False, genes keep the order of `genes`, so that contexts can be compared.
    key
        Key of ``uns["polygene"]`` to read from.
    cmap
        Colour map; by default, dark means similar for both metrics.
    ax
        Axes to draw into.
    show
        Whether to show the figure; defaults to ``scanpy.settings.autoshow``.
    save
        Whether to save the figure. A string is appended to the default file name in ``scanpy.settings.figdir``; a path
        with a folder is used as is.

    Returns
    -------
    Axes of the heatmap, or None if the figure is shown.

    Raises
    ------
    KeyError
        If there are no gene states, if the context is unknown, or if a gene is not in ``adata.var_names``.
    ValueError
        If there are several contexts and `context` is None, if `metric` is unknown, or if no gene has a state.

    Examples
    --------
    >>> pgs.pl.gene_interactions(adata, "B cell", metric="mahalanobis")
    """
    note = note_of(adata, key) or {}
    metric = metric or note.get("metric", "cosine")
    matrix = get_gene_interactions(adata, context, metric=metric, key=key)
    context = str(note["contexts"][0]) if context is None else str(context)
    matrix = _chosen(adata, matrix, context, genes, key)
    tree = _tree(matrix, metric) if cluster and len(matrix) > 2 else None
    if tree is not None:
        matrix = matrix.iloc[leaves_list(tree), leaves_list(tree)]
    own = ax is None
    ax = _new_axes(list(matrix.index)) if ax is None else ax
    dark_is_high = metric == "cosine"
    image = ax.imshow(matrix, cmap=cmap or ("Blues" if dark_is_high else "Blues_r"), interpolation="nearest")
    _label(ax, list(matrix.index))
    ax.set_title(context, fontsize=12, y=1.0 + (HEIGHT if own and tree is not None else 0.0))
    if own and tree is not None:
        _draw_tree(ax, tree)
    bar = ax.figure.colorbar(image, ax=ax, shrink=0.6, aspect=25)
    bar.set_label("cosine similarity" if dark_is_high else "Mahalanobis distance", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    return finish(ax, ax, "gene_interactions", show, save)


def _chosen(
    adata: AnnData, matrix: pd.DataFrame, context: str, genes: Sequence[str] | int | None, key: str
) -> pd.DataFrame:
    """Select the genes to draw, without those that have no state."""
    if genes is None:
        return matrix
    if isinstance(genes, int):
        names = _most_variable(adata, matrix.index, context, key)[:genes]
    else:
        genes = check_names(genes, "genes")
        if absent := [gene for gene in genes if gene not in adata.var_names]:
            raise KeyError(f"`genes`: {shorten(absent)} are not in adata.var_names. Pass only names in it.")
        names = pd.Index([gene for gene in dict.fromkeys(genes) if gene in matrix.index])
    if not len(names):
        raise ValueError(
            f"`genes`: none of these has a state in {context!r}. Pass other genes, or None for all genes with a state."
        )
    return matrix.loc[names, names]


def _most_variable(adata: AnnData, genes: pd.Index, context: str, key: str) -> pd.Index:
    """Genes in the model's order, most variable first; if no order is stored, genes of most cells first."""
    note = adata.uns[UNS][key]
    if "most_variable" in note:
        ranked = pd.Index([str(gene) for gene in note["most_variable"]])
        return ranked[ranked.isin(genes)]
    number = [str(name) for name in note["contexts"]].index(context)
    n_cells = pd.Series(np.asarray(adata.varm[gene_cells_key(key)])[:, number], index=adata.var_names)
    return n_cells[genes].sort_values(ascending=False, kind="stable").index


def _tree(matrix: pd.DataFrame, metric: str) -> NDArray[np.float64]:
    """Average linkage of similar genes, in scipy's format."""
    distance = 1.0 - matrix.to_numpy() if metric == "cosine" else matrix.to_numpy()
    condensed = squareform(distance, checks=False).clip(min=0.0)
    return linkage(condensed, "average", optimal_ordering=len(matrix) <= MOST_LABELS)


def _draw_tree(ax: Axes, tree: NDArray[np.float64]) -> None:
    """Draw a dendrogram above the heat map."""
    lines = dendrogram(tree, no_plot=True)  # leaves are at 5, 15, 25, …
    above = ax.inset_axes((0.0, 1.01, 1.0, HEIGHT - 0.02))
    paths = [np.column_stack(line) for line in zip(lines["icoord"], lines["dcoord"], strict=True)]
    above.add_collection(LineCollection(paths, colors="#555555", linewidths=0.7))
    above.set_xlim(0, 10 * (len(tree) + 1))
    above.set_ylim(0, float(tree[:, 2].max()) * 1.02 or 1.0)
    above.axis("off")


def _new_axes(genes: list[str]) -> Axes:
    """Create axes with room for the names of genes."""
    if len(genes) > MOST_LABELS:
        return plt.subplots(figsize=(8.0, 7.5), layout="compressed")[1]
    squares, names = max(2.5, 0.14 * len(genes)), text_width(genes, FONT)
    return plt.subplots(figsize=(squares + names + 1.2, squares * (1 + HEIGHT) + names + 0.5), layout="compressed")[1]


def _label(ax: Axes, genes: list[str]) -> None:
    ax.grid(False)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    if len(genes) > MOST_LABELS:
        ax.set_xticks([])
        ax.set_yticks([])
        ax.set_xlabel(f"{len(genes):,} genes", fontsize=10)
        return
    ax.set_xticks(range(len(genes)), genes, fontsize=FONT, rotation=90)
    ax.set_yticks(range(len(genes)), genes, fontsize=FONT)
