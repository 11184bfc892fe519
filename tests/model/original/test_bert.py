"""BERT's files and names against Hugging Face's own reading and writing. H=21, 3 layers, 7 heads, 5 bins, 13 genes."""

import json
import pickle

import pytest
import safetensors.torch
import torch
from transformers import BertConfig, BertForMaskedLM

from polygene_scverse._layout import TokenLayout
from polygene_scverse.model.original._bert import (
    import_weights,
    make_config,
    network_sizes,
    read_config,
    read_weights,
    weight_names,
    write_weights,
)
from polygene_scverse.module import PolygeneModule, TransformerConfig

SIZES = TransformerConfig(
    n_hidden=21, n_layers=3, n_heads=7, n_intermediate=41, dropout=0.2, layer_norm_eps=1e-5, init_std=0.3
)
LAYOUT = TokenLayout.build({"cell_type": ["B", "T"], "sex": ["f", "m", "x"]}, [f"g{i}" for i in range(13)], n_bins=5)
WORDS, TYPES = "bert.embeddings.word_embeddings.weight", "bert.embeddings.token_type_embeddings.weight"


def our_module(seed=0, linear_path=False, gene_decoder=False):
    return PolygeneModule(LAYOUT, SIZES, linear_path=linear_path, gene_decoder=gene_decoder, seed=seed).eval()


@pytest.fixture
def bert():
    """A BERT of the sizes of `our_module`, no weight of it 0 or 1."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        bert = BertForMaskedLM(BertConfig(**make_config(LAYOUT.n_tokens, LAYOUT.length, SIZES))).eval()
        for parameter in bert.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return bert


@pytest.fixture
def tensors(bert):
    """The weights of `bert` as a file has them: those that are tied are there once."""
    return {name: tensor.clone() for name, tensor in bert.state_dict().items() if ".decoder." not in name}


def sentences():
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, LAYOUT.n_tokens, (4, LAYOUT.length), generator=generator)
    mask = torch.rand(ids.shape, generator=generator) < 0.7
    mask[:, 0] = True
    return ids, mask


@torch.no_grad()
def our_logits(module, ids, mask):
    states = module.states(ids, torch.arange(ids.shape[1]).expand_as(ids), mask)
    return module.head(module.head.transform(states), module.encoder.embeddings.word.weight, slice(None))


@torch.no_grad()
def their_logits(bert, ids, mask):
    return bert(ids, attention_mask=mask.long()).logits


# names


def test_every_weight_has_one_name_of_bert(bert):
    names = weight_names(our_module())
    assert list(names) == [name for name, _ in our_module().named_parameters()]
    assert {*names.values(), TYPES} == {name for name, _ in bert.named_parameters()}
    assert len(set(names.values())) == len(names)


def test_the_linear_path_has_no_name():
    assert weight_names(our_module(linear_path=True)) == weight_names(our_module())


def test_the_gene_decoder_has_no_name():
    assert weight_names(our_module(gene_decoder=True)) == weight_names(our_module())


def test_imported_weights_give_the_logits_of_bert(bert, tensors):
    module = our_module()
    import_weights(module, tensors)
    torch.testing.assert_close(our_logits(module, *sentences()), their_logits(bert, *sentences()), rtol=0, atol=1e-5)


def test_half_precision_is_read_as_single(tensors):
    module, expected = our_module(), our_module()
    import_weights(module, {name: tensor.half() for name, tensor in tensors.items()})
    import_weights(expected, {name: tensor.half().float() for name, tensor in tensors.items()})
    assert all(tensor.equal(expected.state_dict()[name]) for name, tensor in module.state_dict().items())


def test_copies_and_counters_of_older_files_are_taken(tensors):
    more = {
        "cls.predictions.decoder.weight": tensors[WORDS],
        "cls.predictions.decoder.bias": tensors["cls.predictions.bias"],
        "bert.embeddings.position_ids": torch.arange(LAYOUT.length)[None],
    }
    module, expected = our_module(), our_module()
    import_weights(module, tensors | more)
    import_weights(expected, tensors)
    assert all(tensor.equal(expected.state_dict()[name]) for name, tensor in module.state_dict().items())


@pytest.mark.parametrize("name", ["cls.predictions.decoder.weight", "cls.predictions.decoder.bias"])
def test_an_untied_head_is_refused(name, tensors):
    tied = {"cls.predictions.decoder.weight": WORDS, "cls.predictions.decoder.bias": "cls.predictions.bias"}[name]
    with pytest.raises(ValueError, match=rf"\['{name}'\] differ from \['{tied}'\].* Pass a checkpoint with tied"):
        import_weights(our_module(), tensors | {name: tensors[tied] + 1})


KEY = "bert.encoder.layer.1.attention.self.key.weight"


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({KEY: None}, rf"missing: \['{KEY}'\]\. Pass"),
        ({TYPES: None}, rf"missing: \['{TYPES}'\]\. Pass"),
        ({"bert.pooler.dense.bias": torch.zeros(21)}, r"not known: \['bert.pooler.dense.bias'\]\. Pass"),
        (
            {KEY: torch.zeros(21, 20), TYPES: torch.zeros(2, 20), "cls.predictions.bias": None, "a": torch.zeros(1)},
            r"missing: \['cls.predictions.bias'\]; not known: \['a'\]; of another shape: "
            rf"\['{KEY}: \(21, 20\) instead of \(21, 21\)', '{TYPES}: \(2, 20\) instead of \(2, 21\)'\]",
        ),
        ({TYPES: torch.tensor(0.0)}, rf"of another shape: \['{TYPES}: \(\) instead of \(1, 21\)'\]"),
        ({TYPES: torch.zeros(0, 21)}, rf"of another shape: \['{TYPES}: \(0, 21\) instead of \(1, 21\)'\]"),
    ],
    ids=["missing", "no token types", "not known", "all at once", "no table", "empty table"],
)
def test_weights_that_do_not_fit_are_named(change, match, tensors):
    changed = {name: tensor for name, tensor in (tensors | change).items() if tensor is not None}
    module = our_module()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    with pytest.raises(ValueError, match=match):
        import_weights(module, changed)
    assert all(tensor.equal(before[name]) for name, tensor in module.state_dict().items())


# files


def test_written_files_are_read_by_transformers(tmp_path):
    module = our_module(seed=3, linear_path=True)
    (tmp_path / "config.json").write_text(json.dumps(make_config(LAYOUT.n_tokens, LAYOUT.length, SIZES)))
    write_weights(module, tmp_path / "model.safetensors")
    bert, report = BertForMaskedLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values())
    logits = their_logits(bert.eval(), *sentences())
    torch.testing.assert_close(our_logits(module, *sentences()), logits, rtol=0, atol=1e-5)


def test_files_written_by_transformers_are_read(bert, tensors, tmp_path):
    bert.save_pretrained(tmp_path)
    assert TransformerConfig(**network_sizes(read_config(tmp_path))) == SIZES
    found = read_weights(tmp_path)
    assert found.keys() == tensors.keys()
    assert all(found[name].equal(tensor) for name, tensor in tensors.items())


def test_pickled_weights_are_read(tensors, tmp_path):
    torch.save(tensors, tmp_path / "pytorch_model.bin")
    found = read_weights(tmp_path)
    assert all(found[name].equal(tensor) for name, tensor in tensors.items())


def test_safetensors_come_first(tensors, tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    safetensors.torch.save_file(tensors, tmp_path / "model.safetensors")
    assert read_weights(tmp_path).keys() == tensors.keys()


class Foreign:
    """Runs a function of its choice when it is unpickled."""

    def __reduce__(self):
        return exec, ("raise SystemExit('foreign code ran')",)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.safetensors", b"\x00" * 9),
        ("pytorch_model.bin", b"\x00" * 9),
        ("pytorch_model.bin", pickle.dumps({"a": Foreign()})),
    ],
    ids=["damaged", "damaged pickle", "foreign code"],
)
def test_files_that_are_not_safe_to_read_are_refused(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"`folder`: .*{name} is damaged, or holds more than tensors"):
        read_weights(tmp_path)


@pytest.mark.parametrize("content", [[torch.zeros(1)], {"step": 3}], ids=["a list", "a number"])
def test_other_content_is_refused(content, tmp_path):
    torch.save(content, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"pytorch_model.bin contains more than named tensors\. Pass the weights only"):
        read_weights(tmp_path)


def test_absent_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"`folder`: there is no config.json in .* Pass the folder"):
        read_config(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"neither model.safetensors nor pytorch_model.bin in"):
        read_weights(tmp_path)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"hidden_size": None, "vocab_size": None}, r"config.json has no entries \['hidden_size', 'vocab_size'\]"),
        ({"hidden_act": "relu"}, r"says \{'hidden_act': 'relu'\}, but only \{'hidden_act': 'gelu'\} is supported"),
        ({"model_type": "roberta"}, r"says \{'model_type': 'roberta'\}"),
        (
            {"is_decoder": True, "add_cross_attention": True},
            r"says \{'is_decoder': True, 'add_cross_attention': True\}",
        ),
        ({"position_embedding_type": "relative_key"}, r"says \{'position_embedding_type': 'relative_key'\}"),
    ],
    ids=["sizes absent", "activation", "another model", "decoder", "relative positions"],
)
def test_another_network_is_refused(change, match, tmp_path):
    config = make_config(LAYOUT.n_tokens, LAYOUT.length, SIZES) | change
    text = json.dumps({key: value for key, value in config.items() if value is not None})
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=match):
        read_config(tmp_path)


def test_a_damaged_configuration_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json is not JSON"):
        read_config(tmp_path)


def test_rates_that_are_not_said_are_those_of_bert():
    theirs = BertConfig()
    sizes = network_sizes({"hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 4})
    assert sizes["dropout"] == theirs.hidden_dropout_prob
    assert sizes["layer_norm_eps"] == theirs.layer_norm_eps
    assert sizes["init_std"] == theirs.initializer_range
