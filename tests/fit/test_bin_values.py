"""Mean expression within bins."""

import numpy as np

from polygene_scverse.fit._bin_values import fit_bin_values


def entries(n=20000, seed=0):
    """Cells of three kinds under two conditions; the second condition adds 0.5 in bin 2 of gene 1."""
    rng = np.random.default_rng(seed)
    codes = np.stack([rng.integers(0, 3, n), rng.integers(0, 2, n)], axis=1)
    genes, bins = rng.integers(0, 4, n), rng.integers(1, 3, n)
    values = genes + 0.1 * bins + 0.5 * ((genes == 1) & (bins == 2) & (codes[:, 1] == 1)) + 0.01 * rng.normal(size=n)
    return np.arange(n), genes, bins, values, codes


def test_means_and_differences_are_found():
    found = fit_bin_values(*entries(), [3, 2], 4, 3)
    of = found.of(np.array([[0, 0], [2, 1], [-1, -1]]), [3, 2])
    np.testing.assert_allclose(of[0, :, 1], np.arange(4) + 0.1, atol=0.02)
    np.testing.assert_allclose(of[1, 1, 2], 1.7, atol=0.02)
    np.testing.assert_allclose(of[0, 1, 2], 1.2, atol=0.02)
    np.testing.assert_allclose(of[2, 1, 2], 1.45, atol=0.02)
    assert not of[..., 0].any()


def test_without_entries_a_bin_stands_for_that_of_all_genes():
    rows, genes, bins, values, codes = entries()
    kept = (genes != 3) & (codes[:, 0] != 2)
    found = fit_bin_values(rows[kept], genes[kept], bins[kept], values[kept], codes, [3, 2], 4, 3)
    np.testing.assert_allclose(found.mean[3, 1], values[kept][bins[kept] == 1].mean(), rtol=1e-5)
    assert not found.effects[:, 3].any()
    assert not found.effects[2].any()


def test_unknown_categories_and_no_entries():
    rows, genes, bins, values, codes = entries(50)
    found = fit_bin_values(rows, genes, bins, values, np.full_like(codes, -1), [3, 2], 4, 3)
    assert not found.effects.any()
    none = fit_bin_values(rows[:0], genes[:0], bins[:0], values[:0], codes[:0], [3, 2], 4, 3)
    assert not none.mean.any()
