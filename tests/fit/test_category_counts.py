"""What the labels of the training cells tell, against dense one-liners."""

import numpy as np

from polygene_scverse.fit._category_counts import category_counts, category_pairs

CODES = np.array([[0, -1, 1], [2, 1, 0], [2, -1, 0], [0, 1, -1], [2, 1, 0]])


def test_counts_skip_what_is_unknown():
    first, second = category_counts(np.array([[0, -1], [2, 1], [2, -1]]), [3, 2])
    assert [first.tolist(), second.tolist()] == [[1, 0, 2], [0, 1]]
    assert first.dtype == second.dtype == np.float32


def test_counts_of_no_cells_are_0():
    assert [counts.tolist() for counts in category_counts(np.zeros((0, 2), dtype=int), [3, 2])] == [[0, 0, 0], [0, 0]]


def test_pairs_are_those_of_cells_where_both_are_known():
    expected = {"0,1": [[0, 1], [2, 1]], "0,2": [[0, 1], [2, 0]], "1,2": [[1, 0]]}
    assert category_pairs(CODES) == expected
    for name, pairs in expected.items():
        i, j = map(int, name.split(","))
        cells = {(int(a), int(b)) for a, b in CODES[:, [i, j]] if a >= 0 and b >= 0}
        assert cells == {tuple(pair) for pair in pairs}


def test_pairs_of_an_earlier_training_are_kept():
    parts = category_pairs(CODES[3:], category_pairs(CODES[:3]))
    assert parts == category_pairs(CODES)
    assert category_pairs(CODES[:0], parts) == parts
    assert category_pairs(CODES, {}) == category_pairs(CODES, None)
    assert category_pairs(CODES[1:2], {"0,1": [[1, 1]]})["0,1"] == [[1, 1], [2, 1]]


def test_pairs_of_unknown_labels_are_none():
    assert category_pairs(np.array([[-1, -1], [0, -1]])) == {"0,1": []}


def test_one_phenotype_has_no_pairs():
    assert category_pairs(CODES[:, :1]) == {}
