"""New cells: frequencies of the closed form, seeds, counts and depths."""

import copy

import numpy as np
import pytest
import torch

from polygene_scverse.abilities import _generate
from polygene_scverse.abilities._generate import (
    check_size,
    draw_depths,
    draw_phenotypes,
    generate,
    generate_counts,
    round_ends,
)
from polygene_scverse.engine import Engine
from polygene_scverse.fit import FittedState

N = 2000


@pytest.fixture
def engine(trained_model):
    return Engine(trained_model.module)


@pytest.fixture
def blank(trained_model):
    """Nothing is trained: genes are independent given the phenotypes."""
    module = copy.deepcopy(trained_model.module)
    with torch.no_grad():
        for p in module.parameters():
            p.zero_()
    return Engine(module)


def codes(n=N, row=(1, 0)):
    return np.full((n, 2), row)


def share_expressed(module, row):
    weights = torch.zeros(1, sum(module.n_categories))
    weights[0, row[0]] = weights[0, module.n_categories[0] + row[1]] = 1.0
    genes = torch.arange(module.layout.n_genes)[None]
    return 1.0 - module.gene_decoder.class_part(genes, weights).softmax(-1)[0, :, 0].numpy()


@pytest.mark.parametrize("n_rounds", [1, 5])
def test_frequencies_are_those_of_the_closed_form_within_binomial_error(blank, n_rounds):
    x, _, _ = generate(blank, codes(), np.full(N, 4000), n_rounds=n_rounds)
    p = share_expressed(blank.module, (1, 0))
    z = np.asarray((x > 0).mean(0)).ravel() - p
    z /= np.sqrt(p * (1 - p) / N)
    assert np.abs(z).max() < 4.0
    assert 0.6 < z.std() < 1.4


def test_one_round_has_the_frequencies_of_the_closed_form_whatever_was_trained(engine):
    x, _, _ = generate(engine, codes(), np.full(N, 4000), n_rounds=1)
    p = share_expressed(engine.module, (1, 0))
    z = (np.asarray((x > 0).mean(0)).ravel() - p) / np.sqrt(p * (1 - p) / N)
    assert np.abs(z).max() < 4.0


def test_the_same_seed_gives_the_same_cells(engine, monkeypatch):
    a, counts, _ = generate(engine, codes(50), np.full(50, 4000), seed=3)
    b, again, _ = generate(engine, codes(50), np.full(50, 4000), seed=3)
    np.testing.assert_array_equal(a.toarray(), b.toarray())
    np.testing.assert_array_equal(counts.toarray(), again.toarray())
    other, _, _ = generate(engine, codes(50), np.full(50, 4000), seed=4)
    assert (other.toarray() != a.toarray()).any()
    assert len(np.unique(a.toarray(), axis=0)) == 50
    monkeypatch.setattr(_generate, "BLOCK", 20)
    blocks, _, _ = generate(engine, codes(50), np.full(50, 4000), seed=3)
    np.testing.assert_array_equal((blocks[:20] > 0).toarray(), (a[:20] > 0).toarray())


def test_expression_and_counts_agree(engine):
    depths = np.random.default_rng(0).integers(500, 9000, 80)
    x, counts, totals = generate(engine, codes(80), depths)
    assert counts.dtype == np.int32
    assert counts.data.min() >= 1
    assert (totals >= np.asarray(counts.sum(1)).ravel()).all()
    expected = np.log1p(1e4 * counts.toarray() / totals[:, None])
    np.testing.assert_allclose(x.toarray(), expected, rtol=1e-5)


def test_deeper_cells_express_more(engine):
    depths = np.random.default_rng(0).integers(500, 9000, 200)
    x, _, totals = generate(engine, codes(200), depths)
    lengths = np.diff(x.indptr)
    assert np.corrcoef(np.argsort(np.argsort(lengths)), totals)[0, 1] > 0.8


def test_a_low_temperature_makes_cells_alike(engine):
    spread = [
        generate(engine, codes(60), np.full(60, 4000), temperature=t)[0].toarray().var(0).mean() for t in (0.2, 1.0)
    ]
    assert spread[0] < 0.8 * spread[1]


@pytest.mark.parametrize(("n_genes", "n_rounds"), [(3000, 10), (5, 20), (1, 1), (36, 1)])
def test_rounds_end_with_all_genes(n_genes, n_rounds):
    ends = round_ends(n_genes, n_rounds)
    assert ends[-1] == n_genes
    assert (np.diff(np.r_[0, ends]) > 0).all()
    assert len(ends) <= n_rounds


def test_what_cannot_be_made_is_refused(engine, trained_model):
    with pytest.raises(ValueError, match=r"`n_obs`: 100,000,000 cells with some .* GB. Generate at most"):
        check_size(engine, 10**8)
    with pytest.raises(ValueError, match="saved by an earlier version"):
        draw_phenotypes(FittedState(), codes(2), 0)
    with pytest.raises(ValueError, match=r"`depth`: found None"):
        draw_depths(engine, FittedState(), codes(2), 0)


def test_depths_are_those_of_training(engine, trained_model):
    depths = draw_depths(engine, trained_model.fitted_, codes(500), 0)
    of_training = np.exp(trained_model.fitted_.kinds.log_depths[0])
    assert 0.5 < np.median(depths) / np.median(of_training) < 2.0


@pytest.fixture
def counted(trained_model):
    model = trained_model.fitted_.counts
    assert model is not None
    return model


def test_genes_drawn_together_are_the_same_for_the_same_seed(engine, counted, monkeypatch):
    depths = np.full(50, 4000)
    _, counts, _ = generate_counts(engine, counted, codes(50), depths, seed=3)
    monkeypatch.setattr(_generate, "BLOCK", 20)
    _, again, _ = generate_counts(engine, counted, codes(50), depths, seed=3)
    _, other, _ = generate_counts(engine, counted, codes(50), depths, seed=4)
    np.testing.assert_array_equal(counts.toarray(), again.toarray())
    assert (counts.toarray() != other.toarray()).any()


def test_genes_drawn_together_agree_with_their_expression(engine, counted):
    depths = np.random.default_rng(0).integers(50, 9000, 80)
    x, counts, totals = generate_counts(engine, counted, codes(80), depths)
    assert counts.dtype == np.int32
    assert (totals >= np.asarray(counts.sum(1)).ravel()).all()
    np.testing.assert_allclose(x.toarray(), np.log1p(1e4 * counts.toarray() / totals[:, None]), rtol=1e-5)
    assert np.corrcoef(np.asarray(counts.sum(1)).ravel(), totals)[0, 1] > 0.5


@pytest.mark.parametrize("wanted", [10, 100_000])
def test_a_depth_that_is_wanted_is_reached(engine, counted, wanted):
    depths = np.full(300, 2000)
    _, usual, before = generate_counts(engine, counted, codes(300), depths)
    _, counts, totals = generate_counts(engine, counted, codes(300), depths, wanted=wanted)
    assert (totals >= wanted).all()
    assert np.median(totals) == wanted
    ratio = counts.sum() / (usual.multiply(wanted / before[:, None])).sum()
    assert abs(ratio - 1) < 0.1
