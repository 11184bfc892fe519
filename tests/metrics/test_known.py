import numpy as np
import pytest

from polygene_scverse.metrics._known import known_codes, known_probabilities


def test_unknown_cells_are_left_out():
    true, predicted = known_codes([0, -1, 2, -1], [1, 1, -1, -1])
    assert true.tolist() == [0, 2]
    assert predicted.tolist() == [1, -1]
    true, probabilities = known_probabilities([-1, 1], np.array([[0.9, 0.1], [0.25, 0.75]], dtype=np.float32))
    assert true.tolist() == [1]
    assert probabilities.tolist() == [[0.25, 0.75]]
    assert probabilities.dtype == np.float64


@pytest.mark.parametrize(
    ("true", "predicted"), [([0, 1], [0]), ([[0], [1]], [[0], [1]]), (0, 0)], ids=["length", "matrix", "scalar"]
)
def test_codes_of_another_shape(true, predicted):
    with pytest.raises(ValueError, match=r"`predicted`: found shape .* where `true` has .* one code per cell"):
        known_codes(true, predicted)


@pytest.mark.parametrize("shape", [(3, 2), (2,), (2, 2, 1)], ids=["cells", "vector", "three axes"])
def test_probabilities_of_another_shape(shape):
    with pytest.raises(
        ValueError, match=r"`probabilities`: found shape .* one row per cell and one column per category"
    ):
        known_probabilities([0, 1], np.ones(shape))


def test_code_without_a_column():
    with pytest.raises(ValueError, match=r"`true`: found the code 2, but `probabilities` has 2 columns"):
        known_probabilities([0, 2], np.full((2, 2), 0.5))
