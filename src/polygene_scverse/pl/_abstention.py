"""Errors against the share of cells that are answered."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from polygene_scverse.get import abstention as get_abstention
from polygene_scverse.get._lookup import scored_phenotypes
from polygene_scverse.pl._finish import finish
from polygene_scverse.pl._style import palette


def abstention(
    adata: AnnData,
    phenotypes: str | Sequence[str] | None = None,
    *,
    ax: Axes | None = None,
    show: bool | None = None,
    save: bool | str | Path | None = None,
) -> Axes | None:
    """Draw how many answers are wrong when only the surest cells are answered.

    A line per phenotype. Its right end is the error over all cells; going left, cells are left out from the least sure
    on. Points mark what is left at a confidence of at least 0.5, 0.7 and 0.9.

    Parameters
    ----------
    adata
        Data with predictions from :func:`~polygene_scverse.tl.predict_phenotype`, every cell answered. Pass a subset,
        such as held-out donors, for a figure that holds for new cells.
    phenotypes
        Phenotypes to draw; by default all that were predicted and are recorded.
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
        If a phenotype was not predicted, or is not recorded.
    ValueError
        If cells were left unassigned, or no cell has a recorded value of a phenotype.

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
            "compare with. Leave it out."
        )
    ax = plt.subplots(figsize=(4.6, 3.6), layout="constrained")[1] if ax is None else ax
    for (name, curve), color in zip(curves.items(), palette(len(curves)), strict=True):
        ax.plot(curve["answered"], curve["error"], color=color, label=name)
        for threshold in (0.5, 0.7, 0.9):
            kept = curve[curve["min_confidence"] >= threshold]
            if len(kept):
                x, y = kept["answered"].iloc[-1], kept["error"].iloc[-1]
                ax.scatter(x, y, color=color, s=16, zorder=3)
                ax.annotate(f"{threshold:g}", (x, y), (0, 4), textcoords="offset points", ha="center", fontsize=7)
    ax.set(xlim=(0, 1.02), xlabel="cells answered, the surest first", ylabel="wrong answers among them")
    ax.set_ylim(bottom=0)
    ax.xaxis.set_major_formatter(PercentFormatter(1))
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.legend(frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    return finish(ax, ax, "abstention", show, save)
