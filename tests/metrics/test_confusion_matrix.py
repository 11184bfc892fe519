import numpy as np
import pytest
from sklearn.metrics import confusion_matrix as oracle

from polygene_scverse.metrics import confusion_matrix


@pytest.mark.parametrize("normalize", [None, "true", "pred", "all"], ids=str)
def test_as_scikit_learn(cells, normalize):
    true, predicted, probabilities = cells
    n = probabilities.shape[1]
    expected = oracle(true[true >= 0], predicted[true >= 0], labels=np.arange(n), normalize=normalize)
    np.testing.assert_array_equal(confusion_matrix(true, predicted, n_categories=n, normalize=normalize), expected)


def test_by_hand():
    matrix = confusion_matrix([0, 0, 1, -1, 1], [0, 1, 1, 0, -1], n_categories=3)
    assert matrix.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]


@pytest.mark.parametrize("normalize", [None, "true", "pred", "all"], ids=str)
def test_no_known_cell(normalize):
    assert confusion_matrix([-1], [0], n_categories=2, normalize=normalize).tolist() == [[0, 0], [0, 0]]
