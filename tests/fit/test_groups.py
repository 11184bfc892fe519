"""What new groups cost, on simulated cells whose groups differ by a known amount; scikit-learn cuts the groups."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.model_selection import LeaveOneGroupOut

from polygene_scverse.fit._discriminants import ScatterSums
from polygene_scverse.fit._groups import (
    FAR_BELOW,
    HIGHEST_FACTOR,
    STRENGTH,
    USUAL_FACTOR,
    USUAL_FACTOR_CONSTANT,
    fit_group_shift,
    is_constant_within,
)
from polygene_scverse.fit._temperature import fit_temperature

SETTINGS = {"name": "donor", "scale": 10.0, "prior": 0.5}


def cells_of(n_groups, effect, n=300, k=3, n_genes=17, seed=0):
    """Cells of groups in which each category is moved by a random vector of its own."""
    rng = np.random.default_rng(seed)
    codes, groups = rng.integers(0, k, n), np.arange(n) % n_groups
    centres, moved = rng.normal(size=(k, n_genes)), effect * rng.normal(size=(n_groups, k, n_genes))
    x = centres[codes] + moved[groups, codes] + rng.normal(size=(n, n_genes))
    return x.astype(np.float32), codes, groups


def shift_of(x, codes, groups, k=3, **kwargs):
    return fit_group_shift(lambda rows: x[rows], codes, k, groups, **SETTINGS, **kwargs)


@pytest.mark.parametrize("missing", [0.0, 0.3], ids=["all known", "some unknown"])
def test_each_group_is_predicted_from_the_others(missing):
    x, codes, groups = cells_of(3, 2.0)
    codes = np.where(np.random.default_rng(1).random(len(codes)) < missing, -1, codes)
    found, known = shift_of(x, codes, groups), np.flatnonzero(codes >= 0)
    raw = np.zeros((len(codes), 3))
    for rest, own in LeaveOneGroupOut().split(x[known], groups=groups[known]):
        fitted = ScatterSums.fit(x[known[rest]], codes[known[rest]], 3).discriminants()
        raw[known[own]] = fitted(x[known[own]])
    np.testing.assert_array_equal(found.codes, codes[known])
    np.testing.assert_array_equal(found.groups, groups[known])
    log_shares = np.log(np.bincount(codes[known]) / len(known))
    scaled = found.logits - 0.5 * log_shares
    np.testing.assert_allclose(scaled * (raw[known] / scaled).mean(), raw[known], rtol=1e-3, atol=1e-3)
    needed = fit_temperature(scaled, codes[known], weights_of(groups[known]))
    assert needed == pytest.approx(found.measured, rel=0.02)


def weights_of(groups):
    sizes = np.bincount(groups)
    return len(groups) / len(sizes) / sizes[groups]


def test_groups_that_do_not_differ_cost_little_and_those_that_do_much():
    alike, unlike = (shift_of(*cells_of(2, effect, n=600)) for effect in (0.0, 1.0))
    assert alike.measured < 1.05
    assert unlike.measured > 2.0
    assert 1.0 < alike.factor < 1.15 < 1.4 < unlike.factor < unlike.measured


@pytest.mark.parametrize("n_groups", [2, 5, 40])
def test_what_is_usual_gives_way_as_groups_accumulate(n_groups):
    """A weighted geometric mean, in groups, whatever the number of cells."""
    found = shift_of(*cells_of(n_groups, 3.0, n=400))
    logs = np.log([found.measured, USUAL_FACTOR])
    assert np.log(found.factor) == pytest.approx(np.average(logs, weights=[n_groups, STRENGTH]))
    assert found.n_groups == n_groups


def test_each_group_counts_alike():
    """One group of many cells, which others predict well, does not outvote a small one that they do not."""
    x, codes, groups = cells_of(3, 0.0, n=900)
    moved = groups == 2
    x[moved] = -x[moved]
    keep = ~moved | (np.arange(900) % 15 == 2)
    few = shift_of(x[keep], codes[keep], groups[keep])
    assert few.measured > 1.5


def test_one_group_says_nothing():
    found = shift_of(*cells_of(1, 0.0))
    assert (found.n_groups, found.factor, len(found.codes)) == (1, USUAL_FACTOR, 0)
    assert np.isnan(found.measured)


def test_phenotypes_of_whole_groups():
    """Each group is one example: two of them cannot be predicted from each other."""
    x, _, groups = cells_of(2, 1.0)
    found = shift_of(x, groups, groups, k=2)
    assert is_constant_within(groups, groups)
    assert (found.factor, len(found.codes)) == (USUAL_FACTOR_CONSTANT, 0)


def test_labels_of_groups_that_mean_nothing_are_not_believed():
    """Four donors, two of each sex, and genes that tell donors but not sexes."""
    x, _, groups = cells_of(4, 2.0, n=800)
    found = shift_of(x, groups % 2, groups, k=2)
    assert USUAL_FACTOR_CONSTANT < found.factor < found.measured == HIGHEST_FACTOR


def test_a_category_of_one_group_has_no_part():
    """Nothing can predict it from other groups; neither is it held against them, nor a cell of others called so."""
    x, codes, groups = cells_of(3, 0.2)
    codes = np.where((groups == 0) & (codes == 2), 3, codes)
    found = shift_of(x, codes, groups, k=4)
    assert 3 not in found.codes
    assert np.isfinite(found.logits).all()
    of_first = softmax(found.logits[found.groups == 0], axis=1)
    assert of_first[:, 3].max() < 1e-6
    assert FAR_BELOW < -1e4


@pytest.mark.parametrize(
    ("codes", "expected"), [([0, 0, 1, 1], True), ([0, -1, 1, 1], True), ([0, 1, 1, 1], False)], ids=str
)
def test_constant_within_groups(codes, expected):
    assert is_constant_within(np.array(codes), np.array([0, 0, 1, 1])) is expected


def test_the_seed_decides_what_is_drawn():
    cells = cells_of(7, 3.0)
    a, b, c = (shift_of(*cells, seed=seed) for seed in (0, 0, 1))
    assert a.factor == b.factor != c.factor
