import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib.colors import same_color

from polygene_scverse import pl
from polygene_scverse.pl._check_generated import COLORS

NAMES = ["generated", "real cells", "Gaussian copula"]
BEST = {"rf_auc": "0.5", "energy": "0", "correlation": "1", "zeros": "reference", "tstr_f1": "1", "attack_auroc": "0.5"}


@pytest.fixture
def checked():
    rng = np.random.default_rng(0)
    rows = [
        {"level": level, "metric": metric, "best": best, "n_cells": 9, **dict(zip(NAMES, rng.random(3), strict=True)),
         "reference": 0.7 if metric == "zeros" else np.nan}
        for level in ("all", "B", "T") for metric, best in BEST.items()
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    table.loc[table["metric"] == "attack_auroc", NAMES] = np.nan
    return AnnData(np.ones((2, 2)), uns={"polygene": {"check_generated": {"table": table, "groupby": ["type"]}}})


def test_points_are_the_table(checked):
    axes = pl.check_generated(checked, show=False)
    assert [ax.get_title() for ax in axes] == list(BEST)[:-1]
    assert [label.get_text() for label in axes[0].get_yticklabels()] == NAMES[::-1]
    table = checked.uns["polygene"]["check_generated"]["table"]
    for ax, (metric, best) in zip(axes, BEST.items(), strict=False):
        rows = table[table["metric"] == metric].set_index("level")
        dots = [line for line in ax.lines if line.get_marker() == "o"]
        marks = [line for line in ax.lines if line.get_marker() == "|" and line.get_linestyle() != "--"]
        (line,) = [line for line in ax.lines if line.get_linestyle() == "--"]
        assert line.get_xdata()[0] == (0.7 if best == "reference" else float(best))
        for name, dot, mark in zip(NAMES[::-1], dots, marks, strict=True):
            assert dot.get_xdata()[0] == rows.loc["all", name]
            assert list(mark.get_xdata()) == list(rows.loc[["B", "T"], name])
            assert same_color(dot.get_color(), COLORS["generated" if name == "generated" else "other"])


def test_choice(checked):
    (ax,) = pl.check_generated(checked, metrics="energy", show=False)
    assert ax.get_title() == "energy"
    with pytest.raises(ValueError, match="`metrics`: found 'fid'"):
        pl.check_generated(checked, metrics=["fid"], show=False)


def test_show_and_save(checked, tmp_path):
    assert pl.check_generated(checked, show=True, save=tmp_path / "check.png") is None
    assert (tmp_path / "check.png").stat().st_size > 5_000
    assert not plt.get_fignums()


def test_not_checked():
    with pytest.raises(KeyError, match="check_generated"):
        pl.check_generated(AnnData(np.ones((2, 2))), show=False)
