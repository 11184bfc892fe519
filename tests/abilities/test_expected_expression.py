"""Expected expression: the closed form where nothing is shown, and that no gene sees itself."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from polygene_scverse.abilities import _expected_expression
from polygene_scverse.abilities._expected_expression import check_size, expected_expression, passes, step_size
from polygene_scverse.engine import Engine

GENES = np.array([5, 2, 30, 17])


@pytest.fixture
def source(trained_model, query):
    query.obs.iloc[::7, list(query.obs).index("sex")] = np.nan
    return trained_model._cells(query, np.arange(query.n_obs)).read_all()


@pytest.fixture
def engine(trained_model):
    return Engine(trained_model.module, 16)


def closed_form(module, codes):
    """Sum over bins of their log-linear frequency times their mean; shape (n, n_genes)."""
    decoder = module.gene_decoder
    parts = []
    for size, code, share in zip(module.n_categories, codes.T, decoder.shares.split(module.n_categories), strict=True):
        one_hot = (torch.as_tensor(code)[:, None] == torch.arange(size)).float()
        parts.append(torch.where(torch.as_tensor(code)[:, None] >= 0, one_hot, share))
    weights = torch.cat(parts, 1)
    genes = torch.arange(module.layout.n_genes).expand(len(codes), -1)
    p = decoder.class_part(genes, weights).softmax(-1)
    return (p * decoder.bin_values(genes, weights).clamp(min=0)).sum(-1).numpy()


def test_with_nothing_shown_it_is_the_closed_form(engine, source):
    (found,) = expected_expression(engine, source, np.arange(36), shown=(0, 1))
    np.testing.assert_allclose(found, closed_form(engine.module, source.codes), atol=1e-5)
    (hidden,) = expected_expression(engine, source, np.arange(36))
    np.testing.assert_allclose(hidden, closed_form(engine.module, np.full_like(source.codes, -1)), atol=1e-5)


@pytest.mark.parametrize("keep", [0.0, 0.5])
def test_a_model_without_trained_parameters_shifts_as_the_closed_form(engine, source, keep):
    module = copy.deepcopy(engine.module)
    with torch.no_grad():
        for p in module.parameters():
            p.zero_()
    known = source.read(np.flatnonzero((source.codes >= 0).all(1)))
    settings = [((1, 0),), ((1, 1),)]
    a, b = expected_expression(Engine(module), known, GENES, settings=settings, shown=(0, 1), keep=keep)
    codes = [known.codes.copy() for _ in settings]
    for c, code in zip(codes, (0, 1), strict=True):
        c[:, 1] = code
    expected = closed_form(module, codes[1]) - closed_form(module, codes[0])
    np.testing.assert_allclose(b - a, expected[:, GENES], atol=1e-5)


@pytest.mark.parametrize("keep", [0.0, 0.4, 0.75])
def test_the_recorded_category_changes_nothing_bit_for_bit(engine, source, keep):
    changed, unchanged = expected_expression(
        engine, source, np.arange(36), settings=[((0, 1),), ()], shown=(0, 1), keep=keep
    )
    same = source.codes[:, 0] == 1
    assert 0 < same.sum() < len(same)
    np.testing.assert_array_equal(changed[same], unchanged[same])
    assert (changed[~same] != unchanged[~same]).any(1).all()


@pytest.mark.parametrize("keep", [0.3, 0.75])
def test_no_gene_sees_itself(engine, source, keep):
    (before,) = expected_expression(engine, source, np.array([7, 8]), keep=keep)
    cells = source.cells.with_genes(np.array([7]), np.array([9]), np.array([5.0]))
    (after,) = expected_expression(engine, replace(source, cells=cells), np.array([7, 8]), keep=keep)
    np.testing.assert_allclose(after[:, 0], before[:, 0], atol=1e-6)


def test_genes_come_in_the_order_asked_for(engine, source):
    for keep in (0.0, 0.5):
        (every,) = expected_expression(engine, source, np.arange(36), keep=keep)
        (some,) = expected_expression(engine, source, GENES, keep=keep)
        np.testing.assert_allclose(some, every[:, GENES], atol=1e-5)


@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.75, 0.9, 0.999])
def test_passes_ask_for_each_gene_once_and_hide_the_share(keep):
    found = passes(40, np.arange(40), keep, 3)
    np.testing.assert_array_equal(np.sort(np.concatenate([asked for asked, _ in found])), np.arange(40))
    for asked, hidden in found:
        assert not set(asked) & set(hidden)
        assert len(asked) + len(hidden) == max(1, int(np.ceil((1 - keep) * 40 - 1e-9)))


def test_all_others_are_shown_with_one(engine, source):
    assert [len(part) for part in passes(40, GENES, 1.0, 0)[0]] == [4, 0]


def test_small_batches_and_sizes(engine, source, monkeypatch):
    (before,) = expected_expression(engine, source, np.arange(36), keep=0.5)
    monkeypatch.setattr(_expected_expression, "STEP_VALUES", 5000)
    assert step_size(engine, 36) < 16
    (after,) = expected_expression(engine, source, np.arange(36), keep=0.5)
    np.testing.assert_allclose(after, before, atol=1e-5)
    with pytest.raises(
        ValueError, match=r"would take 24.0 GB, but the maximum is 2.0 GB.* at most 83,333, or name the genes"
    ):
        check_size(1_000_000, 3000, 2)
