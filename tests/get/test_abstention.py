import pandas as pd
import pytest

from polygene_scverse import get


def test_table(predicted):
    predicted.obs["polygene_cell_type_confidence"] = [0.9, 0.8, 0.7, 1.0, 1.0, 1.0, 0.9]
    table = get.abstention(predicted, "cell_type")
    assert list(table) == ["min_confidence", "answered", "error"]
    # recorded and known: T, B, T, T; predicted T, B, B, T
    assert table.to_numpy().tolist() == [[0.9, 0.5, 0.0], [0.8, 0.75, 0.0], [0.7, 1.0, 0.25]]


def test_refuses_unassigned_cells(predicted):
    labels = predicted.obs["polygene_cell_type"].astype(object)
    labels.iloc[:2] = "unassigned"
    predicted.obs["polygene_cell_type"] = pd.Categorical(labels)
    with pytest.raises(ValueError, match=r"`adata`: 2 cells are 'unassigned'.*without `min_confidence` first"):
        get.abstention(predicted, "cell_type")


def test_not_predicted(predicted):
    with pytest.raises(KeyError, match="no prediction of 'tissue' found"):
        get.abstention(predicted, "tissue")


def test_cells_without_a_prediction_are_left_out(predicted, joined):
    pd.testing.assert_frame_equal(get.abstention(joined, "cell_type"), get.abstention(predicted, "cell_type"))
