"""Training curves."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from anndata import AnnData
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import ScaledTranslation

from polygene_scverse.get import history as get_history
from polygene_scverse.pl._finish import finish
from polygene_scverse.pl._style import palette

Lines = dict[tuple[str, str], str]
"""Column of the history by the two words of its line: that of its colour and that of its dash."""


def history(
    adata: AnnData,
    *,
    figsize: tuple[float, float] | None = None,
    show: bool | None = None,
    save: bool | str | Path | None = None,
) -> list[Axes] | None:
    """Draw the curves of the last training on these data.

    From left to right: the losses; how well the phenotypes of the held-out cells are predicted; how well their hidden
    expression bins are. Without held-out cells there are only losses.

    Parameters
    ----------
    adata
        Data that :func:`~polygene_scverse.tl.train` was called with.
    figsize
        Width and height of the figure in inches.
    show
        Whether to show the figure; by default as ``scanpy.settings.autoshow`` says.
    save
        Whether to save the figure to ``scanpy.settings.figdir``; a name is appended to the default one, a path with a
        folder is taken as it is.

    Returns
    -------
    A list of axes, None if the figure is shown.

    Raises
    ------
    KeyError
        If no training is noted.

    Examples
    --------
    >>> pgs.pl.history(adata)
    """
    table = get_history(adata)
    panels = {title: lines for title, lines in _panels(table).items() if lines}
    size = (4.3 * len(panels), 3.6) if figsize is None else figsize
    _, grid = plt.subplots(1, len(panels), figsize=size, squeeze=False, layout="constrained")
    axes = list(grid.flat)
    for ax, (title, lines) in zip(axes, panels.items(), strict=True):
        _draw(ax, table, lines)
        ax.set(title=title, xlabel="epoch")
        if title != "loss":
            ax.set_ylim(0, 1)
            ax.set_ylabel("share" if title == "held-out gene bins" else "score")
    return finish(axes[0], axes, "history", show, save)


def _panels(table: pd.DataFrame) -> dict[str, Lines]:
    """Columns of each panel, those that the history has."""
    losses: Lines = {}
    for name, prefix in (("total", ""), ("genes", "gene_"), ("phenotypes", "phenotype_")):
        losses[name, "training"] = f"{prefix}loss_train" if prefix else "train_loss"
        losses[name, "held out"] = f"{prefix}loss_validation" if prefix else "validation_loss"
    genes: Lines = {
        ("all genes", ""): "gene_accuracy_validation",
        ("expressed genes", ""): "gene_accuracy_expressed_validation",
    }
    phenotypes: Lines = {}
    for score, end in (("macro-F1", "_macro_f1_validation"), ("accuracy", "_accuracy_validation")):
        of_score = [column for column in map(str, table) if column.endswith(end) and column not in genes.values()]
        phenotypes |= {(column.removesuffix(end), score): column for column in of_score}
    panels = {"loss": losses, "held-out phenotypes": phenotypes, "held-out gene bins": genes}
    return {title: {k: c for k, c in lines.items() if c in table} for title, lines in panels.items()}


def _draw(ax: Axes, table: pd.DataFrame, lines: Lines) -> None:
    """One line per column; colours and dashes are explained apart."""
    names, kinds = (list(dict.fromkeys(words)) for words in zip(*lines, strict=True))
    colors = dict(zip(names, palette(len(names)), strict=True))
    dashes = dict(zip(kinds, ("-", "--"), strict=False))
    for (name, kind), column in lines.items():
        values = table[column].dropna()
        marker = "o" if len(values) == 1 else None
        ax.plot(values.index, values, color=colors[name], linestyle=dashes[kind], marker=marker)
    handles = [Line2D([], [], color=colors[name], label=name) for name in names]
    handles += [Line2D([], [], color="grey", linestyle=dashes[kind], label=kind) for kind in kinds if len(kinds) > 1]
    below = ScaledTranslation(0, -3.5 * rcParams["font.size"] / 72, ax.figure.dpi_scale_trans)  # under the axis label
    ax.legend(
        handles=handles,
        frameon=False,
        fontsize="small",
        handlelength=2,
        ncols=2,
        loc="upper center",
        bbox_to_anchor=(0.5, 0),
        bbox_transform=ax.transAxes + below,
    )
    ax.spines[["top", "right"]].set_visible(False)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
