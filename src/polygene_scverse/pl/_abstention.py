"""Risk–coverage curve."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib.pyplot as plt
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from polygene_scverse.get import abstention as get_abstention
from polygene_scverse.get._lookup import scored_phenotypes
from polygene_scverse.pl._finish import finish
from polygene_scverse.pl._style import legend_below, palette

MARKERS: Final = {0.5: "o", 0.7: "s", 0.9: "^"}
"""Confidence levels to mark, and their markers."""


def abstention(
    adata: AnnData,
    phenotypes: str | Sequence[str] | None = None,
    *,
    ax: Axes | None = None,
    show: bool | None = None,
    save: bool | str | Path | None = None,
) -> Axes | None:
    """Plot the risk–coverage curve: the error among the cells with the highest confidence.

    One line per phenotype. The right end is the error over all cells; towards the left, cells with low confidence are
    excluded. Markers show the fraction of cells with a confidence of at least 0.5, 0.7 and 0.9.

    Parameters
    ----------
    adata
        Data with predictions from :func:`~polygene_scverse.tl.predict_phenotype`, without `min_confidence`. Pass a
        subset, such as held-out donors, for errors that hold for new cells.
    phenotypes
        Phenotypes to draw; by default all predicted phenotypes that are in obs.
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
        If a phenotype has not been predicted, or is not in obs.
    ValueError
        If cells are unassigned, or if no cell has a recorded value of a phenotype.

    Examples
    --------
    >>> pgs.pl.abstention(adata[held_out])
    """
    names = scored_phenotypes(adata, phenotypes)
    curves = {name: get_abstention(adata, name) for name in names}
    empty = [name for name, curve in curves.items() if curve.empty]
    if empty:
        raise ValueError(
            f"`phenotypes`: no cell has a recorded value of {empty} that the model knows, so there is nothing to "
            "compare with. Leave these out."
        )
    ax = plt.subplots(figsize=(4.6, 3.4 + 0.2 * len(names)), layout="constrained")[1] if ax is None else ax
    for (name, curve), color in zip(curves.items(), palette(len(curves)), strict=True):
        ax.plot(curve["answered"], curve["error"], color=color, label=name)
        for threshold, marker in MARKERS.items():
            kept = curve[curve["min_confidence"] >= threshold]
            if len(kept):
                x, y = kept["answered"].iloc[-1], kept["error"].iloc[-1]
                ax.scatter(x, y, color=color, marker=marker, s=28, zorder=3, clip_on=False)
    ax.set(xlim=(0, 1.02), xlabel="cells predicted, by confidence", ylabel="wrong predictions")
    ax.set_ylim(bottom=0)
    ax.xaxis.set_major_formatter(PercentFormatter(1))
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    grey: dict[str, Any] = {"color": "grey", "linestyle": "none"}
    handles = [*ax.get_legend_handles_labels()[0]]
    handles += [Line2D([], [], **grey, marker=m, label=f"confidence ≥ {t:g}") for t, m in MARKERS.items()]
    legend_below(ax, handles)
    ax.spines[["top", "right"]].set_visible(False)
    return finish(ax, ax, "abstention", show, save)
