"""The test of moves between contexts: sums of squares against scipy, its null on noise, what is taken out before."""

import numpy as np
import pytest
from scipy.stats import ttest_rel

from polygene_scverse.abilities._gene_roles import GeneRoles
from polygene_scverse.abilities._polyfunctionality import (
    _centred,
    permutation_p,
    permute,
    polyfunctionality,
    residuals,
    sums_of_squares,
)


def noise(rng, n_groups, n_contexts, n_genes, n_hidden):
    """Genes of unlike scale, whose noise is correlated between genes, centred over the contexts of a group."""
    shared = rng.normal(size=(n_groups, n_contexts, 3, n_hidden))
    moves = rng.normal(size=(n_groups, n_contexts, n_genes, n_hidden)) * rng.uniform(0.3, 1.0, n_hidden)
    moves += np.einsum("dckh,gk->dcgh", shared, rng.normal(0, 0.3, (n_genes, 3)))
    moves *= np.exp(rng.normal(size=n_genes))[:, None]
    return moves - moves.mean(1, keepdims=True)


def test_the_ratio_is_the_square_of_the_paired_t():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(7, 2, 11, 1)) + 0.5
    moves = values - values.mean(1, keepdims=True)
    between, within = sums_of_squares(moves, np.ones((7, 2, 11), dtype=bool))
    t = ttest_rel(values[:, 0, :, 0], values[:, 1, :, 0]).statistic
    np.testing.assert_allclose(between / within * 6, t**2)


def test_genes_that_are_not_there_do_not_count():
    rng = np.random.default_rng(1)
    values = rng.normal(size=(7, 2, 1, 3))
    there = np.ones((7, 2, 1), dtype=bool)
    there[5:] = False
    moves = (values - values.mean(1, keepdims=True)) * there[..., None]
    np.testing.assert_allclose(sums_of_squares(moves, there), sums_of_squares(moves[:5], there[:5]))


@pytest.mark.parametrize("n_contexts", [2, 3])
def test_what_moves_in_every_group_takes_no_part_in_the_null(n_contexts):
    rng = np.random.default_rng(2)
    effect = rng.normal(size=(n_contexts, 5, 4))
    moves = np.broadcast_to(effect - effect.mean(0), (6, *effect.shape))
    there = np.ones(moves.shape[:3], dtype=bool)
    permuted = permute(moves, there, rng)
    assert sums_of_squares(moves, there)[0].min() > 1
    np.testing.assert_allclose(sums_of_squares(permuted, there)[0], 0, atol=1e-12)


def test_contexts_are_exchanged_within_groups_where_the_gene_is_there():
    rng = np.random.default_rng(3)
    there = rng.random((5, 4, 30)) < 0.7
    moves = np.where(there, np.arange(5 * 4 * 30).reshape(5, 4, 30) + 1.0, 0.0)[..., None]
    for _ in range(3):
        permuted = permute(moves, there, rng)
        np.testing.assert_array_equal(permuted[..., 0] > 0, there)
        np.testing.assert_array_equal(np.sort(permuted, axis=1), np.sort(moves, axis=1))
    assert (permuted != moves).any()


@pytest.mark.parametrize(("n_groups", "n_contexts"), [(5, 2), (7, 2), (6, 3)])
def test_p_values_of_noise_are_uniform(n_groups, n_contexts):
    found = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        moves = noise(rng, n_groups, n_contexts, 200, 8)
        there = np.ones(moves.shape[:3], dtype=bool)
        there[0, : n_contexts - (n_contexts > 2), :50] = False  # some genes are there in fewer groups or contexts
        there &= there.sum(1, keepdims=True) >= 2
        moves = _centred(moves, there)
        found.append(permutation_p(moves, there, 20, seed))
    p = np.concatenate(found)
    for level, slack in ((0.01, 0.01), (0.05, 0.025), (0.2, 0.05), (0.5, 0.07)):
        assert abs((p <= level).mean() - level) < slack


def roles_of(rng, planted, n_groups=6, n_genes=200, n_hidden=8):
    """Roles that a context turns for planted genes, and shifts and scales for all; every second one by expression."""
    base = rng.normal(size=(n_genes, n_hidden))
    turned = np.where(planted[:, None], rng.normal(size=(n_genes, n_hidden)), base)
    rotation = np.eye(n_hidden) + rng.normal(0, 0.1, (n_hidden, n_hidden))
    level, along = rng.normal(size=(2, n_genes)), rng.normal(0, 0.3, n_hidden)
    roles, covariates, pairs = [], [], []
    for g in range(n_groups):
        for c, role in enumerate((base, turned @ rotation)):
            expression = level[c] + rng.normal(0, 0.2, n_genes)
            strength = np.exp(rng.normal(0, 0.2) + 0.2 * c * (np.arange(n_genes) % 3))
            noise = rng.normal(0, 0.6, base.shape)
            roles.append(role * strength[:, None] + 0.5 * c + expression[:, None] * along + noise)
            covariates.append(np.stack([expression, rng.normal(size=n_genes), rng.normal(size=n_genes)], axis=1))
            pairs.append((f"c{c}", f"d{g}"))
    contexts, groups = zip(*pairs, strict=True)
    names = [f"gene{i}" for i in range(n_genes)]
    n_cells = np.full((len(pairs), n_genes), 50)
    expression = np.stack(covariates)[..., 0]
    return GeneRoles(list(contexts), list(groups), names, np.stack(roles), n_cells, np.stack(covariates), expression)


def test_turned_roles_are_found_and_what_is_common_or_expression_is_not():
    found, power = [], []
    for seed in range(5):
        planted = np.arange(200) < 20
        result = polyfunctionality(
            roles_of(np.random.default_rng(seed), planted), min_cells=10, n_permutations=60, seed=seed
        )
        found.append(result.p_value[~planted])
        power.append((result.fdr[planted] < 0.05).mean())
        assert np.median(result.shift[planted]) > 3 * np.median(result.shift[~planted])
        assert result.n_null == 6
        assert set(result.farthest[planted]) <= {0, 1}
    assert np.mean(power) > 0.9
    assert 0.02 < (np.concatenate(found) <= 0.05).mean() < 0.1


def test_what_lies_along_a_role_and_what_expression_explains_is_left_out():
    rng = np.random.default_rng(0)
    own, changes = rng.normal(size=(150, 6)), rng.normal(size=(3, 2, 150, 2))
    there = np.ones((3, 2, 150), dtype=bool)
    explained = np.einsum("dcgk,kh->dcgh", changes - changes.mean(1, keepdims=True), rng.normal(size=(2, 6)))
    direction = own / np.linalg.norm(own, axis=1, keepdims=True)
    left = residuals(explained, changes, own, there)
    assert np.abs(left).max() < 0.02 * np.abs(explained).max()
    left = residuals(rng.normal(size=(3, 2, 150, 6)), changes, own, there)
    np.testing.assert_allclose(np.einsum("dcgh,gh->dcg", left, direction), 0, atol=1e-12)
    np.testing.assert_allclose(left.sum(1), 0, atol=1e-12)


def test_too_few_groups_have_no_null():
    roles = roles_of(np.random.default_rng(0), np.arange(200) < 20, n_groups=4)
    result = polyfunctionality(roles, min_cells=10, n_permutations=10, seed=0)
    assert np.isnan(result.p_value).all()
    assert np.isnan(result.fdr).all()
    assert result.n_null == 0
    assert (result.n_groups == 4).all()
    assert np.isfinite(result.shift).all()
    none = polyfunctionality(roles, min_cells=51, n_permutations=10, seed=0)
    assert np.isnan(none.shift).all()
    assert (none.farthest == -1).all()


def test_expression_shift_is_the_range_of_means_over_groups():
    roles = roles_of(np.random.default_rng(0), np.arange(200) < 20)
    result = polyfunctionality(roles, min_cells=10, n_permutations=5, seed=0)
    first = np.array(roles.contexts) == "c0"
    expected = np.abs(roles.expression[first].mean(0) - roles.expression[~first].mean(0))
    np.testing.assert_allclose(result.expression_shift, expected)
