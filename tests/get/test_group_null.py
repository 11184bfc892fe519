import numpy as np
import pytest
from scipy.stats import permutation_test

from polygene_scverse.get._group_null import moderated, paired, share_alike, unpaired


def of_pairs(x, axis):
    mean = x.mean(axis)
    error = x.std(axis, ddof=1) / np.sqrt(x.shape[axis])
    return moderated(mean, error)


def of_samples(x, y, axis):
    n, m = x.shape[axis], y.shape[axis]
    within = (x.var(axis) * n + y.var(axis) * m) / (n + m - 2)
    return moderated(x.mean(axis) - y.mean(axis), np.sqrt(within * (1 / n + 1 / m)))


ALL = {"alternative": "greater", "n_resamples": np.inf}


def test_pairs_are_the_paired_permutation_test_of_scipy():
    x = np.random.default_rng(0).normal(0.3, 1.0, (7, 5))

    def statistic(a, axis):
        return of_pairs(np.moveaxis(np.moveaxis(a, axis, -1), -1, -2), -2)

    expected = permutation_test((x.T,), statistic, permutation_type="samples", axis=-1, **ALL).pvalue
    np.testing.assert_allclose(paired(x, 128, 0).p_value, expected)


@pytest.mark.parametrize(("n", "m"), [(4, 4), (3, 5)])
def test_groups_are_the_permutation_test_of_scipy(n, m):
    x = np.random.default_rng(1).normal(0.0, 1.0, (n + m, 5))
    x[:n] += 0.8
    order = np.random.default_rng(2).permutation(n + m)

    def statistic(a, b, axis):
        a, b = (np.moveaxis(np.moveaxis(v, axis, -1), -1, -2) for v in (a, b))
        return of_samples(a, b, -2)

    arguments = {"permutation_type": "independent", "axis": -1, **ALL}
    expected = permutation_test((x[:n].T, x[n:].T), statistic, **arguments).pvalue
    found = unpaired(x[order], order < n, 1000, 0)
    np.testing.assert_allclose(found.p_value, expected)


def test_draws_agree_with_all_permutations():
    x = np.random.default_rng(3).normal(0.4, 1.0, (9, 30))
    every, some = paired(x, 512, 0), paired(x, 400, 1)
    np.testing.assert_allclose(some.p_value, every.p_value, atol=0.08)
    assert (some.p_value >= 1 / 400).all()
    np.testing.assert_array_equal(some, paired(x, 400, 1))


def test_the_rate_is_that_of_a_count_by_hand():
    """For each gene: genes that permutations bring as far, over genes that are; least over lower limits."""
    x = np.random.default_rng(4).normal(0.0, 1.0, (6, 8))
    x[:, :3] += 2.0
    signs = np.array(np.meshgrid(*[[1, -1]] * 6)).reshape(6, -1).T
    statistics = np.array([of_pairs(x * s[:, None], 0) for s in signs])
    observed = of_pairs(x, 0)

    def rates(of_genes):
        return np.array([(statistics >= t - 1e-12).sum() / 64 / (of_genes >= t - 1e-12).sum() for t in of_genes])

    own = rates(observed)
    least = np.mean([rates(row).min() <= own.min() + 1e-12 for row in statistics])
    assert least == 2 / 64
    expected = [max(least, min(1.0, own[observed <= t].min())) for t in observed]
    np.testing.assert_allclose(paired(x, 64, 0).fdr, expected)


@pytest.mark.parametrize(("numbers", "expected"), [((6, 0, 0), 2 / 64), ((0, 4, 4), 2 / 70), ((0, 3, 4), 1 / 35)])
def test_share_of_permutations_that_are_alike(numbers, expected):
    assert share_alike(*numbers) == pytest.approx(expected)


def test_no_groups_are_all_alike():
    assert share_alike(0) == share_alike(0, 3, 0) == 1.0


def test_something_is_found_no_more_often_than_the_level_says():
    """Every permutation of the groups is as likely as the groups as they are, where labels mean nothing."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(7, 2)) @ rng.normal(size=(2, 60)) + rng.normal(0, 0.3, (7, 60))  # genes go together
    signs = np.array(np.meshgrid(*[[1, -1]] * 7)).reshape(7, -1).T
    lowest = np.array([paired(x * s[:, None], 128, 0).fdr.min() for s in signs])
    for level in (0.02, 0.05, 0.1, 0.3):
        assert (lowest < level).mean() <= level
    assert (lowest < 0.1).any()
