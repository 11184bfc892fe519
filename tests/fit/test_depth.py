"""Lower sequencing depth: numbers of expressed genes by hand, thinned counts, and a known slope."""

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.special import softmax

from polygene_scverse.fit._depth import SHALLOW, STEEPEST, fit_slope, thin, usual_genes


def test_shallow_is_relative_to_the_measured_genes():
    """Dense oracle, for cells that all have the same genes and for cells of two panels."""
    random = np.random.default_rng(0)
    for measured in (np.ones(300, dtype=bool), np.arange(600)[:, None] % 2 >= np.arange(300) % 2):
        x = (random.random((600, 300)) < random.random(300)) * np.broadcast_to(measured, (600, 300)) * 1.0
        of_cells = np.broadcast_to(measured, x.shape)
        frequencies = (x > 0).sum(0) / of_cells.sum(0)
        relative = (x > 0).sum(1) / (of_cells * frequencies).sum(1)
        found = usual_genes(sp.csr_matrix(x), measured)
        np.testing.assert_allclose(found, frequencies * np.quantile(relative, SHALLOW), rtol=1e-6)
        assert np.mean((x > 0).sum(1) < (of_cells * found).sum(1)) == pytest.approx(SHALLOW, abs=0.02)


def test_thinned_cells_keep_a_share_of_their_counts():
    """Each count is kept on its own: mean and variance are those of the binomial distribution."""
    counts, depths = np.array([1, 3, 6, 40, 10]), np.array([10.0, 50.0])
    indptr, of_entries = np.array([0, 3, 5]), np.repeat(depths, [3, 2])
    values = np.log1p(counts / of_entries * 1e4)
    random = np.random.default_rng(0)
    draws = np.array([thin(indptr, values, depths, 0.25, random) for _ in range(4000)])
    kept = np.expm1(draws.astype(np.float64)) * 0.25 * of_entries / 1e4
    np.testing.assert_allclose(kept, np.rint(kept), atol=1e-3)
    np.testing.assert_allclose(kept.mean(0), 0.25 * counts, rtol=0.07)
    np.testing.assert_allclose(kept.var(0), 0.25 * 0.75 * counts, rtol=0.1)
    np.testing.assert_allclose(thin(indptr, values, depths, 1.0, random), values, rtol=1e-6)


@pytest.mark.parametrize("slope", [0.0, 0.4, 0.8])
def test_known_slope(slope):
    """Logits that are too large by a known power of the depth, beside a prior that is not."""
    random = np.random.default_rng(1)
    prior, depths = np.array([0.5, 0.0, -0.5]), random.uniform(0.1, 1.0, 20_000)
    true = random.normal(0.0, 2.0, (len(depths), 3))
    codes = (random.random((len(depths), 1)) > softmax(prior + true, axis=1).cumsum(1)).sum(1).clip(max=2)
    logits = 1.5 * (prior + true / depths[:, None] ** slope)
    assert fit_slope(logits, 1.5 * prior, depths, codes, 1.5) == pytest.approx(slope, abs=0.05)


def test_slopes_are_bounded():
    """Certain and always wrong."""
    logits = np.tile([9.0, 0.0], (50, 1))
    found = fit_slope(logits, np.zeros(2), np.full(50, 0.1), np.ones(50, dtype=int), 1.0)
    assert found == pytest.approx(STEEPEST, abs=1e-4)
