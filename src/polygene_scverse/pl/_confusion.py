"""Plot a confusion matrix."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from numpy.typing import NDArray

from polygene_scverse.get import confusion as get_confusion
from polygene_scverse.get._lookup import the_phenotype
from polygene_scverse.pl._finish import finish
from polygene_scverse.pl._style import short_name, text_width

MOST_NUMBERS = 16
"""Maximum number of categories for which numbers are written into the squares."""
LONGEST = 44
"""Maximum length of a name, including the number of cells, before it is shortened."""
LEAST_SIZE = 1.8
"""Minimum size of the matrix in inches, so that the label of its colour bar fits next to it."""


def confusion(
    adata: AnnData,
    phenotype: str | None = None,
    *,
    normalize: Literal["true", "pred", "all"] | None = "true",
    cmap: str = "Blues",
    ax: Axes | None = None,
    show: bool | None = None,
    save: bool | str | Path | None = None,
) -> Axes | None:
    """Plot the confusion matrix of recorded and predicted categories as a heatmap.

    Categories that are neither recorded nor predicted in these cells are not drawn. Numbers in parentheses are numbers
    of cells.

    Parameters
    ----------
    adata
        Data with predictions from :func:`~polygene_scverse.tl.predict_phenotype`. Pass a subset, such as held-out
        donors, to see how well new cells are predicted.
    phenotype
        A predicted phenotype that is also recorded in obs. Optional if only one phenotype was predicted.
    normalize
        Normalise over recorded categories (``"true"``), predicted categories (``"pred"``) or all cells (``"all"``), as
        in scikit-learn. None shows counts.
    cmap
        Colour map.
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
        If the phenotype has not been predicted, or is not in obs.
    ValueError
        If several phenotypes have been predicted and `phenotype` is None, if `normalize` is unknown, or if no cell has
        a recorded value.

    Examples
    --------
    >>> pgs.pl.confusion(adata, "cell_type")
    """
    phenotype = the_phenotype(adata, phenotype)
    matrix = get_confusion(adata, phenotype, normalize=normalize)
    counts = get_confusion(adata, phenotype)
    used = used_words(counts)
    if not used.any():
        raise ValueError(
            f"`phenotype`: no cell has a recorded value of {phenotype!r}, so there is nothing to compare with. Use "
            "pgs.get.predictions(adata, phenotype) instead."
        )
    words = {"true": "share of recorded cells", "pred": "share of predicted cells", "all": "share of all cells"}
    ax = draw_matrix(
        with_counts(matrix.loc[used, used], counts.sum(axis=1)[used]),
        ax=ax,
        cmap=cmap,
        vmax=1 if normalize in ("true", "pred") else None,
        title=phenotype,
        labels=("predicted", "recorded (cells)", words.get(normalize or "", "cells")),
    )
    return finish(ax, ax, "confusion", show, save)


def used_words(counts: pd.DataFrame) -> NDArray[np.bool_]:
    """Which labels of a confusion matrix occur on either side; shape (n_labels,)."""
    return ((counts.sum(axis=0) + counts.sum(axis=1)) > 0).to_numpy()


def with_counts(matrix: pd.DataFrame, counts: pd.Series) -> pd.DataFrame:
    """Append the count of each row to its name."""
    return matrix.set_axis(pd.Index([f"{name} ({n:,})" for name, n in counts.items()]), axis=0)


def draw_matrix(
    matrix: pd.DataFrame, *, ax: Axes | None, cmap: str, vmax: float | None, title: str, labels: tuple[str, str, str]
) -> Axes:
    """Draw a confusion matrix as a heat map; if `ax` is None, into new axes of suitable size.

    Parameters
    ----------
    matrix
        Matrix to draw, labelled with its index and columns.
    ax
        Axes to draw into.
    cmap
        Colour map.
    vmax
        Value of the darkest colour; by default the maximum.
    title
        Title of the axes.
    labels
        Labels of the columns, the rows and the colour bar.
    """
    rows = [short_name(str(name), LONGEST) for name in matrix.index]
    columns = [short_name(str(name), LONGEST) for name in matrix.columns]
    ax = _new_axes(rows, columns) if ax is None else ax
    image = ax.imshow(matrix, cmap=cmap, vmin=0, vmax=vmax)
    _label(ax, rows, columns, labels)
    ax.set_title(title, fontsize=12)
    if len(matrix) <= MOST_NUMBERS:
        _write_numbers(ax, matrix, np.asarray(image.norm(matrix.to_numpy())))
    bar = ax.figure.colorbar(image, ax=ax, shrink=0.6 if len(rows) > 4 else 1.0, aspect=25)
    bar.set_label(labels[2], fontsize=9)
    bar.ax.tick_params(labelsize=8)
    return ax


def _new_axes(rows: list[str], columns: list[str]) -> Axes:
    """Create axes with room for squares and labels."""
    size = _font_size(len(rows))
    squares = max(LEAST_SIZE, len(rows) * (0.42 if len(rows) <= MOST_NUMBERS else 0.18))
    width = squares + text_width(rows, size) + 1.5
    height = squares + 0.75 * text_width(columns, size) + 1.0
    return plt.subplots(figsize=(width, height), layout="compressed")[1]


def _font_size(n: int) -> int:
    return 9 if n <= MOST_NUMBERS else 7


def _label(ax: Axes, rows: list[str], columns: list[str], labels: tuple[str, str, str]) -> None:
    size = _font_size(len(rows))
    ax.set_yticks(range(len(rows)), rows, fontsize=size)
    slanted = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    upright = {"rotation": 90}
    ax.set_xticks(range(len(columns)), columns, fontsize=size, **(slanted if len(rows) <= MOST_NUMBERS else upright))
    ax.set_xlabel(labels[0], fontsize=10)
    ax.set_ylabel(labels[1], fontsize=10)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set_xticks(np.arange(len(columns) + 1) - 0.5, minor=True)
    ax.set_yticks(np.arange(len(rows) + 1) - 0.5, minor=True)
    ax.grid(False)
    ax.grid(which="minor", color="lightgrey", linewidth=0.5)
    ax.tick_params(which="minor", length=0)


def _write_numbers(ax: Axes, matrix: pd.DataFrame, shade: np.ndarray) -> None:
    """Write numbers, white on dark squares; numbers that would be 0 are omitted."""
    whole = all(pd.api.types.is_integer_dtype(dtype) for dtype in matrix.dtypes)
    for (i, j), value in np.ndenumerate(matrix.to_numpy()):
        text = f"{value:,}" if whole else f"{value:.2f}"
        if float(text.replace(",", "")) > 0:
            ax.text(j, i, text, ha="center", va="center", fontsize=7, color="white" if shade[i, j] > 0.5 else "black")
