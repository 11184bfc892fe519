"""Reliability diagram."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from anndata import AnnData
from matplotlib.axes import Axes

from polygene_scverse.get import reliability as get_reliability
from polygene_scverse.get._lookup import scored_phenotypes
from polygene_scverse.pl._finish import finish
from polygene_scverse.pl._style import PETROFF_10

BAR, GAP = PETROFF_10[0], PETROFF_10[2]


def reliability(
    adata: AnnData,
    phenotypes: str | Sequence[str] | None = None,
    *,
    n_bins: int = 15,
    show: bool | None = None,
    save: bool | str | Path | None = None,
) -> list[Axes] | None:
    """Draw how often predictions are right against how sure they are.

    A panel per phenotype, a bar per bin of confidence: its height is the accuracy of the most probable category, the
    mark on it the mean confidence, and the red line between them the gap. The darker a bar, the more cells it has. The
    calibration error in the title is the mean length of the red lines over cells.

    Parameters
    ----------
    adata
        Data with predictions from :func:`~polygene_scverse.tl.predict_phenotype`. Pass a subset, such as held-out
        donors, for a figure that says how well calibrated predictions of new cells are.
    phenotypes
        Phenotypes to draw; by default all that were predicted and are recorded.
    n_bins
        Number of equally wide bins.
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
        If a phenotype was not predicted, or is not recorded.
    ValueError
        If no cell has a recorded value of a phenotype.

    Examples
    --------
    >>> pgs.pl.reliability(adata[held_out])
    """
    names = scored_phenotypes(adata, phenotypes)
    _, grid = plt.subplots(1, len(names), figsize=(3.6 * len(names), 3.9), squeeze=False, layout="constrained")
    axes = list(grid.flat)
    for ax, name in zip(axes, names, strict=True):
        _draw(ax, adata, name, n_bins)
    axes[0].set_ylabel("accuracy")
    return finish(axes[0], axes, "reliability", show, save)


def _draw(ax: Axes, adata: AnnData, name: str, n_bins: int) -> None:
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
    ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", aspect="equal")
    ax.set_title(f"{name}\nECE {(gaps * shares).sum():.3f}, {table['n_cells'].sum():,} cells", fontsize=10)
    ax.spines[["top", "right"]].set_visible(False)
