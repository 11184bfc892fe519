import numpy as np
import pytest
from sklearn.metrics import log_loss

from polygene_scverse.metrics import nll


def test_as_scikit_learn(cells):
    true, _, probabilities = cells
    known = true >= 0
    expected = log_loss(true[known], probabilities[known], labels=np.arange(probabilities.shape[1]))
    assert nll(true, probabilities) == pytest.approx(expected)


def test_by_hand():
    assert nll([0, 1, -1], [[0.5, 0.5], [0.75, 0.25], [1.0, 0.0]]) == pytest.approx((np.log(2) + np.log(4)) / 2)


def test_impossible_cell_stays_finite():
    assert nll([1], [[1.0, 0.0]]) == pytest.approx(-np.log(np.finfo(float).eps))


def test_no_known_cell():
    assert np.isnan(nll([-1], [[0.5, 0.5]]))
