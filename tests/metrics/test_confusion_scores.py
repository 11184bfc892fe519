import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

from polygene_scverse.metrics import confusion_scores


def answers(n_classes, n, seed, accuracy=0.6):
    rng = np.random.default_rng(seed)
    true = rng.integers(0, n_classes, n)
    return true, np.where(rng.random(n) < accuracy, true, rng.integers(0, n_classes, n))


def matrix_of(true, predicted, n_classes):
    return confusion_matrix(true, predicted, labels=np.arange(n_classes))


def expected_of(true, predicted, labels=None):
    scores = precision_recall_fscore_support(true, predicted, labels=labels, average="macro", zero_division=0)
    return dict(zip(("precision", "recall", "f1"), scores[:3], strict=True))


def test_one_matrix_as_scikit_learn():
    true, predicted = answers(7, 211, 0)
    scores = confusion_scores([matrix_of(true, predicted, 11)])  # four classes do not occur
    assert (scores["n"], scores["n_classes"]) == (211, 7)
    assert scores["accuracy"] == pytest.approx(accuracy_score(true, predicted))
    assert {name: scores[name] for name in ("precision", "recall", "f1")} == pytest.approx(expected_of(true, predicted))


def test_several_matrices_are_one_with_blocks():
    parts = [answers(5, 97, 1), answers(3, 53, 2)]
    scores = confusion_scores([matrix_of(*part, n) for part, n in zip(parts, (5, 3), strict=True)])
    true, predicted = (np.concatenate([parts[0][i], 5 + parts[1][i]]) for i in (0, 1))
    assert scores["accuracy"] == pytest.approx(accuracy_score(true, predicted))
    assert {name: scores[name] for name in ("precision", "recall", "f1")} == pytest.approx(expected_of(true, predicted))


def test_some_classes_as_the_labels_of_scikit_learn():
    true, predicted = answers(5, 97, 3)
    scores = confusion_scores([matrix_of(true, predicted, 5)], classes=[1, 2, 4])
    of_those = np.isin(true, [1, 2, 4])
    assert scores["n"] == of_those.sum()
    assert scores["accuracy"] == pytest.approx(accuracy_score(true[of_those], predicted[of_those]))
    expected = expected_of(true, predicted, labels=[1, 2, 4])
    assert {name: scores[name] for name in expected} == pytest.approx(expected)


def test_by_hand():
    # class 0: three of four found, none else is taken for it; class 1: four of four, one too many; class 2: nothing
    scores = confusion_scores([[[3, 1, 0], [0, 4, 0], [0, 0, 0]]])
    assert scores == {
        "n": 8,
        "n_classes": 2,
        "accuracy": 7 / 8,
        "precision": pytest.approx((1 + 4 / 5) / 2),
        "recall": pytest.approx((3 / 4 + 1) / 2),
        "f1": pytest.approx((6 / 7 + 8 / 9) / 2),
    }


@pytest.mark.parametrize("matrices", [[], [np.zeros((3, 3))]], ids=["no matrix", "no answer"])
def test_nothing_to_score(matrices):
    scores = confusion_scores(matrices)
    assert (scores.pop("n"), scores.pop("n_classes")) == (0, 0)
    assert np.isnan(list(scores.values())).all()


@pytest.mark.parametrize("matrix", [np.zeros((2, 3)), np.zeros(4)], ids=["oblong", "vector"])
def test_a_matrix_that_is_not_square(matrix):
    with pytest.raises(ValueError, match=r"`matrices`: found the shape \("):
        confusion_scores([matrix])
