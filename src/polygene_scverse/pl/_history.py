"""Plot training curves."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from polygene_scverse.get import history as get_history
from polygene_scverse.pl._finish import finish
from polygene_scverse.pl._style import legend_below, palette, short_name

KINDS: Final = {"transformer, macro-F1": "_macro_f1", "transformer, accuracy": "_accuracy"}
FILLS: Final[dict[str, Any]] = {"transformer, macro-F1": "full", "transformer, accuracy": "none"}
"""Labels of the phenotype curves, with the suffixes of their columns and the fill styles of the final scores."""
PHENOTYPES: Final = "held-out phenotypes"
"""Title of the panel."""
MOST_LABELS: Final = 14
"""Maximum number of final scores that are labelled with their values."""
COLORS: Final = {
    "total": "#000000",
    "genes": "#3f90da",
    "phenotypes": "#ffa90e",
    "NLL of hidden genes": "#92dadd",
    "all genes": "#3f90da",
    "expressed genes": "#1f4e79",
}
"""Colours of losses and of genes: genes are blue in every panel."""
Lines = dict[tuple[str, str], str]
"""Column of the history for each line, by the labels of its colour and of its dash."""


def history(
    adata: AnnData,
    *,
    figsize: tuple[float, float] | None = None,
    show: bool | None = None,
    save: bool | str | Path | None = None,
) -> list[Axes] | None:
    """Plot the training curves of the last training on these data.

    From left to right: the losses, with the negative log-likelihood (NLL) of hidden genes; scores of the phenotypes of
    held-out cells; accuracy of their hidden expression bins. Without held-out cells only the losses are drawn. A colour
    has the same meaning in each panel.

    Phenotype curves are those of the transformer. The labelled points at the end are the scores of the finished model,
    which includes the linear path that is fitted after training.

    Parameters
    ----------
    adata
        Data on which :func:`~polygene_scverse.tl.train` was called.
    figsize
        Width and height of the figure in inches.
    show
        Whether to show the figure; defaults to ``scanpy.settings.autoshow``.
    save
        Whether to save the figure. A string is appended to the default file name in ``scanpy.settings.figdir``; a path
        with a folder is used as is.

    Returns
    -------
    A list of axes, or None if the figure is shown.

    Raises
    ------
    KeyError
        If there is no training history.

    Examples
    --------
    >>> pgs.pl.history(adata)
    """
    table = get_history(adata)
    finals = _final_scores(table)
    panels = {title: lines for title, lines in _panels(table).items() if lines}
    colors = _colors(panels)
    size = (4.3 * len(panels), 2.9 + 0.19 * _legend_rows(panels)) if figsize is None else figsize
    _, grid = plt.subplots(1, len(panels), figsize=size, squeeze=False, layout="constrained")
    axes = list(grid.flat)
    for ax, (title, lines) in zip(axes, panels.items(), strict=True):
        points = {key: column for key, column in finals.items() if key in lines}
        _draw(ax, table, lines, points if title == PHENOTYPES else {}, colors)
        ax.set(title=title, xlabel="epoch")
        if title != "loss":
            ax.set_ylim(0, 1)
            ax.set_ylabel("share" if title == "held-out gene bins" else "score")
    return finish(axes[0], axes, "history", show, save)


def _panels(table: pd.DataFrame) -> dict[str, Lines]:
    """Columns of each panel that are in the history."""
    losses: Lines = {}
    for name, prefix in (("total", ""), ("genes", "gene_"), ("phenotypes", "phenotype_")):
        losses[name, "training"] = f"{prefix}loss_train" if prefix else "train_loss"
        losses[name, "held out"] = f"{prefix}loss_validation" if prefix else "validation_loss"
    losses["NLL of hidden genes", "held out"] = "gene_nll_validation"
    genes: Lines = {
        ("all genes", ""): "gene_accuracy_validation",
        ("expressed genes", ""): "gene_accuracy_expressed_validation",
    }
    phenotypes: Lines = {}
    for kind, score in KINDS.items():
        end = f"{score}_validation"
        columns = [column for column in map(str, table) if column.endswith(end) and column not in genes.values()]
        phenotypes |= {(column.removesuffix(end), kind): column for column in columns}
    panels = {"loss": losses, PHENOTYPES: phenotypes, "held-out gene bins": genes}
    return {title: {k: c for k, c in lines.items() if c in table} for title, lines in panels.items()}


def _final_scores(table: pd.DataFrame) -> Lines:
    """Columns of the finished model's scores, by the labels of the corresponding curve of the transformer."""
    ends = {kind: f"{score}_final" for kind, score in KINDS.items()}
    found = {(c.removesuffix(end), kind): c for c in map(str, table) for kind, end in ends.items() if c.endswith(end)}
    return {key: column for key, column in found.items() if table[column].notna().any()}


def _colors(panels: Mapping[str, Lines]) -> dict[str, str]:
    """Colour of each name, the same in every panel; phenotypes do not use the colours of losses and genes."""
    names = list(dict.fromkeys(name for name, _ in panels.get(PHENOTYPES, ())))
    taken = set(COLORS.values())
    spare = [color for color in palette(len(names) + len(taken)) if color not in taken]
    return {**dict(zip(names, spare, strict=False)), **COLORS}


def _legend_rows(panels: Mapping[str, Lines]) -> int:
    """Number of rows of the longest legend: colours in the first column, line styles and points in the second."""
    names, kinds = ([{words[i] for words in lines} for lines in panels.values()] for i in (0, 1))
    return max(*map(len, names), *(len(found) for found in kinds), 2 * len(FILLS) if PHENOTYPES in panels else 0)


def _draw(ax: Axes, table: pd.DataFrame, lines: Lines, points: Lines, colors: Mapping[str, str]) -> None:
    """Draw a line per column and a labelled point per final score.

    The legend has the colours in its first column, and line styles and points in its second.
    """
    names, kinds = (list(dict.fromkeys(words)) for words in zip(*lines, strict=True))
    dashes = dict(zip(kinds, ("-", "--"), strict=False))
    for (name, kind), column in lines.items():
        values = table[column].dropna()
        marker = "o" if len(values) == 1 else None
        ax.plot(values.index, values, color=colors[name], linestyle=dashes[kind], marker=marker)
    handles = [Line2D([], [], color=colors[name], label=short_name(name, 26)) for name in names]
    styles = [Line2D([], [], color="grey", linestyle=dashes[kind], label=kind) for kind in kinds if len(kinds) > 1]
    if points:
        styles += _draw_points(ax, table, points, colors)
    legend_below(ax, handles, styles)
    ax.spines[["top", "right"]].set_visible(False)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def _draw_points(ax: Axes, table: pd.DataFrame, points: Lines, colors: Mapping[str, Any]) -> list[Line2D]:
    """Draw the finished model's scores with their values, and return their legend handles."""
    heights = [float(table[column].dropna().iloc[-1]) for column in points.values()]
    for ((name, kind), column), value, label_height in zip(points.items(), heights, _apart(heights), strict=True):
        epoch = table[column].dropna().index[-1]
        point = {"color": colors[name], "marker": "o", "fillstyle": FILLS[kind], "linestyle": "none"}
        ax.plot([epoch], [value], **point, clip_on=False, zorder=3)
        if len(points) > MOST_LABELS:
            continue
        words = {"textcoords": "offset points", "va": "center", "fontsize": "small", "color": colors[name]}
        ax.annotate(f"{value:.2f}", (epoch, label_height), xytext=(7, 0), annotation_clip=False, **words)
    labels = {kind: f"finished model, {kind.partition(',')[2].strip()}" for _, kind in points}
    style: dict[str, Any] = {"color": "grey", "marker": "o", "linestyle": "none"}
    return [Line2D([], [], **style, fillstyle=FILLS[kind], label=label) for kind, label in labels.items()]


def _apart(heights: Sequence[float], least: float = 0.055) -> NDArray[np.float64]:
    """Heights of point labels between 0 and 1, at least `least` apart to be readable; shape (n_points,)."""
    order, found = np.argsort(heights, kind="stable"), np.array(heights, dtype=np.float64)
    for lower, upper in itertools.pairwise(order):
        found[upper] = max(found[upper], found[lower] + least)
    return found - max(0.0, found.max(initial=0.0) - 1.0)
