"""Phenotypes of the original whose obs column has another name: age is read from ``development_stage``."""

import numpy as np
import pytest

import polygene_scverse as pgs


@pytest.fixture
def predicted(imported, labelled):
    pgs.tl.predict_phenotype(labelled, phenotypes="age", model=imported)
    return labelled


def test_predictions_are_compared_with_the_column(predicted):
    recorded = predicted.obs["development_stage"].astype(object)
    table = pgs.get.predictions(predicted, "age")
    assert recorded.notna().any()
    np.testing.assert_array_equal(table["recorded"].isna(), recorded.isna())
    assert (table["recorded"].astype(object) == recorded)[recorded.notna()].all()
    known = recorded.isin(pgs.get.probabilities(predicted, "age").columns).sum()
    assert pgs.get.reliability(predicted, "age")["n_cells"].sum() == known > 0


def test_recorded_ages_are_not_filled_with_predictions(imported, labelled):
    pgs.tl.fill_phenotype(labelled, phenotypes="age", model=imported)
    recorded = labelled.obs["development_stage"].astype(object)
    kept = recorded.notna()
    assert kept.any()
    assert (labelled.obs["polygene_age_filled"].astype(object) == recorded)[kept].all()
    np.testing.assert_array_equal(labelled.obs["polygene_age_filled_probability"].isna(), kept)


def test_a_missing_column_is_named(imported, labelled):
    del labelled.obs["development_stage"]
    with pytest.raises(KeyError, match=r"`given`: \['development_stage'\] are not columns of adata.obs"):
        pgs.tl.fill_phenotype(labelled, phenotypes="sex", given="age", model=imported)


def test_colors_are_those_of_the_column(imported, labelled):
    labelled.obs["development_stage"] = labelled.obs["development_stage"].astype("category")
    recorded = list(labelled.obs["development_stage"].cat.categories)
    labelled.uns["development_stage_colors"] = ["#111111", "#222222", "#333333"][: len(recorded)]
    pgs.tl.predict_phenotype(labelled, phenotypes="age", model=imported)
    categories = list(labelled.obs["polygene_age"].cat.categories)
    known = dict(zip(recorded, labelled.uns["development_stage_colors"], strict=True))
    assert list(labelled.uns["polygene_age_colors"]) == [known[category] for category in categories]


def test_the_audit_reads_the_column(imported, labelled):
    pgs.tl.audit(labelled, phenotypes="age", model=imported)
    recorded = labelled.obs["development_stage"].astype(str).to_numpy()
    found = imported.predict_phenotype(labelled, phenotypes=["age"])["age"]
    known = np.isin(recorded, found.columns)
    assert known.any()
    expected = found.to_numpy()[np.flatnonzero(known), found.columns.get_indexer(recorded[known])]
    np.testing.assert_allclose(labelled.obs["polygene_audit_age"][known], expected, rtol=1e-5)
    assert labelled.obs["polygene_audit_age"][~known].isna().all()


def test_an_error_names_the_column(predicted):
    del predicted.obs["development_stage"]
    with pytest.raises(KeyError, match=r"adata\.obs has no column 'development_stage'"):
        pgs.get.reliability(predicted, "age")
