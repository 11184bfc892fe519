"""Plot genes associated with a category in several contexts, and in one."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes

from polygene_scverse._constants import BIOMARKERS
from polygene_scverse._validate import label_of
from polygene_scverse.get import biomarkers as get_biomarkers
from polygene_scverse.get._lookup import note_of
from polygene_scverse.pl._finish import finish
from polygene_scverse.pl._style import short_name, text_width


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
    """Plot the genes that support a category in several contexts, and those specific to one.

    Each row is a gene: first the genes that support the category in most contexts, then the genes that do so in one
    context only. The colour is the score divided by the highest score of the context; dots mark contexts in which the
    gene supports the category (see :func:`~polygene_scverse.get.biomarkers`). Where nothing could be tested, dots
    do not depend on the FDR, and the title or the name of the context says "not tested".

    Parameters
    ----------
    adata
        Data on which :func:`~polygene_scverse.tl.biomarkers` was called.
    category
        Category of the phenotype; by default the last one.
    n_genes
        Number of context-specific genes per context; twice as many shared genes are drawn.
    fdr
        Threshold of the false discovery rate, if a test was possible.
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
        If there is no result.
    ValueError
        If the category is unknown, or no gene supports it.

    Examples
    --------
    >>> pgs.pl.biomarkers(adata, "lupus")
    """
    rows = get_biomarkers(adata, category, fdr=fdr, by_context=True)
    category = str(rows["category"].max() if category is None else label_of(category, ()))
    rows = rows[rows["category"] == category]
    contexts = sorted(rows["context"].unique())
    scores = rows.pivot(index="gene", columns="context", values="score")[contexts]
    carries = rows.pivot(index="gene", columns="context", values="carries")[contexts].fillna(value=False).astype(bool)
    scores = scores / scores.max()
    genes = _chosen(get_biomarkers(adata, category, fdr=fdr), contexts, n_genes)
    if not genes:
        raise ValueError(
            f"`category`: no gene supports {category!r} in any context at FDR {fdr:g}. Pass a higher `fdr`."
        )
    tested = rows.groupby("context", observed=True)["fdr"].apply(lambda values: values.notna().any())
    names = [name if tested[name] or not tested.any() else f"{name} (not tested)" for name in contexts]
    if ax is None:
        width = 1.6 + 0.32 * len(contexts) + text_width(genes, 7)
        size = (max(4.2, width), max(1.9, 0.8 + 0.16 * len(genes)) + text_width(names, 8))
        ax = plt.subplots(figsize=size, layout="constrained")[1]
    image = ax.imshow(scores.loc[genes], cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
    y, x = np.nonzero(carries.loc[genes].to_numpy())
    ax.scatter(x, y, s=9, color="black", linewidths=0)
    ax.set_xticks(range(len(contexts)), names, rotation=90, fontsize=8)
    ax.set_yticks(range(len(genes)), genes, fontsize=7)
    ax.tick_params(length=0)
    why = "too few groups" if note_of(adata, BIOMARKERS).get("group_key") else "no group_key"
    dot = f"FDR < {fdr:g}" if tested.any() else f"not tested: {why}"
    ax.set_title(f"{short_name(category)}\n• gene supports it ({dot})", fontsize=9)
    ax.grid(visible=False)
    ax.figure.colorbar(image, ax=ax, label="score / highest\nof the context")
    return finish(ax, ax, "biomarkers", show, save)


def _chosen(table: pd.DataFrame, contexts: list[str], n_genes: int) -> list[str]:
    """Shared genes, then those specific to each context."""
    shared = table[table["n_contexts"] > 1]["gene"].head(2 * n_genes).tolist()
    alone = table[table["n_contexts"] == 1]
    return shared + [gene for name in contexts for gene in alone[alone["contexts"] == name]["gene"].head(n_genes)]
