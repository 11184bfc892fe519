"""Novelty: scikit-learn as an oracle, a kind of cells that training has not seen, and what is saved."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from sklearn.metrics import roc_auc_score

from polygene_scverse.abilities import _novelty
from polygene_scverse.abilities._novelty import fit_reference, novelty
from polygene_scverse.abilities._predict import phenotype_logits
from polygene_scverse.datasets import simulate
from polygene_scverse.engine import Engine, Query
from polygene_scverse.model import Polygene

SMALL = {"n_hidden": 16, "n_layers": 1, "n_heads": 2, "n_intermediate": 16}


@pytest.fixture(scope="module")
def split():
    """A model of 400 cells, and 240 other cells of which the last 40 express what training has not seen."""
    adata = simulate(640, 150, effect=2.0)
    train, novel = adata[:400].copy(), adata[400:].copy()
    x = novel.X.toarray()
    x[200:, 100:140] += np.random.default_rng(0).poisson(4, (40, 40))
    novel.X = sp.csr_matrix(x)
    Polygene.setup_anndata(train, phenotype_keys=["cell_type", "sex"])
    model = Polygene(train, genes=list(train.var_names), **SMALL)
    model.train(max_epochs=2, validation_size=0.3, enable_progress_bar=False)
    return model, novel


@pytest.fixture
def model(split):
    return split[0]


@pytest.fixture
def novel(split):
    return split[1]


def test_new_cells_are_found(model, novel):
    table = model.novelty(novel)
    new = np.arange(240) >= 200
    assert roc_auc_score(new, table["novelty"]) > 0.9
    assert list(table) == ["novelty", "unsure"]
    assert table.index.equals(novel.obs_names)
    assert table.min().min() > 0
    assert table.max().max() < 1


def test_other_cells_of_the_kind_are_not_novel(model, novel):
    share = (model.novelty(novel, indices=range(200))["novelty"] > 0.8).mean()
    assert share == pytest.approx(0.2, abs=0.1)


def test_held_out_cells_are_evenly_spread(cells, trained):
    """On the cells that it is measured against, the rank is uniform."""
    model = trained(cells(240), validation_size=0.4)
    table = model.novelty(indices=model.validation_indices)
    expected = (np.arange(96) + 1.0) / 97
    np.testing.assert_allclose(np.sort(table["unsure"]), expected, atol=0.02)
    np.testing.assert_allclose(np.sort(table["novelty"]), expected, atol=0.02)


def test_groups_are_compared_with_each_other(cells, model_of):
    """Where none was held out; held-out cells of the same donors would look too much like the training cells."""
    adata = cells(240)
    adata.obs["lab"] = np.array(["a", "b", "c"])[np.arange(240) % 3]
    model = model_of(adata)
    model.train(max_epochs=1, validation_size=0.1, group_key="lab", enable_progress_bar=False)
    assert len(model.fitted_.novelty.distances["sex"]) == len(model.train_indices)


def test_the_phenotype_may_be_named(model, novel):
    by_default = model.novelty(novel)
    assert by_default.equals(model.novelty(novel, phenotype="cell_type"))
    assert not by_default.equals(model.novelty(novel, phenotype="sex"))


def test_without_a_cell_type_the_first_counts(cells, trained):
    adata = cells(60)
    adata.obs["kind"] = adata.obs["cell_type"]
    model = trained(adata, {"phenotypes": ("donor", "kind")})
    assert model.reference_phenotype == "donor"


def test_without_held_out_cells(cells, trained):
    model = trained(cells(60), validation_size=0.0)
    values = model.novelty()["novelty"].to_numpy()
    np.testing.assert_allclose(np.sort(values), (np.arange(60) + 1) / 61, atol=0.02)


def test_indices_and_batches_change_nothing(model, novel):
    table = model.novelty(novel)
    some = model.novelty(novel, indices=[7, 3, 100], batch_size=2)
    pd.testing.assert_frame_equal(some, table.iloc[[7, 3, 100]], atol=0.02)


def test_many_cells_are_scored_in_parts(model, novel, monkeypatch):
    table = model.novelty(novel)
    monkeypatch.setattr(_novelty, "MOST_SCORED", 100)
    pd.testing.assert_frame_equal(model.novelty(novel), table, check_exact=True)


def test_saved_with_the_model(model, novel, tmp_path):
    model.save(tmp_path / "model")
    loaded = Polygene.load(tmp_path / "model", adata=False)
    pd.testing.assert_frame_equal(loaded.novelty(novel), model.novelty(novel))
    pd.testing.assert_frame_equal(model.without_data().novelty(novel), model.novelty(novel))


def test_few_genes_and_cells(cells, model_of):
    adata = cells(12)
    model = model_of(adata, genes=list(adata.var_names[:2]))
    model.train(max_epochs=1, enable_progress_bar=False)
    assert model.novelty()["novelty"].between(0, 1).all()


def test_nothing_to_compare_with(model, novel, apart):
    model = apart(model)
    model.fitted_.novelty = None
    with pytest.raises(ValueError, match="`model`: it stores no training cells to compare with"):
        model.novelty(novel)


def test_unknown_phenotype(model, novel):
    with pytest.raises(ValueError, match="`phenotype`: found 'age', but it must be one of"):
        model.novelty(novel, phenotype="age")


# plain functions of an engine, what was fitted, and cells


def test_cells_may_come_from_anywhere(model, novel):
    """Here from memory, as tokens."""
    table = model._cells(novel).read_all()
    found = novelty(Engine(model.module), model.fitted_, model.fitted_.novelty, table, "sex")
    np.testing.assert_array_equal(found, model.novelty(novel, phenotype="sex"))


def test_the_network_sums_expression_as_the_reference(model, novel):
    """Sums over the genes of a batch, against a product of matrices; also for a space of fewer genes and no genes."""
    space, table = model.fitted_.novelty.space, model._cells(novel).read_all()
    expected = space.sums(table.cells.matrix(table.layout.n_genes))
    batch = Query().batch(table, np.arange(len(table)))
    weights, cap = torch.from_numpy(space.loadings), torch.from_numpy(space.cap)
    found = model.module.expression_sums(batch["positions"], batch["values"], cap, weights)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4 * np.abs(expected).max())
    none = model.module.expression_sums(batch["positions"], batch["values"][:, :0], cap, weights)
    assert none.shape == found.shape
    assert not none.any()


def test_a_space_of_the_first_genes(model, novel, apart):
    """A model that has more genes than the reference uses."""
    model = apart(model)
    whole, n = model.fitted_.novelty, 100
    part = {name: getattr(whole.space, name)[..., :n] for name in ("cap", "centre", "deviation", "components", "noise")}
    model.fitted_.novelty = replace(whole, space=replace(whole.space, **part))
    table = model._cells(novel).read_all()
    space = model.fitted_.novelty.space
    distances = space.distances(space.sums(table.cells.matrix(150)), np.ones(150, dtype=bool), "sex")
    (logits,) = phenotype_logits(Engine(model.module), model.fitted_, table, slots=[1])
    expected = model.fitted_.novelty.score("sex", logits, distances)
    np.testing.assert_allclose(model.novelty(novel, phenotype="sex"), expected, atol=0.02)


def test_cells_that_differ_in_what_is_measured(model, novel):
    """Each as among its like."""
    lacking = novel[:, 20:].copy()
    said = (
        "total counts of cells, which are needed for normalisation, are estimated",
        "20 of the model's 150 genes are ",
    )
    with pytest.warns(UserWarning, match=said[0]), pytest.warns(UserWarning, match=said[1]):
        few = model._cells(lacking, np.arange(40)).read_all()
    all_ = model._cells(novel, np.arange(40, 90)).read_all()
    both = type(few)(
        type(few.cells).concatenate([few.cells, all_.cells]),
        np.concatenate([few.codes, all_.codes]),
        np.arange(90),
        few.layout,
        np.stack([few.measured, all_.measured]),
        np.repeat([0, 1], [40, 50]),
    )
    fitted = Engine(model.module), model.fitted_, model.fitted_.novelty
    found = novelty(*fitted, both, "cell_type")
    expected = np.concatenate([novelty(*fitted, part, "cell_type") for part in (few, all_)])
    np.testing.assert_allclose(found[:, 0], expected[:, 0])
    np.testing.assert_allclose(found, expected, atol=0.02)  # a rank may change by a cell


def test_the_reference_is_fitted_to_the_training_cells(model):
    engine = Engine(model.module)
    train, held_out = (
        model._cells(model.adata, rows).read_all() for rows in (model.train_indices, model.validation_indices)
    )
    found, known = fit_reference(engine, model.fitted_, train, held_out, 0), model.fitted_.novelty
    np.testing.assert_array_equal(found.space.components, known.space.components)
    np.testing.assert_array_equal(found.distances["sex"], known.distances["sex"])
    without = fit_reference(engine, model.fitted_, train, None, 0)
    assert len(without.distances["sex"]) == len(train)
    assert fit_reference(engine, model.fitted_, train.read(np.arange(2)), held_out, 0) is None
