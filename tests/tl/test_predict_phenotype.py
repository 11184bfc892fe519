from dataclasses import replace

import anndata as ad
import numpy as np
import pytest

import polygene_scverse as pgs


def test_predictions_are_those_of_the_model(trained):
    cells, model = trained
    order = cells.obs_names.copy()
    pgs.tl.predict_phenotype(cells)
    tables = model.predict_phenotype()
    chosen = model.decide(tables)
    for name, table in tables.items():
        np.testing.assert_array_equal(cells.obs[f"polygene_{name}"].astype(str), chosen[name].astype(str))
        confidence = [table.loc[cell, category] for cell, category in chosen[name].items()]
        np.testing.assert_allclose(cells.obs[f"polygene_{name}_confidence"], confidence, rtol=1e-6)
        np.testing.assert_allclose(cells.obsm[f"polygene_{name}_proba"], table, rtol=1e-6)
        assert cells.uns["polygene"]["predict"][name] == list(table.columns)
    assert cells.obs_names.equals(order)


def test_balance_is_noted_and_used(trained):
    cells, model = trained
    pgs.tl.predict_phenotype(cells, balance=0.0)
    assert cells.uns["polygene"]["balance"] == 0.0
    for name, table in model.predict_phenotype().items():
        np.testing.assert_array_equal(cells.obs[f"polygene_{name}"].astype(str), table.idxmax(axis=1))


def test_one_phenotype_keeps_the_note_of_the_other(trained):
    cells, _ = trained
    pgs.tl.predict_phenotype(cells, phenotypes="sex")
    assert "polygene_cell_type" not in cells.obs
    pgs.tl.predict_phenotype(cells, phenotypes="cell_type")
    assert set(cells.uns["polygene"]["predict"]) == {"sex", "cell_type"}


def test_a_predicted_category_has_the_color_of_the_recorded_one(trained):
    cells, _ = trained
    cells.uns["sex_colors"] = ["#000000", "#ffffff", "#888888"]  # female, male, unknown
    cells.uns["cell_type_colors"] = ["#000000"] * 2  # one is missing
    pgs.tl.predict_phenotype(cells)
    assert cells.uns["polygene_sex_colors"] == ["#000000", "#ffffff"]
    assert "polygene_cell_type_colors" not in cells.uns


def test_everything_written_survives_a_file(trained, tmp_path):
    cells, _ = trained
    pgs.tl.predict_phenotype(cells)
    cells.write_h5ad(tmp_path / "cells.h5ad")
    read = ad.read_h5ad(tmp_path / "cells.h5ad")
    np.testing.assert_array_equal(read.obs["polygene_sex"], cells.obs["polygene_sex"])
    np.testing.assert_array_equal(read.obsm["polygene_sex_proba"], cells.obsm["polygene_sex_proba"])


def test_a_phenotype_the_model_does_not_know(trained):
    with pytest.raises(ValueError, match=r"`phenotypes`: found 'age', but it must be one of"):
        pgs.tl.predict_phenotype(trained[0], phenotypes="age")


def test_sets_are_those_of_the_model(trained, tmp_path):
    cells, model = trained
    model.calibrate(indices=model.validation_indices)
    pgs.tl.predict_phenotype(cells, coverage=0.8)
    sets = model.prediction_sets(model.predict_phenotype(), coverage=0.8)
    for name, table in sets.items():
        np.testing.assert_array_equal(cells.obsm[f"polygene_{name}_set"], table)
        assert cells.uns["polygene"]["coverage"][name] == 0.8
    cells.write_h5ad(tmp_path / "cells.h5ad")
    read = ad.read_h5ad(tmp_path / "cells.h5ad")
    np.testing.assert_array_equal(read.obsm["polygene_sex_set"], cells.obsm["polygene_sex_set"])
    assert pgs.get.prediction_sets(read, "sex")["categories"].tolist() == [
        [category for category in table.columns if table.loc[cell, category]]
        for table in [sets["sex"]]
        for cell in table.index
    ]


def test_sets_by_category(trained):
    cells, model = trained
    pgs.tl.predict_phenotype(cells, phenotypes="sex", coverage=0.7, by_category=True)
    tables = model.predict_phenotype(phenotypes="sex")
    expected = model.prediction_sets(tables, coverage=0.7, by_category=True)["sex"]
    np.testing.assert_array_equal(cells.obsm["polygene_sex_set"], expected)


def test_a_prediction_without_coverage_drops_old_sets(trained):
    cells, _ = trained
    pgs.tl.predict_phenotype(cells, coverage=0.7)
    pgs.tl.predict_phenotype(cells, phenotypes="sex")
    assert "polygene_sex_set" not in cells.obsm
    assert "polygene_cell_type_set" in cells.obsm
    assert set(cells.uns["polygene"]["coverage"]) == {"cell_type"}


def test_unassigned_only_when_asked(trained, tmp_path):
    cells, _ = trained
    pgs.tl.predict_phenotype(cells)
    answered = cells.obs["polygene_cell_type"].copy()
    assert "unassigned" not in answered.cat.categories
    least = float(cells.obs["polygene_cell_type_confidence"].median())
    cells.uns["cell_type_colors"] = ["#000000", "#ffffff", "#888888"]
    pgs.tl.predict_phenotype(cells, min_confidence=least)
    unsure = cells.obs["polygene_cell_type_confidence"] < least
    assert 0 < unsure.sum() < cells.n_obs
    assert (cells.obs["polygene_cell_type"][unsure] == "unassigned").all()
    assert (cells.obs["polygene_cell_type"].astype(str)[~unsure] == answered.astype(str)[~unsure]).all()
    assert cells.uns["polygene_cell_type_colors"][-1] == "#d3d3d3"
    assert pgs.get.confusion(cells, "cell_type").to_numpy().sum() == (~unsure & cells.obs["cell_type"].notna()).sum()
    cells.write_h5ad(tmp_path / "cells.h5ad")
    assert (ad.read_h5ad(tmp_path / "cells.h5ad").obs["polygene_cell_type"] == cells.obs["polygene_cell_type"]).all()


def test_what_it_was_calibrated_on_is_noted(trained):
    cells, model = trained
    pgs.tl.predict_phenotype(cells)
    notes = cells.uns["polygene"]["calibration"]
    assert notes == {name: entry["note"] for name, entry in model.calibration_.items()}
    bare = model.without_data()
    bare.fitted_ = replace(model.fitted_, calibration={})
    pgs.tl.predict_phenotype(cells, phenotypes="sex", model=bare)
    assert cells.uns["polygene"]["calibration"]["sex"].startswith("temperature 1: the model was not calibrated")


def test_refuses_a_confidence_out_of_range(trained):
    with pytest.raises(ValueError, match="`min_confidence`: found 50, but it must be a fraction"):
        pgs.tl.predict_phenotype(trained[0], min_confidence=50)


def test_categories_of_sets_without_sets(trained):
    with pytest.raises(ValueError, match="`by_category`: it applies to prediction sets only"):
        pgs.tl.predict_phenotype(trained[0], by_category=True)


def test_an_expected_value_of_another_model_is_removed(trained):
    """As an old prediction set is."""
    cells, model = trained
    cells.obs["polygene_sex_expected"] = 1.0
    pgs.tl.predict_phenotype(cells, phenotypes="cell_type", model=model)
    assert "polygene_sex_expected" in cells.obs
    pgs.tl.predict_phenotype(cells, phenotypes="sex", model=model)
    assert "polygene_sex_expected" not in cells.obs


def test_a_category_called_unassigned_is_not_mixed_with_cells_that_are(simulated, small):
    simulated.obs["sex"] = np.where(np.arange(300) % 3 == 0, "unassigned", simulated.obs["sex"].astype(str))
    pgs.tl.train(simulated, phenotypes=["cell_type", "sex"], missing=[], **small)
    with pytest.raises(ValueError, match=r"labelled 'unassigned', which is a category of \['sex'\]"):
        pgs.tl.predict_phenotype(simulated, min_confidence=0.5)
    assert "polygene_cell_type" not in simulated.obs
    pgs.tl.predict_phenotype(simulated, phenotypes="cell_type", min_confidence=0.5)
    pgs.tl.predict_phenotype(simulated)
