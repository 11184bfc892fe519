import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multiclass_calibration_error

from polygene_scverse.metrics import ece


@pytest.mark.parametrize("n_bins", [1, 10, 15], ids=str)
def test_as_torchmetrics(cells, n_bins):
    true, _, probabilities = cells
    known = true >= 0
    expected = multiclass_calibration_error(
        torch.from_numpy(probabilities[known]), torch.from_numpy(true[known]), probabilities.shape[1], n_bins=n_bins
    )
    assert ece(true, probabilities, n_bins=n_bins) == pytest.approx(expected.item(), abs=1e-6)


def test_by_hand():
    # two cells of confidence 0.9, one right: gap 0.4; two of 0.6, both right: gap 0.4; the unknown one does not count
    probabilities = [[0.9, 0.1], [0.1, 0.9], [0.6, 0.4], [0.4, 0.6], [1.0, 0.0]]
    assert ece([0, 0, 0, 1, -1], probabilities) == pytest.approx(0.4)


@pytest.mark.parametrize(("true", "expected"), [([0, 1], 0.0), ([1, 0], 1.0)], ids=["right", "wrong"])
def test_certain(true, expected):
    assert ece(true, np.eye(2)) == expected


def test_no_known_cell():
    assert np.isnan(ece([-1], [[0.5, 0.5]]))
