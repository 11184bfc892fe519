"""Contributions of genes, against predictions of the cells with one gene after another taken away."""

import numpy as np
import pytest

from polygene_scverse.abilities import _gene_contributions
from polygene_scverse.abilities._gene_contributions import contrasts_of, draw
from polygene_scverse.abilities._predict import phenotype_logits
from polygene_scverse.engine import Engine, Query


@pytest.fixture
def model(trained_model, apart):
    model = apart(trained_model)
    model.fitted_.linear_share = [0.6, 0.3]
    model.fitted_.category_counts = [np.array([40.0, 10.0, 20.0]), np.array([30.0, 50.0])]
    return model


def removed_one_by_one(model, cells, slot):
    """Change of the logits, both paths together, when a gene is taken away; (n_cells, n_genes, n_categories)."""
    engine, source = Engine(model.module), model._cells(cells)
    full = phenotype_logits(engine, model.fitted_, source)[slot]
    without = [
        phenotype_logits(engine, model.fitted_, source, Query(removed=(gene,)))[slot]
        for gene in range(len(model.genes))
    ]
    return (full - np.stack(without)).swapaxes(0, 1)


def expected_scores(model, cells, slot, labels):
    effects = removed_one_by_one(model, cells, slot).astype(float)
    shares = model.fitted_.category_counts[slot] / model.fitted_.category_counts[slot].sum()
    x = np.log1p(1e4 * cells.X.toarray() / cells.X.toarray().sum(1, keepdims=True))[:, : len(model.genes)]
    categories = list(model.categories[model.layout.phenotype_names[slot]])
    scores = []
    for category in sorted(set(labels)):
        c = categories.index(category)
        others = [k for k in range(len(categories)) if k != c]
        contrast = effects[..., c] - effects[..., others] @ shares[others] / shares[others].sum()
        own = labels == category
        difference = contrast[own].mean(0) - contrast[~own].mean(0)
        scores.append(difference * np.sign(x[own].mean(0) - x[~own].mean(0)))
    return np.array(scores)


@pytest.mark.parametrize(("slot", "name"), [(0, "cell_type"), (1, "sex")])
def test_scores_are_those_of_genes_taken_away_in_all_cells(slot, name, model, query):
    labels = query.obs[name].to_numpy().astype(str)
    found = model.gene_contributions(query, phenotype=name, groupby=name, n_cells=1000)
    assert found.categories == sorted(set(labels))
    assert found.genes == model.genes
    np.testing.assert_array_equal(found.n_cells, [(labels == c).sum() for c in found.categories])
    expected = expected_scores(model, query, slot, labels)
    assert np.abs(expected).max() > 0.05
    np.testing.assert_allclose(found.scores, expected, atol=2e-5)


def test_fold_changes_are_scanpys(model, query):
    import scanpy as sc

    found = model.gene_contributions(query, phenotype="cell_type", groupby="cell_type", n_cells=1)
    logged = query.copy()
    sc.pp.normalize_total(logged, target_sum=1e4)
    sc.pp.log1p(logged)
    sc.tl.rank_genes_groups(logged, "cell_type", method="t-test")
    for category, row in zip(found.categories, found.log_fold_changes, strict=True):
        table = sc.get.rank_genes_groups_df(logged, category).set_index("names")["logfoldchanges"]
        np.testing.assert_allclose(row, table[found.genes], atol=1e-3)


def test_blocks_copies_and_batches_change_nothing(model, query, monkeypatch):
    arguments = {"phenotype": "cell_type", "groupby": "cell_type", "n_cells": 5}
    expected = model.gene_contributions(query, **arguments)
    monkeypatch.setattr(_gene_contributions, "COPIES", 7)
    found = model.gene_contributions(query, **arguments, batch_size=3)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
    other = model.gene_contributions(query, **arguments, seed=1)
    assert np.abs(other.scores - expected.scores).max() > 1e-4


def test_a_draw_has_so_many_cells_of_each_category():
    codes = np.array([2, 0, 0, 2, 2, 2, 0, 5])
    drawn = draw(codes, 2, seed=0)
    assert (np.diff(drawn) > 0).all()
    np.testing.assert_array_equal(np.bincount(codes[drawn]), [2, 0, 2, 0, 0, 1])
    assert set(draw(codes, 100, seed=0)) == set(range(8))


def test_contrasts_do_not_see_a_constant(model):
    contrasts = contrasts_of(Engine(model.module), model.fitted_, 0)
    np.testing.assert_allclose(np.ones(3) @ contrasts, 0.0, atol=1e-12)
    np.testing.assert_allclose(contrasts[:, 0], [1.0, -1 / 3, -2 / 3], atol=1e-6)


def test_without_a_linear_path_the_transformer_counts_in_full(trained, cells):
    model = trained(cells(60), {"linear_path": False})
    arguments = {"phenotype": "sex", "groupby": "sex", "n_cells": 1000}
    found = model.gene_contributions(**arguments)
    effects = removed_one_by_one(model, model.adata, 1) @ [1.0, -1.0]
    own = (model.adata.obs["sex"] == "sex_0").to_numpy()
    difference = effects[own].mean(0) - effects[~own].mean(0)
    np.testing.assert_allclose(np.abs(found.scores[0]), np.abs(difference), atol=2e-5)


def test_genes_that_are_not_measured_have_no_score(model, query):
    some = query[:, 5:].copy()
    with pytest.warns(UserWarning, match="total counts"), pytest.warns(UserWarning, match="5 of the model's 36 genes"):
        found = model.gene_contributions(some, phenotype="sex", groupby="sex", n_cells=2)
    assert found.genes == model.genes[5:]
    assert found.scores.shape == (2, 31)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"phenotype": "organ"}, "`phenotype`: found 'organ'"),
        ({"n_cells": 0}, "`n_cells`: found 0"),
        ({"groupby": "donor"}, r"`groupby`: adata.obs\['donor'\] has 0 of the categories of 'cell_type'"),
    ],
)
def test_what_cannot_be_asked_is_refused(arguments, match, model, query):
    with pytest.raises(ValueError, match=match):
        model.gene_contributions(query, **{"phenotype": "cell_type", "groupby": "cell_type", **arguments})


def test_an_unknown_column_is_refused(model, query):
    with pytest.raises(KeyError, match=r"`groupby`: \['x'\] are not columns"):
        model.gene_contributions(query, phenotype="sex", groupby="x")


def test_cells_without_a_category_are_left_out(model, query):
    query.obs["kind"] = query.obs["sex"].astype(object).where(np.arange(50) < 30)
    found = model.gene_contributions(query, phenotype="sex", groupby="kind", n_cells=1000)
    expected = model.gene_contributions(query[:30].copy(), phenotype="sex", groupby="sex", n_cells=1000)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
