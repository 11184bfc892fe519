"""The null of biomarkers: against scipy, on noise, and for designs that have none; means by pandas."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_ind

from polygene_scverse.abilities import _biomarkers
from polygene_scverse.abilities._biomarkers import biomarkers, differences, group_means
from polygene_scverse.abilities._gene_contributions import sum_expression
from polygene_scverse.data.feed._adata_cells import AnnDataCells
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
    pairs, of_cell, n_of_pair = np.unique(2 * donor + sex, return_inverse=True, return_counts=True)
    sums = sum_expression(Engine(model.module), model._cells(query), of_cell, len(pairs))[1]
    means, n = group_means(sums, n_of_pair, pairs // 2, pairs % 2, 2)
    counts = query.X.toarray()
    x = pd.DataFrame(np.log1p(1e4 * counts / counts.sum(1, keepdims=True))[:, :36]).groupby([donor, sex]).mean()
    for (d, s), row in x.iterrows():
        np.testing.assert_allclose(means[d, s], row, atol=1e-5)
        assert n[d, s] == ((donor == d) & (sex == s)).sum()
    assert n.sum() == query.n_obs


@dataclass
class Counted:
    """Cells that note how often each is read."""

    source: AnnDataCells

    def __post_init__(self):
        self.layout, self.ids, self.codes = self.source.layout, self.source.ids, self.source.codes
        self.times = np.zeros(len(self.source), dtype=int)

    def __len__(self):
        return len(self.source)

    def read(self, rows):
        np.add.at(self.times, rows, 1)
        return self.source.read(rows)


def test_cells_are_read_once_and_contexts_are_as_if_alone(trained_model, query):
    model, sex = trained_model, query.obs["sex"].cat.codes.to_numpy().astype(int)
    contexts, donor = np.arange(query.n_obs) % 3, query.obs["donor"].cat.codes.to_numpy().astype(int)
    donor[::7] = -1
    source, common = Counted(model._cells(query)), {"n_cells": 2, "min_cells": 1, "n_permutations": 9, "seed": 0}
    found = biomarkers(Engine(model.module), model.fitted_, source, 1, contexts, sex, donor, **common)
    assert source.times.min() == 1
    assert source.times.sum() == query.n_obs + 3 * 2 * 2  # two of each category and context, once more
    assert list(found) == [0, 1, 2]
    x = np.log1p(1e4 * query.X.toarray() / query.X.toarray().sum(1, keepdims=True))[:, :36]
    for context, part in found.items():
        own = contexts == context
        alone = model.gene_contributions(query[own].copy(), phenotype="sex", groupby="sex", n_cells=2)
        np.testing.assert_allclose(part.contributions.scores, alone.scores, atol=1e-6)
        assert part.contributions.genes == alone.genes
        n = np.zeros((donor.max() + 1, 2), dtype=int)
        means = np.zeros((*n.shape, 36))
        for d, s in np.ndindex(n.shape):
            if n_cells := (own & (donor == d) & (sex == s)).sum():
                n[d, s], means[d, s] = n_cells, x[own & (donor == d) & (sex == s)].mean(0)
        p_value, n_groups = differences(means, n, np.array([0, 1]), 1, 9, 0)
        np.testing.assert_allclose(part.p_value, p_value, atol=1e-6)
        np.testing.assert_array_equal(part.n_groups, n_groups)


def test_cells_without_groups_have_scores_and_no_null(trained_model, query):
    sex, none = query.obs["sex"].cat.codes.to_numpy().astype(int), np.full(query.n_obs, -1)
    source = trained_model._cells(query)
    found = biomarkers(
        Engine(trained_model.module), trained_model.fitted_, source, 1, none + 1, sex, none,
        n_cells=1, min_cells=1, n_permutations=5, seed=0,
    )  # fmt: skip
    assert np.isnan(found[0].p_value).all()
    assert np.isfinite(found[0].contributions.scores).all()


def test_the_rest_is_weighed_by_its_cells(monkeypatch):
    means, n = np.zeros((6, 3, 2)), np.tile([10, 30, 10], (6, 1))
    means[:, 1], means[:, 2] = 1.0, 5.0
    seen = []
    monkeypatch.setattr(_biomarkers, "permutation_p", lambda moves, *_: seen.append(moves) or np.zeros(2))
    differences(means, n, np.array([0]), 5, 1, 0)
    np.testing.assert_allclose(seen[0][:, 0, :, 0], -(1.0 * 30 + 5.0 * 10) / 40 / 2)
