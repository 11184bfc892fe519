import numpy as np
import pytest
from sklearn.metrics import top_k_accuracy_score

from polygene_scverse.metrics import set_coverage


def test_as_scikit_learn_for_sets_of_one_size(cells):
    true, _, probabilities = cells
    known, k = true >= 0, 2
    sets = probabilities.argsort(1).argsort(1) >= probabilities.shape[1] - k
    labels = np.arange(probabilities.shape[1])
    expected = top_k_accuracy_score(true[known], probabilities[known], k=k, labels=labels)
    assert set_coverage(true, sets) == pytest.approx(expected)


def test_by_hand():
    assert set_coverage([0, 1, 1, -1], [[1, 0], [1, 1], [1, 0], [0, 0]]) == pytest.approx(2 / 3)


def test_no_known_cell():
    assert np.isnan(set_coverage([-1], [[True, False]]))
