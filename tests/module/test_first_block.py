"""What is looked up equals what is computed."""

import pytest
import torch
from torch.nn import functional as F

from polygene_scverse._layout import MASK
from polygene_scverse.module import _first_block
from polygene_scverse.module._first_block import FirstBlock, attend, worth


@pytest.fixture(params=[0.02, 0.3], ids=["small weights", "large weights"])
def module(request, kit):
    return kit.random_module(std=request.param)


@pytest.fixture
def batch(kit):
    """Cells of different lengths, with targets, some phenotypes shown and some without a value."""
    codes = kit.random_codes()
    codes[::3, 0] = -1
    batch = kit.train_batch(codes=codes)
    assert not batch["key_mask"].all()
    assert (batch["tokens"][:, 1:3] != MASK).any()
    return batch


@pytest.mark.parametrize("n_keys", [3, 11], ids=["few keys", "many keys"])
@pytest.mark.parametrize("cached", [1, 50, 10**6], ids=["query by query", "some", "at once"])
def test_attention_of_torch(n_keys, cached, monkeypatch):
    monkeypatch.setattr(_first_block, "CACHED", cached)
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(5, n, 7, generator=generator) for n in (13, n_keys, n_keys))
    sums = attend(q * 7**-0.5, k, torch.cat([v, torch.ones(5, n_keys, 1)], dim=2))
    expected = F.scaled_dot_product_attention(q, k, v)
    torch.testing.assert_close(sums[..., :-1] / sums[..., -1:], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shown", ["keys", "all"])
def test_the_encoder_gives_the_same(module, batch, shown):
    """Of every token, hidden, shown or padding, in cells of different lengths."""
    n_keys = batch["key_mask"].shape[1]
    n = n_keys if shown == "keys" else batch["tokens"].shape[1]
    arrays = batch["tokens"][:, :n], batch["positions"][:, :n], batch["key_mask"]
    expected = module.encoder(*arrays)
    with torch.inference_mode(), module.encoder.tabulated(module.layout, 10**6):
        assert module.encoder.first.rows(*arrays) is not None
        found = module.encoder(*arrays)
    assert module.encoder.first is None
    real = torch.cat([batch["key_mask"], torch.ones(len(found), n - n_keys, dtype=bool)], dim=1)
    torch.testing.assert_close(found[real], expected[real], atol=2e-5, rtol=1e-5)


def test_logits_of_phenotypes_and_bins(kit, module, batch):
    expected = kit.run(module, batch)
    with torch.inference_mode(), module.encoder.tabulated(module.layout, 10**6):
        found = kit.run(module, batch)
    for z, other in zip(found["phenotype_logits"], expected["phenotype_logits"], strict=True):
        torch.testing.assert_close(z, other, atol=5e-5, rtol=1e-5)
    known = batch["target_bins"] >= 0
    torch.testing.assert_close(found["gene_logits"][known], expected["gene_logits"][known], atol=5e-5, rtol=1e-5)


def test_tokens_that_stand_where_none_does_are_computed(module, batch):
    tokens = batch["tokens"].clone()
    tokens[0, 0] = module.layout.first_bin_id  # a bin in place of CLS
    arrays = tokens, batch["positions"], batch["key_mask"]
    expected = module.encoder(*arrays)
    with torch.inference_mode(), module.encoder.tabulated(module.layout, 10**6):
        assert module.encoder.first.rows(*arrays) is None
        found = module.encoder(*arrays)
    torch.testing.assert_close(found, expected)


def test_a_key_that_is_hidden_and_no_padding_is_computed(module, batch):
    key_mask = batch["key_mask"].clone()
    key_mask[0, -1] = not key_mask[0, -1]
    arrays = batch["tokens"], batch["positions"], key_mask
    expected = module.encoder(*arrays)
    with torch.inference_mode(), module.encoder.tabulated(module.layout, 10**6):
        assert module.encoder.first.rows(*arrays) is None
        found = module.encoder(*arrays)
    torch.testing.assert_close(found, expected)


def test_scores_whose_exponentials_are_no_numbers_are_computed(kit, batch):
    module = kit.random_module()
    with torch.no_grad():
        module.encoder.blocks[0].attention.query.weight.mul_(1000.0)
    arrays = batch["tokens"], batch["positions"], batch["key_mask"]
    expected = module.encoder(*arrays)
    with torch.inference_mode(), module.encoder.tabulated(module.layout, 10**6):
        assert not module.encoder.first.is_safe
        found = module.encoder(*arrays)
    assert found.isfinite().all()
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_a_table_is_made_where_it_is_used_often(kit):
    module = kit.random_module()
    n_rows = module.layout.n_genes * (module.layout.n_bins + 1)
    enough = -(-n_rows // _first_block.USES)
    assert worth(module.layout, 18, enough)
    assert not worth(module.layout, 18, enough - 1)
    assert not worth(module.layout, 10**6, 10**6)
    with module.encoder.tabulated(module.layout, enough - 1):
        assert module.encoder.first is None
    with module.encoder.tabulated(module.layout, enough):
        assert isinstance(module.encoder.first, FirstBlock)
    with pytest.raises(KeyError, match="inside"), module.encoder.tabulated(module.layout, enough):
        raise KeyError("inside")
    assert module.encoder.first is None


def test_few_queries_attend_as_many_do(module, batch):
    """With gradients attention is computed in the usual way."""
    arrays = batch["tokens"], batch["positions"], batch["key_mask"]
    expected = module.encoder(*arrays, torch.tensor([2, 1]))
    with torch.no_grad():
        found = module.encoder(*arrays, torch.tensor([2, 1]))
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)
