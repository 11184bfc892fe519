"""Colours that are distinguishable with any colour vision, and the space needed by labels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import zip_longest

import pandas as pd
import scanpy as sc
from anndata import AnnData
from matplotlib import rcParams
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.textpath import TextPath
from matplotlib.transforms import Bbox, ScaledTranslation

from polygene_scverse._constants import prediction_key
from polygene_scverse._validate import colors_of_labels
from polygene_scverse.get._lookup import predicted_phenotypes, recorded_column

PETROFF_10 = (
    "#3f90da",
    "#ffa90e",
    "#bd1f01",
    "#832db6",
    "#a96b59",
    "#e76300",
    "#b9ac70",
    "#92dadd",
    "#717581",
    "#94a4a2",
)
"""Ten colours selected with a survey and models of colour vision (Petroff, arXiv:2107.02270).

The two greys come last; `palette` leaves them out.
"""
LEAST_CHROMA = 0.15
"""Difference between the strongest and the weakest of red, green and blue below which a colour is a grey."""
GAP = 1.5
"""Minimum distance between labels, half of it around each, in pixels."""


def palette(n: int) -> list[str]:
    """Return `n` colours: those of `PETROFF_10` if sufficient, else those of scanpy.

    Without greys, because scanpy draws missing values in light grey, unless there are too many categories.
    """
    scanpy = (sc.pl.palettes.default_20, sc.pl.palettes.default_28, sc.pl.palettes.default_102)
    colorful = [[color for color in colors if not _is_grey(color)] for colors in (PETROFF_10, *scanpy)]
    for colors in (*colorful, sc.pl.palettes.default_102):
        if n <= len(colors):
            return list(colors[:n])
    return ["grey"] * n


def _is_grey(color: str) -> bool:
    rgb = to_rgb(color)
    return max(rgb) - min(rgb) < LEAST_CHROMA


def legend_below(ax: Axes, handles: Sequence[Artist], more: Sequence[Artist] = ()) -> None:
    """Add a legend below the label of the x axis, where it covers no data; `more` is a second column."""
    below = ScaledTranslation(0, -3.5 * rcParams["font.size"] / 72, ax.figure.dpi_scale_trans)
    filled = list(zip_longest(handles, more, fillvalue=Line2D([], [], color="none", label=" ")))
    ax.legend(
        handles=[handle for column in zip(*filled, strict=True) for handle in column] if more else handles,
        frameon=False,
        fontsize="small",
        handlelength=2,
        ncols=2,
        loc="upper center",
        bbox_to_anchor=(0.5, 0),
        bbox_transform=ax.transAxes + below,
    )


def short_name(name: str, most: int = 40) -> str:
    """Shorten a name to at most `most` characters by omitting its middle, since names often differ at the end."""
    if len(name) <= most:
        return name
    tail = most // 3
    return f"{name[: most - tail - 1]}…{name[-tail:]}"


def note_colors(adata: AnnData, key: str) -> None:
    """Store colours in uns for a categorical obs column without colours, as scanpy does.

    A predicted category gets the colour of the recorded one.
    """
    if key not in adata.obs or not isinstance(adata.obs[key].dtype, pd.CategoricalDtype):
        return
    categories = [str(category) for category in adata.obs[key].cat.categories]
    if len(adata.uns.get(f"{key}_colors", ())) >= len(categories):
        return
    taken = _recorded_colors(adata, key)
    spare = iter([c for c in palette(len({*categories, *taken})) if c not in taken.values()])
    adata.uns[f"{key}_colors"] = [taken.get(category) or next(spare, "grey") for category in categories]


def _recorded_colors(adata: AnnData, key: str) -> dict[str, str]:
    """Colour of each recorded category if `key` is a prediction."""
    name = {prediction_key(name): name for name in predicted_phenotypes(adata)}.get(key)
    recorded = None if name is None else recorded_column(adata, name)
    if recorded is None:
        return {}
    note_colors(adata, recorded)
    if f"{recorded}_colors" not in adata.uns:
        return {}
    return colors_of_labels(adata.obs[recorded], adata.uns[f"{recorded}_colors"])


def text_width(labels: Iterable[str], size: str | float) -> float:
    """Width of the widest label, in inches."""
    font = FontProperties(family=rcParams["font.family"], size=size)
    points = font.get_size_in_points()
    widths = [TextPath((0, 0), label, size=points, prop=font).get_extents().width for label in labels if label.strip()]
    return max(widths, default=0.0) / 72


def label_points(ax: Axes, x: Iterable[float], y: Iterable[float], labels: Iterable[str]) -> None:
    """Write labels next to points, moved to the right to avoid overlaps, with a line to the point.

    Parameters
    ----------
    ax
        Axes that are complete except for the labels.
    x, y
        Positions of the points.
    labels
        Label of each point.
    """
    taken: list[Bbox] = []
    ax.figure.canvas.draw()  # determines the size of the axes
    ups = (0, 9, -9, 18, -18, 27, -27)
    places = [(4 + right, 2 + up) for right in range(0, 200, 10) for up in (ups if right else (0,))]
    for at, height, label in zip(x, y, labels, strict=True):
        for place in places:
            arrow = {"arrowstyle": "-", "linewidth": 0.4, "color": "grey"} if place != places[0] else None
            text = ax.annotate(label, (at, height), place, textcoords="offset points", fontsize=7, arrowprops=arrow)
            text.get_window_extent()  # moves the text to its place
            box = Text.get_window_extent(text).padded(GAP)  # without its line
            if place == places[-1] or not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
            text.remove()
