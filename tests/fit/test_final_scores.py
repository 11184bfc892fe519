"""Scores of the categories that prediction chooses, against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from polygene_scverse.fit._final_scores import final_scores


def test_as_scikit_learn_scores_the_decisions():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(4), 200).astype(np.float32)
    probabilities[0] = [0, 0, 0, 1]
    codes, shares = rng.integers(-1, 4, 200), np.array([0.7, 0.2, 0.08, 0.02])
    decided = (probabilities.astype(float) / shares**0.5).argmax(1)
    found, known = final_scores(probabilities, codes, np.log(shares)), codes >= 0
    assert found["accuracy"] == pytest.approx(accuracy_score(codes[known], decided[known]))
    assert found["macro_f1"] == pytest.approx(f1_score(codes[known], decided[known], average="macro"))


def test_no_known_category():
    found = final_scores(np.full((3, 2), 0.5, np.float32), np.full(3, -1), np.zeros(2))
    assert np.isnan(list(found.values())).all()
