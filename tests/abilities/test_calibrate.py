"""Temperatures of a model: what they are fitted on, and that they are saved and used."""

import logging
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from polygene_scverse.abilities import _calibrate
from polygene_scverse.abilities._calibrate import calibrate, fit_after_training
from polygene_scverse.data.feed._source import draw_cells
from polygene_scverse.engine import Engine, probabilities
from polygene_scverse.fit import FittedState
from polygene_scverse.fit._calibration import GROUP_STRENGTH, MIN_CELLS, SHARPEST_OF_CELLS
from polygene_scverse.fit._temperature import fit_temperature
from polygene_scverse.metrics import ece, nll
from polygene_scverse.model import Polygene

logging.getLogger("scvi").setLevel(logging.WARNING)


@pytest.fixture(scope="module")
def groups():
    """Arguments of a training on 240 cells that holds out two of six donors."""
    return {"max_epochs": 2, "group_key": "donor", "validation_size": 0.34, "enable_progress_bar": False}


def test_fitted_on_held_out_groups(cells, trained, groups):
    model = trained(cells(240), **groups)
    held_out = model.validation_indices
    names = set(model.adata.obs["donor"].iloc[held_out])
    for name, codes in model.codes(held_out).items():
        entry = model.calibration_[name]
        assert (entry["n_cells"], entry["n_groups"]) == (int((codes >= 0).sum()), len(names))
        assert (entry["cells"], entry["group_key"], entry["fitted"]) == ("held-out", "donor", True)
        assert f"{len(names)} new groups of 'donor'" in entry["note"]
    assert not names & set(model.adata.obs["donor"].iloc[model.train_indices])


def test_figures_are_those_of_the_held_out_cells(cells, trained, groups):
    model = trained(cells(240, missing=0.2), **groups)
    tables = model.predict_phenotype(indices=model.validation_indices)
    for name, codes in model.codes(model.validation_indices).items():
        entry, known = model.calibration_[name], codes >= 0
        assert entry["temperature"] != 1.0
        assert entry["ece_after"] == pytest.approx(ece(codes, tables[name]))
        assert entry["nll_after"] == pytest.approx(nll(codes, tables[name]))
        logits = np.log(tables[name].to_numpy()[known].astype(float)) * entry["temperature"]
        fitted, n = max(fit_temperature(logits, codes[known]), SHARPEST_OF_CELLS), entry["n_groups"]
        # beside what new groups cost by prediction of the training groups from each other
        expected = fitted ** (n / (n + GROUP_STRENGTH)) * entry["factor"]
        assert entry["temperature"] == pytest.approx(expected, rel=1e-3)
        raw = torch.from_numpy(logits).softmax(-1).numpy()
        assert entry["nll_before"] == pytest.approx(nll(codes[known], raw), rel=1e-4)


def test_held_out_cells_without_groups(cells, trained):
    model = trained(cells(200), validation_size=0.5)
    entry = model.calibration_["sex"]
    assert (entry["n_groups"], entry["group_key"], entry["n_cells"]) == (0, "", 100)
    assert entry["note"].startswith("confidence and accuracy differ by ")
    assert "(ECE) in 100 held-out cells (" in entry["note"]
    assert "may be larger for new donors if cells of the same donors were used in training" in entry["note"]


@pytest.mark.parametrize("size", [0.0, 0.1], ids=["none held out", "few held out"])
def test_too_few_cells_leave_the_temperature(cells, trained, size):
    model = trained(cells(60), validation_size=size)
    n = round(60 * size)
    for name in model.categories:
        entry = model.calibration_[name]
        assert (entry["temperature"], entry["fitted"], entry["n_cells"]) == (1.0, False, n)
        assert f"because {n} held-out cells have a known category and {MIN_CELLS} are needed" in entry["note"]
        assert model.temperature(name) == 1.0


def test_validation_cells_do_not_touch_the_weights(cells, model_of):
    """Other labels, and other expression, of the validation cells: the weights are the same to the last bit.

    Only the share of the linear path and its certainty about shallow cells are fitted to them, as temperatures are.
    """
    split = np.arange(100), np.arange(100, 200)
    states, temperatures, shares = [], [], []
    for changed in (False, True):
        adata = cells(200)
        if changed:
            rng = np.random.default_rng(0)
            for name in ("cell_type", "sex"):
                order = np.r_[split[0], rng.permutation(split[1])]
                adata.obs[name] = adata.obs[name].array[order]
            adata.X = adata.X[np.r_[split[0], rng.permutation(split[1])]]
        model = model_of(adata)
        model.train(max_epochs=2, split=split, enable_progress_bar=False)
        states.append(model.module.state_dict())
        temperatures.append(model.temperature("cell_type"))
        shares.append(model.fitted_.linear_share)
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]) == (name != "linear.slopes"), name
    assert temperatures[0] != temperatures[1]
    assert shares[0] != shares[1]


def test_a_second_training_calibrates_anew(cells, model_of):
    model = model_of(cells(200))
    model.train(max_epochs=1, validation_size=0.5, enable_progress_bar=False)
    assert model.calibration_["sex"]["fitted"]
    model.train(max_epochs=1, validation_size=0.0, enable_progress_bar=False)
    assert model.temperature("sex") == 1.0
    assert len(model.fitted_.conformal["sex"].codes) == 0


def test_prediction_uses_the_temperature(trained_model, query, apart):
    model = apart(trained_model)
    before = model.predict_phenotype(query)["cell_type"].to_numpy().astype(float)
    t = model.temperature("cell_type")
    of_cell_type = replace(model.fitted_.calibration["cell_type"], temperature=3.0)
    model.fitted_.calibration = {"cell_type": of_cell_type}
    expected = before ** (t / 3)
    expected /= expected.sum(1, keepdims=True)
    np.testing.assert_allclose(model.predict_phenotype(query)["cell_type"], expected, rtol=1e-4)


def test_other_cells(cells, trained_model, apart):
    model, other = apart(trained_model), cells(90, seed=3)
    model.fitted_.calibration, model.fitted_.conformal = {}, {}
    result = model.calibrate(other, group_key="donor")
    raw = apart(model)
    raw.fitted_.calibration = {}
    for name, table in raw.predict_phenotype(other).items():
        codes = other.obs[name].cat.codes.to_numpy()
        expected = fit_temperature(np.log(table.to_numpy()), codes)
        assert model.temperature(name) == pytest.approx(expected, rel=1e-3)
        assert result.loc[name, "temperature"] == model.temperature(name)
        assert result.loc[name, "n_groups"] == other.obs["donor"].nunique()
        assert "90 given cells of" in result.loc[name, "note"]


def test_one_phenotype_of_some_cells(cells, trained_model, apart):
    model, other = apart(trained_model), cells(90, seed=3)
    model.fitted_.calibration, model.fitted_.conformal = {}, {}
    model.calibrate(other, phenotypes="sex", indices=range(MIN_CELLS + 1))
    assert set(model.calibration_) == {"sex"}
    assert model.calibration_["sex"]["n_cells"] == MIN_CELLS + 1


def test_phenotypes_without_labels_are_left(cells, trained_model, apart):
    model, other = apart(trained_model), cells(60, seed=3)
    model.fitted_.calibration, model.fitted_.conformal = {}, {}
    del other.obs["sex"]
    assert list(model.calibrate(other).index) == ["cell_type"]


def test_a_copy_without_data_follows(cells, trained):
    model = trained(cells(60))
    copy = model.without_data()
    model.calibrate(cells(90, seed=3))
    assert copy.temperature("cell_type") == model.temperature("cell_type") != 1.0


def test_saved_with_the_model(cells, trained, tmp_path, query):
    model = trained(cells(200), validation_size=0.5)
    model.save(tmp_path / "model")
    loaded = Polygene.load(tmp_path / "model", adata=False)
    assert loaded.calibration_ == model.calibration_
    for name, table in model.predict_phenotype(query).items():
        pd.testing.assert_frame_equal(loaded.predict_phenotype(query)[name], table, check_exact=True)


def test_warns_of_training_cells(cells, trained):
    model = trained(cells(60))
    with pytest.warns(UserWarning, match="`adata`: 54 of the 60 cells were used in training"):
        model.calibrate()
    model.calibrate(indices=model.validation_indices)


def test_no_labels(cells, trained_model):
    other = cells(20)
    del other.obs["sex"], other.obs["cell_type"]
    with pytest.raises(
        ValueError, match=r"`adata`: none of the 20 cells has a known category of \['cell_type', 'sex'\]"
    ):
        trained_model.calibrate(other)


def test_unknown_group(cells, trained_model):
    with pytest.raises(KeyError, match=r"`group_key`: \['patient'\] are not columns of adata.obs"):
        trained_model.calibrate(cells(20), group_key="patient")


# plain functions of an engine, what was fitted, and cells


def test_of_many_held_out_cells_a_draw_is_looked_at(cells, trained, monkeypatch, groups):
    """Everything is fitted to the same ones; their groups are those of the drawn cells."""
    monkeypatch.setattr(_calibrate, "MAX_HELD_OUT", 60)
    model = trained(cells(240), **{**groups, "seed": 4})
    held_out = model._cells(model.adata, model.validation_indices).read_all()
    assert len(held_out) > 60
    drawn = draw_cells(held_out, 60, 4)
    for i, (name, entry) in enumerate(model.calibration_.items()):
        assert (entry["n_cells"], entry["group_key"]) == (60, "donor")
        assert entry["n_groups"] == model.adata.obs["donor"].iloc[drawn.ids].nunique()
        np.testing.assert_array_equal(model.fitted_.conformal[name].codes, drawn.codes[:, i])
    assert len(model.fitted_.novelty.distances["sex"]) == 60


def test_all_that_follows_is_fitted_in_place(cells, trained, apart):
    """Once more, to the same cells: the same to the last bit, into whatever is there."""
    model = trained(cells(200, missing=0.1), validation_size=0.5)
    rows = model.train_indices, model.validation_indices
    train, held_out = (model._cells(model.adata, at).read_all() for at in rows)
    known, weights = apart(model).fitted_, {k: v.clone() for k, v in model.module.linear.state_dict().items()}
    other = FittedState(masking={"expressed": 0.2})
    model.module.linear.weights.zero_()
    fit_after_training(Engine(model.module), other, train, held_out, None, 0)
    for name, value in model.module.linear.state_dict().items():
        assert torch.equal(value, weights[name]), name
    assert (other.calibration, other.linear_share) == (known.calibration, known.linear_share)
    for name, scores in known.conformal.items():
        np.testing.assert_array_equal(other.conformal[name].codes, scores.codes)
        np.testing.assert_array_equal(other.conformal[name].probabilities, scores.probabilities)
    np.testing.assert_array_equal(other.novelty.space.components, known.novelty.space.components)
    np.testing.assert_array_equal(other.novelty.distances["sex"], known.novelty.distances["sex"])
    assert other.masking == {"expressed": 0.2}


def test_unknown_cells_have_no_part():
    """Temperature and prediction sets of one phenotype, in place; others are left."""
    rng, state = np.random.default_rng(0), FittedState()
    codes = np.where(np.arange(90) % 3 == 0, -1, rng.integers(0, 2, 90))
    logits = (5.0 * rng.normal(size=(90, 2))).astype(np.float32)
    donors = pd.Series(np.where(codes < 0, "x", "y"), name="donor")
    calibrate(state, "sex", logits, codes, donors, "given")
    assert set(state.calibration) == set(state.conformal) == {"sex"}
    entry, known = state.calibration["sex"], codes >= 0
    assert (entry.n_cells, entry.n_groups, entry.cells) == (60, 1, "given")
    assert entry.temperature == fit_temperature(logits[known], codes[known]) > 1.0
    np.testing.assert_array_equal(state.conformal["sex"].codes, codes[known])
    expected = probabilities(logits[known], entry.temperature)[np.arange(60), codes[known]]
    np.testing.assert_array_equal(state.conformal["sex"].probabilities, expected)
