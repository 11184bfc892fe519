import numpy as np
import pytest
from sklearn.metrics import f1_score

from polygene_scverse.metrics import macro_f1


def test_as_scikit_learn(cells):
    true, predicted, _ = cells
    expected = f1_score(true[true >= 0], predicted[true >= 0], average="macro", zero_division=0)
    assert macro_f1(true, predicted) == pytest.approx(expected)


@pytest.mark.parametrize("min_cells", [1, 3, 20], ids=str)
def test_categories_with_enough_cells(cells, min_cells):
    true, predicted, _ = cells
    true, predicted = true[true >= 0], predicted[true >= 0]
    per_category = f1_score(true, predicted, average=None, labels=np.arange(11), zero_division=0)
    enough = np.bincount(true, minlength=11) >= min_cells
    expected = per_category[enough].mean() if enough.any() else np.nan
    assert macro_f1(true, predicted, min_cells=min_cells) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    ("min_cells", "expected"),
    [(0, (1 + 0.8 + 0) / 3), (1, (1 + 0.8) / 2), (3, 0.8), (4, np.nan)],
    ids=["all", "true ones", "three cells", "none is left"],
)
def test_by_hand(min_cells, expected):
    # category 0: F1 1; category 1: precision 1, recall 2/3, F1 4/5; category 2 is only predicted: F1 0
    true, predicted = [0, 0, 1, 1, 1, -1], [0, 0, 1, 1, 2, 0]
    assert macro_f1(true, predicted, min_cells=min_cells) == pytest.approx(expected, nan_ok=True)


def test_no_answer_is_wrong_but_no_category():
    assert macro_f1([0, 0, 1, 1], [0, -1, 1, 1]) == pytest.approx((2 / 3 + 1) / 2)


def test_no_known_cell():
    assert np.isnan(macro_f1([-1, -1], [0, 1]))
