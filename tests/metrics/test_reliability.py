import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from polygene_scverse.metrics import ece, reliability


@pytest.mark.parametrize("n_bins", [1, 7, 15], ids=str)
def test_as_scikit_learn(cells, n_bins):
    true, _, probabilities = cells
    known = true >= 0
    confidence = probabilities.max(1)[known]
    right = probabilities.argmax(1)[known] == true[known]
    accuracies, confidences = calibration_curve(right, confidence, n_bins=n_bins)
    bins = reliability(true, probabilities, n_bins=n_bins)
    used = bins["n_cells"] > 0
    np.testing.assert_allclose(bins["accuracy"][used], accuracies)
    np.testing.assert_allclose(bins["confidence"][used], confidences)
    assert np.isnan(bins["accuracy"][~used]).all()
    assert bins["n_cells"].sum() == known.sum()


def test_its_gaps_are_the_calibration_error(cells):
    true, _, probabilities = cells
    bins = reliability(true, probabilities)
    gaps = np.abs(bins["accuracy"] - bins["confidence"])
    used = bins["n_cells"] > 0
    assert (gaps * bins["n_cells"])[used].sum() / bins["n_cells"].sum() == pytest.approx(ece(true, probabilities))


def test_by_hand():
    bins = reliability([0, 1, 0, -1], [[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.5, 0.5]], n_bins=4)
    assert bins["lower"].tolist() == [0, 0.25, 0.5, 0.75]
    assert bins["upper"].tolist() == [0.25, 0.5, 0.75, 1]
    assert bins["n_cells"].tolist() == [0, 0, 1, 2]
    assert bins["confidence"][2:] == pytest.approx([0.6, 0.85])
    assert bins["accuracy"][2:].tolist() == [0.0, 0.5]


def test_no_known_cell():
    assert reliability([-1], [[0.5, 0.5]])["n_cells"].sum() == 0
