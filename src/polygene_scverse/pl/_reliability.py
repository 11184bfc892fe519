"""Plot a reliability diagram."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from polygene_scverse.get import reliability as get_reliability
from polygene_scverse.get._lookup import scored_phenotypes
from polygene_scverse.pl._finish import finish
from polygene_scverse.pl._style import PETROFF_10, short_name

BAR, GAP, INTERVAL = PETROFF_10[0], PETROFF_10[2], "#555555"
MOST_COLUMNS = 4
"""Maximum number of panels per row."""


def reliability(
    adata: AnnData,
    phenotypes: str | Sequence[str] | None = None,
    *,
    n_bins: int = 15,
    show: bool | None = None,
    save: bool | str | Path | None = None,
) -> list[Axes] | None:
    """Plot a reliability diagram: the accuracy of predictions against their confidence.

    One panel per phenotype and one bar per bin of confidence. The height of a bar is the accuracy of the most probable
    category; bars based on few cells are paler. The red dot is the mean confidence, and the red line between dot and
    bar is the calibration gap. Thin grey lines are 95 % Wilson intervals of the accuracy, and the lower panel shows the
    number of cells in each bin. The expected calibration error (ECE) in the title is the mean gap over cells.

    Parameters
    ----------
    adata
        Data with predictions from :func:`~polygene_scverse.tl.predict_phenotype`. Pass a subset, such as held-out
        donors, to see how well predictions of new cells are calibrated.
    phenotypes
        Phenotypes to draw; by default all predicted phenotypes that are in obs.
    n_bins
        Number of equally wide bins.
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
        If a phenotype has not been predicted, or is not in obs.
    ValueError
        If no cell has a recorded value of a phenotype.

    Examples
    --------
    >>> pgs.pl.reliability(adata[held_out])
    """
    names = scored_phenotypes(adata, phenotypes)
    columns = min(len(names), MOST_COLUMNS)
    rows = -(-len(names) // columns)
    figure = plt.figure(figsize=(3.3 * columns, 4.4 * rows + 0.6), layout="constrained")
    cells = figure.add_gridspec(rows, columns)
    axes = []
    for i, name in enumerate(names):
        parts = cells[divmod(i, columns)].subgridspec(2, 1, height_ratios=(4, 1), hspace=0.02)
        ax = figure.add_subplot(parts[0])
        table = _draw(ax, adata, name, n_bins)
        _draw_counts(figure.add_subplot(parts[1], sharex=ax), table, first=i % columns == 0)
        if i % columns == 0:
            ax.set_ylabel("accuracy")
        axes.append(ax)
    figure.legend(handles=_handles(), loc="outside lower center", ncols=1, fontsize=8, frameon=False)
    return finish(axes[0], axes, "reliability", show, save)


def _handles() -> list[Artist]:
    """Legend handles for the elements of each panel."""
    return [
        Patch(color=BAR, label="accuracy (paler: fewer cells)"),
        Line2D([], [], color=INTERVAL, linewidth=0.8, label="its 95 % interval"),
        Line2D(
            [], [], color=GAP, linewidth=2, marker="o", markersize=4, label="confidence, and its gap to the accuracy"
        ),
    ]


def _draw(ax: Axes, adata: AnnData, name: str, n_bins: int) -> pd.DataFrame:
    """Draw bars of accuracy with their intervals, and return the table."""
    table = get_reliability(adata, name, n_bins=n_bins)
    if table.empty:
        raise ValueError(
            f"`phenotypes`: no cell has a recorded value of {name!r} that the model knows, so there is nothing to "
            "compare with. Leave it out."
        )
    shares = table["n_cells"] / table["n_cells"].sum()
    gaps = (table["accuracy"] - table["confidence"]).abs()
    ax.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle=":", zorder=0)
    bars = ax.bar(
        table["lower"], table["accuracy"], width=table["upper"] - table["lower"], align="edge", color=BAR, zorder=1
    )
    for bar, share in zip(bars, shares, strict=True):
        bar.set_alpha(0.25 + 0.75 * float(np.sqrt(share / shares.max())))
    ax.vlines(table["confidence"], table["accuracy"], table["confidence"], color=GAP, linewidth=2)
    ax.scatter(table["confidence"], table["confidence"], color=GAP, s=14, zorder=3)
    low, high = _wilson(table["accuracy"].to_numpy(), table["n_cells"].to_numpy())
    middle = (table["lower"] + table["upper"]) / 2
    ax.errorbar(
        middle,
        (low + high) / 2,
        yerr=(high - low) / 2,
        fmt="none",
        ecolor=INTERVAL,
        elinewidth=0.8,
        capsize=2,
        zorder=2,
    )
    ax.set(xlim=(0, 1), ylim=(0, 1))
    ax.tick_params(labelbottom=False)
    ax.set_title(
        f"{short_name(name, 32)}\nECE {(gaps * shares).sum():.3f}, {table['n_cells'].sum():,} cells", fontsize=10
    )
    ax.spines[["top", "right"]].set_visible(False)
    return table


def _draw_counts(ax: Axes, table: pd.DataFrame, *, first: bool) -> None:
    """Draw the number of cells in each bin."""
    width = table["upper"] - table["lower"]
    ax.bar(table["lower"], table["n_cells"], width=width, align="edge", color="#94a4a2")
    ax.set(xlabel="confidence", ylabel="cells" if first else "")
    ax.set_yticks([0, int(table["n_cells"].max())])
    ax.tick_params(labelsize=8)
    ax.spines[["top", "right"]].set_visible(False)


def _wilson(share: NDArray[np.float64], n: NDArray[np.integer]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """95 % interval of each share (Wilson 1927); both of shape (n_bins,)."""
    z = 1.959963984540054  # scipy.stats.norm.ppf(0.975)
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return middle - half, middle + half
