"""Checkpoints of the original: in against its vectors and Hugging Face's BERT, and out again.

The twins of the tests on the original's files run on blood cells with a small vocabulary and random weights: 29 genes,
H=21, 3 layers, 7 heads.
"""

import json
import warnings
from types import SimpleNamespace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch import Callback
from transformers import BertConfig, BertForMaskedLM

from polygene_scverse._constants import RANK
from polygene_scverse.data._original import CATEGORY_FILES, ORIGINAL_COLUMNS, read_vocabulary
from polygene_scverse.model import Polygene

N_GENES = 29
LISTS = {
    "sex": ["female", "male"],
    "tissue": ["liver", "eye"],
    "cell_type": ["B cell", "T cell", "NK cell"],
    "age": ["young", "old"],
    "disease": ["normal", "flu"],
}
BINNED, BINARY = {}, {"threshold": 0.7}
QUIET = {"enable_progress_bar": False}


def edges_of(n_bins):
    return [0.0, BINARY["threshold"]] if n_bins == 2 else [0.0, *np.linspace(0.1, 9.0, n_bins - 1)]


@pytest.fixture(scope="module", params=[10, 2], ids=["binned", "binary"])
def n_bins(request):
    return request.param


@pytest.fixture(scope="module")
def theirs(n_bins, tmp_path_factory):
    """A checkpoint as the original's training leaves it: BERT with random weights, and a vocabulary folder."""
    folder = tmp_path_factory.mktemp("theirs")
    words = ["[PAD]", "[MASK]", "[SEP]", "[CLS]", "[UNK]", "[START]", "[END]", *(f"[no_{name}]" for name in LISTS)]
    words += [f"[{label.replace(' ', '_')}]" for name in reversed(LISTS) for label in LISTS[name]]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    for name, file in CATEGORY_FILES.items():
        (folder / file).write_text("\n".join(LISTS[name]))
    config = BertConfig(
        vocab_size=len(words) + n_bins,
        max_position_embeddings=N_GENES + 8,
        hidden_size=21,
        num_hidden_layers=3,
        num_attention_heads=7,
        intermediate_size=41,
        layer_norm_eps=1e-6,
    )
    with torch.random.fork_rng():
        torch.manual_seed(n_bins)
        bert = BertForMaskedLM(config).eval()
        for parameter in bert.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    bert.save_pretrained(folder)
    return SimpleNamespace(folder=folder, bert=bert, n_bins=n_bins, options=BINARY if n_bins == 2 else BINNED)


@pytest.fixture
def cells(pbmc):
    """Blood cells with labels of the vocabulary, some of them missing, and genes in a drawn order."""
    adata = pbmc[:40].copy()
    rng = np.random.default_rng(0)
    for name, column in ORIGINAL_COLUMNS.items():
        adata.obs[column] = rng.choice([*LISTS[name], None], adata.n_obs)
    adata.var[RANK] = rng.permutation(adata.n_vars).astype(float)
    return adata


def in_order(adata):
    return list(adata.var_names[np.argsort(adata.var[RANK])])


def read(theirs, genes, **kwargs):
    return Polygene.from_original(theirs.folder, vocabulary=theirs.folder, genes=genes, **theirs.options, **kwargs)


def dense_ids(adata, genes, n_words, n_bins):
    """The original's sentences with every phenotype hidden, and its attention mask, gene by gene."""
    x = adata[:, genes].X.toarray()
    bins = np.digitize(x, edges_of(n_bins)) - 1
    ids = np.concatenate([np.tile([3, 1, 1, 1, 1, 1, 5], (len(x), 1)), n_words + bins, np.full((len(x), 1), 6)], axis=1)
    return torch.from_numpy(ids), torch.from_numpy(ids != n_words)


@torch.no_grad()
def dense(model, ids, mask):
    """Hidden states, and logits of all words, with our network."""
    module = model.module
    states = module.states(ids, torch.arange(ids.shape[1]).expand_as(ids), mask)
    return states, module.head(module.head.transform(states), module.encoder.embeddings.word.weight, slice(None))


@torch.no_grad()
def bert_states(bert, ids, mask):
    output = bert(ids, attention_mask=mask.long(), output_hidden_states=True)
    return output.hidden_states[-1], output.logits


def check_predictions(model, adata, logits, word_ids, categories):
    """Probabilities are the softmax of BERT's logits over the words of each slot."""
    predicted = model.predict_phenotype(adata)
    assert list(predicted) == list(categories)
    for slot, (name, labels) in enumerate(categories.items(), start=1):
        ids = [word_ids[f"[{label.replace(' ', '_')}]"] for label in labels]
        assert list(predicted[name].columns) == labels
        np.testing.assert_allclose(predicted[name], logits[:, slot, ids].softmax(-1), atol=1e-4)


# the original's own files


@pytest.fixture
def published(original):
    return Polygene.from_original(original.checkpoint, vocabulary=original.vocabulary, genes=original.cells)


@pytest.mark.parametrize(
    ("ids", "n", "expected"),
    [("binned_input_ids", 4, "logits_unmasked"), ("binned_masked_input_ids", 8, "logits_masked")],
    ids=["unmasked", "masked"],
)
def test_logits_are_those_of_the_original(ids, n, expected, published, original):
    mask = torch.from_numpy(original.tokens["binned_attention_mask"][:n]).bool()
    _, logits = dense(published, torch.from_numpy(original.tokens[ids][:n]), mask)
    np.testing.assert_allclose(logits, original.expected[expected], rtol=0, atol=1e-4)


def test_hidden_states_are_those_of_the_original(published, original):
    mask = torch.from_numpy(original.tokens["binned_attention_mask"][:8]).bool()
    states, _ = dense(published, torch.from_numpy(original.tokens["binned_masked_input_ids"][:8]), mask)
    np.testing.assert_allclose(states, original.expected["hidden_last"], rtol=0, atol=1e-4)


def test_the_original_s_cells_are_predicted_and_embedded_as_by_bert(published, original):
    """Through our own reading, from the file; values above the last edge, which we refuse or doubt, lowered to it."""
    adata = ad.read_h5ad(original.cells)
    adata.X.data = np.minimum(adata.X.data, 9.5)
    words, categories = read_vocabulary(original.vocabulary)
    assert published.genes == original.tokens["binned_gene_order"].tolist()
    ids, mask = dense_ids(adata, published.genes, len(words), 10)
    states, logits = bert_states(BertForMaskedLM.from_pretrained(original.checkpoint).eval(), ids, mask)
    check_predictions(published, adata, logits, {word: i for i, word in enumerate(words)}, categories)
    embedded = published.get_latent_representation(adata, pooling="cls")
    np.testing.assert_allclose(embedded, states[:, 0], rtol=0, atol=1e-4)


# their twins, in bins and binary


def test_logits_and_states_are_those_of_bert(theirs, cells):
    model = read(theirs, in_order(cells))
    ids, mask = dense_ids(cells, model.genes, 23, theirs.n_bins)
    hide = torch.rand(ids.shape, generator=torch.Generator().manual_seed(0)) < 0.3
    for sentence in (ids, ids.masked_fill(hide, 1)):
        for ours, expected in zip(dense(model, sentence, mask), bert_states(theirs.bert, sentence, mask), strict=True):
            torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)


def test_cells_are_predicted_and_embedded_as_by_bert(theirs, cells):
    model = read(theirs, in_order(cells))
    words, categories = read_vocabulary(theirs.folder)
    ids, mask = dense_ids(cells, model.genes, len(words), theirs.n_bins)
    states, logits = bert_states(theirs.bert, ids, mask)
    check_predictions(model, cells, logits, {word: i for i, word in enumerate(words)}, categories)
    pooled = {"cls": states[:, 0], "age": states[:, 4], "phenotypes": states[:, 1:6].mean(1)}
    genes = mask[:, 7:-1, None]
    pooled["genes"] = (states[:, 7:-1] * genes).sum(1) / genes.sum(1)
    for pooling, expected in pooled.items():
        embedded = model.get_latent_representation(cells, pooling=pooling)
        np.testing.assert_allclose(embedded, expected, rtol=0, atol=1e-5)


def test_given_phenotypes_are_read_from_the_columns_of_the_original(theirs, cells):
    model = read(theirs, in_order(cells))
    words, _ = read_vocabulary(theirs.folder)
    ids, mask = dense_ids(cells, model.genes, len(words), theirs.n_bins)
    codes = cells.obs["development_stage"].map({"young": words.index("[young]"), "old": words.index("[old]")})
    ids[:, 4] = torch.from_numpy(codes.fillna(1).to_numpy(dtype=np.int64))  # what is not known is asked, not "no age"
    logits = bert_states(theirs.bert, ids, mask)[1][:, 1, [words.index("[female]"), words.index("[male]")]]
    predicted = model.predict_phenotype(cells, given="age")["sex"]
    np.testing.assert_allclose(predicted, logits.softmax(-1), atol=1e-5)


def test_pickled_weights_give_the_same_model(theirs, cells, tmp_path):
    torch.save(theirs.bert.state_dict(), tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text((theirs.folder / "config.json").read_text())
    genes = in_order(cells)
    pickled = Polygene.from_original(tmp_path, vocabulary=theirs.folder, genes=genes, **theirs.options)
    expected = read(theirs, genes).module.state_dict()
    assert all(tensor.equal(expected[name]) for name, tensor in pickled.module.state_dict().items())


# an ordinary model


def test_what_is_known_of_the_model(theirs, cells):
    model = read(theirs, in_order(cells))
    assert model.categories == LISTS
    assert model.genes == in_order(cells)[:N_GENES]
    assert model.edges_ == edges_of(theirs.n_bins)
    assert model.is_trained
    assert model.adata is None
    assert model.module.bag is None
    assert model.module.config.layer_norm_eps == 1e-6
    assert model.mask_ == "original"
    assert not model.module.training


def test_registry_is_that_of_a_model_with_data(theirs, cells):
    model = read(theirs, in_order(cells))
    before = model.registry
    model.adata = cells

    def shape(value):
        return {str(k): shape(v) for k, v in value.items()} if isinstance(value, dict) else type(value)

    with_data = {key: value for key, value in model.registry.items() if key != "_scvi_uuid"}
    assert shape(before) == shape(with_data)
    assert before["setup_args"] == with_data["setup_args"]


def test_saved_and_loaded_it_is_the_same(theirs, cells, tmp_path):
    model = read(theirs, in_order(cells))
    model.save(tmp_path / "model")
    for adata in (False, cells):
        loaded = Polygene.load(tmp_path / "model", adata=adata)
        assert (loaded.mask_, loaded.edges_, loaded.genes) == ("original", model.edges_, model.genes)
        pd.testing.assert_frame_equal(
            loaded.predict_phenotype(cells)["age"], model.predict_phenotype(cells)["age"], check_exact=True
        )


def test_without_data_it_stays_the_original_s(theirs, cells):
    model = read(theirs, in_order(cells)).without_data()
    assert model.mask_ == "original"
    assert model.predict_phenotype(cells)["age"].shape == (40, 2)


def test_codes_are_those_of_the_columns(theirs, cells):
    model = read(theirs, in_order(cells))
    model.adata = cells
    for name, column in ORIGINAL_COLUMNS.items():
        expected = pd.Categorical(cells.obs[column], categories=LISTS[name]).codes
        np.testing.assert_array_equal(model.codes()[name], expected)


def test_it_is_fine_tuned_and_warns_once(theirs, cells):
    model = read(theirs, in_order(cells))
    model.adata = cells
    edges, before = model.edges_, model.module.head.dense.weight.clone()
    with pytest.warns(UserWarning, match="weights come from the original, whose mask tells of a hidden gene") as caught:
        model.train(max_epochs=1, **QUIET)
    assert len(caught) == 1
    assert model.edges_ == edges
    assert not model.module.head.dense.weight.equal(before)
    assert model.mask_ == "leak-free"
    assert np.isfinite(model.history_["train_loss"].to_numpy(dtype=float)).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.train(max_epochs=2, **QUIET)
    assert len(model.history_["train_loss"]) == 3


def test_training_without_data_is_refused_in_words(theirs, cells):
    model = read(theirs, in_order(cells))
    with pytest.raises(ValueError, match=r"`adata`: the model has no data to train on. Set model.adata = adata first"):
        model.train(max_epochs=1)
    assert model.mask_ == "original"


def test_a_training_that_fails_leaves_a_model_that_predicts(theirs, cells):
    model = read(theirs, in_order(cells))
    model.adata = cells

    class Failing(Callback):
        def on_train_start(self, *_):
            raise RuntimeError("out of memory")

    with pytest.warns(UserWarning, match="original"), pytest.raises(RuntimeError, match="out of memory"):
        model.train(max_epochs=1, callbacks=[Failing()], **QUIET)
    assert model.mask_ == "original"
    assert model.predict_phenotype()["sex"].shape == (40, 2)


# how genes, columns and layer are named


def test_genes_from_a_list_a_text_file_and_an_h5ad_file_are_the_same(theirs, cells, tmp_path):
    genes = in_order(cells)
    (tmp_path / "genes.txt").write_text("\n".join(genes) + "\n\n")
    cells.write_h5ad(tmp_path / "cells.h5ad")
    for source in (genes, str(tmp_path / "genes.txt"), tmp_path / "cells.h5ad"):
        assert read(theirs, source).genes == genes[:N_GENES]


def test_another_column_may_be_named(theirs, cells):
    cells.obs = cells.obs.rename(columns={"development_stage": "age"})
    model = read(theirs, in_order(cells), columns={"age": "age"})
    model.adata = cells
    np.testing.assert_array_equal(model.codes()["age"], pd.Categorical(cells.obs["age"], LISTS["age"]).codes)
    assert (model.codes()["age"] >= 0).any()


def test_a_layer_may_be_named(theirs, cells):
    expected = read(theirs, in_order(cells)).predict_phenotype(cells)["sex"]
    cells.layers["logged"] = cells.X.copy()
    cells.X = -cells.X
    model = read(theirs, in_order(cells), layer="logged")
    pd.testing.assert_frame_equal(model.predict_phenotype(cells)["sex"], expected)


# out


def test_out_and_in_again_the_logits_are_equal(theirs, cells, tmp_path):
    model = read(theirs, in_order(cells))
    model.to_original(tmp_path / "out")
    bert, report = BertForMaskedLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(report.values())
    ids, mask = dense_ids(cells, model.genes, 23, theirs.n_bins)
    for ours, expected in zip(bert_states(bert.eval(), ids, mask), bert_states(theirs.bert, ids, mask), strict=True):
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)
    assert read_vocabulary(tmp_path / "out") == read_vocabulary(theirs.folder)
    again = Polygene.from_original(tmp_path / "out", vocabulary=tmp_path / "out", genes=tmp_path / "out" / "genes.txt")
    assert (again.layout, again.edges_) == (model.layout, model.edges_)
    pd.testing.assert_frame_equal(again.predict_phenotype(cells)["age"], model.predict_phenotype(cells)["age"])


@pytest.fixture
def trained(simulated):
    """An ordinary model after one epoch; call it with arguments of `Polygene`."""

    def train(**kwargs):
        Polygene.setup_anndata(simulated, phenotype_keys=["cell_type", "sex"])
        model = Polygene(simulated, genes=list(simulated.var_names), n_hidden=14, n_heads=7, n_bins=5, **kwargs)
        model.train(max_epochs=1, **QUIET)
        return model

    return train


def test_an_ordinary_model_is_read_by_transformers(trained, tmp_path):
    model = trained(linear_path=False)
    model.to_original(tmp_path / "new" / "out")
    bert = BertForMaskedLM.from_pretrained(tmp_path / "new" / "out").eval()
    words = (tmp_path / "new" / "out" / "vocab.txt").read_text().splitlines()
    assert words == list(model.layout.vocabulary[: model.layout.first_bin_id])
    assert sorted(p.name for p in (tmp_path / "new" / "out").iterdir()) == [
        *("config.json", "genes.txt", "model.safetensors", "vocab.txt")
    ]
    table = model._table(model.adata, np.arange(10))
    ids = np.full((10, model.layout.length), model.layout.first_bin_id)
    ids[:, model.layout.special_positions] = model.layout.special_tokens
    row = np.repeat(np.arange(10), table.cells.lengths)
    ids[row, 4 + table.cells.genes] += table.cells.bins
    ids = torch.from_numpy(ids)
    logits = bert_states(bert, ids, ids != model.layout.first_bin_id)[1]
    for slot, name in enumerate(("cell_type", "sex"), start=1):
        expected = logits[:, slot, list(model.layout.slot(name).ids)].softmax(-1)
        np.testing.assert_allclose(model.predict_phenotype(indices=range(10))[name], expected, atol=1e-5)


def test_a_linear_path_is_left_out_only_when_asked(trained, tmp_path):
    model = trained()
    match = r"`drop_linear_path`: the model has a linear path \(`linear_path=True`\).* drop_linear_path=True to leave"
    with pytest.raises(ValueError, match=match):
        model.to_original(tmp_path / "out")
    assert not (tmp_path / "out").exists()
    model.to_original(tmp_path / "out", drop_linear_path=True)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["bin_edges"] == model.edges_
    bert = BertForMaskedLM.from_pretrained(tmp_path / "out")
    torch.testing.assert_close(bert.cls.predictions.bias.data, model.module.head.bias.data, rtol=0, atol=0)


def test_an_untrained_model_is_not_written(simulated, tmp_path):
    Polygene.setup_anndata(simulated, phenotype_keys=["sex"])
    model = Polygene(simulated, genes=["gene1"], linear_path=False)
    with pytest.raises(RuntimeError, match="The model is not trained"):
        model.to_original(tmp_path / "out")


def test_a_folder_that_exists_is_kept(trained, tmp_path):
    model = trained(linear_path=False)
    with pytest.raises(ValueError, match=r"`folder`: .* exists\. Pass overwrite=True, or another folder"):
        model.to_original(tmp_path)
    assert list(tmp_path.iterdir()) == []
    model.to_original(tmp_path, overwrite=True)
    assert (tmp_path / "model.safetensors").is_file()


# what does not fit


@pytest.mark.parametrize("n_bins", [10], ids=["binned"], indirect=True)
@pytest.mark.parametrize(
    ("kwargs", "match"),
    [
        ({"n_bins": 7}, r"`n_bins`: found 7, but the checkpoint has 33 tokens and vocab.txt 23 words, which leaves 10"),
        ({"threshold": 0.5}, "`threshold`: found 0.5, but the checkpoint has 10 bins, not 2. Leave it out"),
        ({"columns": {"organ": "tissue"}}, "`columns`: found 'organ', but it must be one of"),
        ({"columns": {"age": "sex"}}, "`columns`: two phenotypes have the same obs column"),
        ({"genes": ["g1", "g2"]}, r"`genes`: found 2, \['g1', 'g2'\], but the checkpoint has 29 genes"),
        ({"genes": ["g1"] * 29}, "`genes`: a gene is named twice"),
    ],
    ids=["bins", "threshold", "phenotype", "column", "few genes", "genes twice"],
)
def test_arguments_that_do_not_fit_are_refused(kwargs, match, theirs):
    arguments = {"vocabulary": theirs.folder, "genes": [f"g{i}" for i in range(29)]} | kwargs
    with pytest.raises(ValueError, match=match):
        Polygene.from_original(theirs.folder, **arguments)


@pytest.mark.parametrize("n_bins", [2], ids=["binary"], indirect=True)
@pytest.mark.parametrize(
    ("threshold", "match"),
    [(None, "`threshold`: the checkpoint has two bins and does not say"), (0.0, "begin with 0 and ascend")],
    ids=["absent", "zero"],
)
def test_two_bins_need_a_threshold(threshold, match, theirs):
    genes = [f"g{i}" for i in range(29)]
    with pytest.raises(ValueError, match=match):
        Polygene.from_original(theirs.folder, vocabulary=theirs.folder, genes=genes, threshold=threshold)


@pytest.mark.parametrize("n_bins", [10], ids=["binned"], indirect=True)
@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"vocab_size": 24}, r"`vocabulary`: vocab.txt has 23 words and the checkpoint 24 tokens, which leaves 1"),
        ({"max_position_embeddings": 8}, "`folder`: the checkpoint has 8 positions, but 8 are not genes"),
        ({"max_position_embeddings": 36}, r"of another shape: \['bert.embeddings.position_embeddings.weight: \(37, 21"),
        ({"num_hidden_layers": 2}, r"not known: .*bert.encoder.layer.2.* and 8 more"),
        ({"num_hidden_layers": 4}, r"missing: .*bert.encoder.layer.3.* and 8 more"),
        ({"bin_edges": [0.0, 1.0]}, "n_bins=10 lower edges are needed"),
    ],
    ids=["one bin", "no genes", "fewer positions", "fewer layers", "more layers", "edges"],
)
def test_a_configuration_that_does_not_fit_is_refused(change, match, theirs, tmp_path):
    config = json.loads((theirs.folder / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes((theirs.folder / "model.safetensors").read_bytes())
    with pytest.raises(ValueError, match=match):
        Polygene.from_original(tmp_path, vocabulary=theirs.folder, genes=[f"g{i}" for i in range(29)])
