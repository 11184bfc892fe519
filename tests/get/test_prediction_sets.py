import numpy as np
import pytest

from polygene_scverse import get


@pytest.fixture
def with_sets(predicted):
    inside = np.zeros((7, 3), dtype=bool)
    inside[0] = True
    inside[1, 1:] = True
    inside[2, 1] = True
    predicted.obsm["polygene_cell_type_set"] = inside
    return predicted


def test_table(with_sets):
    table = get.prediction_sets(with_sets, "cell_type")
    assert table["categories"].tolist() == [["T", "B", "NK"], ["B", "NK"], ["B"], [], [], [], []]
    assert table["size"].tolist() == [3, 2, 1, 0, 0, 0, 0]
    assert table["predicted"].tolist() == with_sets.obs["polygene_cell_type"].tolist()
    assert table.index.equals(with_sets.obs_names)


def test_subset_keeps_the_names(with_sets):
    assert get.prediction_sets(with_sets[1:2], "cell_type")["categories"].tolist() == [["B", "NK"]]


def test_predicted_without_sets(predicted):
    with pytest.raises(KeyError, match=r"'cell_type' was predicted without sets.*coverage=0.9"):
        get.prediction_sets(predicted, "cell_type")


def test_not_predicted(predicted):
    with pytest.raises(KeyError, match="no prediction of 'tissue' found"):
        get.prediction_sets(predicted, "tissue")


def test_lost_names(with_sets):
    del with_sets.uns["polygene"]
    with pytest.raises(ValueError, match="has 3 columns, but 2 categories are known"):
        get.prediction_sets(with_sets[:2], "cell_type")


def test_cells_without_sets_are_refused(with_sets, joined):
    """NaN would count as True."""
    sets = np.full((10, 3), np.nan)
    sets[:7] = with_sets.obsm["polygene_cell_type_set"]
    joined.obsm["polygene_cell_type_set"] = sets
    with pytest.raises(ValueError, match=r"3 cells have no prediction set.*adata.obs\['polygene_cell_type'\].notna"):
        get.prediction_sets(joined, "cell_type")
    there = joined[joined.obs["polygene_cell_type"].notna()]
    assert get.prediction_sets(there, "cell_type").equals(get.prediction_sets(with_sets, "cell_type"))
