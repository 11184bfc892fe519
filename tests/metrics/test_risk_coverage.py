import numpy as np
import pytest
from sklearn.metrics import accuracy_score

from polygene_scverse.metrics import risk_coverage


def test_as_scikit_learn_on_the_surest(cells):
    true, predicted, probabilities = cells
    confidence = probabilities.max(1).round(1)  # with ties
    curve = risk_coverage(true, predicted, confidence)
    known = true >= 0
    assert curve["threshold"].tolist() == sorted(set(confidence[known]), reverse=True)
    for threshold, coverage, risk in zip(*curve.values(), strict=True):
        kept = known & (confidence >= threshold)
        assert coverage == pytest.approx(kept.sum() / known.sum())
        assert risk == pytest.approx(1 - accuracy_score(true[kept], predicted[kept]))


def test_by_hand():
    curve = risk_coverage([0, 1, -1, 1, 0], [0, 1, 1, 0, 0], [0.9, 0.8, 1.0, 0.5, 0.5])
    assert curve["threshold"].tolist() == [0.9, 0.8, 0.5]
    assert curve["coverage"].tolist() == [0.25, 0.5, 1.0]
    assert curve["risk"].tolist() == [0.0, 0.0, 0.25]


def test_no_known_cell():
    assert [len(column) for column in risk_coverage([-1], [0], [0.5]).values()] == [0, 0, 0]


def test_nan():
    with pytest.raises(ValueError, match="`confidence`: 1 values are NaN"):
        risk_coverage([0, 1], [0, 1], [0.5, np.nan])
