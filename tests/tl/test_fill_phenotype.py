import warnings

import anndata as ad
import numpy as np
import pytest

import polygene_scverse as pgs
from polygene_scverse.get._lookup import predicted_phenotypes

FILLED, PROBABILITY = "polygene_cell_type_filled", "polygene_cell_type_filled_probability"


def test_what_is_recorded_stays_and_blanks_are_predicted(trained):
    cells, model = trained
    before = cells.obs.copy()
    pgs.tl.fill_phenotype(cells)
    blank = cells.obs["cell_type"].isna()
    assert blank.sum() == 12
    assert (cells.obs.loc[~blank, FILLED].astype(str) == cells.obs.loc[~blank, "cell_type"].astype(str)).all()
    assert cells.obs.loc[~blank, PROBABILITY].isna().all()
    table = model.predict_phenotype(given="sex")["cell_type"]
    chosen = model.decide({"cell_type": table})["cell_type"]
    assert (cells.obs.loc[blank, FILLED].astype(str) == chosen[blank].astype(str)).all()
    expected = [table.loc[cell, chosen[cell]] for cell in cells.obs_names[blank]]
    np.testing.assert_allclose(cells.obs.loc[blank, PROBABILITY], expected, rtol=1e-5)
    assert cells.obs[before.columns].equals(before)
    assert set(cells.obs) - set(before) == {
        FILLED,
        PROBABILITY,
        FILLED.replace("cell_type", "sex"),
        PROBABILITY.replace("cell_type", "sex"),
    }
    assert cells.uns["polygene"]["fill"] == {"sex": ["cell_type"], "cell_type": ["sex"]}


def test_words_for_missing_are_blanks(trained):
    cells, _ = trained
    cells.obs["sex"] = cells.obs["sex"].fillna("unknown")
    pgs.tl.fill_phenotype(cells, phenotypes="sex")
    blank = cells.obs["sex"] == "unknown"
    assert blank.sum() == 9
    assert set(cells.obs["polygene_sex_filled"].cat.categories) == {"female", "male"}
    assert cells.obs["polygene_sex_filled_probability"].notna().tolist() == blank.tolist()
    assert FILLED not in cells.obs


@pytest.mark.parametrize(("missing", "n_blank"), [(["none"], 2), ([], 0)], ids=["none", "nothing"])
def test_what_is_missing_is_that_of_the_training(cells, small, missing, n_blank):
    words = np.array(["none", "unknown", "flu", "cold", "flu", "cold"], dtype=object)
    cells.obs["disease"] = words[np.arange(cells.n_obs) % 6]
    model = pgs.tl.train(cells, phenotypes=["cell_type", "disease"], missing=missing, **small)
    pgs.tl.fill_phenotype(cells, phenotypes="disease")
    filled, probability = cells.obs["polygene_disease_filled"], cells.obs["polygene_disease_filled_probability"]
    assert probability.notna().tolist() == [i % 6 < n_blank for i in range(cells.n_obs)]
    assert (filled[probability.isna()] == cells.obs["disease"][probability.isna()]).all()
    assert list(filled.cat.categories) == model.categories["disease"]


@pytest.mark.parametrize("given", [None, "sex", ["sex"], []], ids=str)
def test_evidence(trained, given):
    cells, model = trained
    pgs.tl.fill_phenotype(cells, phenotypes="cell_type", given=given, balance=0.0)
    shown = [] if given == [] else ["sex"]
    blank = cells.obs["cell_type"].isna()
    table = model.predict_phenotype(given=shown)["cell_type"][blank]
    np.testing.assert_allclose(cells.obs.loc[blank, PROBABILITY], table.max(axis=1), rtol=1e-5)
    assert cells.uns["polygene"]["fill"]["cell_type"] == shown


def test_warnings_are_given_once(trained):
    cells, model = trained
    panel = cells[:, :30].copy()
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        pgs.tl.fill_phenotype(panel, model=model)
    texts = [str(warning.message) for warning in given]
    assert len(set(texts)) == len(texts) == 2


def test_a_phenotype_is_no_evidence_for_itself(trained):
    cells, _ = trained
    pgs.tl.fill_phenotype(cells, given=["cell_type", "sex"])
    assert cells.uns["polygene"]["fill"] == {"sex": ["cell_type"], "cell_type": ["sex"]}


def test_a_column_that_is_not_there_is_all_blank(trained):
    cells, model = trained
    query = cells[:20].copy()
    del query.obs["cell_type"]
    pgs.tl.fill_phenotype(query, model=model)
    assert query.obs[PROBABILITY].notna().all()
    assert query.obs["polygene_sex_filled"].notna().all()
    assert list(query.uns["polygene"]["fill"]["sex"]) == []


def test_labels_that_the_model_does_not_know_are_kept(trained):
    cells, model = trained
    query = cells[:20].copy()
    query.obs["cell_type"] = ["mast cell"] * 3 + [None] + query.obs["cell_type"].astype(object).tolist()[4:]
    pgs.tl.fill_phenotype(query, model=model, phenotypes="cell_type")
    assert query.obs[FILLED].tolist()[:3] == ["mast cell"] * 3
    assert query.obs[FILLED].iloc[3] in model.categories["cell_type"]
    assert list(query.obs[FILLED].cat.categories) == [*model.categories["cell_type"], "mast cell"]


def test_nothing_to_fill(trained):
    cells, model = trained
    query = cells[cells.obs["cell_type"].notna()].copy()
    pgs.tl.fill_phenotype(query, model=model, phenotypes="cell_type")
    assert query.obs[PROBABILITY].isna().all()
    assert (query.obs[FILLED].astype(str) == query.obs["cell_type"].astype(str)).all()


def test_it_survives_a_file_and_is_no_prediction(trained, tmp_path):
    cells, _ = trained
    pgs.tl.fill_phenotype(cells)
    cells.write_h5ad(tmp_path / "cells.h5ad")
    read = ad.read_h5ad(tmp_path / "cells.h5ad")
    assert read.obs[FILLED].tolist() == cells.obs[FILLED].tolist()
    assert predicted_phenotypes(read) == []


def test_errors(trained):
    cells, model = trained
    with pytest.raises(ValueError, match="`phenotypes`: found 'age', but it must be one of"):
        pgs.tl.fill_phenotype(cells, phenotypes="age")
    with pytest.raises(ValueError, match="`given`: found 'donor', but it must be one of"):
        pgs.tl.fill_phenotype(cells, given="donor")
    del cells.obs["sex"]
    with pytest.raises(KeyError, match=r"`given`: \['sex'\] are not columns"):
        pgs.tl.fill_phenotype(cells, phenotypes="cell_type", given="sex", model=model)
