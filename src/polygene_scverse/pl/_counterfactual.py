"""Plot predicted against observed changes of expression."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes

from polygene_scverse._validate import check_names, notes_of, shorten
from polygene_scverse.get import counterfactual as get_counterfactual
from polygene_scverse.pl._finish import finish
from polygene_scverse.pl._style import PETROFF_10, text_width

FOUND, OTHER = PETROFF_10[0], PETROFF_10[-1]
SIDE = 3.4
"""Side length of a panel in inches."""
FONT = 8
PER_ROW = 4


def counterfactual(
    adata: AnnData,
    groupby: str | None = None,
    *,
    levels: str | Sequence[str] | None = None,
    group_key: str | None = None,
    genes: Sequence[str] | int = 10,
    fdr: float = 0.05,
    show: bool | None = None,
    save: bool | str | Path | None = None,
) -> list[Axes] | None:
    """Plot the predicted shift of each gene against the observed difference.

    One panel per level of `groupby`. The dotted line is the identity, and the title shows the Pearson correlation over
    genes. With `group_key`, genes with a significant observed difference are coloured, see
    :func:`~polygene_scverse.get.counterfactual`. Use cells of donors that were not in training to judge the agreement.

    Parameters
    ----------
    adata
        Result of :func:`~polygene_scverse.tl.counterfactual` for cells some of which have the requested category.
    groupby
        Obs column, such as the cell type.
    levels
        Levels to draw; by default all.
    group_key
        Obs column of donors or samples.
    genes
        Genes to label, or the number of genes with the largest shifts to label.
    fdr
        Threshold of the false discovery rate.
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
        If `adata` was not returned by :func:`~polygene_scverse.tl.counterfactual`, or if a column, level or gene does
        not exist.
    ValueError
        If there is no observed difference, because no cell has the requested category, or all of them.

    Examples
    --------
    >>> result = pgs.tl.counterfactual(adata, {"condition": "stimulated"})
    >>> pgs.pl.counterfactual(result, groupby="cell_type", group_key="donor")
    """
    genes = genes if isinstance(genes, int) else check_names(genes, "genes")
    if not isinstance(genes, int) and (absent := [gene for gene in genes if gene not in adata.var_names]):
        raise KeyError(f"`genes`: {shorten(absent)} are not in the result. Pass some of adata.var_names.")
    table = get_counterfactual(adata, groupby=groupby, group_key=group_key)
    if levels is not None:
        wanted = [str(level) for level in check_names(levels, "levels")]
        if absent := [level for level in wanted if level not in set(table["level"])]:
            raise KeyError(
                f"`levels`: {shorten(absent)} are not among those with cells to change, "
                f"{shorten(table['level'].unique())}. Pass some of them."
            )
        table = table[table["level"].isin(wanted)]
    table = table[table["observed"].notna()]
    if table.empty:
        asked = dict(notes_of(adata)["counterfactual"]["phenotypes"])
        raise ValueError(
            f"`adata`: there is no observed difference to compare with. Some cells must be recorded as {asked}, and "
            "some as another category."
        )
    panels = [(str(level), part) for level, part in table.groupby("level", sort=False)]
    labels = [_labelled(part, genes) for _, part in panels]
    axes = _new_axes(len(panels), max(text_width(part["gene"], FONT) for part in labels))
    for ax, (level, part), labelled in zip(axes, panels, labels, strict=True):
        _draw(ax, level, part, labelled, None if group_key is None else fdr)
    return finish(axes[0], axes, "counterfactual", show, save)


def _labelled(table: pd.DataFrame, genes: Sequence[str] | int) -> pd.DataFrame:
    """Rows of the genes to label; the table is sorted by descending shift."""
    return table.iloc[: max(0, genes)] if isinstance(genes, int) else table[table["gene"].isin(genes)]


def _new_axes(n: int, width: float) -> list[Axes]:
    """Create square panels with room for names on the right."""
    n_columns = min(n, PER_ROW)
    n_rows = -(-n // n_columns)
    size = (n_columns * (SIDE + width + 0.9), n_rows * (SIDE + 0.9))
    figure, grid = plt.subplots(n_rows, n_columns, figsize=size, squeeze=False)
    left, right = 0.65 / size[0], (width + 0.25) / size[0]
    step = (SIDE + width + 0.9) / size[0]
    figure.subplots_adjust(
        left=left,
        right=1 - right,
        bottom=0.6 / size[1],
        top=1 - 0.5 / size[1],
        wspace=(step - SIDE / size[0]) / (SIDE / size[0]),
        hspace=0.9 / SIDE,
    )
    axes = list(grid.flat)
    for ax in axes[n:]:
        ax.remove()
    return axes[:n]


def _draw(ax: Axes, level: str, table: pd.DataFrame, labelled: pd.DataFrame, fdr: float | None) -> None:
    x, y = (table[name].to_numpy() for name in ("observed", "shift"))
    passed = np.zeros(len(table), dtype=bool) if fdr is None else (table["fdr"] < fdr).to_numpy()
    no_null = fdr is None or table["fdr"].isna().all()
    ax.axhline(0, color="#cccccc", linewidth=0.8, zorder=0)
    ax.axvline(0, color="#cccccc", linewidth=0.8, zorder=0)
    ax.axline((0, 0), slope=1, color="grey", linewidth=0.8, linestyle=":", zorder=0)
    for rows, color, marker, name in (
        (~passed, FOUND if no_null else OTHER, "o", None if no_null else f"other ({(~passed).sum():,})"),
        (passed, FOUND, "D", f"FDR < {fdr} ({passed.sum():,})"),
    ):
        if rows.any():
            ax.scatter(x[rows], y[rows], s=9, color=color, marker=marker, linewidths=0, alpha=0.8, label=name)
    if not no_null:
        ax.legend(fontsize=FONT, frameon=False, loc="upper left", handletextpad=0.2, borderaxespad=0.2)
    varies = len(x) > 1 and np.ptp(x) > 0 and np.ptp(y) > 0
    agreement = f"r = {np.corrcoef(x, y)[0, 1]:.2f}, " if varies else ""
    of_groups = f", {table['n_groups'].iloc[0]} groups" if fdr is not None and not no_null else ""
    missing = ", not tested" if fdr is not None and no_null else ""
    ax.set_title(f"{level}\n{agreement}{table['n_cells'].iloc[0]:,} cells{of_groups}{missing}", fontsize=9)
    ax.set_xlabel("observed difference", fontsize=9)
    ax.set_ylabel("expected shift", fontsize=9)
    ax.tick_params(labelsize=FONT)
    ax.spines[["top", "right"]].set_visible(False)
    ax.margins(0.06)
    _label(ax, labelled)


def _label(ax: Axes, labelled: pd.DataFrame) -> None:
    """Write names to the right of the panel, in the order of the shifts, each with a line to its point."""
    if labelled.empty:
        return
    labelled = labelled.sort_values("shift", kind="stable")
    bottom, top = ax.get_ylim()
    wanted = (labelled["shift"].to_numpy() - bottom) / (top - bottom)
    for place, (_, row) in zip(spread(wanted, FONT * 1.15 / 72 / SIDE), labelled.iterrows(), strict=True):
        ax.annotate(
            row["gene"],
            xy=(row["observed"], row["shift"]),
            xytext=(1.03, place),
            textcoords="axes fraction",
            fontsize=FONT,
            va="center",
            ha="left",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "relpos": (0, 0.5),
                "color": "#999999",
                "linewidth": 0.5,
                "shrinkA": 1,
                "shrinkB": 2,
            },
        )


def spread(wanted: np.ndarray, least: float) -> np.ndarray:
    """Positions from 0 to 1 close to the desired ones, in the same order and at least `least` apart if space allows.

    Parameters
    ----------
    wanted
        Desired positions, ascending; shape (n,).
    least
        Minimum distance.
    """
    n = len(wanted)
    least = min(least, 1.0 / max(n - 1, 1))
    places = np.maximum.accumulate(wanted - least * np.arange(n)) + least * np.arange(n)
    over = np.minimum(places, 1.0 - least * np.arange(n)[::-1])
    return np.maximum(over, least * np.arange(n))
