"""Plot shifts of gene roles against shifts of expression."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes

from polygene_scverse._constants import POLYFUNCTIONALITY, UNS
from polygene_scverse._validate import check_names, shorten
from polygene_scverse.get import polyfunctionality as get_polyfunctionality
from polygene_scverse.pl._finish import finish
from polygene_scverse.pl._style import PETROFF_10, label_points

FOUND, OTHER = PETROFF_10[2], PETROFF_10[-1]


def polyfunctionality(
    adata: AnnData,
    genes: Sequence[str] | int = 15,
    *,
    fdr: float = 0.05,
    ax: Axes | None = None,
    show: bool | None = None,
    save: bool | str | Path | None = None,
) -> Axes | None:
    """Plot the shift of each gene's role between contexts against the shift of its expression.

    Parameters
    ----------
    adata
        Data on which :func:`~polygene_scverse.tl.polyfunctionality` was called.
    genes
        Genes to label, or the number of top genes of the table to label.
    fdr
        Threshold of the false discovery rate for coloured genes.
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
        If there is no result, or a gene is not in it.

    Examples
    --------
    >>> pgs.pl.polyfunctionality(adata, ["STAT1", "IRF7"])
    """
    table, note = get_polyfunctionality(adata), adata.uns[UNS][POLYFUNCTIONALITY]
    named = list(table["gene"][:genes]) if isinstance(genes, int) else check_names(genes, "genes")
    if absent := [gene for gene in named if gene not in set(table["gene"])]:
        raise KeyError(
            f"`genes`: {shorten(absent)} are not among the genes that have a result. Pass genes of "
            "pgs.get.polyfunctionality(adata)."
        )
    ax = plt.subplots(figsize=(5.5, 4.2), layout="constrained")[1] if ax is None else ax
    found = table["fdr"] < fdr
    for part, color, size in ((~found, OTHER, 8), (found, FOUND, 14)):
        ax.scatter(table["expression_shift"][part], table["shift"][part], s=size, color=color, linewidths=0)
    labelled = pd.concat([table[table["gene"] == gene] for gene in named]) if named else table[:0]
    ax.set(xlabel="shift of expression (log1p of counts per 10,000)", ylabel="shift of role")
    null = f"{int(found.sum())} of {len(table):,} genes at FDR {fdr:g} (red), {note['n_null']} groups"
    ax.set_title(f"{note['groupby']}\n{null if note['n_null'] else 'not tested: too few groups'}", fontsize=10)
    ax.spines[["top", "right"]].set_visible(False)
    label_points(ax, labelled["expression_shift"], labelled["shift"], labelled["gene"])
    return finish(ax, ax, "polyfunctionality", show, save)
