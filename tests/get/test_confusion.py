import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from polygene_scverse import get


def test_counts(predicted):
    table = get.confusion(predicted, "cell_type")
    assert list(table.index) == list(table.columns) == ["T", "B", "NK", "mast"]
    assert (table.index.name, table.columns.name) == ("recorded", "predicted")
    assert table.loc["T"].tolist() == [2, 1, 0, 0]
    assert table.loc["B"].tolist() == [0, 1, 0, 0]
    assert table.loc["NK"].tolist() == [0, 0, 0, 0]  # its only cell has no recorded value
    assert table.loc["mast"].tolist() == [1, 0, 0, 0]


@pytest.mark.parametrize("normalize", [None, "true", "pred", "all"], ids=str)
def test_as_scikit_learn(predicted, normalize):
    known = predicted.obs["cell_type"].notna() & (predicted.obs["cell_type"] != "unknown")
    obs = predicted.obs[known].astype(str)
    labels = ["T", "B", "NK", "mast"]
    expected = confusion_matrix(obs["cell_type"], obs["polygene_cell_type"], labels=labels, normalize=normalize)
    np.testing.assert_array_equal(get.confusion(predicted, "cell_type", normalize=normalize), expected)


def test_subset_keeps_the_categories_of_the_model(predicted):
    table = get.confusion(predicted[["cell1"]], "cell_type")
    assert list(table.index) == ["T", "B", "NK"]
    assert table.loc["B", "B"] == table.to_numpy().sum() == 1


def test_phenotype_that_is_not_recorded(predicted):
    with pytest.raises(KeyError, match=r"`phenotype`: 'hidden' is predicted but not recorded.*pgs.get.predictions"):
        get.confusion(predicted, "hidden")


def test_unknown_normalisation(predicted):
    with pytest.raises(
        ValueError, match=r"`normalize`: found 'rows', but it must be one of \[None, 'true', 'pred', 'all'\]"
    ):
        get.confusion(predicted, "cell_type", normalize="rows")
