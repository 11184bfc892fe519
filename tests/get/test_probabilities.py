import anndata
import numpy as np
import pytest

from polygene_scverse import get


def test_table(predicted):
    table = get.probabilities(predicted, "cell_type")
    assert list(table) == ["T", "B", "NK"]
    assert table.index.equals(predicted.obs_names)
    np.testing.assert_array_equal(table, predicted.obsm["polygene_cell_type_proba"])
    assert table.idxmax(axis=1).tolist() == predicted.obs["polygene_cell_type"].tolist()


def test_table_is_a_copy(predicted):
    table = get.probabilities(predicted, "cell_type")
    table.iloc[:] = 0
    np.testing.assert_allclose(predicted.obsm["polygene_cell_type_proba"].sum(axis=1), 1.0, rtol=1e-6)


def test_no_probabilities(predicted):
    with pytest.raises(KeyError, match=r"adata.obsm has no 'polygene_age_proba'.*pgs.tl.predict_phenotype"):
        get.probabilities(predicted, "age")


def test_subset_keeps_all_categories(predicted):
    assert list(get.probabilities(predicted[:2], "cell_type")) == ["T", "B", "NK"]


def test_names_in_another_order_after_concatenation(predicted):
    some, others = predicted[["cell0", "cell3"]].copy(), predicted[["cell1", "cell2", "cell4"]].copy()
    joined = anndata.concat([some, others])
    assert list(joined.obs["polygene_cell_type"].cat.categories) == ["B", "NK", "T"]
    with pytest.raises(
        ValueError, match=r"has 3 columns, but the categories in obs have another order.*uns_merge='same'"
    ):
        get.probabilities(joined, "cell_type")
    kept = get.probabilities(anndata.concat([some, others], uns_merge="same"), "cell_type")
    assert (kept.idxmax(axis=1) == joined.obs["polygene_cell_type"]).all()


def test_lost_names(predicted):
    del predicted.uns["polygene"]
    assert list(get.probabilities(predicted, "cell_type")) == ["T", "B", "NK"]
    with pytest.raises(ValueError, match=r"has 3 columns, but 2 categories are known.*pgs.tl.predict_phenotype"):
        get.probabilities(predicted[:2], "cell_type")
