import numpy as np
import pytest
from sklearn.metrics import accuracy_score

from polygene_scverse.metrics import accuracy


def test_as_scikit_learn(cells):
    true, predicted, _ = cells
    assert accuracy(true, predicted) == pytest.approx(accuracy_score(true[true >= 0], predicted[true >= 0]))


def test_by_hand():
    assert accuracy([0, 1, 2, -1, -1], [0, 1, -1, 0, -1]) == pytest.approx(2 / 3)


def test_no_known_cell():
    assert np.isnan(accuracy([-1, -1], [0, 1]))
