"""Cells with fewer counts than the training cells: less certain, and no other cell is changed."""

import anndata as ad
import numpy as np
import pytest
import torch

import polygene_scverse as pgs
from polygene_scverse.abilities._depth import fit_depth
from polygene_scverse.data.feed._table import CellTable
from polygene_scverse.engine import Engine
from polygene_scverse.fit._conformal import most_probable
from polygene_scverse.metrics import ece, nll
from polygene_scverse.model import Polygene


@pytest.fixture(scope="module")
def cells():
    """Categories that are hard to tell apart with few counts."""
    return pgs.datasets.simulate(n_obs=900, n_vars=120, seed=3)


@pytest.fixture(scope="module")
def model(cells, small):
    return pgs.tl.train(cells[:600].copy(), phenotypes=["cell_type", "sex"], **small)


def thinned(cells, share):
    adata = cells.copy()
    adata.X = adata.X.tocsr().astype(np.float32)
    adata.X.data = np.random.default_rng(0).binomial(adata.X.data.astype(int), share).astype(np.float32)
    adata.X.eliminate_zeros()
    return adata[np.asarray(adata.X.sum(axis=1)).ravel() > 0].copy()


def table(model, adata):
    cells = model._cells(adata)
    return cells.read(np.arange(len(cells)))


def without(model):
    """The same model without an effect of depth."""
    other = Engine(model.module).with_linear_path(
        *(getattr(model.module.linear, name).numpy() for name in ("weights", "bias", "prior"))
    )
    other.module.linear.forget_depth()
    return other.module


def test_probabilities_of_thinned_cells_are_better(model, cells, monkeypatch):
    shallow = thinned(cells[600:], 0.1)
    codes = np.array([model.categories["cell_type"].index(c) for c in shallow.obs["cell_type"]])
    found = model.predict_phenotype(shallow)["cell_type"].to_numpy()
    assert (model.module.linear.slopes > 0).any()
    monkeypatch.setattr(model, "module", without(model))
    before = model.predict_phenotype(shallow)["cell_type"].to_numpy()
    assert found.max(axis=1).mean() < before.max(axis=1).mean()
    assert nll(codes, found) < nll(codes, before)
    assert ece(codes, found) < ece(codes, before)


def test_most_cells_of_full_depth_are_as_before(model, cells, monkeypatch):
    found = model.predict_phenotype(cells)["cell_type"].to_numpy()
    linear = model.module.linear
    shallow = np.diff(cells.X.tocsr().indptr) < float(linear.usual.sum())
    assert 0.02 < shallow.mean() < 0.08
    monkeypatch.setattr(model, "module", without(model))
    before = model.predict_phenotype(cells)["cell_type"].to_numpy()
    np.testing.assert_allclose(found[~shallow], before[~shallow], atol=1e-6)


@pytest.mark.parametrize("backed", [False, True])
def test_sets_of_shallow_cells_are_those_of_their_probabilities(model, cells, tmp_path, backed):
    """Where `adata` is passed, no set of a shallow cell is empty; others are not changed."""
    shallow, _ = thinned(cells[600:], 0.2), cells[600:].copy().write_h5ad(tmp_path / "deep.h5ad")
    deep = ad.read_h5ad(tmp_path / "deep.h5ad", backed="r" if backed else None)
    for adata in (shallow, deep):
        tables = model.predict_phenotype(adata)
        is_shallow = np.diff(adata.X[:].tocsr().indptr) < float(model.module.linear.usual.sum())
        before, found = model.prediction_sets(tables), model.prediction_sets(tables, adata=adata)
        for name, table in tables.items():
            wider = before[name] | most_probable(table.to_numpy(), 0.9)
            expected = np.where(is_shallow[:, None], wider, before[name])
            np.testing.assert_array_equal(found[name], expected)
    names = shallow.obs["cell_type"].astype(str)
    sets = model.prediction_sets(model.predict_phenotype(shallow), adata=shallow)["cell_type"]
    without = model.prediction_sets(model.predict_phenotype(shallow))["cell_type"]
    coverage = [np.mean([of.loc[cell, name] for cell, name in names.items()]) for of in (without, sets)]
    assert coverage[1] > max(coverage[0], 0.85)
    pgs.tl.predict_phenotype(shallow, model=model, coverage=0.9)
    np.testing.assert_array_equal(shallow.obsm["polygene_cell_type_set"], sets)


def test_a_cell_without_expression_has_the_prior_of_the_linear_path(model):
    path = model.module.linear
    values, genes = torch.zeros(1, 3), torch.zeros(1, 3, dtype=torch.long)
    found = path(genes, values, torch.ones(120, dtype=torch.bool))
    expected = torch.where(path.slopes > 0, path.prior, path(genes, values, torch.zeros(120, dtype=torch.bool)))
    shown = path.slopes > 0
    assert shown.any()
    torch.testing.assert_close(found[0, shown], expected.reshape(-1)[shown])


def test_too_few_cells_or_no_counts_leave_no_effect(model, cells):
    """Expression whose lowest value is not a count of one, and fewer than 50 cells."""
    engine, all_cells = Engine(without(model)), table(model, cells)
    fit_depth(engine, all_cells, all_cells.read(np.arange(49)), 0)
    assert not engine.module.linear.slopes.any()
    logs = CellTable(
        all_cells.cells.__class__(
            all_cells.cells.indptr,
            all_cells.cells.genes,
            all_cells.cells.bins,
            all_cells.cells.values * np.random.default_rng(0).uniform(0.9, 1.1, len(all_cells.cells.values)),
        ),
        all_cells.codes,
        all_cells.ids,
        all_cells.layout,
        all_cells.measured,
    )
    fit_depth(engine, all_cells, logs, 0)
    assert not engine.module.linear.slopes.any()
    fit_depth(engine, all_cells, all_cells, 0)
    assert engine.module.linear.slopes.any()


def test_a_training_without_held_out_cells_forgets_it(cells, small):
    model = pgs.tl.train(cells[:300].copy(), phenotypes=["cell_type"], **{**small, "validation_size": 0.3})
    assert model.module.linear.usual.any()
    model.train(max_epochs=1, validation_size=0.0, enable_progress_bar=False)
    assert not model.module.linear.usual.any()
    assert not model.module.linear.slopes.any()


def test_is_saved(model, cells, tmp_path):
    shallow = thinned(cells[600:], 0.2)
    model.save(tmp_path / "model")
    loaded = Polygene.load(tmp_path / "model")
    assert torch.equal(loaded.module.linear.slopes, model.module.linear.slopes)
    expected = model.predict_phenotype(shallow)["cell_type"]
    np.testing.assert_allclose(loaded.predict_phenotype(shallow)["cell_type"], expected, atol=1e-6)


def test_contributions_of_genes_add_up_to_the_linear_part(model, cells):
    """A model without a transformer: evidence of a shallow cell is scaled as its logits are."""
    shallow = thinned(cells[600:650], 0.1)
    model.fitted_.linear_share, before = [1.0, 1.0], model.fitted_.linear_share
    try:
        found = pgs.tl.explain_prediction(shallow, phenotype="cell_type", model=model)
        logits = np.log(model.predict_phenotype(shallow)["cell_type"].to_numpy()) * model.temperature("cell_type")
    finally:
        model.fitted_.linear_share = before
    names, path = model.categories["cell_type"], model.module.linear
    own, other = ([names.index(c) for c in found.obs[column]] for column in ("category", "against"))
    rows = np.arange(len(own))
    factor = np.minimum(np.diff(shallow.X.indptr) / float(path.usual.sum()), 1.0) ** float(path.slopes[0])
    prior, bias = (of.numpy()[: len(names)] for of in (path.prior, path.bias))
    average = bias - path.centre.numpy() @ path.weights.numpy()[:, : len(names)] - prior
    rest = factor[:, None] * average + prior
    expected = (logits - rest)[rows, own] - (logits - rest)[rows, other]
    total = np.asarray(found.X.sum(axis=1)).ravel() * model.temperature("cell_type")
    np.testing.assert_allclose(total, expected, atol=2e-3)
