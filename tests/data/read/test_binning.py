import numpy as np
import pytest
import scanpy as sc
from scipy import stats

from polygene_scverse.data.read._binning import (
    digitize,
    make_edges,
    normalize,
    original_edges,
    quantile_edges,
)


def f32(*values):
    return np.array(values, dtype=np.float32)


def test_normalize_is_that_of_scanpy(simulated):
    x = simulated.X
    totals = np.repeat(np.asarray(x.sum(1)).ravel(), np.diff(x.indptr))
    ours = normalize(x.data, totals)
    assert ours.dtype == np.float32
    sc.pp.normalize_total(simulated, target_sum=1e4)
    sc.pp.log1p(simulated)
    np.testing.assert_allclose(ours, simulated.X.data, rtol=1e-6)


@pytest.mark.parametrize(
    ("n_bins", "edges"),
    [
        (2, [0, 0.1]),
        (3, [0, 0.1, 9]),
        (5, [0, 0.1, 0.1 + 8.9 / 3, 0.1 + 2 * 8.9 / 3, 9]),
        (10, [0, 0.1, 1.2125, 2.325, 3.4375, 4.55, 5.6625, 6.775, 7.8875, 9]),
    ],
)
def test_original_edges(n_bins, edges):
    np.testing.assert_allclose(original_edges(n_bins), edges, rtol=1e-15)
    assert original_edges(n_bins).dtype == np.float64


@pytest.mark.parametrize(
    ("value", "bin_"),
    [
        (0, 0),
        (1e-06, 0),
        (0.05, 0),
        (0.0999, 0),
        (0.1, 1),
        (1.2, 1),
        (1.2125, 1),
        (1.2126, 2),
        (3.4375, 3),
        (5.6625, 5),
        (8.99, 8),
        (9, 9),
        (100, 9),
        (np.inf, 9),
    ],
)
def test_digitize_of_the_original(value, bin_):
    """float32 values against float64 edges: that of 0.1 is above its edge, those of 1.2125 and 3.4375 are below."""
    x = f32(value)
    edges = original_edges(10)
    expected = np.digitize(x.astype(np.float64), edges) - 1
    np.testing.assert_array_equal(digitize(x, edges), expected)
    assert digitize(x, edges)[0] == bin_


def test_digitize_is_that_of_numpy():
    rng = np.random.default_rng(0)
    edges = np.concatenate([[0], np.sort(rng.gamma(2, 1, 12))])
    values = np.concatenate([rng.gamma(2, 1, 1000), edges, [0, np.inf]]).astype(np.float32)
    np.testing.assert_array_equal(digitize(values, edges), np.digitize(values.astype(np.float64), edges) - 1)


@pytest.mark.parametrize("n_bins", [2, 3, 7, 33])
def test_quantile_bins_are_equally_full(n_bins):
    values = np.random.default_rng(0).gamma(2.0, 1.0, 10_007).astype(np.float32)
    edges = quantile_edges(values, n_bins)
    assert edges.shape == (n_bins,)
    counts = np.bincount(digitize(values, edges), minlength=n_bins)
    assert counts[0] == 0
    assert np.ptp(counts[1:]) <= 1
    by_rank = (stats.rankdata(values, "ordinal") - 1) * (n_bins - 1) // len(values) + 1
    assert np.abs(digitize(values, edges) - by_rank).mean() < 0.01


def test_every_positive_value_is_expressed():
    edges = quantile_edges(f32(1, 2, 3), 4)
    np.testing.assert_array_equal(digitize(f32(0, 1e-30, np.finfo(np.float32).tiny), edges), [0, 1, 1])


def test_ties_share_a_bin():
    values = f32(*[0.7] * 90, *range(1, 11))
    edges = quantile_edges(values, 5)
    assert len(set(digitize(values, edges)[:90])) == 1
    assert np.all(np.diff(digitize(np.sort(values), edges)) >= 0)


def test_quantile_edges_of_nothing():
    np.testing.assert_allclose(quantile_edges(f32(), 3), [0, 0.5, 1])


def test_make_edges():
    values = f32(1, 2, 3, 4)
    np.testing.assert_array_equal(make_edges("quantile", 4, values), quantile_edges(values, 4))
    np.testing.assert_array_equal(make_edges("original", 4, values), original_edges(4))
    np.testing.assert_array_equal(make_edges([0, 1, 2.5], 3, values), [0.0, 1.0, 2.5])


@pytest.mark.parametrize(
    "edges",
    [[0, 1], [0.1, 1, 2], [0, 2, 1], [0, 1, 1], [0, 1, np.nan], [[0, 1, 2]]],
    ids=["too few", "not from 0", "descending", "equal", "nan", "nested"],
)
def test_edges_that_cannot_be(edges):
    with pytest.raises(ValueError, match=r"`binning`: found the edges .*, but n_bins=3 lower edges are needed"):
        make_edges(edges, 3, f32(1))


def test_unknown_binning():
    with pytest.raises(ValueError, match=r"`binning`: found 'log', but it must be one of \['quantile', 'original'\]"):
        make_edges("log", 3, f32(1))
