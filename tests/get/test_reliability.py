import numpy as np
import pandas as pd
import pytest

from polygene_scverse import get


def test_table(predicted):
    table = get.reliability(predicted, "cell_type", n_bins=10)
    assert list(table) == ["lower", "upper", "n_cells", "confidence", "accuracy"]
    # all confidences are 0.8; of seven cells two are not recorded, one is a mast cell, and three of four are right
    assert table["n_cells"].tolist() == [4]
    assert table["confidence"].tolist() == pytest.approx([0.8])
    assert table["accuracy"].tolist() == [0.75]


def test_bins_without_cells_are_left_out(predicted):
    predicted.obsm["polygene_cell_type_proba"] = np.array([[0.9, 0.1, 0.0]] * 3 + [[0.4, 0.3, 0.3]] * 4)
    table = get.reliability(predicted, "cell_type", n_bins=5)
    assert table["lower"].tolist() == pytest.approx([0.4, 0.8])
    assert get.reliability(predicted, "cell_type", n_bins=1)["n_cells"].tolist() == [4]


def test_not_recorded(predicted):
    del predicted.obs["cell_type"]
    with pytest.raises(
        KeyError, match=r"'cell_type' is predicted but not recorded: adata.obs has no column 'cell_type'"
    ):
        get.reliability(predicted, "cell_type")


def test_nothing_known(predicted):
    predicted.obs["cell_type"] = pd.Categorical(["mast"] * 7)
    assert get.reliability(predicted, "cell_type").empty


def test_cells_without_a_prediction_are_left_out(predicted, joined):
    pd.testing.assert_frame_equal(get.reliability(joined, "cell_type"), get.reliability(predicted, "cell_type"))
