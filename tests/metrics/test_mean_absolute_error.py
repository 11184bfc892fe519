import numpy as np
import pytest
from sklearn.metrics import mean_absolute_error as of_scikit_learn

from polygene_scverse.metrics import mean_absolute_error


def test_as_scikit_learn_and_numpy(cells):
    true, _, probabilities = cells
    values = np.random.default_rng(0).uniform(0, 90, probabilities.shape[1])
    known = true >= 0
    means = np.array([np.average(values, weights=row) for row in probabilities])
    expected = of_scikit_learn(values[true[known]], means[known])
    assert mean_absolute_error(true, probabilities, values) == pytest.approx(expected)


def test_by_hand():
    assert mean_absolute_error([0, 1, -1], [[1.0, 0.0], [0.5, 0.5], [1.0, 0.0]], [20, 40]) == pytest.approx(5)


def test_no_known_cell():
    assert np.isnan(mean_absolute_error([-1], [[0.5, 0.5]], [1, 2]))


def test_values_of_another_number():
    with pytest.raises(ValueError, match=r"`values`: found shape \(3,\) for 2 categories"):
        mean_absolute_error([0], [[0.5, 0.5]], [1, 2, 3])
