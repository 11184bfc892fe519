"""Ordered phenotypes: what is learned, saved and expected."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData
from scipy.stats import pearsonr

from polygene_scverse.metrics import mean_absolute_error
from polygene_scverse.model import Polygene

SMALL = {"n_hidden": 16, "n_layers": 1, "n_heads": 2, "n_intermediate": 16}
YEARS = [5, 20, 34, 50, 65, 80]
LABELS = [f"{year}-year-old stage" for year in YEARS]


def aging(n_obs, seed=0):
    """Cells whose genes rise or fall with age."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 6, n_obs)
    slope = np.linspace(-1.5, 1.5, 40)
    rate = np.exp(0.5 + np.outer((codes - 2.5) / 2.5, slope))
    obs = pd.DataFrame({"age": np.array(LABELS)[codes]}, index=[f"cell{i}" for i in range(n_obs)])
    return AnnData(sp.csr_matrix(rng.poisson(rate).astype(np.float32)), obs=obs), codes


@pytest.fixture(scope="module")
def fitted():
    """A model of the age of 400 cells."""
    adata, _ = aging(400)
    Polygene.setup_anndata(adata, phenotype_keys="age", ordered=["age"])
    model = Polygene(adata, genes=list(adata.var_names), **SMALL)
    model.train(max_epochs=6, enable_progress_bar=False, plan_kwargs={"lr": 0.01})
    return model


def test_values_are_years(fitted):
    values = dict(zip(fitted.categories["age"], fitted.ordered["age"]["values"], strict=True))
    assert values == dict(zip(LABELS, YEARS, strict=True))
    assert fitted.ordered["age"]["numeric"]


def test_expected_age_follows_the_age(fitted):
    query, codes = aging(300, seed=1)
    tables = fitted.predict_phenotype(query)
    expected = fitted.expected_value(tables)["age"]
    np.testing.assert_allclose(
        expected, tables["age"].to_numpy() @ np.array(fitted.ordered["age"]["values"]), rtol=1e-6
    )
    truth = np.array(YEARS)[codes]
    assert pearsonr(expected, truth).statistic > 0.8
    of_model = query.obs["age"].map(fitted.categories["age"].index).to_numpy()
    error = mean_absolute_error(of_model, tables["age"], fitted.ordered["age"]["values"])
    assert error == pytest.approx(np.abs(expected - truth).mean())
    assert error < 0.5 * np.abs(truth.mean() - truth).mean()


def test_the_score_is_in_the_loss(fitted):
    parts = {}
    for weight in (0.0, 1.0, 2.0):
        adata, _ = aging(60)
        Polygene.setup_anndata(adata, phenotype_keys="age", ordered=["age"])
        model = Polygene(adata, genes=list(adata.var_names), loss={"ordinal_weight": weight}, **SMALL)
        model.train(max_epochs=1, enable_progress_bar=False, plan_kwargs={"lr": 1e-12})
        parts[weight] = float(model.history_["phenotype_loss_train"].iloc[0, 0])
    assert parts[1.0] - parts[0.0] == pytest.approx(parts[2.0] - parts[1.0], rel=1e-4)
    assert parts[1.0] - parts[0.0] > 0.5


def test_saved_with_the_model(fitted, tmp_path):
    query, _ = aging(30, seed=1)
    fitted.save(tmp_path / "model")
    loaded = Polygene.load(tmp_path / "model", adata=False)
    assert loaded.ordered == fitted.ordered
    assert fitted.without_data().ordered == fitted.ordered
    pd.testing.assert_frame_equal(
        loaded.expected_value(loaded.predict_phenotype(query)), fitted.expected_value(fitted.predict_phenotype(query))
    )
    loaded.adata = query  # which does not have them as ordered categories
    assert loaded.ordered == fitted.ordered


def test_an_ordered_categorical(cells, model_of):
    adata = cells(40)
    labels = adata.obs["cell_type"].cat.categories[::-1]
    adata.obs["cell_type"] = adata.obs["cell_type"].cat.reorder_categories(labels, ordered=True)
    model = model_of(adata)
    assert model.ordered == {"cell_type": {"values": [0.0, 1.0, 2.0], "numeric": False}}
    assert model.categories["cell_type"] == list(labels)
    model.train(max_epochs=1, enable_progress_bar=False)
    assert model.expected_value(model.predict_phenotype()).empty


def test_nothing_is_ordered_by_itself(trained_model):
    assert trained_model.ordered == {}
    assert trained_model.expected_value(trained_model.predict_phenotype(indices=[0])).empty
