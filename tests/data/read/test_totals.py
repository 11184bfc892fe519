"""The oracle of totals and shares is the dense matrix of counts."""

import math

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from polygene_scverse.data.read._scale import COUNTS, OURS, Scale
from polygene_scverse.data.read._totals import Footing, column_shares, genes_only, same_footing

NAMES = pd.Index([f"g{i}" for i in range(40)])
EVERY = np.ones(40, dtype=bool)


@pytest.fixture(scope="module")
def counts():
    """90 cells x 40 genes, some genes with many times the counts of others; one cell is silent."""
    rng = np.random.default_rng(0)
    rate = rng.gamma(0.5, 4.0, 40) * rng.gamma(3.0, 0.5, (90, 1))
    dense = rng.poisson(rate).astype(np.float64)
    dense[7] = 0
    return dense


def sparse(dense):
    return sp.csr_matrix(dense.astype(np.float32))


def per(dense, target, base=math.e):
    """Logarithms of counts per `target`."""
    return np.log1p(dense / np.maximum(dense.sum(1, keepdims=True), 1) * target) / math.log(base)


def shares_of(dense):
    """Mean share of each gene, over the cells that are not silent."""
    used = dense[dense.sum(1) > 0]
    return dict(zip(NAMES, (used / used.sum(1, keepdims=True)).mean(0), strict=True))


def some(share, shares):
    """Columns that have about so much of the counts."""
    order = np.argsort([-shares[name] for name in NAMES])
    columns = order[: 1 + np.searchsorted(np.cumsum([shares[NAMES[i]] for i in order]), share)]
    mask = np.zeros(40, dtype=bool)
    mask[columns] = True
    return mask


# which columns are genes


@pytest.mark.parametrize(
    "var",
    [
        None,
        pd.DataFrame(index=NAMES),
        pd.DataFrame({"feature_types": "Gene Expression"}, index=NAMES),
        pd.DataFrame({"feature_types": "Antibody Capture"}, index=NAMES),
        pd.DataFrame({"feature_types": np.nan}, index=NAMES),
    ],
    ids=["no table", "not told", "genes", "proteins", "nan"],
)
def test_one_kind_of_columns_needs_no_footing(var):
    assert genes_only(var) is None


@pytest.mark.parametrize("dtype", [object, "category"])
def test_genes_are_what_counts(dtype):
    kinds = pd.Series(["Gene Expression", "Peaks", "Gene Expression", "CRISPR Guide Capture"], dtype=dtype)
    found = genes_only(pd.DataFrame({"feature_types": kinds}))
    np.testing.assert_array_equal(found.counted, [True, False, True, False])
    assert (found.share, found.note) == (1.0, "")


# totals


@pytest.mark.parametrize("share", [1.0, 0.4])
def test_totals_are_sums_of_what_counts_over_its_share(share, counts):
    counted = np.arange(40) % 3 > 0
    expected = counts[:, counted].sum(1) / share
    np.testing.assert_allclose(Footing(counted, share).totals(sparse(counts), COUNTS), expected, rtol=1e-12)


@pytest.mark.parametrize(("target", "base"), [(1e4, math.e), (1e3, 2.0), (1e6, 10.0)])
def test_totals_of_logarithms_are_those_of_the_counts(target, base, counts):
    """Up to a factor of each cell, which `Scale.counts` has too: values over totals are the same."""
    counted = np.arange(40) % 3 > 0
    x, scale = sparse(per(counts, target, base)), Scale("log", base, target)
    found = scale.to_log1p(x, Footing(counted).totals(x, scale))
    dense = sp.csr_matrix((found, x.indices, x.indptr), shape=x.shape).toarray()
    expected = np.log1p(1e4 * counts / np.maximum(counts[:, counted].sum(1, keepdims=True), 1))
    np.testing.assert_allclose(dense, expected, rtol=1e-4)


def test_a_cell_without_what_counts_has_no_total(counts):
    counted = np.arange(40) == 0
    totals = Footing(counted, 0.5).totals(sparse(counts), COUNTS)
    np.testing.assert_array_equal(totals, 2 * counts[:, 0])
    assert totals[7] == 0


# shares


@pytest.mark.parametrize("size", [1, 32, 90])
def test_shares_are_the_mean_over_cells(size, counts):
    blocks = (sparse(counts[i : i + size]) for i in range(0, 90, size))
    found = column_shares(blocks, NAMES, COUNTS)
    assert list(found) == list(NAMES)
    assert found == pytest.approx(shares_of(counts), rel=1e-5)
    assert sum(found.values()) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(("target", "base"), [(1e4, math.e), (2500.0, 2.0)])
def test_shares_of_logarithms_are_those_of_the_counts(target, base, counts):
    found = column_shares([sparse(per(counts, target, base))], NAMES, Scale("log", base, target))
    assert found == pytest.approx(shares_of(counts), rel=1e-3)


def test_shares_of_genes_cut_after_the_normalisation_add_up_to_less(counts):
    cut = np.arange(0, 40, 2)
    scale = Scale("log", target=1e4, complete=False)
    found = column_shares([sparse(per(counts, 1e4)[:, cut])], NAMES[cut], scale)
    assert found == pytest.approx({name: shares_of(counts)[name] for name in NAMES[cut]}, rel=1e-3)
    assert sum(found.values()) < 0.9


def test_shares_are_of_what_counts_alone(counts):
    counted = np.arange(40) >= 4
    found = column_shares([sparse(counts)], NAMES, COUNTS, Footing(counted))
    genes = counts * counted
    assert list(found) == list(NAMES[4:])
    assert found == pytest.approx({name: shares_of(genes)[name] for name in NAMES[4:]}, rel=1e-5)


@pytest.mark.parametrize("blocks", [[], [sp.csr_matrix((3, 40), dtype=np.float32)]], ids=["no cells", "silent cells"])
def test_shares_of_nothing(blocks):
    assert set(column_shares(blocks, NAMES, COUNTS).values()) == {0.0}


# the footing of training


@pytest.mark.parametrize("own", [None, Footing(np.arange(40) < 39)], ids=["all", "genes"])
def test_all_genes_of_training_and_no_others_are_the_footing_of_training(own, counts):
    """The very same, whatever the order of the columns."""
    known = shares_of(counts if own is None else counts * own.counted)
    known = {name: share for name, share in known.items() if own is None or name != "g39"}
    order = np.random.default_rng(0).permutation(40)
    turned = None if own is None else Footing(own.counted[order])
    found = same_footing(sparse(counts[:, order]), NAMES[order], COUNTS, turned, known)
    assert found is turned


def test_without_shares_nothing_is_changed(counts):
    assert same_footing(sparse(counts), NAMES, COUNTS, None, {}) is None


@pytest.mark.parametrize("scale", [COUNTS, OURS], ids=str)
def test_columns_that_training_did_not_have_do_not_count(scale, counts):
    """Training knew the even columns; its totals are those of these."""
    even = np.arange(40) % 2 == 0
    shares = {name: share for name, share in shares_of(counts * even).items() if share}
    x = sparse(counts if scale == COUNTS else per(counts, 1e4))
    found = same_footing(x, NAMES, scale, None, shares)
    np.testing.assert_array_equal(found.counted, NAMES.isin(list(shares)))
    assert (found.share, found.note) == (1.0, "")


def test_few_counts_in_columns_that_training_did_not_have_do_not_matter(counts):
    rare = int(np.argmin([shares_of(counts)[name] for name in NAMES]))
    shares = shares_of(counts * (np.arange(40) != rare))
    shares.pop(NAMES[rare])
    assert same_footing(sparse(counts), NAMES, COUNTS, None, shares) is None


@pytest.mark.parametrize("scale", [COUNTS, OURS, Scale("log", 2.0, 1e3)], ids=str)
@pytest.mark.parametrize("there", [0.3, 0.7, 0.95])
def test_totals_of_some_genes_are_put_up_by_what_these_had_in_training(there, scale, counts):
    """For genes that were cut before the normalisation or without one."""
    shares = shares_of(counts)
    columns = some(there, shares)
    cut = counts[:, columns]
    x = sparse(cut if scale.kind == "counts" else per(cut, scale.target, scale.base))
    found = same_footing(x, NAMES[columns], scale, None, shares)
    assert found.counted.all()
    assert found.share == pytest.approx(sum(shares[name] for name in NAMES[columns]))
    assert f"had {found.share:.0%} of the counts in training" in found.note
    if scale == COUNTS:
        np.testing.assert_allclose(found.totals(x, scale), cut.sum(1) / found.share, rtol=1e-6)


def test_genes_cut_after_the_normalisation_keep_their_totals(counts):
    columns = some(0.5, shares_of(counts))
    x = sparse(per(counts, 1e4)[:, columns])
    assert same_footing(x, NAMES[columns], Scale("log", target=1e4, complete=False), None, shares_of(counts)) is None


def test_genes_cut_before_training_and_after_the_normalisation_of_new_cells(counts):
    """Training knew half of the columns, new cells have these and some others, of totals of all."""
    columns = some(0.5, shares_of(counts))
    shares = {name: share for name, share in shares_of(counts * columns).items() if share}
    more = columns | (np.arange(40) < 20)
    x, scale = sparse(per(counts, 1e4)[:, more]), Scale("log", target=1e4, complete=False)
    found = same_footing(x, NAMES[more], scale, None, shares)
    np.testing.assert_array_equal(found.counted, columns[more])
    assert (found.share, found.note) == (1.0, "")
    expected = 1e4 * counts[:, columns].sum(1) / np.maximum(counts.sum(1), 1)
    values = np.expm1(scale.to_log1p(x, found.totals(x, scale)).astype(np.float64))
    dense = sp.csr_matrix((values, x.indices, x.indptr), shape=x.shape).toarray()
    used = expected > 0
    assert used.sum() == 89
    np.testing.assert_allclose(dense[:, columns[more]].sum(1)[used], 1e4, rtol=1e-3)


def test_training_on_genes_cut_after_a_normalisation_asked_on_all(counts):
    """Shares of half of the counts: the totals of all genes, which new cells have, are those of training."""
    columns = some(0.5, shares_of(counts))
    shares = {name: share for name, share in shares_of(counts).items() if columns[NAMES.get_loc(name)]}
    assert sum(shares.values()) < 0.9
    assert same_footing(sparse(counts), NAMES, COUNTS, None, shares) is None


def test_training_on_genes_cut_after_a_normalisation_asked_on_these_alone(counts):
    """Totals of the new cells are of these genes, those of training were of all."""
    columns = some(0.5, shares_of(counts))
    shares = {name: share for name, share in shares_of(counts).items() if columns[NAMES.get_loc(name)]}
    x = sparse(counts[:, columns])
    found = same_footing(x, NAMES[columns], COUNTS, None, shares)
    assert found.share == pytest.approx(sum(shares.values()))
    assert "are estimated from them" in found.note
    np.testing.assert_allclose(found.totals(x, COUNTS), counts[:, columns].sum(1) / found.share, rtol=1e-6)


def test_proteins_have_no_part_in_the_totals_that_are_put_up(counts):
    shares = shares_of(counts)
    columns = some(0.6, shares)
    names = NAMES[columns].append(pd.Index(["CD3", "CD4"]))
    proteins = np.full((90, 2), 500.0)
    own = Footing(np.arange(len(names)) < columns.sum())
    x = sparse(np.hstack([counts[:, columns], proteins]))
    found = same_footing(x, names, COUNTS, own, shares)
    np.testing.assert_array_equal(found.counted, own.counted)
    np.testing.assert_allclose(found.totals(x, COUNTS), counts[:, columns].sum(1) / found.share, rtol=1e-6)


@pytest.mark.parametrize("own", [None, Footing(np.arange(40) < 30)], ids=["all", "genes"])
def test_too_little_to_estimate_from_is_said(own, counts):
    shares = dict.fromkeys([f"other{i}" for i in range(5)], 0.2) | {"g0": 1e-3}
    found = same_footing(sparse(counts), NAMES, COUNTS, own, shares)
    np.testing.assert_array_equal(found.counted, EVERY if own is None else own.counted)
    assert found.share == 1
    assert found.note.startswith("The genes of these data had 0.1% of the counts in training, too few")


def test_no_gene_in_common_is_left_to_others_to_refuse(counts):
    assert same_footing(sparse(counts), NAMES, COUNTS, None, {"other": 1.0}) is None


def test_silent_cells_do_not_spoil_the_footing(counts):
    silent = sp.csr_matrix((5, 40), dtype=np.float32)
    assert same_footing(silent, NAMES, COUNTS, None, shares_of(counts)) is None
