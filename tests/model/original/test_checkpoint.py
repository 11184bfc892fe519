"""Checkpoints of the original, read in: against its own vectors and against Hugging Face's BERT.

The twins of the tests on the original's files run on blood cells, see ``conftest.py``.
"""

import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from transformers import BertConfig, BertForMaskedLM

from polygene_scverse.model import Polygene
from polygene_scverse.model.original._files import read_vocabulary


@torch.no_grad()
def dense(model, ids, mask):
    """Hidden states, and logits of all words, with our network."""
    module = model.module
    states = module.states(ids, torch.arange(ids.shape[1]).expand_as(ids), mask)
    return states, module.head(module.head.transform(states), module.encoder.embeddings.word.weight, slice(None))


def check_predictions(model, adata, logits, words, categories):
    """Probabilities are the softmax of BERT's logits over the words of each slot."""
    predicted = model.predict_phenotype(adata)
    assert list(predicted) == list(categories)
    for slot, (name, labels) in enumerate(categories.items(), start=1):
        ids = [words.index(f"[{label.replace(' ', '_')}]") for label in labels]
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
    ids = torch.from_numpy(original.tokens["binned_input_ids"])
    ids = torch.cat([ids[:, :1], torch.ones_like(ids[:, 1:6]), ids[:, 6:]], dim=1)  # every phenotype is [MASK]
    mask = torch.from_numpy(original.tokens["binned_attention_mask"])
    bert = BertForMaskedLM.from_pretrained(original.checkpoint).eval()
    with torch.no_grad():
        output = bert(ids, attention_mask=mask, output_hidden_states=True)
    words, categories = read_vocabulary(original.vocabulary)
    check_predictions(published, adata, output.logits, words, categories)
    embedded = published.get_latent_representation(adata, pooling="cls")
    np.testing.assert_allclose(embedded, output.hidden_states[-1][:, 0], rtol=0, atol=1e-4)


# their twins, in bins and binary


def test_logits_and_states_are_those_of_bert(imported, theirs, labelled):
    ids, mask = theirs.sentences(labelled, imported.genes)
    hide = torch.rand(ids.shape, generator=torch.Generator().manual_seed(0)) < 0.3
    for sentence in (ids, ids.masked_fill(hide, 1)):
        for ours, expected in zip(dense(imported, sentence, mask), theirs.states(sentence, mask), strict=True):
            torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)


def test_cells_are_predicted_and_embedded_as_by_bert(imported, theirs, labelled):
    ids, mask = theirs.sentences(labelled, imported.genes)
    states, logits = theirs.states(ids, mask)
    check_predictions(imported, labelled, logits, theirs.words, theirs.categories)
    pooled = {"cls": states[:, 0], "age": states[:, 4], "phenotypes": states[:, 1:6].mean(1)}
    genes = mask[:, 7:-1, None]
    pooled["genes"] = (states[:, 7:-1] * genes).sum(1) / genes.sum(1)
    for pooling, expected in pooled.items():
        embedded = imported.get_latent_representation(labelled, pooling=pooling)
        np.testing.assert_allclose(embedded, expected, rtol=0, atol=1e-5)


def test_given_phenotypes_are_read_from_the_columns_of_the_original(imported, theirs, labelled):
    words = theirs.words
    ids, mask = theirs.sentences(labelled, imported.genes)
    codes = labelled.obs["development_stage"].map({"young": words.index("[young]"), "old": words.index("[old]")})
    ids[:, 4] = torch.from_numpy(codes.fillna(1).to_numpy(dtype=np.int64))  # what is not known is asked, not "no age"
    logits = theirs.states(ids, mask)[1][:, 1, [words.index("[female]"), words.index("[male]")]]
    predicted = imported.predict_phenotype(labelled, given="age")["sex"]
    np.testing.assert_allclose(predicted, logits.softmax(-1), atol=1e-5)


def test_pickled_weights_give_the_same_model(theirs, labelled, tmp_path):
    torch.save(theirs.bert.state_dict(), tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text((theirs.folder / "config.json").read_text())
    genes = theirs.order(labelled)
    threshold = theirs.edges[1] if theirs.n_bins == 2 else None
    pickled = Polygene.from_original(tmp_path, vocabulary=theirs.folder, genes=genes, threshold=threshold)
    expected = theirs.read(genes).module.state_dict()
    assert all(tensor.equal(expected[name]) for name, tensor in pickled.module.state_dict().items())


@pytest.mark.parametrize("n_genes", [512, 2432])
def test_the_published_sizes_are_read(n_genes, theirs, tmp_path):
    """As many genes as the published models have; few hidden units."""
    config = BertConfig(**theirs.bert.config.to_dict() | {"max_position_embeddings": n_genes + 8})
    with torch.random.fork_rng():
        torch.manual_seed(n_genes)
        bert = BertForMaskedLM(config).eval()
    bert.save_pretrained(tmp_path)
    genes = [f"gene{i}" for i in range(n_genes)]
    threshold = theirs.edges[1] if theirs.n_bins == 2 else None
    model = Polygene.from_original(tmp_path, vocabulary=theirs.folder, genes=[*genes, "one more"], threshold=threshold)
    assert model.genes == genes
    counts = np.random.default_rng(0).integers(1, 400, (3, n_genes)) * (np.arange(n_genes) % 7 == 0)
    values = np.log1p(counts / counts.sum(1, keepdims=True) * 1e4)
    adata = ad.AnnData(values.astype(np.float32), var=pd.DataFrame(index=genes))
    ids, mask = theirs.sentences(ad.AnnData(sp.csr_matrix(adata.X), var=adata.var), genes)
    states, logits = theirs.states(ids, mask, bert)
    check_predictions(model, adata, logits, theirs.words, theirs.categories)
    embedded = model.get_latent_representation(adata, pooling="cls")
    np.testing.assert_allclose(embedded, states[:, 0], rtol=0, atol=1e-5)


# how genes, columns and layer are named


def test_genes_from_a_list_a_text_file_and_an_h5ad_file_are_the_same(theirs, labelled, tmp_path):
    genes = theirs.order(labelled)
    (tmp_path / "genes.txt").write_text("\n".join(genes) + "\n\n")
    labelled.write_h5ad(tmp_path / "cells.h5ad")
    for source in (genes, str(tmp_path / "genes.txt"), tmp_path / "cells.h5ad"):
        assert theirs.read(source).genes == genes[: theirs.n_genes]


def test_another_column_may_be_named(theirs, labelled):
    labelled.obs = labelled.obs.rename(columns={"development_stage": "age"})
    model = theirs.read(theirs.order(labelled), columns={"age": "age"})
    model.adata = labelled
    np.testing.assert_array_equal(
        model.codes()["age"], pd.Categorical(labelled.obs["age"], theirs.categories["age"]).codes
    )
    assert (model.codes()["age"] >= 0).any()


def test_a_layer_may_be_named(theirs, labelled):
    expected = theirs.read(theirs.order(labelled)).predict_phenotype(labelled)["sex"]
    labelled.layers["logged"] = labelled.X.copy()
    labelled.X = -labelled.X
    model = theirs.read(theirs.order(labelled), layer="logged")
    pd.testing.assert_frame_equal(model.predict_phenotype(labelled)["sex"], expected)
    before = model.registry["field_registries"]["X"]["data_registry"]
    model.adata = labelled
    assert model.registry["field_registries"]["X"]["data_registry"] == before


# what does not fit


@pytest.mark.parametrize("their_bins", [10], ids=["binned"], indirect=True)
@pytest.mark.parametrize(
    ("kwargs", "match"),
    [
        ({"n_bins": 7}, r"`n_bins`: found 7, but the checkpoint has 33 tokens and vocab.txt 23 words, which leaves 10"),
        ({"threshold": 0.5}, "`threshold`: found 0.5, but the checkpoint has 10 bins, not 2. Leave it out"),
        ({"columns": {"organ": "tissue"}}, "`columns`: found 'organ', but it must be one of"),
        ({"columns": {"age": "sex"}}, "`columns`: two phenotypes have the same obs column"),
        ({"genes": ["g1", "g2"]}, r"`genes`: found 2, \['g1', 'g2'\], but the checkpoint has 29 genes"),
        ({"genes": ["g1"] * 29}, r"`genes`: \['g1'\] named more than once"),
    ],
    ids=["bins", "threshold", "phenotype", "column", "few genes", "genes twice"],
)
def test_arguments_that_do_not_fit_are_refused(kwargs, match, theirs):
    arguments = {"vocabulary": theirs.folder, "genes": [f"g{i}" for i in range(29)]} | kwargs
    with pytest.raises(ValueError, match=match):
        Polygene.from_original(theirs.folder, **arguments)


@pytest.mark.parametrize("their_bins", [2], ids=["binary"], indirect=True)
@pytest.mark.parametrize(
    ("threshold", "match"),
    [(None, "`threshold`: the checkpoint has two bins, but not the minimum value"), (0.0, "begin with 0 and ascend")],
    ids=["absent", "zero"],
)
def test_two_bins_need_a_threshold(threshold, match, theirs):
    genes = [f"g{i}" for i in range(29)]
    with pytest.raises(ValueError, match=match):
        Polygene.from_original(theirs.folder, vocabulary=theirs.folder, genes=genes, threshold=threshold)


@pytest.mark.parametrize("their_bins", [10], ids=["binned"], indirect=True)
@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"vocab_size": 24}, r"`vocabulary`: vocab.txt has 23 tokens and the checkpoint 24, which leaves 1"),
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
