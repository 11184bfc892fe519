import matplotlib.pyplot as plt
import numpy as np
import pytest
from anndata import AnnData
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from polygene_scverse import get, pl
from polygene_scverse.pl import _gene_interactions


@pytest.fixture
def compared():
    """60 genes in three groups, whose genes stand apart in var, in two contexts; gene3 has no state in the second."""
    rng = np.random.default_rng(0)
    states = rng.normal(size=(3, 2, 4))[np.arange(60) % 3] + rng.normal(0, 0.1, (60, 2, 4))
    states[3, 1] = np.nan
    note = {"contexts": ["T", "B"], "covariance": np.stack([np.eye(4)] * 2), "metric": "cosine", "min_cells": 10}
    adata = AnnData(np.ones((2, 60), np.float32), uns={"polygene": {"gene_interactions": note}})
    adata.var_names = [f"gene{i}" for i in range(60)]
    adata.varm["polygene_gene_interactions_states"] = states
    adata.varm["polygene_gene_interactions_n_cells"] = np.stack([np.arange(60), 100 - np.arange(60)], axis=1)
    return adata


def names(ax):
    rows, columns = ([t.get_text() for t in labels] for labels in (ax.get_yticklabels(), ax.get_xticklabels()))
    assert rows == columns
    return rows


@pytest.mark.parametrize("metric", ["cosine", "mahalanobis"])
def test_squares_are_the_matrix_in_the_order_of_scipys_clusters(metric, compared):
    ax = pl.gene_interactions(compared, "B", genes=None, metric=metric, show=False)
    expected = get.gene_interactions(compared, "B", metric=metric)
    shown = expected.loc[names(ax), names(ax)]
    np.testing.assert_array_equal(ax.images[0].get_array(), shown)
    assert len(shown) == 59
    distance = expected.to_numpy() if metric == "mahalanobis" else 1 - expected.to_numpy()
    tree = linkage(squareform(distance, checks=False).clip(0), "average", optimal_ordering=True)
    assert names(ax) == list(expected.index[leaves_list(tree)])


def test_genes_that_are_alike_stand_together(compared):
    groups = [int(name[4:]) % 3 for name in names(pl.gene_interactions(compared, "T", genes=None, show=False))]
    assert (np.diff(groups) != 0).sum() == 2


@pytest.mark.parametrize(
    ("context", "numbers"), [("T", range(10, 60)), ("B", [0, 1, 2, *range(4, 51)])], ids=["T", "B"]
)
def test_without_an_order_the_genes_that_most_cells_express_are_drawn(context, numbers, compared):
    drawn = names(pl.gene_interactions(compared, context, show=False))
    assert sorted(drawn) == sorted(f"gene{i}" for i in numbers)
    few = names(pl.gene_interactions(compared, context, genes=3, cluster=False, show=False))
    assert few == (["gene59", "gene58", "gene57"] if context == "T" else ["gene0", "gene1", "gene2"])


def test_the_most_variable_genes_that_have_a_state_are_the_default(compared):
    compared.uns["polygene"]["gene_interactions"]["most_variable"] = np.array([f"gene{7 * i % 60}" for i in range(60)])
    few = names(pl.gene_interactions(compared, "T", genes=3, cluster=False, show=False))
    assert few == ["gene0", "gene7", "gene14"]
    compared.uns["polygene"]["gene_interactions"]["most_variable"] = ["gene3", "gene9", "gone", "gene1"]
    assert names(pl.gene_interactions(compared, "B", genes=2, cluster=False, show=False)) == ["gene9", "gene1"]


def test_without_clusters_genes_stand_as_named(compared):
    genes = ["gene9", "gene3", "gene7"]
    with pytest.raises(KeyError, match=r"`genes`: \['XIST'\] are not in adata.var_names"):
        pl.gene_interactions(compared, "T", genes="XIST", show=False)
    assert names(pl.gene_interactions(compared, "T", genes=genes, cluster=False, show=False)) == genes
    assert names(pl.gene_interactions(compared, "B", genes=genes, cluster=False, show=False)) == ["gene9", "gene7"]


def test_dark_is_alike(compared):
    for metric, diagonal in (("cosine", "high"), ("mahalanobis", "low")):
        ax = pl.gene_interactions(compared, "T", metric=metric, show=False)
        image = ax.images[0]
        shade = image.cmap(image.norm(image.get_array()))[..., :3].sum(-1)
        assert shade.diagonal().max() <= shade.min() + 1e-6, diagonal


def test_the_metric_is_the_noted_one_and_the_bar_says_it(compared):
    bars = []
    for metric in ("cosine", "mahalanobis"):
        compared.uns["polygene"]["gene_interactions"]["metric"] = metric
        ax = pl.gene_interactions(compared, "T", show=False)
        bars.append(ax.figure.axes[-1].get_ylabel())
    assert bars == ["cosine similarity", "Mahalanobis distance"]


def test_a_dendrogram_has_a_leaf_above_each_square(compared):
    ax = pl.gene_interactions(compared, "T", show=False)
    (above,) = ax.child_axes
    (lines,) = above.collections
    feet = {x for path in lines.get_paths() for x, y in path.vertices if y == 0}
    assert feet == set(np.arange(50) * 10.0 + 5)
    assert above.get_xlim() == (0, 500)
    assert not pl.gene_interactions(compared, "T", cluster=False, show=False).child_axes


def test_labels_are_inside_the_figure(compared):
    ax = pl.gene_interactions(compared, "T", show=False)
    ax.figure.canvas.draw()
    box, figure = ax.get_tightbbox(), ax.figure.bbox
    assert box.x0 >= 0
    assert box.y0 >= 0
    assert box.x1 <= figure.x1
    assert box.y1 <= figure.y1


def test_many_genes_have_no_names(compared, monkeypatch):
    monkeypatch.setattr(_gene_interactions, "MOST_LABELS", 59)
    ax = pl.gene_interactions(compared, "T", genes=None, show=False)
    assert (names(ax), ax.get_xlabel()) == ([], "60 genes")
    assert ax.child_axes


@pytest.mark.parametrize("genes", [["gene1"], ["gene1", "gene2"]], ids=["one", "two"])
def test_few_genes_have_no_clusters(genes, compared):
    ax = pl.gene_interactions(compared, "T", genes=genes, show=False)
    assert names(ax) == genes
    assert not ax.child_axes


def test_axes_of_the_caller_and_a_file(compared, tmp_path):
    _, (left, right) = plt.subplots(1, 2)
    path = tmp_path / "genes.png"
    assert pl.gene_interactions(compared, "T", ax=right, cmap="viridis", show=False, save=path) is right
    assert right.images[0].get_cmap().name == "viridis"
    assert (list(left.images), right.child_axes, right.get_title()) == ([], [], "T")
    assert path.stat().st_size > 5_000
    assert pl.gene_interactions(compared, "T", show=True) is None


def test_one_context_need_not_be_named(compared):
    note = compared.uns["polygene"]["gene_interactions"]
    note |= {"contexts": ["all"], "covariance": note["covariance"][:1]}
    assert pl.gene_interactions(compared, show=False).get_title() == "all"


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({}, ValueError, "`context`: there are 2"),
        ({"context": "T", "genes": ["X"]}, KeyError, r"`genes`: \['X'\] are not in adata.var_names"),
        ({"context": "B", "genes": ["gene3"]}, ValueError, "`genes`: none of these has a state in 'B'"),
    ],
    ids=["several contexts", "gene", "no state"],
)
def test_what_is_not_there_is_said(arguments, error, match, compared):
    with pytest.raises(error, match=match):
        pl.gene_interactions(compared, show=False, **arguments)
