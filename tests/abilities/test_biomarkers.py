"""The null of biomarkers: against scipy, on noise, and for designs that have none; means by pandas."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_ind

from polygene_scverse.abilities import _biomarkers
from polygene_scverse.abilities._biomarkers import differences, group_means
from polygene_scverse.engine import Engine


def noise(n_groups, paired, effect=0.0, n_genes=300, seed=0):
    """Means and numbers of cells of two categories; the first 30 genes differ between them."""
    rng = np.random.default_rng(seed)
    scale = np.exp(rng.normal(0, 0.7, n_genes))
    means = rng.normal(size=(n_groups, 1, n_genes)) + rng.normal(size=(n_groups, 2, n_genes)) * 0.5
    means[:, 1, :30] += effect
    n = np.full((n_groups, 2), 20)
    if not paired:
        n[np.arange(n_groups), np.arange(n_groups) % 2] = 0
    return means * scale, n


@pytest.mark.parametrize("paired", [True, False], ids=["within groups", "between groups"])
def test_the_null_is_uniform_and_finds_what_differs(paired):
    flat, found = [], []
    for seed in range(8):
        means, n = noise(10, paired, seed=seed)
        p, n_groups = differences(means, n, np.array([1]), 5, 30, seed)
        assert n_groups.tolist() == [10]
        flat.append(p[0])
        means, n = noise(10, paired, effect=4.0, seed=seed)
        found.append(differences(means, n, np.array([1]), 5, 30, seed)[0][0, :30])
    p = np.concatenate(flat)
    for level, slack in ((0.01, 0.008), (0.05, 0.02), (0.5, 0.06)):
        assert abs((p <= level).mean() - level) < slack
    assert (np.concatenate(found) < 0.05).mean() > 0.9


def test_groups_that_have_one_category_are_ranked_as_by_welch():
    means, n = noise(11, paired=False)
    p = differences(means, n, np.array([1]), 5, 50, 0)[0][0]
    own, rest = means[n[:, 1] > 0, 1], means[n[:, 0] > 0, 0]
    expected = np.abs(ttest_ind(own, rest, equal_var=False).statistic)
    order = np.argsort(-expected)
    assert (np.diff(p[order]) >= 0).all()


@pytest.mark.parametrize(
    ("n_groups", "paired"), [(4, True), (5, False)], ids=["four with both", "fewer than three of a category"]
)
def test_too_few_groups_have_no_null(n_groups, paired):
    p, groups = differences(*noise(n_groups, paired), np.array([0, 1]), 5, 10, 0)
    assert np.isnan(p).all()
    assert groups.tolist() == [0, 0]


def test_means_are_those_of_pandas(trained_model, query):
    model = trained_model
    sex, donor = query.obs["sex"].cat.codes.to_numpy().astype(int), query.obs["donor"].cat.codes.to_numpy().astype(int)
    means, n = group_means(Engine(model.module), model._cells(query), donor, sex, 2)
    counts = query.X.toarray()
    x = pd.DataFrame(np.log1p(1e4 * counts / counts.sum(1, keepdims=True))[:, :36]).groupby([donor, sex]).mean()
    for (d, s), row in x.iterrows():
        np.testing.assert_allclose(means[d, s], row, atol=1e-5)
        assert n[d, s] == ((donor == d) & (sex == s)).sum()
    assert n.sum() == query.n_obs


def test_the_rest_is_weighed_by_its_cells(monkeypatch):
    means, n = np.zeros((6, 3, 2)), np.tile([10, 30, 10], (6, 1))
    means[:, 1], means[:, 2] = 1.0, 5.0
    seen = []
    monkeypatch.setattr(_biomarkers, "pooled_p", lambda moves, *_: seen.append(moves) or np.zeros(2))
    differences(means, n, np.array([0]), 5, 1, 0)
    np.testing.assert_allclose(seen[0][:, 0, :, 0], -(1.0 * 30 + 5.0 * 10) / 40 / 2)
