"""The encoder against Hugging Face's BERT and the original's checkpoint. B=3, T=17, K=11, H=21 unless said otherwise."""

import json

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForMaskedLM

from polygene_scverse.module import PRESETS, TransformerConfig
from polygene_scverse.module._transformer import Encoder, Head, init_weights, resolve_config

N_TOKENS, N_POSITIONS = 37, 23
SIZES = TransformerConfig(n_hidden=21, n_layers=3, n_heads=7, n_intermediate=41, dropout=0.0)

NAMES = {
    "bert.embeddings.word_embeddings.weight": "encoder.embeddings.word.weight",
    "bert.embeddings.LayerNorm.weight": "encoder.embeddings.norm.weight",
    "bert.embeddings.LayerNorm.bias": "encoder.embeddings.norm.bias",
    "cls.predictions.transform.dense.weight": "head.dense.weight",
    "cls.predictions.transform.dense.bias": "head.dense.bias",
    "cls.predictions.transform.LayerNorm.weight": "head.norm.weight",
    "cls.predictions.transform.LayerNorm.bias": "head.norm.bias",
    "cls.predictions.bias": "head.bias",
}
LAYER_NAMES = {
    "attention.self.query": "attention.query",
    "attention.self.key": "attention.key",
    "attention.self.value": "attention.value",
    "attention.output.dense": "attention.out",
    "attention.output.LayerNorm": "norm1",
    "intermediate.dense": "up",
    "output.dense": "down",
    "output.LayerNorm": "norm2",
}


class Network(torch.nn.Module):
    """Encoder and head, as the module holds them."""

    def __init__(self, n_tokens, n_positions, config):
        super().__init__()
        self.encoder, self.head = Encoder(n_tokens, n_positions, config), Head(n_tokens, config)
        self.eval()

    def logits(self, hidden):
        word = self.encoder.embeddings.word.weight
        return self.head(self.head.transform(hidden), word, slice(None))


def copy_bert(network, state):
    """Fill a network with BERT's weights, name by name; row 0 of the token types is folded into the positions."""
    names = dict(NAMES)
    for i in range(len(network.encoder.blocks)):
        for theirs, ours in LAYER_NAMES.items():
            for kind in ("weight", "bias"):
                names[f"bert.encoder.layer.{i}.{theirs}.{kind}"] = f"encoder.blocks.{i}.{ours}.{kind}"
    ours = {names[name]: value for name, value in state.items() if name in names}
    positions, types = (state[f"bert.embeddings.{kind}_embeddings.weight"] for kind in ("position", "token_type"))
    ours["encoder.embeddings.position.weight"] = positions + types[0]
    network.load_state_dict(ours, strict=True)
    return network


def bert(std, seed=0):
    config = BertConfig(
        vocab_size=N_TOKENS,
        max_position_embeddings=N_POSITIONS,
        hidden_size=SIZES.n_hidden,
        num_hidden_layers=SIZES.n_layers,
        num_attention_heads=SIZES.n_heads,
        intermediate_size=SIZES.n_intermediate,
        layer_norm_eps=SIZES.layer_norm_eps,
        attn_implementation="eager",
    )
    model = BertForMaskedLM(config).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            one = float(name.endswith("LayerNorm.weight"))
            p.copy_(one + std * torch.randn(p.shape, generator=generator))  # biases too, so that none can be forgotten
    return model


def sentences(n_cells=3, n_columns=17, n_keys=11, seed=1):
    """Random tokens and positions and a random key mask, in which each cell has at least one key."""
    rng = np.random.default_rng(seed)
    tokens = torch.from_numpy(rng.integers(0, N_TOKENS, (n_cells, n_columns)))
    positions = torch.from_numpy(np.stack([rng.permutation(N_POSITIONS)[:n_columns] for _ in range(n_cells)]))
    key_mask = torch.from_numpy(rng.random((n_cells, n_keys)) < 0.6)
    key_mask[:, 0] = True
    return tokens, positions, key_mask


def random_network(std=0.3, config=SIZES):
    network = Network(N_TOKENS, N_POSITIONS, config)
    init_weights(network, std, torch.Generator().manual_seed(0))
    return network


@pytest.mark.parametrize(("std", "tolerance"), [(0.02, 1e-5), (0.3, 1e-4)], ids=["std 0.02", "std 0.3"])
@pytest.mark.parametrize("n_keys", [17, 11], ids=["all are keys", "some only ask"])
def test_encoder_and_head_equal_bert(std, tolerance, n_keys):
    theirs = bert(std)
    ours = copy_bert(Network(N_TOKENS, N_POSITIONS, SIZES), theirs.state_dict())
    tokens, positions, key_mask = sentences(n_keys=n_keys)
    visible = torch.zeros(tokens.shape, dtype=torch.long)
    visible[:, :n_keys] = key_mask
    with torch.no_grad():
        expected = theirs(tokens, attention_mask=visible, position_ids=positions, output_hidden_states=True)
        hidden = ours.encoder(tokens, positions, key_mask)
        logits = ours.logits(hidden)
    torch.testing.assert_close(hidden, expected.hidden_states[-1], atol=tolerance, rtol=0)
    torch.testing.assert_close(logits, expected.logits, atol=tolerance, rtol=0)
    assert expected.hidden_states[-1].std() > 0.1


def test_encoder_equals_bert_without_mask():
    theirs = bert(0.3)
    ours = copy_bert(Network(N_TOKENS, N_POSITIONS, SIZES), theirs.state_dict())
    tokens, positions, _ = sentences()
    with torch.no_grad():
        expected = theirs.bert(tokens, position_ids=positions).last_hidden_state
        hidden = ours.encoder(tokens, positions, torch.ones(tokens.shape, dtype=torch.bool))
    torch.testing.assert_close(hidden, expected, atol=1e-4, rtol=0)


def test_original_checkpoint_gives_the_original_numbers(original):
    from safetensors.torch import load_file

    config = json.loads((original.checkpoint / "config.json").read_text())
    sizes = TransformerConfig(
        n_hidden=config["hidden_size"],
        n_layers=config["num_hidden_layers"],
        n_heads=config["num_attention_heads"],
        n_intermediate=config["intermediate_size"],
        layer_norm_eps=config["layer_norm_eps"],
    )
    network = Network(config["vocab_size"], config["max_position_embeddings"], sizes)
    copy_bert(network, load_file(original.checkpoint / "model.safetensors"))
    tokens, expected = original.tokens, original.expected

    def run(ids, n):
        ids = torch.from_numpy(ids[:n])
        positions = torch.arange(ids.shape[1]).expand_as(ids)
        hidden = network.encoder(ids, positions, torch.from_numpy(tokens["binned_attention_mask"][:n]).bool())
        return hidden.numpy(), network.logits(hidden).numpy()

    with torch.no_grad():
        hidden, masked = run(tokens["binned_masked_input_ids"], 8)
        _, unmasked = run(tokens["binned_input_ids"], 4)
    np.testing.assert_allclose(hidden, expected["hidden_last"], atol=1e-4)
    np.testing.assert_allclose(masked, expected["logits_masked"], atol=1e-4)
    np.testing.assert_allclose(unmasked, expected["logits_unmasked"], atol=1e-4)


@pytest.mark.parametrize("n_layers", [0, 1, 3])
@pytest.mark.parametrize("columns", [[1, 2, 3], [12, 0, 16], [5]], ids=["slots", "out of order", "one"])
def test_asked_columns_equal_the_full_computation(n_layers, columns):
    config = TransformerConfig(n_hidden=21, n_layers=n_layers, n_heads=3, n_intermediate=41)
    network, sentence = random_network(config=config), sentences()
    with torch.no_grad():
        full = network.encoder(*sentence)
        asked = network.encoder(*sentence, torch.tensor(columns))
    assert asked.shape == (3, len(columns), 21)
    torch.testing.assert_close(asked, full[:, columns], atol=1e-5, rtol=0)


def test_last_block_computes_nothing_but_the_asked_columns():
    network, seen = random_network(), []
    for block in network.encoder.blocks:
        block.up.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape[1]))
    with torch.no_grad():
        network.encoder(*sentences(), torch.tensor([1, 2]))
    assert seen == [17, 17, 2]


def test_padding_of_keys_changes_nothing():
    tokens, positions, key_mask = sentences()
    extra_tokens, extra_positions, _ = sentences(seed=5, n_columns=5)
    network = random_network()
    padded = (
        torch.cat([tokens[:, :11], extra_tokens, tokens[:, 11:]], 1),
        torch.cat([positions[:, :11], extra_positions, positions[:, 11:]], 1),
        torch.cat([key_mask, torch.zeros_like(extra_tokens, dtype=torch.bool)], 1),
    )
    with torch.no_grad():
        expected = network.encoder(tokens, positions, key_mask)
        hidden = network.encoder(*padded)
    torch.testing.assert_close(torch.cat([hidden[:, :11], hidden[:, 16:]], 1), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("column", [14, 16], ids=["a target", "last target"])
def test_nobody_sees_a_token_that_is_no_key(column):
    tokens, positions, key_mask = sentences()
    network, changed = random_network(), tokens.clone()
    changed[:, column] = (tokens[:, column] + 1) % N_TOKENS
    with torch.no_grad():
        before, after = (network.encoder(t, positions, key_mask) for t in (tokens, changed))
    others = [i for i in range(17) if i != column]
    assert torch.equal(before[:, others], after[:, others])
    assert not torch.equal(before[:, column], after[:, column])


def test_position_and_word_both_matter():
    tokens, positions, key_mask = sentences()
    network = random_network()
    with torch.no_grad():
        state = network.encoder(tokens, positions, key_mask)
        moved = network.encoder(tokens, positions.flip(1), key_mask)
    assert (state - moved).abs().max() > 0.01


def test_dropout_acts_in_training_only():
    config = TransformerConfig(n_hidden=21, n_layers=2, n_heads=3, n_intermediate=41, dropout=0.5)
    network, sentence = random_network(config=config), sentences()
    with torch.no_grad():
        assert torch.equal(network.encoder(*sentence), network.encoder(*sentence))
        network.train()
        assert not torch.equal(network.encoder(*sentence), network.encoder(*sentence))


def test_head_of_some_words_is_a_part_of_the_head():
    network = random_network()
    hidden = torch.randn(3, 5, 21, generator=torch.Generator().manual_seed(0))
    word, ids = network.encoder.embeddings.word.weight, torch.tensor([30, 4])
    with torch.no_grad():
        part = network.head(network.head.transform(hidden), word, ids)
        assert torch.allclose(part, network.logits(hidden)[..., ids], atol=1e-6)


def test_init_weights_is_berts():
    network = Network(1009, 503, TransformerConfig(n_hidden=64, n_heads=2))
    init_weights(network, 0.02, torch.Generator().manual_seed(0))
    for name, p in network.named_parameters():
        if "norm" in name:
            assert torch.equal(p, torch.full_like(p, float(name.endswith("weight")))), name
        elif p.ndim == 1:
            assert not p.any(), name
        else:
            assert p.std().item() == pytest.approx(0.02, rel=0.05), name


def test_init_weights_leaves_the_global_generator_alone():
    network = Network(11, 7, SIZES)
    before = torch.get_rng_state()
    init_weights(network, 0.02, torch.Generator().manual_seed(3))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("name", ["512", "2432"])
def test_presets_of_the_original_are_bert_base(name):
    config, base = PRESETS[name], BertConfig()
    assert (config.n_hidden, config.n_layers, config.n_heads, config.n_intermediate) == (
        base.hidden_size,
        base.num_hidden_layers,
        base.num_attention_heads,
        base.intermediate_size,
    )
    assert (config.dropout, config.layer_norm_eps, config.init_std) == (
        base.hidden_dropout_prob,
        base.layer_norm_eps,
        base.initializer_range,
    )


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
