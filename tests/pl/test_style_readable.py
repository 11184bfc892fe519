"""Figures can be read: nothing outside of the figure, no text on another, with 2 and with 60 categories."""

import itertools
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib.testing.compare import compare_images
from matplotlib.text import Text
from scipy.stats import binomtest

from polygene_scverse import get, pl

IMAGES = Path(__file__).parent / "images"
PHENOTYPES = ("cell_type", "disease", "tissue_of_origin", "development_stage")
METHODS = ("Polygene", "logistic regression, class-balanced", "kNN on 50 PCs", "CellTypist")


def cells_of(n_categories, n_phenotypes, n_obs=400):
    """Cells as after training, prediction, embedding and evaluation; a tenth of the labels is missing."""
    rng = np.random.default_rng(0)
    obs, obsm, noted, history = {}, {}, {}, {}
    for k, name in enumerate(PHENOTYPES[:n_phenotypes]):
        m = n_categories if k == 0 else 2 + k
        long = "CD4-positive, alpha-beta memory T cell, activated, subtype "
        categories = [f"{long if i % 3 == 0 else 'type '}{i}" for i in range(m)]
        codes = rng.integers(0, m, n_obs)
        proba = rng.dirichlet(np.full(m, 0.3), n_obs) * 0.7
        proba[np.arange(n_obs), codes] += 0.3
        missing = np.where(rng.random(n_obs) < 0.1, -1, codes)
        obs[name] = pd.Categorical.from_codes(missing, categories)
        obs[f"polygene_{name}"] = pd.Categorical.from_codes(proba.argmax(1), categories)
        obs[f"polygene_{name}_confidence"] = proba.max(1)
        obsm[f"polygene_{name}_proba"] = proba
        noted[name] = categories
        for i, score in enumerate(("macro_f1", "accuracy")):
            history[f"{name}_{score}_validation"] = np.linspace(0.2 + 0.05 * k, 0.6 + 0.05 * i, 5)
            history[f"{name}_{score}_final"] = np.r_[np.full(4, np.nan), 0.7 + 0.01 * k + 0.02 * i]
    for i, key in enumerate(("train_loss", "validation_loss", "gene_loss_train", "gene_nll_validation")):
        history[key] = np.linspace(3 - i / 2, 1, 5)
    history["gene_accuracy_validation"] = np.linspace(0.6, 0.8, 5)
    obsm["X_polygene_umap"] = rng.normal(size=(n_obs, 2))
    adata = AnnData(np.zeros((n_obs, 1), np.float32), obs=pd.DataFrame(obs, index=[f"c{i}" for i in range(n_obs)]))
    adata.obsm.update(obsm)
    scores = ("macro_f1", "accuracy", "ece", "nll")
    rows = [(p, m, s, rng.uniform(0.4, 0.6)) for p in noted for m in METHODS for s in scores]
    table = pd.DataFrame(rows, columns=["phenotype", "method", "score", "value"])
    table = table.assign(low=table["value"] - 0.1, high=table["value"] + 0.1, verdict="not significant")
    table.loc[(table["method"] == "CellTypist") & (table["score"] == "nll"), "verdict"] = "worse"
    groups = pd.concat([table.assign(group=g, n_cells=5) for g in ("d1", "d2")])
    adata.uns["polygene"] = {
        "train": {"phenotypes": list(noted), "history": history},
        "predict": noted,
        "evaluate": {"table": table, "by_group": groups, "notes": [], "group_key": "donor"},
    }
    return adata


@pytest.fixture(scope="module", params=[(2, 1), (60, 4)], ids=["2 categories", "60 categories"])
def shown(request):
    return cells_of(*request.param)


DRAW = {
    "reliability": pl.reliability,
    "abstention": pl.abstention,
    "history": pl.history,
    "evaluation": pl.evaluation,
    "confusion": lambda adata, **kw: pl.confusion(adata, "cell_type", **kw),
    "umap": lambda adata, **kw: pl.umap(adata, color="cell_type", **kw),
    "umap of two": lambda adata, **kw: pl.umap(adata, color=["cell_type", "polygene_cell_type"], **kw),
}


DRAWN = {}
"""Figures, since drawing takes longer than looking at them."""


def figure_of(name, adata):
    key = name, adata.obs["cell_type"].nunique()
    if key not in DRAWN:
        drawn = DRAW[name](adata, show=False)
        DRAWN[key] = (drawn[0] if isinstance(drawn, list) else drawn).figure
        DRAWN[key].canvas.draw()
    return DRAWN[key]


def texts(figure):
    """Each text that is seen, with the corners of its box; a slanted one takes less than its box."""
    found = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    hidden = {id(label) for ax in figure.axes if not ax.axison for label in ax.findobj(Text)}
    for ax in figure.axes:  # labels of ticks beyond the limits are objects, but not drawn
        for axis, (low, high) in ((ax.xaxis, sorted(ax.get_xlim())), (ax.yaxis, sorted(ax.get_ylim()))):
            for tick in axis.get_major_ticks() + axis.get_minor_ticks():
                if not low - 1e-9 <= tick.get_loc() <= high + 1e-9:
                    hidden |= {id(tick.label1), id(tick.label2)}
    return [(text, text.get_window_extent()) for text in found if id(text) not in hidden]


@pytest.mark.parametrize("name", DRAW)
def test_nothing_is_cut(shown, name):
    figure = figure_of(name, shown)
    width, height = figure.bbox.width, figure.bbox.height
    outside = [
        (text.get_text(), box.extents.round().tolist())
        for text, box in texts(figure)
        if min(box.x0, box.y0, width - box.x1, height - box.y1) < -1.5
    ]
    assert not outside, (width, height)


@pytest.mark.parametrize("name", DRAW)
def test_no_text_is_on_another(shown, name):
    figure = figure_of(name, shown)
    straight = [(text, box.padded(-1)) for text, box in texts(figure) if text.get_rotation() % 90 == 0]
    overlaps = [(a.get_text(), b.get_text()) for (a, p), (b, q) in itertools.combinations(straight, 2) if p.overlaps(q)]
    assert not overlaps


def test_a_colour_means_the_same_in_each_panel():
    meanings = {}
    for ax in pl.history(cells_of(3, 4), show=False):
        labels = (text.get_text() for text in ax.get_legend().get_texts())
        for handle, label in zip(ax.get_legend().legend_handles, labels, strict=True):
            meanings.setdefault(handle.get_color(), set()).add(label)
    del meanings["grey"]  # line styles
    assert meanings.pop("#3f90da") == {"genes", "all genes"}
    assert all(len(labels) == 1 for labels in meanings.values()), meanings


def test_reliability_counts_cells_and_has_intervals_as_scipy():
    adata = cells_of(2, 1)
    (ax,) = pl.reliability(adata, show=False)
    table = get.reliability(adata)
    assert [bar.get_height() for bar in ax.figure.axes[1].patches] == table["n_cells"].tolist()
    (intervals,) = (c for c in ax.containers if hasattr(c, "has_yerr"))
    for segment, (_, row) in zip(intervals.lines[2][0].get_segments(), table.iterrows(), strict=True):
        n = int(row["n_cells"])
        expected = binomtest(round(row["accuracy"] * n), n).proportion_ci(method="wilson")
        np.testing.assert_allclose(segment[:, 1], [expected.low, expected.high])


def without_text(figure):
    """So that the picture does not depend on fonts."""
    for legend in [*figure.legends, *(ax.get_legend() for ax in figure.axes)]:
        if legend is not None:
            legend.remove()
    for text in figure.findobj(Text):
        text.set_text("")
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_formatter(plt.NullFormatter())
    return figure


@pytest.mark.parametrize("name", ["reliability", "abstention", "history", "evaluation", "confusion", "umap"])
def test_picture(name, tmp_path):
    """Draw again with `cp` of the picture that the message names, when a figure is changed on purpose."""
    drawn = DRAW[name](cells_of(3, 2), show=False)
    figure = without_text((drawn[0] if isinstance(drawn, list) else drawn).figure)
    figure.savefig(tmp_path / f"{name}.png", dpi=40, metadata={"Software": None})
    expected = IMAGES / f"{name}.png"
    assert expected.is_file(), tmp_path / f"{name}.png"
    assert compare_images(str(expected), str(tmp_path / f"{name}.png"), tol=8) is None
