import numpy as np
import pytest
from anndata import AnnData
from scipy.spatial.distance import cdist
from sklearn.metrics.pairwise import cosine_similarity

from polygene_scverse import get

GENES = ["A", "B", "C", "D", "E"]


@pytest.fixture
def compared():
    """Five genes in two contexts, three hidden units; C has no state in the first, and D in neither."""
    states = np.random.default_rng(0).normal(size=(5, 2, 3)).astype(np.float32)
    states[2, 0] = states[3] = np.nan
    covariance = np.stack([np.diag([1.0, 2.0, 3.0]), np.diag([4.0, 1.0, 1.0])])
    note = {"contexts": ["CD4+/CD25 T", "B"], "covariance": covariance, "metric": "cosine", "min_cells": 10}
    adata = AnnData(np.ones((2, 5), np.float32), uns={"polygene": {"gene_interactions": note}})
    adata.var_names = GENES
    adata.varm["polygene_gene_interactions_states"] = states
    return adata


def states(compared, genes, context):
    return compared.varm["polygene_gene_interactions_states"][[GENES.index(g) for g in genes], context]


def test_genes_with_a_state_are_compared(compared):
    for number, (context, genes) in enumerate({"CD4+/CD25 T": ["A", "B", "E"], "B": ["A", "B", "C", "E"]}.items()):
        table = get.gene_interactions(compared, context)
        assert list(table.index) == list(table.columns) == genes
        np.testing.assert_allclose(table, cosine_similarity(states(compared, genes, number)), atol=1e-6)


@pytest.mark.parametrize("how", ["asked", "noted"])
def test_distances_have_the_covariance_of_the_context(how, compared):
    compared.uns["polygene"]["gene_interactions"]["metric"] = "mahalanobis" if how == "noted" else "cosine"
    table = get.gene_interactions(compared, "B", metric="mahalanobis" if how == "asked" else None)
    x = states(compared, table.index, 1).astype(float)
    np.testing.assert_allclose(table, cdist(x, x, "mahalanobis", VI=np.diag([0.25, 1, 1])), atol=1e-6)


def test_genes_in_the_order_asked_for_and_nan_without_a_state(compared):
    every = get.gene_interactions(compared, "CD4+/CD25 T", metric="mahalanobis")
    table = get.gene_interactions(compared, "CD4+/CD25 T", genes=["E", "C", "A", "E"], metric="mahalanobis")
    assert list(table.index) == list(table.columns) == ["E", "C", "A"]
    assert table.isna().sum().sum() == 5
    assert table.loc["E", "A"] == pytest.approx(every.loc["E", "A"])
    np.testing.assert_allclose(table.loc[["E", "A"], ["E", "A"]], every.loc[["E", "A"], ["E", "A"]], atol=1e-6)


def test_a_subset_of_genes_has_the_same_distances(compared):
    every = get.gene_interactions(compared, "B", metric="mahalanobis")
    some = get.gene_interactions(compared[:, ["E", "A"]], "B", metric="mahalanobis")
    np.testing.assert_allclose(some, every.loc[["E", "A"], ["E", "A"]], atol=1e-6)


def test_one_context_need_not_be_named(compared):
    note = compared.uns["polygene"]["gene_interactions"]
    note |= {"contexts": np.array(["all"], dtype=object), "covariance": note["covariance"][:1]}
    states = compared.varm["polygene_gene_interactions_states"][:, :1]
    compared.varm["polygene_gene_interactions_states"] = states
    assert list(get.gene_interactions(compared)) == ["A", "B", "E"]


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({}, ValueError, r"`context`: there are 2, \['CD4\+/CD25 T', 'B'\]. Pass one of them"),
        ({"context": "NK"}, KeyError, r"`context`: 'NK' is not among \['CD4\+/CD25 T', 'B'\]"),
        ({"context": "B", "metric": "l2"}, ValueError, "`metric`: found 'l2', but it must be one of"),
        ({"context": "B", "genes": ["A", "X"]}, KeyError, r"`genes`: \['X'\] are not in adata.var_names"),
        ({"context": "B", "genes": ["D"]}, ValueError, "none of these 1 genes has a state in 'B': 10 of its cells"),
        ({"context": "B", "key": "other"}, KeyError, r"`key`: no gene states found; .*\['other'\]"),
    ],
    ids=["several contexts", "context", "metric", "gene", "no state", "key"],
)
def test_what_is_not_there_is_said(arguments, error, match, compared):
    with pytest.raises(error, match=match):
        get.gene_interactions(compared, **arguments)


def test_states_that_were_lost_are_named(compared):
    del compared.varm["polygene_gene_interactions_states"]
    with pytest.raises(KeyError, match=r"varm\['polygene_gene_interactions_states'\] are needed"):
        get.gene_interactions(compared, "B")


def test_one_gene_may_be_named_alone(compared):
    assert get.gene_interactions(compared, "B", genes="A").shape == (1, 1)
