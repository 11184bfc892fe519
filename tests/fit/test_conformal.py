"""Thresholds of prediction sets by numpy's quantile and by MAPIE."""

import warnings

import numpy as np
import pytest

from polygene_scverse.fit._conformal import ConformalScores, conformal_threshold, group_threshold, most_probable


def drawn(n, n_categories=3, seed=0, concentration=1.0):
    """Codes drawn from their probabilities: cells of a calibrated model."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet([concentration] * n_categories, n)
    return p, (rng.random((n, 1)) > p.cumsum(1)).sum(1).clip(max=n_categories - 1)


@pytest.mark.parametrize("n", [9, 10, 53, 200], ids=str)
@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9], ids=str)
def test_threshold_is_the_corrected_quantile(n, coverage):
    of_true = np.random.default_rng(n).random(n)
    level = np.ceil(np.round((n + 1) * coverage, 9)) / n
    expected = 1 - np.quantile(1 - of_true, min(level, 1.0), method="inverted_cdf")
    assert conformal_threshold(of_true, coverage) == pytest.approx(expected)


@pytest.mark.parametrize(("n", "rank"), [(8, 0), (9, 1), (18, 1), (19, 2)], ids=str)
def test_threshold_by_hand(n, rank):
    expected = 0.0 if rank == 0 else rank / 100
    assert conformal_threshold(np.arange(n, 0, -1) / 100, 0.9) == expected


@pytest.mark.parametrize(("n", "coverage", "k"), [(53, 0.9, 3), (200, 0.8, 5), (40, 0.95, 4)], ids=str)
def test_sets_are_those_of_mapie(n, coverage, k):
    classification = pytest.importorskip("mapie.classification", reason="MAPIE is not installed")
    from sklearn.base import BaseEstimator, ClassifierMixin

    class Fixed(ClassifierMixin, BaseEstimator):
        def fit(self, X, y):
            self.classes_ = np.arange(k)
            return self

        def predict_proba(self, X):
            return X

        def predict(self, X):
            return X.argmax(1)

    p, codes = drawn(n, k)
    codes[:k] = range(k)
    new = drawn(300, k, seed=1)[0]
    theirs = classification.SplitConformalClassifier(Fixed().fit(p, codes), confidence_level=coverage)
    expected = theirs.conformalize(p, codes).predict_set(new)[1][:, :, 0]
    np.testing.assert_array_equal(new >= conformal_threshold(p[np.arange(n), codes], coverage), expected)


# thresholds of categories


def scores_of(n, k=3, seed=0):
    p, codes = drawn(n, k, seed)
    return ConformalScores(codes.astype(np.int32), p[np.arange(n), codes].astype(np.float32))


NAMES = ["a", "b", "c"]


def test_of_all_cells_one_threshold():
    scores = scores_of(200)
    found = scores.thresholds("kind", NAMES, 0.8, by_category=False)
    np.testing.assert_array_equal(found, [conformal_threshold(scores.probabilities, 0.8)] * 3)


def test_of_each_category_that_of_its_cells():
    scores = scores_of(200)
    expected = [conformal_threshold(scores.probabilities[scores.codes == code], 0.8) for code in range(3)]
    np.testing.assert_array_equal(scores.thresholds("kind", NAMES, 0.8, by_category=True), expected)
    assert len(set(expected)) == 3


def test_too_few_cells_are_said():
    for n in (0, 8):
        with pytest.warns(
            UserWarning, match=rf"`coverage`: 0.9 needs 9 calibration cells, but {n} with a known 'kind'"
        ):
            found = scores_of(n).thresholds("kind", NAMES, 0.9, by_category=False)
        assert not found.any()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores_of(9).thresholds("kind", NAMES, 0.9, by_category=False)


def test_categories_with_too_few_cells_are_said_and_take_the_threshold_of_all():
    scores = scores_of(300)
    few = np.flatnonzero(scores.codes != 1).tolist() + np.flatnonzero(scores.codes == 1)[:3].tolist()
    scores = ConformalScores(scores.codes[few], scores.probabilities[few])
    with pytest.warns(UserWarning, match=r"of each category of 'kind', but there are fewer of \['b'\]"):
        found = scores.thresholds("kind", NAMES, 0.9, by_category=True)
    of_all = conformal_threshold(scores.probabilities, 0.9)
    assert found[1] == of_all
    assert of_all not in found[[0, 2]]


# each group predicted from the others


@pytest.mark.parametrize("n", [9, 53, 200], ids=str)
@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9], ids=str)
def test_groups_of_one_cell_are_cells(n, coverage):
    of_true = np.random.default_rng(n).random(n)
    assert group_threshold(of_true, np.arange(n), coverage) == conformal_threshold(of_true, coverage)


@pytest.mark.parametrize("n_groups", [1, 3, 8], ids=str)
def test_of_few_groups_it_is_the_weighted_quantile(n_groups):
    """Each group counts alike, however many cells it has."""
    rng = np.random.default_rng(n_groups)
    groups = np.concatenate([np.full(10 * (g + 1), g) for g in range(n_groups)])
    of_true = rng.random(len(groups))
    weights = 1.0 / np.bincount(groups)[groups]
    found = group_threshold(of_true, groups, 0.9)
    held = [np.average(of_true >= t, weights=weights) for t in (found, np.min(of_true[of_true > found]))]
    assert held[1] < 0.9 <= held[0] + 1e-9


def test_coverage_holds_for_new_groups():
    """Over many draws of ten groups that differ much, where cells pooled would hold too few."""
    rng, held = np.random.default_rng(0), []
    for _ in range(400):
        quality = rng.normal(0.0, 1.0, 11)  # the last is the new group
        of_true = 1.0 / (1.0 + np.exp(-(quality[:, None] + rng.normal(0.0, 0.3, (11, 40)))))
        groups = np.repeat(np.arange(10), 40)
        pooled = conformal_threshold(of_true[:10].ravel(), 0.9)
        by_group = group_threshold(of_true[:10].ravel(), groups, 0.9)
        held.append([(of_true[10] >= threshold).mean() for threshold in (pooled, by_group)])
    pooled, by_group = np.mean(held, axis=0)
    assert by_group >= 0.89 > pooled


def test_few_groups_promise_nothing_and_say_how_far_off_they_are():
    groups = np.repeat([0, 1], 20).astype(np.int32)
    of_true = np.concatenate([np.linspace(0.5, 1.0, 20), np.linspace(0.0, 1.0, 20)]).astype(np.float32)
    scores = ConformalScores(np.zeros(40, np.int32), of_true, groups)
    with pytest.warns(
        UserWarning, match=r"0\.9 is not guaranteed .* new groups \(donors\): this needs 9 training groups, .* are 2"
    ) as w:
        found = scores.thresholds("cell_type", ["a", "b"], 0.9, False)
    assert found[0] == group_threshold(of_true, groups, 0.9)
    held = (of_true[20:] >= found[0]).mean()
    assert f"contained the true category in {100 * held:.0f} to 100 % of its cells" in str(w[0].message)


def test_enough_groups_do_not_warn():
    scores = ConformalScores(np.zeros(40, np.int32), np.linspace(0, 1, 40).astype(np.float32), np.arange(40) % 10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores.thresholds("cell_type", ["a"], 0.9, False)


@pytest.mark.parametrize("coverage", [0.5, 0.9])
def test_most_probable_by_hand(coverage):
    p, _ = drawn(50, 4)
    for cell, found in zip(p, most_probable(p, coverage), strict=True):
        n = next(n for n in range(1, 5) if np.sort(cell)[::-1][:n].sum() >= coverage)
        assert set(np.flatnonzero(found)) == set(np.argsort(-cell)[:n])


def few(n_groups):
    """Training groups were predicted surely, which says little of new ones."""
    of_true = np.linspace(0.9, 1.0, 60).astype(np.float32)
    return ConformalScores(np.zeros(60, np.int32), of_true, (np.arange(60) % n_groups).astype(np.int32))


@pytest.mark.parametrize("n_groups", [1, 2, 8])
def test_of_few_groups_sets_hold_what_is_probable(n_groups):
    p, codes = drawn(500, 4)
    with pytest.warns(UserWarning, match=r"cells of new groups \(donors\): this needs 9 training groups"):
        found = few(n_groups).sets("cell_type", list("abcd"), p, 0.9)
    assert found.any(axis=1).all()
    assert found[np.arange(500), codes].mean() >= 0.9
    np.testing.assert_array_equal(found, (p >= 0.9) | most_probable(p, 0.9))


def test_of_enough_groups_the_threshold_decides_alone():
    scores, (p, _) = few(10), drawn(500, 4)
    threshold = group_threshold(scores.probabilities, scores.groups, 0.9)
    np.testing.assert_array_equal(scores.sets("cell_type", list("abcd"), p, 0.9), p >= threshold)


def test_one_group_promises_nothing():
    with pytest.warns(UserWarning, match="is not guaranteed for 'cell_type' .* and there are none"):
        few(1).sets("cell_type", ["a", "b"], np.full((3, 2), 0.5), 0.9)
