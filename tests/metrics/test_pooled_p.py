import numpy as np
import pytest

from polygene_scverse.metrics._pooled_p import false_discovery_rate, pooled_p


@pytest.mark.parametrize("shape", [(7,), (5, 3)], ids=["a vector", "a table"])
def test_p_is_the_share_of_the_null_that_is_as_large(shape):
    rng = np.random.default_rng(0)
    observed, null = rng.integers(-3, 4, shape).astype(float), rng.integers(-3, 4, (11, 9)).astype(float)  # with ties
    expected = (1 + (null.ravel() >= observed[..., None]).sum(-1)) / (1 + null.size)
    np.testing.assert_allclose(pooled_p(observed, null), expected)


def test_what_is_not_known_does_not_count():
    found = pooled_p(np.array([np.nan, 2.0]), np.array([1.0, np.nan, 3.0]))
    np.testing.assert_array_equal(found, [np.nan, 2 / 3])


def test_false_discovery_rates_are_those_of_the_known_values():
    p_value = np.array([0.01, np.nan, 0.04, 0.03, 0.5])
    np.testing.assert_allclose(false_discovery_rate(p_value), [0.04, np.nan, 0.16 / 3, 0.16 / 3, 0.5])
    assert np.isnan(false_discovery_rate(np.full(3, np.nan))).all()
