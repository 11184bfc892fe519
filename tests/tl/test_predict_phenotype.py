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
