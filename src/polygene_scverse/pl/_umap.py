"""Plot the UMAP of the embedding."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import scanpy as sc
from anndata import AnnData
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties

from polygene_scverse._constants import EMBEDDING_UMAP, prediction_key
from polygene_scverse._validate import check_anndata, shorten
from polygene_scverse.get._lookup import predicted_phenotypes, training_note
from polygene_scverse.pl._finish import finish
from polygene_scverse.pl._style import note_colors, text_width

LARGEST = 60.0
"""Size of a point if there are few cells."""
WIDEST = 24.0
"""Maximum width in inches of panels in one row."""


def umap(
    adata: AnnData,
    *,
    color: str | Sequence[str] | None = None,
    basis: str = EMBEDDING_UMAP,
    ax: Axes | None = None,
    show: bool | None = None,
    save: bool | str | Path | None = None,
    **kwargs: Any,
) -> Axes | list[Axes] | None:
    """Plot the UMAP of the embedding with :func:`scanpy.pl.embedding`.

    Parameters
    ----------
    adata
        Data with an embedding from :func:`~polygene_scverse.tl.embed`.
    color
        Obs columns or genes to colour by, one panel each. By default the predicted phenotypes, or if there are none,
        the phenotypes that the model was trained on.
    basis
        Key of ``obsm`` to plot (n_obs x 2).
    ax
        Axes to draw into; only for a single panel.
    show
        Whether to show the figure; defaults to ``scanpy.settings.autoshow``.
    save
        Whether to save the figure. A string is appended to the default file name in ``scanpy.settings.figdir``; a path
        with a folder is used as is.
    **kwargs
        Passed to :func:`scanpy.pl.embedding`, e.g. ``ncols``, ``size``, ``legend_loc``, ``palette``, ``frameon``.

    Returns
    -------
    Axes, or a list of axes for several panels; None if the figure is shown. Writes missing colours to
    ``uns["<column>_colors"]``, as scanpy does; a predicted category gets the colour of the recorded one.

    Raises
    ------
    KeyError
        If the embedding, a column or a gene does not exist.
    ValueError
        If `ax` is passed together with several panels.

    Examples
    --------
    >>> pgs.pl.umap(adata, color=["cell_type", "polygene_cell_type"])
    """
    check_anndata(adata)
    _check_basis(adata, basis)
    adata = adata.copy() if adata.is_view else adata  # colours cannot be stored in a view
    adata.strings_to_categoricals()  # as scanpy does
    keys = _default_color(adata) if color is None else [color] if isinstance(color, str) else list(color)
    if ax is not None and len(keys) > 1:
        raise ValueError(f"`ax`: one was passed for the {len(keys)} panels {shorten(keys)}. Pass color= with one key.")
    if "palette" not in kwargs:
        for key in keys:
            note_colors(adata, key)
    if len(keys) > 1:
        kwargs = _layout(adata, keys, kwargs.get("legend_fontsize")) | kwargs
    kwargs = {"size": min(LARGEST, 120_000 / max(1, adata.n_obs))} | kwargs  # as in scanpy, with a maximum
    drawn = sc.pl.embedding(
        adata, basis, color=keys if len(keys) > 1 else next(iter(keys), None), ax=ax, show=False, **kwargs
    )
    panels: list[Any] = drawn if isinstance(drawn, list) else [drawn]
    for panel in panels:
        panel.set_xlabel(panel.get_xlabel().replace(EMBEDDING_UMAP, "Polygene UMAP "))
        panel.set_ylabel(panel.get_ylabel().replace(EMBEDDING_UMAP, "Polygene UMAP "))
    if ax is None:
        _make_room(panels[0].figure)
    return finish(panels[0], drawn, "umap", show, save)


def _check_basis(adata: AnnData, basis: str) -> None:
    if basis in adata.obsm:
        return
    remedy = "Call pgs.tl.embed(adata) first, which computes it unless umap=False is passed."
    raise KeyError(f"`basis`: adata.obsm has no {basis!r}, only {shorten(adata.obsm)}. {remedy}")


def _default_color(adata: AnnData) -> list[str]:
    predicted = [prediction_key(name) for name in predicted_phenotypes(adata)]
    return predicted or [name for name in training_note(adata).get("phenotypes", ()) if name in adata.obs]


def _make_room(figure: Figure) -> None:
    """Enlarge a figure until the legends next to its panels fit; the size of the panels stays the same."""
    width, height = figure.get_size_inches()
    box = figure.get_tightbbox()
    left, bottom = max(0.0, 0.1 - box.x0), max(0.0, 0.1 - box.y0)
    wide, tall = left + max(width, box.x1 + 0.1), bottom + max(height, box.y1 + 0.1)
    places = {ax: ax.get_position(original=True).bounds for ax in figure.axes}
    figure.set_size_inches(wide, tall)
    for ax, (x, y, w, h) in places.items():
        inches = (x * width + left, y * height + bottom, w * width, h * height)
        ax.set_position((inches[0] / wide, inches[1] / tall, inches[2] / wide, inches[3] / tall))


def _layout(adata: AnnData, keys: Sequence[str], fontsize: float | str | None) -> dict[str, Any]:
    """Number of columns, and the space between them, such that no legend covers the next panel."""
    fontsize = rcParams["legend.fontsize"] if fontsize is None else fontsize
    em = FontProperties(size=fontsize).get_size_in_points() / 72
    widths = [0.85]  # width of a colour bar
    for key in keys:
        if key in adata.obs and isinstance(adata.obs[key].dtype, pd.CategoricalDtype):
            labels = [str(category) for category in adata.obs[key].cat.categories]
            n_columns = 1 if len(labels) <= 14 else 2 if len(labels) <= 30 else 3  # as scanpy does
            widths.append(n_columns * (text_width(labels, fontsize) + 5 * em))
    panel = rcParams["figure.figsize"][0]
    ncols = min(len(keys), 4, max(1, int(WIDEST // (panel + max(widths)))))
    return {"ncols": ncols, "wspace": max(widths) / panel if ncols > 1 else 0.0}
