import anndata
import pandas as pd
import pytest

from polygene_scverse import get


def test_columns(predicted):
    table = get.predictions(predicted, "cell_type")
    assert list(table) == ["recorded", "predicted", "confidence"]
    assert table.index.equals(predicted.obs_names)
    assert table["recorded"].astype(object).fillna("-").tolist() == ["T", "B", "T", "-", "-", "mast", "T"]
    assert table["predicted"].tolist() == ["T", "B", "B", "T", "NK", "T", "T"]
    assert table["confidence"].tolist() == pytest.approx([0.8] * 7)


def test_recorded_and_predicted_can_be_compared(predicted):
    table = get.predictions(predicted, "cell_type")
    assert list(table["recorded"].cat.categories) == ["T", "B", "NK", "mast"]
    right = table["recorded"] == table["predicted"]
    assert right.tolist() == [True, True, False, False, False, False, True]


def test_numbers_are_read_as_labels(predicted):
    table = get.predictions(predicted, "age")
    assert table["recorded"].astype(object).fillna("-").tolist() == ["30", "40", "-", "30", "40", "30", "30"]


def test_phenotype_that_is_not_recorded(predicted):
    table = get.predictions(predicted, "hidden")
    assert list(table) == ["predicted", "confidence"]
    assert table["predicted"].tolist() == ["yes", "no", "yes", "yes", "yes", "yes", "yes"]


def test_adata_is_left_alone(predicted):
    before = predicted.copy()
    get.predictions(predicted, "cell_type")
    pd.testing.assert_frame_equal(predicted.obs, before.obs)


def test_phenotype_that_was_not_predicted(predicted):
    with pytest.raises(KeyError, match=r"no prediction of 'sex' found.*pgs.tl.predict_phenotype\(adata\)"):
        get.predictions(predicted, "sex")


def test_reads_what_tl_writes(trained, tmp_path):
    trained.write_h5ad(tmp_path / "cells.h5ad")
    for adata in (trained, anndata.read_h5ad(tmp_path / "cells.h5ad")):
        table = get.predictions(adata, "cell_type")
        probabilities = get.probabilities(adata, "cell_type")
        assert table["predicted"].tolist() == probabilities.idxmax(axis=1).tolist()
        assert table["confidence"].tolist() == pytest.approx(probabilities.max(axis=1).tolist())
        n_known = table["recorded"].notna().sum()
        assert n_known == adata.obs["cell_type"].notna().sum() == get.confusion(adata, "cell_type").to_numpy().sum()
        assert n_known < 80


def test_a_category_that_is_called_like_a_missing_value(predicted):
    predicted.obs["age"] = ["30", "unknown", None, "30", "unknown", "30", "30"]
    predicted.obs["polygene_age"] = ["30", "unknown", *["30"] * 5]
    predicted.uns["polygene"]["predict"]["age"] = ["30", "unknown"]
    table = get.predictions(predicted, "age")
    assert table["recorded"].astype(object).fillna("-").tolist() == ["30", "unknown", "-", "30", "unknown", "30", "30"]
    assert get.confusion(predicted, "age").to_numpy().tolist() == [[4, 0], [1, 1]]
