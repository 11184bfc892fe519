"""Encoder and head against Hugging Face's BERT and the original's checkpoint. B=3, T=17, K=11, H=21."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import BertConfig, BertForMaskedLM

from polygene_scverse.module import PRESETS, TransformerConfig
from polygene_scverse.module._transformer import Encoder, Head

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


@pytest.mark.parametrize(("std", "tolerance"), [(0.02, 1e-5), (0.3, 1e-4)], ids=["std 0.02", "std 0.3"])
@pytest.mark.parametrize("n_keys", [17, 11], ids=["all are keys", "some only ask"])
def test_encoder_and_head_equal_bert(kit, std, tolerance, n_keys):
    theirs = bert(std)
    ours = copy_bert(Network(N_TOKENS, N_POSITIONS, SIZES), theirs.state_dict())
    tokens, positions, key_mask = kit.sentences(n_keys=n_keys)
    visible = torch.zeros(tokens.shape, dtype=torch.long)
    visible[:, :n_keys] = key_mask
    with torch.no_grad():
        expected = theirs(tokens, attention_mask=visible, position_ids=positions, output_hidden_states=True)
        hidden = ours.encoder(tokens, positions, key_mask)
        logits = ours.logits(hidden)
    torch.testing.assert_close(hidden, expected.hidden_states[-1], atol=tolerance, rtol=0)
    torch.testing.assert_close(logits, expected.logits, atol=tolerance, rtol=0)
    assert expected.hidden_states[-1].std() > 0.1


def test_encoder_equals_bert_without_mask(kit):
    theirs = bert(0.3)
    ours = copy_bert(Network(N_TOKENS, N_POSITIONS, SIZES), theirs.state_dict())
    tokens, positions, _ = kit.sentences()
    with torch.no_grad():
        expected = theirs.bert(tokens, position_ids=positions).last_hidden_state
        hidden = ours.encoder(tokens, positions, torch.ones(tokens.shape, dtype=torch.bool))
    torch.testing.assert_close(hidden, expected, atol=1e-4, rtol=0)


def test_original_checkpoint_gives_the_original_numbers(original):
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
