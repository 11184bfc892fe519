import copy

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import polygene_scverse as pgs
from polygene_scverse.model import Polygene

pytestmark = pytest.mark.filterwarnings("ignore:'unknown' of:UserWarning")


@pytest.fixture
def parts(simulated):
    """Cells of two types, and of the third; none is missing."""
    cells = simulated[simulated.obs["cell_type"].notna()].copy()
    is_new = (cells.obs["cell_type"] == "NK cell").to_numpy()
    old, new = cells[~is_new].copy(), cells[is_new].copy()
    for part in (old, new):
        part.obs["cell_type"] = part.obs["cell_type"].astype(str)
    return old, new


@pytest.fixture
def model(parts, small):
    return pgs.tl.train(parts[0], phenotypes="cell_type", n_genes=40, **small)


def test_an_added_category_changes_nothing_until_it_is_trained(model, simulated, tmp_path):
    before = model.predict_phenotype(simulated)["cell_type"]
    grown = model.add_categories("cell_type", "NK cell")
    assert model.added_ == {}
    assert grown.added_ == {"cell_type": {"categories": ["NK cell"], "ordered": False}}
    pd.testing.assert_frame_equal(grown.predict_phenotype(simulated)["cell_type"], before, check_exact=True)
    grown.save(tmp_path / "grown")
    loaded = Polygene.load(tmp_path / "grown", adata=False)
    assert loaded.added_ == grown.added_
    pd.testing.assert_frame_equal(loaded.predict_phenotype(simulated)["cell_type"], before, check_exact=True)


def test_sets_are_not_promised_where_a_category_was_added(simulated, small):
    model = pgs.tl.train(simulated, phenotypes=["cell_type", "sex"], **{**small, "max_epochs": 1})
    model.calibrate(simulated, indices=model.validation_indices)
    grown = model.add_categories("cell_type", ["MAIT"])
    tables = grown.predict_phenotype(simulated)
    assert set(grown.prediction_sets({"sex": tables["sex"]}, coverage=0.5)) == {"sex"}
    with pytest.warns(
        UserWarning, match="0 with a known 'cell_type' were held out, so every set contains all categories"
    ):
        sets = grown.prediction_sets(tables, coverage=0.5)["cell_type"]
    assert sets.all(axis=None)
    assert model.prediction_sets(tables, coverage=0.5)["cell_type"].any(axis=None)


def test_new_cells_alone_teach_the_new_and_keep_the_old(model, parts, simulated, small):
    _, new = parts
    weights = copy.deepcopy(model.module.state_dict())
    larger = pgs.tl.train(new, model=model, **{**small, "model_kwargs": None})
    assert model.categories["cell_type"] == ["B cell", "T cell"]
    assert larger.categories["cell_type"] == ["B cell", "T cell", "NK cell"]
    assert larger.genes == model.genes
    assert all(weights[name].equal(value) for name, value in model.module.state_dict().items())
    chosen = larger.decide(larger.predict_phenotype(simulated))["cell_type"].astype(str)
    true = simulated.obs["cell_type"].astype(str)
    for name in larger.categories["cell_type"]:
        assert (chosen[true == name] == name).mean() > 0.9
    counts = dict(zip(larger.categories["cell_type"], larger.fitted_.category_counts[0], strict=True))
    assert min(counts.values()) > 50
    assert max(*larger.train_indices, *larger.validation_indices) < new.n_obs
    assert pgs.tl.predict_phenotype(new) is None
    assert "NK cell" in set(new.obs["polygene_cell_type"])


def test_cells_that_are_there_are_not_drawn(model, parts, small, capsys):
    both = ad.concat(parts)
    larger = pgs.tl.train(both, model=model, seed=0, **{**small, "model_kwargs": None, "verbose": True})
    said = capsys.readouterr().out
    rows = larger.train_indices
    fresh = pgs.tl.train(both, phenotypes="cell_type", n_genes=40, seed=0, **small)
    assert np.array_equal(rows, fresh.train_indices)
    assert set(larger.genes) == {*model.genes, *fresh.genes} > set(model.genes)
    assert "NK cell" in said
    assert "rehearsal" not in said


def test_phenotypes_and_genes_are_added_and_saved(model, parts, simulated, small, tmp_path):
    _, new = parts
    larger = pgs.tl.train(new, model=model, phenotypes="sex", n_genes=50, **{**small, "model_kwargs": None})
    assert larger.columns == {"cell_type": "cell_type", "sex": "sex"}
    assert larger.genes[:40] == model.genes
    assert len(larger.genes) == 50
    assert "50 genes in 10 bins, phenotypes ['cell_type', 'sex']" in larger.summary_string
    chosen = larger.decide(larger.predict_phenotype(simulated))["sex"].astype(str)
    known = simulated.obs["sex"].isin(["female", "male"]).to_numpy()
    assert (chosen[known] == simulated.obs["sex"].astype(str)[known]).mean() > 0.75
    larger.save(tmp_path / "larger")
    loaded = Polygene.load(tmp_path / "larger", adata=False)
    for name, table in larger.predict_phenotype(simulated).items():
        pd.testing.assert_frame_equal(loaded.predict_phenotype(simulated)[name], table, check_exact=True)
    assert set(loaded.registry["field_registries"]["phenotypes"]["state_registry"]["categories"]) == {
        "cell_type",
        "sex",
    }


def test_donors_may_be_named(model, parts, small):
    _, new = parts
    larger = pgs.tl.train(new, model=model, group_key="donor", **{**small, "model_kwargs": None})
    assert (
        "Because new groups differ" in larger.calibration_["cell_type"]["note"]
    )  # judged by predicting groups from each other


def test_training_by_hand_learns_what_was_added(model, parts, small):
    both = ad.concat(parts)
    grown = model.add_categories("cell_type", ["NK cell"]).add_phenotype("donor", [f"donor{i}" for i in range(6)])
    grown.adata = both
    grown.train(max_epochs=1, enable_progress_bar=False)
    assert grown.added_ == {}
    assert {name: len(found) for name, found in grown.categories.items()} == {"cell_type": 3, "donor": 6}
    assert grown.adata is both
    assert grown.codes()["cell_type"].max() == 2


def test_a_training_that_does_not_begin_leaves_all_as_it_was(model, parts, simulated):
    before = model.predict_phenotype(simulated)["cell_type"]
    grown = model.add_categories("cell_type", ["NK cell"])
    grown.adata = ad.concat(parts)
    with pytest.raises(ValueError, match="max_epochs"):
        grown.train(max_epochs=-1, enable_progress_bar=False)
    assert grown.added_["cell_type"]["categories"] == ["NK cell"]
    pd.testing.assert_frame_equal(grown.predict_phenotype(simulated)["cell_type"], before, check_exact=True)
    grown.train(max_epochs=1, enable_progress_bar=False)
    assert grown.categories["cell_type"][-1] == "NK cell"


def test_what_cannot_be_drawn_is_said(parts, small):
    old, new = parts
    model = pgs.tl.train(old, phenotypes="cell_type", **small)
    model.fitted_.counts = None
    with pytest.warns(UserWarning, match=r"no cell has the \w+ \['B cell', 'T cell'\].*anndata.concat"):
        pgs.tl.train(new, model=model, phenotypes="sex", **{**small, "model_kwargs": None})


def test_numbers_find_their_place_and_others_follow(simulated, small):
    simulated.obs["age"] = np.where(np.arange(simulated.n_obs) % 2, "20", "40")
    simulated.obs["grade"] = pd.Categorical(
        np.where(np.arange(simulated.n_obs) % 3, "low", "high"), ["low", "high"], True
    )
    model = pgs.tl.train(simulated, phenotypes=["age", "grade"], ordered=["age", "grade"], **small)
    grown = model.add_categories("age", ["30"]).add_categories("grade", "top")
    grown.adata = simulated
    grown.train(max_epochs=1, enable_progress_bar=False)
    assert grown.ordered["age"] == {"values": [20.0, 40.0, 30.0], "numeric": True}
    assert grown.ordered["grade"] == {"values": [0.0, 1.0, 2.0], "numeric": False}
    with pytest.raises(ValueError, match="are not numeric"):
        model.add_categories("age", ["old"])


def test_wrong_arguments_are_refused(model, parts, small, tmp_path):
    _, new = parts
    with pytest.raises(ValueError, match="`phenotype`: found 'tissue'"):
        model.add_categories("tissue", ["eye"])
    with pytest.raises(ValueError, match="which has"):
        model.add_categories("cell_type", ["B cell"])
    with pytest.raises(ValueError, match="each once"):
        model.add_categories("cell_type", ["x", "x"])
    with pytest.raises(ValueError, match="Call add_categories"):
        model.add_phenotype("cell_type", ["a", "b"])
    with pytest.raises(ValueError, match="two or more"):
        model.add_phenotype("tissue", ["eye"])
    with pytest.raises(ValueError, match="`model_kwargs`: passed together with model="):
        pgs.tl.train(new, model=model, **small)
    Polygene.setup_anndata(new, "sex")
    with pytest.raises(ValueError, match="not trained"):
        pgs.tl.train(new, model=Polygene(new, n_genes=10, n_hidden=16, n_layers=1), verbose=False)
    with pytest.raises(TypeError, match="files"):
        pgs.tl.train(tmp_path / "cells.h5ad", model=model)
    with pytest.raises(KeyError, match="tissue"):
        pgs.tl.train(new, model=model, phenotypes="tissue", verbose=False)
