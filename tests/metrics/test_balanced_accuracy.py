import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from polygene_scverse.metrics import balanced_accuracy


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_as_scikit_learn(cells):
    true, predicted, _ = cells
    expected = balanced_accuracy_score(true[true >= 0], predicted[true >= 0])
    assert balanced_accuracy(true, predicted) == pytest.approx(expected)


def test_by_hand():
    # 3 of 4, 1 of 2, 0 of 1; category 3 is only predicted
    assert balanced_accuracy([0, 0, 0, 0, 1, 1, 2, -1], [0, 0, 0, 1, 1, -1, 3, 0]) == pytest.approx((0.75 + 0.5) / 3)


def test_no_known_cell():
    assert np.isnan(balanced_accuracy([-1], [0]))
