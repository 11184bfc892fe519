"""Chances of the draws; seeds are fixed."""

import numpy as np
import pytest
from scipy import optimize, special, stats

from polygene_scverse.data.feed._masking import MaskingRates, draw
from polygene_scverse.data.read._tokens import Cells

N_GENES = 211
ALPHA = 1e-3  # a wrong draw is far below, a right one is below for one seed in a thousand
MEASURED = np.arange(N_GENES) % 7 != 3


def make_cells(expressed):
    """Cells that express the genes of a boolean table."""
    n = int(expressed.sum())
    return Cells(
        np.concatenate([[0], np.cumsum(expressed.sum(1))]),
        np.nonzero(expressed)[1].astype(np.int32),
        np.ones(n, dtype=np.int16),
        np.ones(n, dtype=np.float32),
    )


def random_cells(n_cells, density, measured=MEASURED, seed=0):
    """Cells of many densities around one."""
    rng = np.random.default_rng(seed)
    share = np.clip(density * rng.uniform(0.5, 1.5, (n_cells, 1)), 0, 1)
    return make_cells((rng.random((n_cells, len(measured))) < share) & measured)


def alike(n_cells, n_expressed, n_genes):
    """Many cells that express the same genes."""
    expressed = np.random.default_rng(0).permutation(n_genes) < n_expressed
    return make_cells(np.repeat(expressed[None], n_cells, 0))


def drawn(cells, rates=None, measured=MEASURED, n_phenotypes=3, seed=0, epoch=0, ids=None):
    ids = np.arange(len(cells)) if ids is None else ids
    return draw(cells, ids, measured, n_phenotypes, rates or MaskingRates(), seed=seed, epoch=epoch)


def rows_of(cells):
    return np.repeat(np.arange(len(cells)), cells.lengths)


def table(rows, genes, n_cells, n_genes=N_GENES):
    """How often each gene of each cell is named."""
    counts = np.zeros((n_cells, n_genes), dtype=int)
    np.add.at(counts, (rows, genes), 1)
    return counts


def test_the_share_of_expressed_targets():
    cells = random_cells(1000, 0.3)
    m = drawn(cells)
    assert stats.binomtest(int(m.target.sum()), len(m.target), 0.15).pvalue > ALPHA
    by_gene = table(np.zeros(m.target.sum(), dtype=int), cells.genes[m.target], 1)[0][MEASURED]
    expected = 0.15 * np.bincount(cells.genes, minlength=N_GENES)[MEASURED]
    assert stats.chi2.sf(((by_gene - expected) ** 2 / (expected * 0.85)).sum(), len(expected)) > ALPHA


@pytest.mark.parametrize("rate", [0.0, 0.15, 0.5, 1.0])
def test_the_share_of_not_expressed_targets(rate):
    cells = random_cells(2000, 0.1)
    n_absent = MEASURED.sum() - cells.lengths
    n_zero = np.bincount(drawn(cells, MaskingRates(not_expressed=rate)).zero_rows, minlength=2000)
    assert np.abs(n_zero - rate * n_absent).max() < 1
    error = np.sqrt(0.25 / 2000)  # a rounding at random has at most this error of the mean
    assert (n_zero - rate * n_absent).mean() == pytest.approx(0, abs=3 * error)


@pytest.mark.parametrize("n_expressed", [0, 3, 20, 40])
@pytest.mark.parametrize("rate", [0.05, 0.15, 0.55, 0.8])
def test_not_expressed_genes_have_the_same_chance(rate, n_expressed):
    n_cells, n_genes = 4000, 47
    cells = alike(n_cells, n_expressed, n_genes)
    m = drawn(cells, MaskingRates(not_expressed=rate), np.ones(n_genes, dtype=bool))
    counts = np.bincount(m.zero_genes, minlength=n_genes)
    absent = np.bincount(cells.genes, minlength=n_genes) == 0
    assert counts[~absent].sum() == 0
    assert table(m.zero_rows, m.zero_genes, n_cells, n_genes).max() == 1
    assert stats.chisquare(counts[absent]).pvalue > ALPHA


def test_gene_dropout_is_drawn_per_cell():
    """The share that is dropped, of the genes that are no targets, is uniform between 0 and 0.3 over cells."""
    cells = alike(400, 2000, 2500)
    m = drawn(cells, MaskingRates(max_genes=2000, any_share=0.0), np.ones(2500, dtype=bool))
    dropped = 1 - m.visible.reshape(400, 2000).sum(1) / (~m.target).reshape(400, 2000).sum(1)
    assert stats.kstest(dropped, stats.uniform(0, 0.3).cdf).pvalue > ALPHA


def test_max_genes_shows_each_gene_with_the_same_chance():
    cells = alike(4000, 30, 30)
    m = drawn(cells, MaskingRates(max_genes=11), np.ones(30, dtype=bool))
    assert stats.chisquare(np.bincount(cells.genes[m.visible], minlength=30)).pvalue > ALPHA


@pytest.mark.parametrize("density", [0.1, 0.8])
@pytest.mark.parametrize("rates", [MaskingRates(), MaskingRates(not_expressed=0.15), MaskingRates(not_expressed=0.03)])
def test_log_sampling_ratio_recovers_the_share_of_zeros(rates, density):
    """One logit is fitted to the targets: with the ratio added it is that of all genes, without it is not."""
    n_cells, n_genes = 1500, N_GENES
    expressed = np.random.default_rng(0).random((n_cells, n_genes)) < density
    cells = make_cells(expressed)
    m = drawn(cells, rates, np.ones(n_genes, dtype=bool))
    n_zero = np.bincount(m.zero_rows, minlength=n_cells)
    n_all = n_zero + np.bincount(rows_of(cells)[m.target], minlength=n_cells)
    slope = optimize.brentq(lambda f: (n_zero - n_all * special.expit(f + m.log_sampling_ratio)).sum(), -9, 9)
    assert special.expit(slope) == pytest.approx(1 - density, abs=0.01)
    uncorrected = n_zero.sum() / n_all.sum()
    same_rates = rates.not_expressed == rates.expressed
    assert (abs(uncorrected - (1 - density)) < 0.01) == same_rates


def test_hidden_phenotypes():
    """Half of the cells hide all, the others each with one half: the eight subsets of three have known chances."""
    n_cells = 8000
    hidden = drawn(make_cells(np.zeros((n_cells, N_GENES), dtype=bool))).hidden
    subsets = np.bincount(hidden @ [1, 2, 4], minlength=8)
    expected = np.full(8, 0.5 / 8)
    expected[7] += 0.5
    assert stats.chisquare(subsets, n_cells * expected).pvalue > ALPHA


@pytest.mark.parametrize(
    ("hide_all", "hide_each", "share"),
    [(0, 0, 0), (1, 0, 1), (0, 1, 1), (0, 0.2, 0.2)],
    ids=["none", "all", "each", "some"],
)
def test_rates_of_hiding(hide_all, hide_each, share):
    cells = make_cells(np.zeros((3000, N_GENES), dtype=bool))
    m = drawn(cells, MaskingRates(hide_all=hide_all, hide_each=hide_each))
    assert m.hidden.mean() == pytest.approx(share, abs=0.02 * (0 < share < 1))


def test_any_share_is_left_out_of_some_cells():
    """Of 40 % of the cells a share that is uniform between 0 and 1, of the others one between 0 and 0.3."""
    cells = alike(1000, 2000, 2500)
    m = drawn(cells, MaskingRates(max_genes=2000, any_share=0.4), np.ones(2500, dtype=bool))
    dropped = 1 - m.visible.reshape(1000, 2000).sum(1) / (~m.target).reshape(1000, 2000).sum(1)
    both = lambda x: 0.4 * stats.uniform(0, 1).cdf(x) + 0.6 * stats.uniform(0, 0.3).cdf(x)  # noqa: E731
    assert stats.kstest(dropped, both).pvalue > ALPHA


def test_the_shown_share_is_that_of_all_genes():
    """Over many genes, the expressed ones that are visible are the share that is told."""
    cells = alike(300, 2000, 2500)
    m = drawn(cells, MaskingRates(expressed=0.2, max_genes=700), np.ones(2500, dtype=bool))
    visible = m.visible.reshape(300, 2000).mean(1)
    np.testing.assert_allclose(m.shown_share, visible, atol=0.05)
    assert np.abs((m.shown_share - visible).mean()) < 0.003
