"""Plot the scores of the model and of baselines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from polygene_scverse._validate import check_choice
from polygene_scverse.get import evaluation as get_evaluation
from polygene_scverse.pl._finish import finish
from polygene_scverse.pl._style import PETROFF_10, short_name, text_width

MODEL = "Polygene"
TITLES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro-F1",
    "macro_f1_10": "macro-F1 (≥ 10 cells)",
    "ece": "ECE (lower is better)",
    "nll": "NLL (lower is better)",
}
COLORS = {"model": PETROFF_10[0], "worse": PETROFF_10[2], "other": "#555555", "group": "#bbbbbb"}


def evaluation(
    adata: AnnData,
    phenotypes: str | Sequence[str] | None = None,
    *,
    scores: str | Sequence[str] = ("macro_f1", "accuracy", "ece", "nll"),
    by_group: bool = True,
    show: bool | None = None,
    save: bool | str | Path | None = None,
) -> list[Axes] | None:
    """Plot the scores of the model and of baselines with their intervals.

    One row per phenotype and one panel per score. The model is blue, with a band over its interval. Baselines are grey,
    or red if they are significantly better than the model (paired, see :func:`~polygene_scverse.tl.evaluate`). With
    fewer than five test groups, red only means better in these groups. Small marks are the scores of single test
    groups.

    Parameters
    ----------
    adata
        Data on which :func:`~polygene_scverse.tl.evaluate` was called.
    phenotypes
        Phenotypes to draw; by default all that were evaluated.
    scores
        Scores to draw, of ``"accuracy"``, ``"balanced_accuracy"``, ``"macro_f1"``, ``"macro_f1_10"``, ``"ece"`` and
        ``"nll"``.
    by_group
        Whether to mark the scores of single test groups.
    show
        Whether to show the figure; defaults to ``scanpy.settings.autoshow``.
    save
        Whether to save the figure. A string is appended to the default file name in ``scanpy.settings.figdir``; a path
        with a folder is used as is.

    Returns
    -------
    A list of axes, row after row; None if the figure is shown.

    Raises
    ------
    KeyError
        If there is no evaluation.
    ValueError
        If a phenotype was not evaluated, or a score is unknown.

    Examples
    --------
    >>> pgs.pl.evaluation(adata, "cell_type")
    """
    table = get_evaluation(adata)
    found = list(dict.fromkeys(table["phenotype"]))
    names = found if phenotypes is None else [phenotypes] if isinstance(phenotypes, str) else list(phenotypes)
    chosen = [scores] if isinstance(scores, str) else list(scores)
    for name in names:
        check_choice(name, found, "phenotypes")
    for score in chosen:
        check_choice(score, list(TITLES), "scores")
    has_groups = by_group and bool(adata.uns["polygene"]["evaluate"]["group_key"])
    groups = get_evaluation(adata, by_group=True) if has_groups else None
    grid = _new_axes(table[table["phenotype"].isin(names)], len(names), len(chosen))
    for ax, score in zip(grid[0], chosen, strict=True):
        ax.set_title(TITLES[score], fontsize=10)
    for name, row in zip(names, grid, strict=True):
        scored = table[table["phenotype"] == name]
        methods = list(dict.fromkeys(scored["method"]))[::-1]  # the first at the top
        for score, ax in zip(chosen, row, strict=True):
            _draw(ax, scored[scored["score"] == score].set_index("method").loc[methods])
            if groups is not None:
                shown = (groups["phenotype"] == name) & (groups["score"] == score) & groups["method"].isin(methods)
                _mark_groups(ax, groups[shown], methods)
            ax.tick_params(labelleft=ax is row[0], labelsize=8)
        row[0].set_ylabel(short_name(name, 24), fontsize=11)
    axes = list(grid.flat)
    axes[0].figure.legend(
        handles=_handles(table[table["phenotype"].isin(names)], with_groups=groups is not None),
        loc="outside lower center",
        ncols=2,
        frameon=False,
        fontsize=8,
    )
    return finish(axes[0], axes, "evaluation", show, save)


def _new_axes(table: pd.DataFrame, n_rows: int, n_columns: int) -> np.ndarray:
    """Create axes with room for the names of the methods."""
    methods = table["method"].unique()
    size = (2.1 * n_columns + text_width(methods, 8) + 0.5, n_rows * (0.24 * len(methods) + 0.5) + 0.8)
    return plt.subplots(n_rows, n_columns, figsize=size, squeeze=False, sharey="row", layout="constrained")[1]


def _draw(ax: Axes, table: pd.DataFrame) -> None:
    """Draw a point with its interval for each method."""
    for y, (method, row) in enumerate(table.iterrows()):
        color = COLORS["model" if method == MODEL else "worse" if row["verdict"].startswith("worse") else "other"]
        ax.plot([row["low"], row["high"]], [y, y], color=color, linewidth=1.8, solid_capstyle="butt", zorder=3)
        ax.plot(row["value"], y, "o", color=color, markersize=5, zorder=4)
        if method == MODEL:
            ax.axvspan(row["low"], row["high"], color=color, alpha=0.12, linewidth=0)
    ax.set_yticks(range(len(table)), table.index)
    ax.set_ylim(-0.6, len(table) - 0.4)
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="x", color="lightgrey", linewidth=0.5)
    ax.set_axisbelow(True)


def _handles(table: pd.DataFrame, *, with_groups: bool) -> list[Artist]:
    """Legend handles for the elements that are drawn."""
    line: dict[str, Any] = {"marker": "o", "markersize": 5, "linewidth": 1.8}
    found: list[Artist] = [Line2D([], [], color=COLORS["model"], label=f"{MODEL} and its 95 % interval", **line)]
    others, lost = table["method"] != MODEL, table["verdict"].str.startswith("worse")
    if (others & ~lost).any():
        found.append(Line2D([], [], color=COLORS["other"], label="a baseline and its 95 % interval", **line))
    if (others & lost).any():
        few_groups = (table["verdict"] == "worse in these groups").any()
        known = f"better than {MODEL} in these few groups" if few_groups else f"significantly better than {MODEL}"
        label = f"a baseline that is {known} (paired)"
        found.append(Line2D([], [], color=COLORS["worse"], label=label, **line))
    if with_groups:
        style: dict[str, Any] = {"color": COLORS["group"], "marker": "|", "linestyle": "none"}
        found.append(Line2D([], [], label="score in a single test group", **style))
    return found


def _mark_groups(ax: Axes, groups: pd.DataFrame, methods: Sequence[str]) -> None:
    heights = [methods.index(method) - 0.28 for method in groups["method"]]
    ax.plot(groups["value"], heights, "|", color=COLORS["group"], markersize=4, zorder=2)
