"""Prediction sets of a model: coverage of simulated cells."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from polygene_scverse.fit._conformal import ConformalScores
from polygene_scverse.model import Polygene


@pytest.fixture
def model(trained_model, apart):
    """A copy whose calibration may be changed."""
    return apart(trained_model)


def drawn(n, n_categories=3, seed=0, concentration=1.0):
    """Codes drawn from their probabilities: cells of a calibrated model."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet([concentration] * n_categories, n)
    return p, (rng.random((n, 1)) > p.cumsum(1)).sum(1).clip(max=n_categories - 1)


def calibrated_on(model, probabilities, codes, phenotype="cell_type"):
    of_true = probabilities[np.arange(len(codes)), codes]
    model.fitted_.conformal = {phenotype: ConformalScores(codes.astype(np.int32), of_true.astype(np.float32))}
    return model


def table(model, rows, phenotype="cell_type"):
    return {phenotype: pd.DataFrame(np.asarray(rows, dtype=np.float32), columns=model.categories[phenotype])}


@pytest.mark.parametrize("coverage", [0.7, 0.9], ids=str)
@pytest.mark.parametrize("by_category", [False, True], ids=["of all", "by category"])
def test_coverage_of_exchangeable_cells(model, coverage, by_category):
    p, codes = drawn(6000)
    calibrated_on(model, p[:3000], codes[:3000])
    sets = model.prediction_sets(table(model, p[3000:]), coverage=coverage, by_category=by_category)["cell_type"]
    held = sets.to_numpy()[np.arange(3000), codes[3000:]]
    assert held.mean() == pytest.approx(coverage, abs=0.03)
    if by_category:
        assert [held[codes[3000:] == c].mean() for c in range(3)] == pytest.approx([coverage] * 3, abs=0.03)


def test_by_category_covers_the_rare_one(model):
    """A model that gives too little to a rare category covers it only if asked to."""
    p, codes = drawn(8000)
    keep = (codes != 2) | (np.random.default_rng(2).random(8000) < 0.15)
    p, codes = p[keep] * [1.0, 1.0, 0.2], codes[keep]
    p, half = p / p.sum(1, keepdims=True), len(codes) // 2
    calibrated_on(model, p[:half], codes[:half])
    rare = codes[half:] == 2
    held = {
        by_category: model.prediction_sets(table(model, p[half:]), coverage=0.9, by_category=by_category)["cell_type"]
        .to_numpy()[rare, 2]
        .mean()
        for by_category in (False, True)
    }
    assert held[False] < 0.8
    assert held[True] == pytest.approx(0.9, abs=0.05)


def test_a_set_may_be_empty(model):
    p = np.tile([0.8, 0.1, 0.1], (99, 1))
    calibrated_on(model, p, np.zeros(99, dtype=int))
    sets = model.prediction_sets(table(model, [[0.9, 0.05, 0.05], [0.4, 0.3, 0.3]]))["cell_type"]
    assert sets.to_numpy().tolist() == [[True, False, False], [False, False, False]]


def test_own_calibration_cells_are_covered_to_the_last_digit(trained_model, cells, model_of):
    """Probabilities of calibration are those of prediction: the cell at the threshold is in its own set."""
    model = model_of(cells(150))
    model.train(max_epochs=1, enable_progress_bar=False, validation_size=0.5)
    rows = model.validation_indices
    for coverage in (0.5, 0.8, 0.9):
        sets = model.prediction_sets(model.predict_phenotype(indices=rows), coverage=coverage)
        for name, codes in model.codes(rows).items():
            held = sets[name].to_numpy()[np.arange(len(rows)), codes][codes >= 0]
            assert held.sum() == np.ceil(round((len(held) + 1) * coverage, 9))


def test_too_few_cells_hold_every_category(model):
    p, codes = drawn(8)
    calibrated_on(model, p, codes)
    with pytest.warns(UserWarning, match="`coverage`: 0.9 needs 9 calibration cells, but 8 with a known 'cell_type'"):
        sets = model.prediction_sets(table(model, [[1.0, 0.0, 0.0]]))["cell_type"]
    assert sets.to_numpy().all()


def test_without_calibration(model):
    model.fitted_.conformal = {}
    with pytest.warns(
        UserWarning, match="but 0 with a known 'sex' were held out, so every set contains all categories"
    ):
        sets = model.prediction_sets({"sex": pd.DataFrame([[1.0, 0.0]], columns=model.categories["sex"])})["sex"]
    assert sets.to_numpy().all()


def test_categories_with_few_cells_take_the_threshold_of_all(model):
    p, codes = drawn(300)
    p, codes = p[codes < 2], codes[codes < 2]
    codes[:8] = 2
    calibrated_on(model, p, codes)
    names = model.categories["cell_type"]
    rows = table(model, drawn(500, seed=1)[0])
    with pytest.warns(UserWarning, match=rf"needs 9 calibration cells of each category.*fewer of \['{names[2]}'\]"):
        sets = model.prediction_sets(rows, by_category=True)["cell_type"]
    of_all = model.prediction_sets(rows)["cell_type"]
    assert sets[names[2]].equals(of_all[names[2]])
    assert not sets[names[0]].equals(of_all[names[0]])


def test_saved_with_the_model(model, tmp_path):
    p, codes = drawn(99)
    calibrated_on(model, p, codes)
    model.save(tmp_path / "model")
    loaded = Polygene.load(tmp_path / "model", adata=False)
    rows = table(model, drawn(50, seed=1)[0])
    before, after = (m.prediction_sets(rows, by_category=True) for m in (model, loaded))
    pd.testing.assert_frame_equal(before["cell_type"], after["cell_type"])
    assert before["cell_type"].to_numpy().any()


@pytest.mark.parametrize("coverage", [0.0, 1.0, 90, float("nan")], ids=str)
def test_refuses_a_coverage_out_of_range(model, coverage):
    with pytest.raises(ValueError, match=r"`coverage`: found .* must be above 0 and below 1"):
        model.prediction_sets(table(model, [[1.0, 0.0, 0.0]]), coverage=coverage)


def test_refuses_other_columns(model):
    with pytest.raises(ValueError, match=r"`probabilities`: the columns of 'sex' are \['a', 'b'\], but the model's"):
        model.prediction_sets({"sex": pd.DataFrame([[0.5, 0.5]], columns=["a", "b"])})


@pytest.fixture
def calibrated(model, monkeypatch):
    """A calibrated model whose sets are empty for most cells with few genes."""
    p, codes = drawn(400, concentration=0.05)
    calibrated_on(model, p, codes)
    held_out = replace(model.fitted_.calibration["cell_type"], cells="held-out")
    monkeypatch.setitem(model.fitted_.calibration, "cell_type", held_out)
    return model


def test_sets_of_cells_with_few_genes_are_those_of_their_probabilities(calibrated, cells):
    rows = table(calibrated, [[0.6, 0.25, 0.15], [0.95, 0.03, 0.02]])
    assert not calibrated.prediction_sets(rows)["cell_type"].iloc[0].any()
    panel = cells(6, 40)[:, :20].copy()
    words = r"`coverage`: 0.9 is not guaranteed for \['cell_type'\].* 20 of the model's 36 genes.*model.calibrate"
    with pytest.warns(UserWarning, match=words):
        sets = calibrated.prediction_sets(rows, adata=panel)["cell_type"]
    np.testing.assert_array_equal(sets, [[True, True, True], [True, False, False]])
    most = calibrated.prediction_sets(rows, adata=cells(6, 40)[:, :30].copy())["cell_type"]
    pd.testing.assert_frame_equal(most, calibrated.prediction_sets(rows)["cell_type"])


def test_sets_calibrated_on_given_cells_stay(calibrated, cells, monkeypatch):
    given = replace(calibrated.fitted_.calibration["cell_type"], cells="given")
    monkeypatch.setitem(calibrated.fitted_.calibration, "cell_type", given)
    rows = table(calibrated, [[0.6, 0.25, 0.15]])
    found = calibrated.prediction_sets(rows, adata=cells(6, 40)[:, :20].copy())["cell_type"]
    pd.testing.assert_frame_equal(found, calibrated.prediction_sets(rows)["cell_type"])
