"""Save and show figures as scanpy does."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import matplotlib.pyplot as plt
import scanpy as sc
from matplotlib.axes import Axes

from polygene_scverse._files import replace_file

Drawn = TypeVar("Drawn")


def finish(ax: Axes, drawn: Drawn, name: str, show: bool | None, save: bool | str | Path | None) -> Drawn | None:
    """Save and show a figure; a saved figure is closed afterwards.

    Parameters
    ----------
    ax
        Axes of the figure.
    drawn
        What to return if the figure is not shown.
    name
        Type of the figure, the start of its file name.
    show
        Whether to show the figure; defaults to ``scanpy.settings.autoshow``.
    save
        True, or a name that is appended to `name`: save to ``scanpy.settings.figdir``. A path with a folder is used as
        is. Defaults to ``scanpy.settings.autosave``.

    Returns
    -------
    `drawn`, or None if the figure is shown.
    """
    save = sc.settings.autosave if save is None else save
    show = sc.settings.autoshow if show is None else show
    figure = ax.figure.canvas.figure
    if save:
        path = file_of(save, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        dpi = plt.rcParams["savefig.dpi"]
        with replace_file(path) as part:
            figure.savefig(part, bbox_inches="tight", dpi=150 if dpi == "figure" else dpi)
    if show:
        plt.show()
    if save:
        plt.close(figure)  # so that it is not shown later
    return None if show else drawn


def file_of(save: bool | str | Path, name: str) -> Path:
    """Path that a figure is saved to; see `finish`."""
    text = "" if isinstance(save, bool) else str(save)
    path = Path(text)
    if path.name == text:  # no folder
        path = Path(sc.settings.figdir) / f"polygene_{name}{text}"
    if path.suffix not in {".png", ".pdf", ".svg", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".eps"}:
        path = path.with_name(f"{path.name}.{sc.settings.file_format_figs}")
    return path
