"""What each field of a query does to a batch: against dense arrays, and that what is asked for is not told."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from polygene_scverse._layout import MASK
from polygene_scverse.data.feed._loader import BatchDataset
from polygene_scverse.data.feed._masking import MaskingRates
from polygene_scverse.data.read._tokens import Cells
from polygene_scverse.engine import INPUTS, Query, RandomHiding

ROWS = np.array([7, 3, 11, 40, 0, 21, 14])
SHARE = torch.tensor([0.3, 0.6])


@pytest.fixture
def module(trained_model):
    return trained_model.module


def dense_cells(table, rows=ROWS):
    """Bin and value of each gene, 0 where it is not expressed; shape (n_cells, n_genes) each."""
    cells, n_genes = table.cells.take(rows), table.layout.n_genes
    bins, values = np.zeros((len(rows), n_genes), dtype=int), np.zeros((len(rows), n_genes), dtype=np.float32)
    at = np.repeat(np.arange(len(rows)), cells.lengths), cells.genes
    bins[at], values[at] = cells.bins, cells.values
    return bins, values


def dense_batch(table, batch):
    """The same of a batch, and the bin that is asked for of each gene, -1 where it is not."""
    layout, n, n_keys = table.layout, len(batch["tokens"]), batch["key_mask"].shape[1]
    s = layout.n_special
    bins, values = np.zeros((n, layout.n_genes), dtype=int), np.zeros((n, layout.n_genes), dtype=np.float32)
    asked = np.full((n, layout.n_genes), -1)
    genes = batch["positions"].numpy() - layout.first_gene_position
    cell, column = np.nonzero(batch["key_mask"].numpy()[:, s:])
    at = cell, genes[cell, s + column]
    assert len(set(zip(*at, strict=True))) == len(cell)  # each gene once
    bins[at] = batch["tokens"].numpy()[cell, s + column] - layout.first_bin_id
    values[at] = batch["values"].numpy()[cell, column]
    cell, column = np.nonzero(batch["target_bins"].numpy() >= 0)
    asked[cell, genes[cell, n_keys + column]] = batch["target_bins"].numpy()[cell, column]
    assert (batch["tokens"].numpy()[cell, n_keys + column] == MASK).all()
    return bins, values, asked


def phenotype_tokens(table, batch):
    return batch["tokens"][:, 1 : 1 + table.layout.n_phenotypes].numpy()


def ids_of(table, slot, codes):
    return np.array(table.layout.phenotypes[slot].ids)[codes]


def edited(table, change):
    """The same cells with other bins and values: `change` gets and returns dense arrays of all of them."""
    bins, values = change(*dense_cells(table, np.arange(len(table))))
    cell, gene = np.nonzero(bins)
    indptr = np.r_[0, np.cumsum((bins > 0).sum(1))].astype(np.int64)
    found = bins[cell, gene].astype(np.int16), values[cell, gene].astype(np.float32)
    return replace(table, cells=Cells(indptr, gene.astype(np.int32), *found))


def equal(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype, name
        assert torch.equal(a[name], b[name]), name


@torch.no_grad()
def logits_of(module, batch):
    """Of phenotypes, of both paths together, and of the bins of genes that are asked for."""
    outputs = module.generative(**module.inference(**module._get_inference_input(batch)))
    return [*module.predict(*(batch[name] for name in INPUTS), SHARE), outputs["gene_logits"]]


# what is shown by default


def test_by_default_every_expressed_gene_and_no_phenotype(table):
    batch = Query().batch(table, ROWS)
    bins, values, asked = dense_batch(table, batch)
    np.testing.assert_array_equal(bins, dense_cells(table)[0])
    np.testing.assert_array_equal(values, dense_cells(table)[1])
    assert (asked == -1).all()
    assert (phenotype_tokens(table, batch) == MASK).all()
    assert batch["phenotype_hidden"].all()
    np.testing.assert_array_equal(batch["phenotypes"], table.codes[ROWS])
    np.testing.assert_array_equal(batch["rows"], table.ids[ROWS])
    np.testing.assert_array_equal(batch["measured"], table.measured)


def test_a_batch_of_no_cell(table):
    for query in (Query(), Query(genes=((3, 1, 2.0),), removed=(1,), asked=(2,), phenotypes=((0, 1),))):
        batch = query.batch(table, ROWS[:0])
        assert {len(batch[name]) for name in ("tokens", "values", "phenotypes", "rows")} == {0}


# phenotypes


@pytest.mark.parametrize("shown", [(0,), (1,), (0, 1)], ids=str)
def test_shown_phenotypes_are_those_recorded_where_known(table, shown):
    batch, codes = Query(shown=shown).batch(table, ROWS), table.codes[ROWS]
    assert (codes[:, 1] < 0).any()
    assert (codes[:, 1] >= 0).any()
    for slot in (0, 1):
        seen = (codes[:, slot] >= 0) & (slot in shown)
        np.testing.assert_array_equal(
            phenotype_tokens(table, batch)[:, slot], np.where(seen, ids_of(table, slot, codes[:, slot]), MASK)
        )
        np.testing.assert_array_equal(batch["phenotype_hidden"][:, slot], ~seen)


def test_a_set_phenotype_is_shown_in_every_cell(table):
    before = table.codes.copy()
    batch = Query(phenotypes=((1, 1),)).batch(table, ROWS)
    tokens = phenotype_tokens(table, batch)
    assert (tokens[:, 1] == ids_of(table, 1, 1)).all()
    assert (tokens[:, 0] == MASK).all()
    assert not batch["phenotype_hidden"][:, 1].any()
    np.testing.assert_array_equal(table.codes, before)  # a copy was changed


def test_what_is_set_counts_more_than_what_is_recorded(table):
    both = Query(shown=(0, 1), phenotypes=((1, 0),)).batch(table, ROWS)
    tokens, recorded = phenotype_tokens(table, both), Query(shown=(0,)).batch(table, ROWS)
    assert (tokens[:, 1] == ids_of(table, 1, 0)).all()
    np.testing.assert_array_equal(tokens[:, 0], phenotype_tokens(table, recorded)[:, 0])


def test_to_set_what_is_recorded_is_to_show_it(table, module):
    """Of cells that are all of one category."""
    rows = np.flatnonzero(table.codes[:, 0] == 2)
    found, shown = Query(phenotypes=((0, 2),)).batch(table, rows), Query(shown=(0,)).batch(table, rows)
    equal(found, shown)
    assert not torch.equal(logits_of(module, found)[1], logits_of(module, Query().batch(table, rows))[1])


def test_hidden_labels_change_nothing(table, module):
    other = replace(table, codes=np.full_like(table.codes, -1))
    for a, b in zip(*(logits_of(module, Query().batch(t, ROWS)) for t in (table, other)), strict=True):
        assert torch.equal(a, b)


# genes


def test_a_removed_gene_is_not_shown_and_not_measured(table):
    gone = [4, 9, 35]
    batch = Query(removed=tuple(gone)).batch(table, ROWS)
    bins, values = dense_cells(table)
    assert (bins[:, gone] > 0).any()
    bins[:, gone], values[:, gone] = 0, 0
    for found, expected in zip(dense_batch(table, batch)[:2], (bins, values), strict=True):
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(np.flatnonzero(~batch["measured"].numpy()), gone)
    assert table.measured.all()  # a copy was changed


def test_a_removed_gene_is_an_unmeasured_one(table, logged, source_of, module, trained_model):
    """As if the data did not have it."""
    gone = (4, 9, 35)
    names = [trained_model.genes[gene] for gene in gone]
    fewer = source_of(logged[:, ~logged.var_names.isin(names)].copy(), table.ids).read_all()
    found, expected = Query(removed=gone).batch(table, ROWS), Query().batch(fewer, ROWS)
    equal(found, expected)
    silent = Query(genes=tuple((gene, 0, 0.0) for gene in gone)).batch(table, ROWS)
    assert not torch.equal(logits_of(module, found)[0], logits_of(module, silent)[0])  # not expressed is another thing


def test_a_gene_set_to_bin_0_is_a_silent_one(table, logged, source_of, trained_model):
    silent = logged.copy()
    silent.X[:, silent.var_names.get_indexer([trained_model.genes[gene] for gene in (4, 9)])] = 0
    expected = Query().batch(source_of(silent, table.ids).read_all(), ROWS)
    equal(Query(genes=((9, 0, 0.0), (4, 0, 0.0))).batch(table, ROWS), expected)
    assert expected["measured"].all()


def test_a_gene_that_is_set_is_expressed_so_in_every_cell(table):
    before = [part.copy() for part in (table.cells.genes, table.cells.bins, table.cells.values)]
    batch = Query(genes=((9, 3, 1.25), (4, 0, 0.0), (30, 1, 0.5))).batch(table, ROWS)
    bins, values = dense_cells(table)
    for gene, its_bin, value in ((9, 3, 1.25), (4, 0, 0.0), (30, 1, 0.5)):
        bins[:, gene], values[:, gene] = its_bin, value
    for found, expected in zip(dense_batch(table, batch)[:2], (bins, values), strict=True):
        np.testing.assert_array_equal(found, expected)
    for part, copy in zip((table.cells.genes, table.cells.bins, table.cells.values), before, strict=True):
        np.testing.assert_array_equal(part, copy)


def test_to_set_what_is_recorded_changes_nothing(table):
    """Cell after cell, all of its genes."""
    for row in ROWS[:3]:
        bins, values = (part[0] for part in dense_cells(table, np.array([row])))
        genes = tuple((gene, int(bins[gene]), float(values[gene])) for gene in range(table.layout.n_genes))
        equal(Query(genes=genes).batch(table, np.array([row])), Query().batch(table, np.array([row])))


def test_the_order_of_genes_that_are_set_or_removed_does_not_matter(table):
    genes, removed = ((9, 3, 1.25), (4, 0, 0.0), (30, 1, 0.5)), (1, 8, 33)
    found = [Query(genes=g, removed=r).batch(table, ROWS) for g, r in ((genes, removed), (genes[::-1], removed[::-1]))]
    equal(*found)


def test_cells_that_differ_in_what_is_measured_keep_it(table):
    """A row for each cell; what is removed is unmeasured in all of them."""
    measured = np.ones((2, table.layout.n_genes), dtype=bool)
    measured[1, 20:] = False
    kinds = (np.arange(len(table)) % 2).astype(np.int64)
    of_two = replace(
        edited(table, lambda bins, values: (bins * measured[kinds], values * measured[kinds])),
        measured=measured,
        kinds=kinds,
    )
    expected = measured[kinds[ROWS]]
    np.testing.assert_array_equal(Query().batch(of_two, ROWS)["measured"], expected)
    expected[:, 4] = False
    np.testing.assert_array_equal(Query(removed=(4,)).batch(of_two, ROWS)["measured"], expected)
    assert measured[:, 4].all()


def test_a_gene_that_is_set_is_a_measured_one(table):
    """Where the data lack it: as if they had it and it were expressed so in every cell."""
    measured = np.arange(36) != 9
    lacking = replace(edited(table, lambda bins, values: (bins * measured, values * measured)), measured=measured)
    for gene in ((9, 3, 1.25), (9, 0, 0.0)):
        found, expected = (Query(genes=(gene,)).batch(t, ROWS) for t in (lacking, table))
        equal(found, expected)
    assert not lacking.measured[9]


# what is asked for


@pytest.mark.parametrize("asked", [(5,), (30, 2, 17), tuple(range(36))], ids=["one", "some", "all"])
def test_asked_genes_are_targets_and_not_shown(table, asked):
    batch = Query(asked=asked).batch(table, ROWS)
    bins, values, found = dense_batch(table, batch)
    truth, of_truth = dense_cells(table)
    of_asked = np.isin(np.arange(36), asked)
    np.testing.assert_array_equal(found, np.where(of_asked, truth, -1))
    np.testing.assert_array_equal(bins, np.where(of_asked, 0, truth))
    np.testing.assert_array_equal(values, np.where(of_asked, 0, of_truth))
    n_keys = batch["key_mask"].shape[1]
    slots = batch["positions"][:, n_keys:] - table.layout.first_gene_position
    assert (slots == torch.tensor(sorted(asked))).all()  # the same columns in every cell
    assert not batch["zero_offset"].any()


CHANGES = {"another bin": 2, "highest bin": 9, "not expressed": 0}


@pytest.mark.parametrize("value", CHANGES.values(), ids=CHANGES)
def test_the_bin_of_an_asked_gene_changes_no_output(table, module, value):
    def change(bins, values):
        bins[:, [5, 20]], values[:, [5, 20]] = value, value / 2
        return bins, values

    other = edited(table, change)
    query = Query(asked=(20, 5), shown=(1,))
    a, b = query.batch(table, ROWS), query.batch(other, ROWS)
    assert not torch.equal(a["target_bins"], b["target_bins"])
    for name in (*INPUTS, "zero_offset"):
        assert torch.equal(a[name], b[name]), name
    for x, y in zip(logits_of(module, a), logits_of(module, b), strict=True):
        assert torch.equal(x, y)
    assert not torch.equal(
        logits_of(module, Query().batch(table, ROWS))[0], logits_of(module, Query().batch(other, ROWS))[0]
    )


def test_to_set_a_gene_that_is_asked_for_tells_nothing(table, module):
    """Setting other genes does."""
    plain = Query(asked=(5,)).batch(table, ROWS)
    of_set = Query(asked=(5,), genes=((5, 7, 2.0),)).batch(table, ROWS)
    for x, y in zip(logits_of(module, plain), logits_of(module, of_set), strict=True):
        assert torch.equal(x, y)
    other = Query(asked=(5,), genes=((6, 7, 2.0),)).batch(table, ROWS)
    assert not torch.equal(logits_of(module, plain)[-1], logits_of(module, other)[-1])


def test_what_is_asked_for_does_not_see_each_other(table, module):
    """The answer for a gene is the same whatever else is asked, as long as that is not expressed.

    The network is told which share of the genes is hidden; here it is told the same.
    """
    kept = np.arange(36) < 30
    silent = edited(table, lambda bins, values: (bins * kept, values * kept))
    one, three = (Query(asked=asked).batch(silent, ROWS) for asked in ((31,), (31, 35, 33)))
    assert (three["shown_share"] < one["shown_share"]).all()
    three["shown_share"] = one["shown_share"]
    alone, among = (logits_of(module, batch)[-1][:, 0] for batch in (one, three))
    torch.testing.assert_close(alone, among, atol=1e-5, rtol=0)


# at random


@pytest.mark.parametrize("seed", [0, 5])
def test_random_hiding_is_that_of_the_validation(table, seed):
    rates = MaskingRates(expressed=0.3, hide_all=0.2)
    expected = BatchDataset(table, rates, seed=seed, fixed_epoch=0)[(8, ROWS)]
    found = Query(hiding=RandomHiding(rates, seed)).batch(table, ROWS)
    equal({name: found[name] for name in expected}, expected)
    assert (expected["target_bins"] >= 0).any()


def test_a_cell_has_the_same_tokens_hidden_in_any_batch(table):
    query = Query(hiding=RandomHiding(MaskingRates(expressed=0.3)))
    together = dense_batch(table, query.batch(table, ROWS))
    for i, row in enumerate(ROWS):
        alone = dense_batch(table, query.batch(table, np.array([row])))
        for a, b in zip(alone, together, strict=True):
            np.testing.assert_array_equal(a[0], b[i])


def test_random_hiding_says_what_is_measured(table, module):
    """As every batch does, so that both paths can be asked."""
    batch = Query(hiding=RandomHiding(MaskingRates())).batch(table, ROWS)
    np.testing.assert_array_equal(batch["measured"], table.measured)
    assert all(torch.isfinite(x).all() for x in logits_of(module, batch))


@pytest.mark.parametrize("share", [None, 0.5, 1.0])
def test_random_hiding_beside_shown_phenotypes_and_hidden_genes(table, share):
    """The same genes are asked for; known phenotypes are shown, unknown ones stay hidden."""
    rates = MaskingRates(expressed=0.3, gene_dropout=0.0, hide_all=1.0)
    rows = np.arange(len(table))
    plain = Query(hiding=RandomHiding(rates, 3)).batch(table, rows)
    found = Query(hiding=RandomHiding(rates, 3, shown=(1,), share=share)).batch(table, rows)
    n_plain, n_found = plain["key_mask"].shape[1], found["key_mask"].shape[1]
    assert torch.equal(found["target_bins"], plain["target_bins"])
    assert torch.equal(found["positions"][:, n_found:], plain["positions"][:, n_plain:])
    unknown = torch.from_numpy(table.codes[:, 1] < 0)
    assert unknown.any()
    assert torch.equal(found["phenotype_hidden"][:, 1], unknown)
    assert found["phenotype_hidden"][:, 0].all()
    n_genes = found["key_mask"].sum() - len(rows) * table.layout.n_special
    of_plain = plain["key_mask"].sum() - len(rows) * table.layout.n_special
    assert float(n_genes / of_plain) == pytest.approx(1 if share is None else 1 - share, abs=0.1)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_no_share_tells_the_bin_of_a_hidden_gene(table, share):
    """With the same targets, another bin of a target changes nothing that the network sees."""
    query = Query(hiding=RandomHiding(MaskingRates(expressed=0.3), 3, shown=(0, 1), share=share))
    rows = np.arange(len(table))
    one = query.batch(table, rows)
    asked = np.zeros((len(table), table.layout.n_genes), dtype=bool)
    asked[rows] = dense_batch(table, one)[2] > 0
    other = edited(table, lambda bins, values: (np.where(asked, 1 + bins % 9, bins), values))
    found = query.batch(other, rows)
    for name in ("tokens", "positions", "key_mask", "values", "shown_share", "zero_offset"):
        assert torch.equal(found[name], one[name]), name
    assert not torch.equal(found["target_bins"], one["target_bins"])


def test_a_share_that_cannot_be():
    with pytest.raises(ValueError, match=r"`share`: found 1\.5, but it must be a fraction"):
        RandomHiding(MaskingRates(), share=1.5)


# hidden genes


def test_hidden_genes_are_like_asked_ones_that_nobody_asks_for(table):
    """They are not seen, and the share that is shown counts them."""
    asked = Query(asked=(3, 5, 8)).batch(table, ROWS)
    hidden = Query(asked=(5,), hidden=(3, 8)).batch(table, ROWS)
    for name in ("key_mask", "values", "measured", "shown_share", "phenotype_hidden"):
        assert torch.equal(asked[name], hidden[name]), name
    assert hidden["target_bins"].shape == (len(ROWS), 1)
    n_keys = hidden["key_mask"].shape[1]
    assert torch.equal(asked["tokens"][:, :n_keys], hidden["tokens"][:, :n_keys])


def test_an_unmeasured_gene_that_is_asked_for_is_as_a_hidden_one(table):
    gone = Query(removed=(5,)).batch(table, ROWS)
    measured = np.ones_like(table.measured)
    measured[5] = False
    cells = table.cells.with_genes(np.array([5]), np.zeros(1, dtype=int), np.zeros(1))
    without = replace(table, cells=cells, measured=table.measured & measured)
    asked, absent = (Query(asked=(5,)).batch(of, ROWS) for of in (table, without))
    for name in ("key_mask", "values", "measured", "shown_share", "tokens"):
        assert torch.equal(asked[name], absent[name]), name
    assert (gone["shown_share"] == 1.0).all()
