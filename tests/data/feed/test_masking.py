"""What holds for every draw of targets, dropped genes and hidden phenotypes."""

import numpy as np
import pytest
from scipy import optimize, special, stats

from polygene_scverse._layout import TokenLayout
from polygene_scverse.data.feed._batch import make_batch
from polygene_scverse.data.feed._masking import MaskingRates, ask, draw
from polygene_scverse.data.read._tokens import Cells

NO_GENES = np.zeros(0, dtype=np.int64)
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


RATES = {
    "default": MaskingRates(),
    "original": MaskingRates(not_expressed=0.15),
    "many": MaskingRates(expressed=0.6, not_expressed=0.9, gene_dropout=0.9),
    "few shown": MaskingRates(max_genes=7),
    "all": MaskingRates(expressed=1.0, not_expressed=1.0),
}


@pytest.mark.parametrize("density", [0.02, 0.3, 0.9])
@pytest.mark.parametrize("rates", RATES.values(), ids=RATES)
def test_a_target_is_not_visible_and_zero_targets_are_measured_and_not_expressed(rates, density):
    cells = random_cells(101, density)
    m = drawn(cells, rates)
    expressed = table(rows_of(cells), cells.genes, 101)
    zero = table(m.zero_rows, m.zero_genes, 101)
    assert not (m.visible & m.target).any()
    assert zero.max(initial=0) <= 1
    assert not (zero & expressed).any()
    assert not zero[:, ~MEASURED].any()
    assert np.all(np.diff(m.zero_rows) >= 0)
    assert (m.visible.shape, m.hidden.shape) == (cells.genes.shape, (101, 3))


@pytest.mark.parametrize("not_expressed", ["match", 0.15], ids=["match", "rate"])
def test_cells_that_express_nothing_or_all(not_expressed):
    cells = make_cells(np.stack([np.zeros(N_GENES, dtype=bool), MEASURED]))
    m = drawn(cells, MaskingRates(not_expressed=not_expressed))
    n_zero = np.bincount(m.zero_rows, minlength=2)
    assert n_zero[1] == 0
    assert n_zero[0] == (0 if not_expressed == "match" else pytest.approx(0.15 * MEASURED.sum(), abs=1))
    assert np.isfinite(m.log_sampling_ratio).all()


def test_match_draws_as_many_as_there_are_expressed_targets():
    cells = random_cells(200, 0.3)
    m = drawn(cells)
    n_targets = np.bincount(rows_of(cells)[m.target], minlength=200)
    np.testing.assert_array_equal(np.bincount(m.zero_rows, minlength=200), n_targets)


def test_match_is_bounded_by_what_is_not_expressed():
    cells = make_cells(np.arange(50)[None] < 48)
    m = drawn(cells, MaskingRates(expressed=0.9), np.ones(50, dtype=bool))
    np.testing.assert_array_equal(np.sort(m.zero_genes), [48, 49])


def test_dropped_genes_are_no_targets_and_dropout_does_not_change_targets():
    cells = random_cells(100, 0.3)
    a, b = drawn(cells, MaskingRates(gene_dropout=0.9)), drawn(cells, MaskingRates(gene_dropout=0.0))
    np.testing.assert_array_equal(a.target, b.target)
    np.testing.assert_array_equal(b.visible, ~b.target)
    assert a.visible.sum() < b.visible.sum()
    assert not (a.visible & ~b.visible).any()


@pytest.mark.parametrize("gene_dropout", [0.0, 0.3])
def test_max_genes(gene_dropout):
    """No cell shows more; where nothing else is dropped, one that has more to show shows exactly so many."""
    cells = random_cells(300, 0.3)
    m = drawn(cells, MaskingRates(gene_dropout=gene_dropout, max_genes=40))
    n_visible = np.bincount(rows_of(cells)[m.visible], minlength=300)
    n_open = np.bincount(rows_of(cells)[~m.target], minlength=300)
    assert (n_open > 40).any()
    assert (n_open < 40).any()
    assert n_visible.max() == 40
    if gene_dropout == 0:
        np.testing.assert_array_equal(n_visible, np.minimum(n_open, 40))


@pytest.mark.parametrize("rates", RATES.values(), ids=RATES)
def test_a_draw_depends_on_seed_epoch_and_cell_alone(rates):
    """Not on the other cells of the batch nor on their order."""
    cells = random_cells(50, 0.4)
    ids = np.random.default_rng(1).permutation(1000)[:50]
    whole = drawn(cells, rates, ids=ids, seed=3, epoch=4)
    rows = np.array([17, 4, 33, 9])
    part = drawn(cells.take(rows), rates, ids=ids[rows], seed=3, epoch=4)
    for i, row in enumerate(rows):
        entries = slice(cells.indptr[row], cells.indptr[row + 1])
        own = rows_of(cells.take(rows)) == i
        np.testing.assert_array_equal(part.visible[own], whole.visible[entries])
        np.testing.assert_array_equal(part.target[own], whole.target[entries])
        np.testing.assert_array_equal(part.zero_genes[part.zero_rows == i], whole.zero_genes[whole.zero_rows == row])
    for name in ("hidden", "log_sampling_ratio"):
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[rows])


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"epoch": 1}, {"ids": np.arange(200) + 200}], ids=["seed", "epoch", "id"]
)
def test_another_seed_epoch_or_cell_has_another_draw(change):
    cells = alike(200, 60, N_GENES)
    measured = np.ones(N_GENES, dtype=bool)
    a, b = drawn(cells, measured=measured), drawn(cells, measured=measured, **change)
    agree = (a.target == b.target).mean()
    assert agree == pytest.approx(0.15**2 + 0.85**2, abs=0.02)
    same = (table(a.zero_rows, a.zero_genes, 200) & table(b.zero_rows, b.zero_genes, 200)).sum() / len(a.zero_rows)
    assert same == pytest.approx(9 / 151, abs=0.03)
    assert (a.hidden == b.hidden).mean() < 0.8


@pytest.mark.parametrize(
    ("rates", "ratio"),
    [
        (MaskingRates(), np.log(20 / 27)),
        (MaskingRates(not_expressed=0.05), np.log(1 / 3)),
        (MaskingRates(not_expressed=0.15), 0.0),
        (MaskingRates(not_expressed=0.0), 0.0),
    ],
    ids=["match", "rate", "same rate", "none"],
)
def test_log_sampling_ratio_by_hand(rates, ratio):
    """47 genes, 20 expressed: matched, a zero is a target 20/27 times as often."""
    m = drawn(alike(5, 20, 47), rates, np.ones(47, dtype=bool))
    assert m.target.reshape(5, 20).any(1).all()
    np.testing.assert_allclose(m.log_sampling_ratio, ratio, rtol=1e-6)
    assert m.log_sampling_ratio.dtype == np.float32


@pytest.mark.parametrize("rates", [RATES[name] for name in ("default", "many", "few shown")])
def test_a_targets_value_changes_no_other_draw(rates):
    """Setting expressed targets to 0 leaves what is visible, and the share that is told, as they are."""
    cells = random_cells(40, 0.4)
    m = drawn(cells, rates)
    keep = ~m.target
    without = make_cells(table(rows_of(cells)[keep], cells.genes[keep], 40).astype(bool))
    other = drawn(without, rates)
    assert not other.target.any()
    np.testing.assert_array_equal(other.visible, m.visible[keep])
    np.testing.assert_array_equal(other.hidden, m.hidden)
    np.testing.assert_array_equal(other.shown_share, m.shown_share)


def test_no_phenotypes():
    assert drawn(random_cells(5, 0.3), n_phenotypes=0).hidden.shape == (5, 0)


def test_nothing_asked_for():
    cells = random_cells(3, 0.3)
    hidden = np.array([[True, False], [True, True], [False, True]])
    m = ask(cells, NO_GENES, hidden)
    assert m.visible.all()
    assert not m.target.any()
    assert len(m.zero_genes) == 0
    np.testing.assert_array_equal(m.hidden, hidden)
    np.testing.assert_array_equal(m.log_sampling_ratio, 0)


ASKED = {"none": [], "one": [4], "some": [30, 2, 11, 200], "all": list(range(N_GENES))[::-1]}


@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED)
def test_asked_genes_are_targets_in_every_cell_and_the_others_are_visible(asked):
    cells = random_cells(41, 0.4)
    expressed = table(rows_of(cells), cells.genes, 41).astype(bool)
    is_asked = np.isin(np.arange(N_GENES), asked)
    hidden = np.random.default_rng(0).random((41, 3)) < 0.5
    m = ask(cells, np.array(asked, dtype=np.int64), hidden)

    def of_entries(mask):
        return table(rows_of(cells)[mask], cells.genes[mask], 41)

    np.testing.assert_array_equal(of_entries(m.visible), expressed & ~is_asked)
    np.testing.assert_array_equal(of_entries(m.target), expressed & is_asked)
    np.testing.assert_array_equal(table(m.zero_rows, m.zero_genes, 41), ~expressed & is_asked)
    assert np.all(np.diff(m.zero_rows) >= 0)
    np.testing.assert_array_equal(m.hidden, hidden)
    np.testing.assert_array_equal(m.log_sampling_ratio, np.zeros(41, dtype=np.float32))


def test_nothing_that_is_seen_tells_whether_an_asked_gene_is_expressed():
    """Two tables that differ in the asked genes alone, in what is expressed and in bins, make the same inputs."""
    layout = TokenLayout.build({"sex": ["f", "m"]}, [f"g{i}" for i in range(N_GENES)], 4)
    asked, codes, hidden = np.array([30, 2, 11]), np.zeros((29, 1), dtype=int), np.ones((29, 1), dtype=bool)
    rng = np.random.default_rng(0)
    bins = rng.integers(0, 4, (29, N_GENES))
    batches = []
    for _ in range(3):
        bins[:, asked] = rng.integers(0, 4, (29, 3))
        row, genes = np.nonzero(bins)
        indptr, of_entries = np.concatenate([[0], np.cumsum((bins > 0).sum(1))]), bins[row, genes]
        cells = Cells(indptr, genes.astype(np.int32), of_entries.astype(np.int16), of_entries.astype(np.float32))
        batch = make_batch(cells, ask(cells, asked, hidden), layout, codes)
        np.testing.assert_array_equal(batch.pop("target_bins"), bins[:, np.sort(asked)])
        batches.append(batch)
    for other in batches[1:]:
        for name, array in batches[0].items():
            np.testing.assert_array_equal(array, other[name], err_msg=name)


def test_asking_in_no_cells():
    m = ask(random_cells(5, 0.3).take(np.zeros(0, dtype=int)), np.array([3, 4]), np.ones((0, 2), dtype=bool))
    assert (len(m.visible), len(m.zero_rows), len(m.log_sampling_ratio)) == (0, 0, 0)


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ({name: 1.5}, f"`{name}`: found 1.5, but it must be a fraction")
        for name in ("expressed", "gene_dropout", "any_share", "hide_all")
    ]
    + [({"hide_each": -1}, "`hide_each`: found -1"), ({"not_expressed": 2}, "`not_expressed`: found 2")]
    + [({"not_expressed": "all"}, r"`not_expressed`: found 'all', but it must be one of \['match'\]")]
    + [({"max_genes": 0}, "`max_genes`: found 0, but it must be at least 1")],
    ids=["expressed", "gene_dropout", "any_share", "hide_all", "hide_each", "not_expressed", "word", "max_genes"],
)
def test_impossible_rates(rates, message):
    with pytest.raises(ValueError, match=message):
        MaskingRates(**rates)


@pytest.mark.parametrize("any_share", [0.0, 1.0])
def test_without_gene_dropout_no_gene_is_left_out(any_share):
    m = drawn(random_cells(100, 0.3), MaskingRates(gene_dropout=0.0, any_share=any_share))
    np.testing.assert_array_equal(m.visible, ~m.target)
    np.testing.assert_allclose(m.shown_share, 0.85)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.75, 1.0])
@pytest.mark.parametrize("rates", [MaskingRates(), MaskingRates(max_genes=7)], ids=["default", "few shown"])
def test_a_hidden_share_leaves_targets_as_they_are(share, rates):
    """A higher share hides what a lower one hides, and more; gene dropout has no part in it."""
    cells = random_cells(60, 0.3)
    arguments = {"seed": 2, "epoch": 0}
    plain = draw(cells, np.arange(60), MEASURED, 2, rates, **arguments)
    found, lower = (
        draw(cells, np.arange(60), MEASURED, 2, rates, hidden_share=s, **arguments) for s in (share, 0.8 * share)
    )
    np.testing.assert_array_equal(found.target, plain.target)
    np.testing.assert_array_equal(found.zero_genes, plain.zero_genes)
    np.testing.assert_array_equal(found.log_sampling_ratio, plain.log_sampling_ratio)
    np.testing.assert_array_equal(found.hidden, plain.hidden)
    assert not (found.visible & ~lower.visible).any()
    if rates.max_genes > 100:
        np.testing.assert_allclose(found.shown_share, 0.85 * (1 - share), rtol=1e-6)
        assert found.visible.sum() / (~found.target).sum() == pytest.approx(1 - share, abs=0.02)
    if share == 1:
        assert not found.visible.any()


# chances of the draws; seeds are fixed


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
