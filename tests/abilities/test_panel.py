"""Cells with a part of the genes: as good as a model of these genes, and it is said how good."""

import warnings
from dataclasses import replace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.metrics import log_loss

import polygene_scverse as pgs
from polygene_scverse.abilities._panel import for_panel
from polygene_scverse.engine import Engine
from polygene_scverse.fit._calibration import MIN_CELLS
from polygene_scverse.fit._linear_path import PRIOR
from polygene_scverse.metrics import ece


@pytest.fixture(scope="module")
def cells(_simulated):
    return _simulated.copy()


@pytest.fixture(scope="module")
def model(cells, small):
    return pgs.tl.train(cells.copy(), phenotypes=["cell_type", "sex"], **small)


def unmeasured_words(model, cells):
    """What is said of unmeasured genes when cells are predicted."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model.predict_phenotype(cells)
    (words,) = [str(w.message) for w in said if "unmeasured" in str(w.message)]
    return words


def test_the_model_itself_is_not_changed(model, cells):
    before = model.predict_phenotype(cells)["cell_type"]
    weights, shares = model.module.linear.weights.clone(), list(model.fitted_.linear_share)
    words = unmeasured_words(model, cells[:, :20].copy())
    expected = model.expected_accuracy(cells[:, :20].copy())
    assert (
        f"expected accuracy on cells like those held out in training is {expected['cell_type']:.2f} for cell_type and "
        f"{expected['sex']:.2f} for sex." in words
    )
    assert (model.module.linear.weights == weights).all()
    assert model.fitted_.linear_share == shares
    pd.testing.assert_frame_equal(model.predict_phenotype(cells)["cell_type"], before)


def test_all_genes_ask_the_model_itself(model):
    engine = Engine(model.module)
    assert for_panel(engine, model.fitted_, np.ones(model.layout.n_genes, dtype=bool)) == (engine, model.fitted_)


def test_few_genes_ask_the_linear_path_of_these_alone(model):
    measured = np.arange(model.layout.n_genes) % 5 == 0
    engine, state = for_panel(Engine(model.module), model.fitted_, measured)
    assert state.linear_share == [1.0, 1.0]
    assert state.temperature("cell_type") == 1.0
    weights = engine.module.linear.weights.numpy()
    assert not weights[~measured].any()
    assert weights[measured].any()
    assert engine.module.encoder is model.module.encoder


def test_accuracy_to_expect(model, cells):
    few = [f"gene{i}" for i in range(0, cells.n_vars, 12)]
    found = [model.expected_accuracy(cells[:, genes].copy()) for genes in (few, list(cells.var_names))]
    for name in ("cell_type", "sex"):
        assert 0 <= found[0][name] <= found[1][name] <= 1
    assert found[0]["cell_type"] < found[1]["cell_type"]


@pytest.fixture(scope="module")
def redundant(small):
    """A model of 40 genes that each occur eight times, and new cells."""
    once = pgs.datasets.simulate(1500, 40, effect=0.7)
    cells = ad.AnnData(sp.hstack([once.X] * 8).tocsr(), once.obs)
    return pgs.tl.train(cells[:900].copy(), phenotypes="cell_type", **small), cells[900:].copy()


@pytest.mark.filterwarnings("ignore:.*genes are unmeasured:UserWarning", "ignore:The genes of these data:UserWarning")
def test_probabilities_of_a_panel_are_calibrated(redundant, monkeypatch):
    """Discriminants of many genes are divided by more than suits those of few."""
    model, cells = redundant
    panel = cells[:, :40].copy()
    codes = pd.Categorical(panel.obs["cell_type"], model.categories["cell_type"]).codes
    entry = model.fitted_.panel_accuracy["cell_type"]
    assert entry.factors[-1] == 1.0
    assert entry.factors == sorted(entry.factors)
    tables = [model.predict_phenotype(panel)["cell_type"].to_numpy()]
    monkeypatch.setitem(model.fitted_.panel_accuracy, "cell_type", replace(entry, factors=[]))
    tables.append(model.predict_phenotype(panel)["cell_type"].to_numpy())
    assert log_loss(codes, tables[0]) < log_loss(codes, tables[1]) - 0.01
    assert ece(codes, tables[0]) < ece(codes, tables[1]) - 0.01


def test_the_path_of_a_panel_is_divided_by_its_temperature(redundant):
    model, _ = redundant
    measured = np.arange(model.layout.n_genes) % 6 == 0
    panels, n = model.fitted_.panels, model.module.n_categories
    weights, biases = panels.discriminants(measured, n)
    of_all = panels.simulated_accuracy(weights, biases + PRIOR * panels.log_shares(n), n)
    factor = model.fitted_.panel_accuracy["cell_type"].factor(of_all[0])
    assert 0.2 < factor < 0.9
    linear = for_panel(Engine(model.module), model.fitted_, measured)[0].module.linear
    np.testing.assert_allclose(linear.weights.numpy(), weights / factor, rtol=1e-5, atol=1e-7)
    expected = biases / factor + min(PRIOR / factor, 1.0) * panels.log_shares(n)
    np.testing.assert_allclose(linear.bias.numpy(), expected, rtol=1e-5)


def test_few_held_out_cells_do_not_set_the_temperature(model):
    assert model.fitted_.panel_accuracy["cell_type"].n_cells < MIN_CELLS
    assert model.fitted_.panel_accuracy["cell_type"].factors == []


def test_too_few_genes_are_an_error(model, small):
    cells = pgs.datasets.simulate(150, 120)
    trained = pgs.tl.train(cells, phenotypes=["cell_type"], **small)
    for genes in ([0], [0, 1]):
        words = rf"`adata`: {len(genes)} of the model's 120 genes.*at least 2%, or 30, are needed.*model\.gene_names\(adata\)"
        with pytest.raises(ValueError, match=words):
            trained.predict_phenotype(cells[:, genes].copy())
    assert "117 of the model's 120 genes are unmeasured" in unmeasured_words(trained, cells[:, :3].copy())
