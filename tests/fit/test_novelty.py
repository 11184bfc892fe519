"""Novelty: scikit-learn, scipy and dense arrays as oracles."""

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.spatial.distance import mahalanobis
from scipy.special import softmax
from scipy.stats import entropy as entropy_of_scipy
from scipy.stats import percentileofscore
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score

from polygene_scverse.fit._novelty import NOISE_FACTOR, entropy, fit_novelty, fit_space, percentile

N_GENES = 60
EVERY = np.ones(N_GENES, dtype=bool)
MOST = np.arange(N_GENES) % 4 != 1
SIZES = {"kind": 4, "sex": 2}
NAMES = list(SIZES)
MEANS = np.random.default_rng(0).gamma(1.0, 2.0, (4, N_GENES))


def drawn(n_cells, seed=0, kinds=(0, 1, 2)):
    """log1p of counts per 10,000 of cells of some kinds, and their codes."""
    rng = np.random.default_rng([seed, 1])
    kind = rng.choice(kinds, n_cells)
    counts = rng.poisson(MEANS[kind] * rng.gamma(5, 0.2, (n_cells, N_GENES)))
    x = np.log1p(1e4 * counts / np.maximum(counts.sum(1, keepdims=True), 1))
    return x.astype(np.float32), np.stack([kind, rng.integers(0, 2, n_cells)], axis=1)


(TRAIN, CODES), (OTHERS, OTHER_CODES) = drawn(300), drawn(80, seed=1)
LOGITS = {"kind": np.random.default_rng(2).normal(0, 3, (80, 4)), "sex": np.random.default_rng(3).normal(size=(80, 2))}


def csr(x):
    return sp.csr_matrix(x)


def fitted(groups=None):
    return fit_novelty(csr(TRAIN), CODES, EVERY, csr(OTHERS), EVERY, LOGITS, groups)


@pytest.fixture(scope="module")
def reference():
    return fitted()


@pytest.fixture(scope="module")
def space(reference):
    return reference.space


def standardised(space, x):
    """Dense, by the definition: log1p of counts per 1,000, cut off, centred, scaled."""
    return (np.minimum(np.log1p(np.expm1(x.astype(float)) / 10), space.cap) - space.centre) / space.deviation


def expected_positions(space, x, measured=EVERY):
    """Weighted least squares of each cell's measured genes on the components, by numpy."""
    weights = 1 / np.sqrt(space.noise[measured])
    left = space.components[:, measured].T * weights[:, None]
    right = standardised(space, x)[:, measured] * weights
    return np.linalg.lstsq(left, right.T, rcond=None)[0].T


def expected_distances(space, x, name, measured=EVERY):
    """scipy's Mahalanobis distance to each category."""
    off = [np.linalg.inv(space.components[:, m] / space.noise[m] @ space.components[:, m].T) for m in (measured, EVERY)]
    inverse = np.linalg.inv(space.spreads[name] + NOISE_FACTOR * (off[0] - off[1]))
    positions = expected_positions(space, x, measured)
    found = np.array([[mahalanobis(p, c, inverse) ** 2 for c in space.centres[name]] for p in positions])
    nearest = found[:, space.known[name] > 0].min(1, keepdims=True)
    return measured.mean() * found + (1 - measured.mean()) * nearest


def expected_of(distances, logits, known):
    """Distances averaged over the probabilities of the categories with enough cells, cell by cell."""
    p = softmax(logits[:, known], axis=1)
    return np.array([np.average(d, weights=w) for d, w in zip(distances[:, known], p, strict=True)])


def test_components_as_scikit_learn(space):
    z = standardised(space, TRAIN)
    pca = PCA(20, svd_solver="full").fit(z)
    cosines = np.linalg.svd(space.components @ pca.components_.T)[1]  # of the angles between both subspaces
    np.testing.assert_allclose(cosines[:3], 1.0, atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(space.components, axis=1), 1.0, rtol=1e-4)
    left = (z - z.mean(0)) - (z @ space.components.T) @ space.components
    np.testing.assert_allclose(space.noise, left.var(axis=0) + 0.02, rtol=0.05)  # randomised components


def test_centres_and_spread_as_numpy_and_scikit_learn(space):
    positions = expected_positions(space, TRAIN)
    for i, name in enumerate(NAMES):
        codes = CODES[:, i]
        means = np.stack([positions[codes == c].mean(0) for c in np.unique(codes)])
        np.testing.assert_allclose(space.centres[name][: len(means)], means, atol=1e-3)
        np.testing.assert_array_equal(space.known[name], np.arange(SIZES[name]) < len(means))
        np.testing.assert_allclose(
            space.centres[name][len(means) :], positions.mean(0)[None][: SIZES[name] - len(means)], atol=1e-3
        )
        spread = LedoitWolf(assume_centered=True).fit(positions - means[codes]).covariance_
        np.testing.assert_allclose(space.spreads[name], spread, atol=1e-3 * np.abs(spread).max())


@pytest.mark.parametrize("measured", [EVERY, MOST], ids=["all genes", "some genes"])
@pytest.mark.parametrize("name", NAMES)
def test_distances_as_scipy(space, measured, name):
    found = space.distances(space.sums(csr(OTHERS * measured)), measured, name)
    np.testing.assert_allclose(found, expected_distances(space, OTHERS, name, measured), rtol=1e-3)


def test_another_kind_is_far(space):
    other, _ = drawn(40, seed=2, kinds=(3,))
    x = np.concatenate([OTHERS, other])
    distances = space.distances(space.sums(csr(x)), EVERY, "kind")
    p = np.eye(4)[np.concatenate([OTHER_CODES[:, 0], np.full(40, 1)])]  # the other kind is taken for one of the known
    found = space.expected(distances, p, "kind")
    assert roc_auc_score(np.arange(len(x)) >= len(OTHERS), found) > 0.95


def test_categories_with_too_few_cells_do_not_count(space):
    """A cell that is predicted to be of such a category is compared with the others."""
    distances = space.distances(space.sums(csr(OTHERS)), EVERY, "kind")
    p = np.tile([0.0, 0.0, 0.0, 1.0], (len(OTHERS), 1))
    np.testing.assert_allclose(space.expected(distances, p, "kind"), distances[:, :3].mean(1))
    p = np.random.default_rng(0).dirichlet(np.ones(4), len(OTHERS))
    expected = [np.average(d, weights=w) for d, w in zip(distances[:, :3], p[:, :3], strict=True)]
    np.testing.assert_allclose(space.expected(distances, p, "kind"), expected, rtol=1e-3)


def test_cells_are_not_novel_for_want_of_genes():
    """Without three quarters of the genes known kinds still look as the held-out cells did."""
    few = np.arange(N_GENES) % 4 == 0
    cells, codes = drawn(400, seed=3)
    share = {}
    known = fit_novelty(
        csr(TRAIN), CODES, EVERY, csr(OTHERS), EVERY, LOGITS | {"kind": 20.0 * np.eye(4)[OTHER_CODES[:, 0]]}
    )
    for name, measured in (("all", EVERY), ("few", few)):
        distances = known.space.distances(known.space.sums(csr(cells * measured)), measured, "kind")
        share[name] = (known.score("kind", 20.0 * np.eye(4)[codes[:, 0]], distances)[:, 0] > 0.9).mean()
    assert share["all"] == pytest.approx(0.1, abs=0.07)
    assert share["few"] < 0.2


def test_the_reference_is_in_order(reference, space):
    for name, logits in LOGITS.items():
        known = space.known[name] > 0
        found = np.sort(expected_of(space.distances(space.sums(csr(OTHERS)), EVERY, name), logits, known))
        np.testing.assert_allclose(reference.distances[name], found, rtol=1e-4)
        np.testing.assert_allclose(reference.entropies[name], np.sort(entropy(logits)), rtol=1e-6)


def test_scores_of_the_held_out_cells_are_evenly_spread(reference):
    distances = reference.space.distances(reference.space.sums(csr(OTHERS)), EVERY, "kind")
    found = reference.score("kind", LOGITS["kind"], distances)
    assert found.shape == (80, 2)
    for column in found.T:
        np.testing.assert_allclose(np.sort(column), (np.arange(80) + 1.0) / 81, atol=1e-6)
    np.testing.assert_array_equal(found[:, 1], percentile(entropy(LOGITS["kind"]), reference.entropies["kind"]))


def test_groups_are_compared_with_each_other():
    """Each with a space of the others, so that cells of a group that is unlike them look far."""
    groups = np.arange(len(TRAIN)) % 3
    found = fitted(groups)
    folds = []
    for group in range(3):
        rest, own = groups != group, groups == group
        other = fit_space(csr(TRAIN[rest]), CODES[rest], EVERY, SIZES)
        distances = other.distances(other.sums(csr(TRAIN[own])), EVERY, "kind")
        folds.append([row[code] for row, code in zip(distances, CODES[own, 0], strict=True)])
    np.testing.assert_allclose(found.distances["kind"], np.sort(np.concatenate(folds)), rtol=1e-5)
    np.testing.assert_array_equal(found.space.components, fitted().space.components)


def test_a_category_of_one_group_is_not_compared_with_others():
    groups = (CODES[:, 0] == 2).astype(int) + 2 * (np.arange(len(TRAIN)) % 2) * (CODES[:, 0] != 2)
    found = fitted(groups)
    assert len(found.distances["kind"]) == (CODES[:, 0] != 2).sum()
    assert len(found.distances["sex"]) == len(TRAIN)


def test_one_group_says_nothing(reference):
    np.testing.assert_array_equal(fitted(np.zeros(len(TRAIN), int)).distances["kind"], reference.distances["kind"])


def test_cells_that_differ_in_what_is_measured(space):
    """Each is compared as among its like."""
    measured = np.where(np.arange(80)[:, None] % 2 == 0, EVERY, MOST)
    found = fit_novelty(csr(TRAIN), CODES, EVERY, csr(OTHERS * measured), measured, LOGITS)
    known = space.known["kind"] > 0
    parts = [
        expected_of(space.distances(space.sums(csr((OTHERS * m)[i::2])), m, "kind"), LOGITS["kind"][i::2], known)
        for i, m in enumerate((EVERY, MOST))
    ]
    np.testing.assert_allclose(found.distances["kind"], np.sort(np.concatenate(parts)), rtol=1e-4)


def test_unknown_categories_share_one_centre():
    codes = np.where(np.arange(2) == 0, -1, CODES)
    space = fit_space(csr(TRAIN), codes, EVERY, SIZES)
    positions = expected_positions(space, TRAIN)
    np.testing.assert_allclose(space.centres["kind"], np.tile(positions.mean(0), (4, 1)), atol=1e-3)
    assert not space.known["kind"].any()
    spread = LedoitWolf().fit(positions).covariance_
    np.testing.assert_allclose(space.spreads["kind"], spread, atol=1e-3 * np.abs(spread).max())


@pytest.mark.parametrize("shape", [(2, N_GENES), (200, 1)], ids=["cells", "genes"])
def test_too_few_cells_or_genes(shape):
    few, measured = csr(TRAIN[: shape[0], : shape[1]]), EVERY[: shape[1]]
    assert fit_novelty(few, CODES[: shape[0]], measured, few, measured, {"kind": LOGITS["kind"][:2]}) is None


def test_few_cells_have_fewer_components():
    found = fit_novelty(csr(TRAIN[:12]), CODES[:12], EVERY, csr(OTHERS), EVERY, LOGITS)
    assert found.space.components.shape == (4, N_GENES)
    assert np.isfinite(found.distances["kind"]).all()


def test_entropy_as_scipy():
    logits = np.random.default_rng(0).normal(0, 3, (7, 5))
    expected = entropy_of_scipy(np.exp(logits), axis=1)
    np.testing.assert_allclose(entropy(logits), expected)
    np.testing.assert_allclose(entropy(logits + 100), expected)


def test_percentile_as_scipy():
    known, values = [1.0, 2.0, 2.0, 5.0], np.array([0.0, 2.0, 3.0, 5.0])
    expected = [(percentileofscore(known, v, "mean") / 100 * 4 + 0.5) / 5 for v in values]
    np.testing.assert_allclose(percentile(values, np.array(known)), expected)


def test_values_above_all_others_are_ordered():
    """They start at the largest share of the reference values and approach 1."""
    known = np.array([1.0, 2.0, 2.0, 5.0])
    found = percentile(np.array([5.0, 5.1, 10.0, 1e3, 1e6]), known)
    assert (np.diff(found) > 0).all()
    np.testing.assert_allclose(found[2], 1 - 0.1 * 5 / 10)
    assert found[1] > 4.5 / 5 > found[0]
    assert found[-1] < 1
