"""Encoder, head and sizes. B=3, T=17, K=11, H=21 unless said otherwise."""

import pytest
import torch
from torch.nn import functional as F

from polygene_scverse.module import PRESETS, TransformerConfig, _transformer
from polygene_scverse.module._transformer import Block, Dropout, Encoder, Head, init_weights, resolve_config

N_TOKENS, N_POSITIONS = 37, 23
SIZES = TransformerConfig(n_hidden=21, n_layers=3, n_heads=7, n_intermediate=41, dropout=0.0)


def random_encoder(std=0.3, config=SIZES):
    encoder = Encoder(N_TOKENS, N_POSITIONS, config).eval()
    init_weights(encoder, std, torch.Generator().manual_seed(0))
    return encoder


@pytest.mark.parametrize("n_layers", [0, 1, 3])
@pytest.mark.parametrize("columns", [[1, 2, 3], [12, 0, 16], [5]], ids=["slots", "out of order", "one"])
def test_asked_columns_equal_the_full_computation(kit, n_layers, columns):
    config = TransformerConfig(n_hidden=21, n_layers=n_layers, n_heads=3, n_intermediate=41)
    encoder, sentence = random_encoder(config=config), kit.sentences()
    with torch.no_grad():
        full = encoder(*sentence)
        asked = encoder(*sentence, torch.tensor(columns))
    assert asked.shape == (3, len(columns), 21)
    torch.testing.assert_close(asked, full[:, columns], atol=1e-5, rtol=0)


def test_last_block_computes_nothing_but_the_asked_columns(kit):
    encoder, seen = random_encoder(), []
    for block in encoder.blocks:
        block.up.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape[1]))
    with torch.no_grad():
        encoder(*kit.sentences(), torch.tensor([1, 2]))
    assert seen == [17, 17, 2]


def test_padding_of_keys_changes_nothing(kit):
    tokens, positions, key_mask = kit.sentences()
    extra_tokens, extra_positions, _ = kit.sentences(seed=5, n_columns=5)
    encoder = random_encoder()
    padded = (
        torch.cat([tokens[:, :11], extra_tokens, tokens[:, 11:]], 1),
        torch.cat([positions[:, :11], extra_positions, positions[:, 11:]], 1),
        torch.cat([key_mask, torch.zeros_like(extra_tokens, dtype=torch.bool)], 1),
    )
    with torch.no_grad():
        expected = encoder(tokens, positions, key_mask)
        hidden = encoder(*padded)
    torch.testing.assert_close(torch.cat([hidden[:, :11], hidden[:, 16:]], 1), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("column", [14, 16], ids=["a target", "last target"])
def test_nobody_sees_a_token_that_is_no_key(kit, column):
    tokens, positions, key_mask = kit.sentences()
    encoder, changed = random_encoder(), tokens.clone()
    changed[:, column] = (tokens[:, column] + 1) % N_TOKENS
    with torch.no_grad():
        before, after = (encoder(t, positions, key_mask) for t in (tokens, changed))
    others = [i for i in range(17) if i != column]
    assert torch.equal(before[:, others], after[:, others])
    assert not torch.equal(before[:, column], after[:, column])


def test_position_and_word_both_matter(kit):
    tokens, positions, key_mask = kit.sentences()
    encoder = random_encoder()
    with torch.no_grad():
        state = encoder(tokens, positions, key_mask)
        moved = encoder(tokens, positions.flip(1), key_mask)
    assert (state - moved).abs().max() > 0.01


def test_dropout_acts_in_training_only(kit):
    config = TransformerConfig(n_hidden=21, n_layers=2, n_heads=3, n_intermediate=41, dropout=0.5)
    encoder, sentence = random_encoder(config=config), kit.sentences()
    with torch.no_grad():
        assert torch.equal(encoder(*sentence), encoder(*sentence))
        encoder.train()
        assert not torch.equal(encoder(*sentence), encoder(*sentence))


@pytest.mark.parametrize("p", [0.1, 0.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_dropout_drops_its_share_and_scales_the_rest(p, dtype):
    torch.manual_seed(0)
    dropped = Dropout(p)(torch.ones(1009, 101, dtype=dtype))
    assert dropped.dtype == dtype
    assert (dropped == 0).float().mean().item() == pytest.approx(p, abs=0.005)
    assert dropped.unique().tolist() == pytest.approx([0, 1 / (1 - p)], rel=1e-3 if dtype == torch.float32 else 1e-2)
    columns = (dropped == 0).float().mean(0)  # no place is favoured, also not among the four numbers of a word
    assert columns.sub(p).abs().max() < 0.08


@pytest.mark.parametrize("p", [0.0, 1e-9, 0.3, 1.0])
def test_dropout_is_added_to_the_residual(p):
    dropout, residual = Dropout(p), torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    x = torch.ones(5, 7, requires_grad=True)
    torch.manual_seed(1)
    alone = dropout(x)
    torch.manual_seed(1)
    added = dropout(x, residual)
    torch.testing.assert_close(added, residual + alone)
    (gradient,) = torch.autograd.grad(added.sum(), x)
    torch.testing.assert_close(gradient, alone.detach())
    assert torch.equal(dropout.eval()(x, residual), residual + x)


@pytest.mark.parametrize("n_cells", [1, 2, 3], ids=lambda n: f"{n} at a time")
def test_feed_forward_in_parts_equals_the_whole(monkeypatch, n_cells):
    block, x = Block(SIZES), torch.randn(7, 5, 21, generator=torch.Generator().manual_seed(0), requires_grad=True)
    init_weights(block, 0.3, torch.Generator().manual_seed(0))
    inputs = [x, *block.up.parameters(), *block.down.parameters()]
    seen = []
    hook = block.up.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    whole = block._feed_forward(x)
    expected = torch.autograd.grad(whole.square().sum(), inputs)
    monkeypatch.setattr(_transformer, "CACHED", n_cells * 5 * 41)
    parts = block._feed_forward(x)
    hook.remove()
    torch.testing.assert_close(parts, whole)
    torch.testing.assert_close(torch.autograd.grad(parts.square().sum(), inputs), expected, rtol=1e-4, atol=1e-4)
    assert seen[0] == 7
    assert max(seen[1:]) == n_cells


def test_head_computes_the_words_asked_for():
    head = Head(N_TOKENS, SIZES)
    init_weights(head, 0.3, torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    hidden, word = (torch.randn(*shape, generator=generator) for shape in ((3, 5, 21), (N_TOKENS, 21)))
    head.bias.data = torch.randn(N_TOKENS, generator=generator)
    full = (
        F.layer_norm(F.gelu(F.linear(hidden, head.dense.weight, head.dense.bias)), (21,), eps=1e-12) @ word.T
        + head.bias
    )
    for ids in (torch.tensor([30, 4]), slice(7, 12)):
        torch.testing.assert_close(head(head.transform(hidden), word, ids), full[..., ids], atol=1e-5, rtol=1e-5)


def test_init_weights_is_berts():
    config = TransformerConfig(n_hidden=64, n_heads=2)
    network = torch.nn.ModuleList([Encoder(1009, 503, config), Head(1009, config)])
    init_weights(network, 0.02, torch.Generator().manual_seed(0))
    for name, p in network.named_parameters():
        if "norm" in name:
            assert torch.equal(p, torch.full_like(p, float(name.endswith("weight")))), name
        elif p.ndim == 1:
            assert not p.any(), name
        else:
            assert p.std().item() == pytest.approx(0.02, rel=0.05), name


def test_init_weights_leaves_the_global_generator_alone():
    encoder = Encoder(11, 7, SIZES)
    before = torch.get_rng_state()
    init_weights(encoder, 0.02, torch.Generator().manual_seed(3))
    assert torch.equal(before, torch.get_rng_state())


def test_resolve_config_changes_a_preset():
    config = resolve_config("2432", n_layers=2, dropout=0.0)
    assert (config.n_hidden, config.n_layers, config.dropout) == (768, 2, 0.0)
    assert resolve_config("tiny").to_dict() == PRESETS["tiny"].to_dict()


def test_unknown_size_is_refused():
    with pytest.raises(ValueError, match=r"`size`: found 'huge', but it must be one of \['tiny', '512', '2432'\]"):
        resolve_config("huge")


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="`n_heads`: 5 does not divide n_hidden=21"):
        TransformerConfig(n_hidden=21, n_heads=5)
