"""Plot the comparison of generated and real cells."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes

from polygene_scverse._validate import check_choice
from polygene_scverse.get import check_generated as get_check_generated
from polygene_scverse.pl._finish import finish
from polygene_scverse.pl._style import PETROFF_10, text_width

GENERATED: Final = "generated"
NOT_GENERATORS: Final = ("level", "metric", "best", "n_cells", "reference")
COLORS: Final = {"generated": PETROFF_10[0], "other": "#555555", "class": "#bbbbbb", "best": PETROFF_10[1]}
COLUMNS: Final = 4
"""Number of panels per row."""


def check_generated(
    adata: AnnData,
    *,
    metrics: str | Sequence[str] | None = None,
    show: bool | None = None,
    save: bool | str | Path | None = None,
) -> list[Axes] | None:
    """Plot the metrics of generated cells and of baselines.

    One panel per metric. Points are for all cells, small marks for single classes. Generated cells are blue, and the
    dashed line is the value of a perfect generator.

    Parameters
    ----------
    adata
        Generated cells on which :func:`~polygene_scverse.tl.check_generated` was called.
    metrics
        Metrics to draw; by default all that have values.
    show
        Whether to show the figure; defaults to ``scanpy.settings.autoshow``.
    save
        Whether to save the figure. A string is appended to the default file name in ``scanpy.settings.figdir``; a path
        with a folder is used as is.

    Returns
    -------
    A list of axes, one for each metric; None if the figure is shown.

    Raises
    ------
    KeyError
        If there is no result.
    ValueError
        If a metric is unknown.

    Examples
    --------
    >>> pgs.pl.check_generated(cells, metrics=["rf_auc", "energy", "correlation"])
    """
    table = get_check_generated(adata)
    found = list(dict.fromkeys(table.loc[table[GENERATED].notna(), "metric"]))
    chosen = found if metrics is None else [metrics] if isinstance(metrics, str) else list(metrics)
    for metric in chosen:
        check_choice(metric, found, "metrics")
    names = [name for name in table.columns if name not in NOT_GENERATORS][::-1]  # the first at the top
    n_columns = min(COLUMNS, len(chosen))
    n_rows = -(-len(chosen) // n_columns)
    size = (2.1 * n_columns + text_width(names, 8) + 0.5, n_rows * (0.28 * len(names) + 0.7))
    grid = plt.subplots(n_rows, n_columns, figsize=size, squeeze=False, sharey=True, layout="constrained")[1]
    axes = list(grid.flat)
    for ax, metric in zip(axes, chosen, strict=False):
        _draw(ax, table[table["metric"] == metric], names)
        ax.set_title(metric, fontsize=10)
    for ax in axes[len(chosen) :]:
        ax.set_visible(False)
    axes = axes[: len(chosen)]
    return finish(axes[0], axes, "check_generated", show, save)


def _draw(ax: Axes, table: pd.DataFrame, names: Sequence[str]) -> None:
    """Draw one row per generator."""
    together, classes = table[table["level"] == "all"].iloc[0], table[table["level"] != "all"]
    best = together["reference"] if together["best"] == "reference" else float(together["best"])
    ax.axvline(best, color=COLORS["best"], linestyle="--", linewidth=1.2, zorder=1)
    for y, name in enumerate(names):
        color = COLORS["generated" if name == GENERATED else "other"]
        ax.plot(classes[name], np.full(len(classes), y), "|", color=COLORS["class"], markersize=5, zorder=2)
        ax.plot(together[name], y, "o", color=color, markersize=5, zorder=3)
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(-0.6, len(names) - 0.4)
    ax.tick_params(labelsize=8)
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="x", color="lightgrey", linewidth=0.5)
    ax.set_axisbelow(True)
