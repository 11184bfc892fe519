"""Softmax over a temperature, and shares of categories."""

import numpy as np
import pytest
import torch
from scipy.special import softmax

from polygene_scverse.engine import log_shares, probabilities

LOGITS = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)


def test_softmax_is_that_of_torch():
    np.testing.assert_array_equal(probabilities(LOGITS, 1.0), torch.softmax(torch.from_numpy(LOGITS), -1))
    np.testing.assert_allclose(probabilities(LOGITS, 2.0), torch.softmax(torch.from_numpy(LOGITS / 2), -1), rtol=1e-6)


def test_any_layout_and_dtype_give_single_precision():
    expected = probabilities(LOGITS, 1.5)
    for other in (np.asfortranarray(LOGITS), LOGITS.astype(np.float64), np.repeat(LOGITS, 2, axis=0)[::2]):
        found = probabilities(other, 1.5)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, expected)


def test_large_logits_do_not_overflow():
    np.testing.assert_allclose(probabilities(300 * LOGITS, 1.0), softmax(300.0 * LOGITS, axis=1), atol=1e-5)


def test_no_cells():
    assert probabilities(LOGITS[:0], 2.0).shape == (0, 5)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [([1.0, 2.0, 5.0], [1 / 8, 2 / 8, 5 / 8]), ([4.0, 3.0, 2.0, 1.0], [0.4, 0.3, 0.2, 0.1])],
    ids=["three", "four"],
)
def test_shares_of_categories(counts, expected):
    np.testing.assert_allclose(log_shares(np.array(counts, dtype=np.float32)).exp(), expected, rtol=1e-6)


def test_a_category_has_one_cell_at_least():
    found = log_shares(np.array([3.0, 0.0], dtype=np.float32))
    np.testing.assert_allclose(found.exp(), [0.75, 0.25], rtol=1e-6)


def test_without_counts_all_shares_are_equal():
    np.testing.assert_allclose(log_shares(np.zeros(4, dtype=np.float32)).exp(), 0.25, rtol=1e-6)
