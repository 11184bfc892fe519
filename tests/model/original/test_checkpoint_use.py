"""A model of the original's checkpoint is an ordinary one, fine-tunes, and goes out again to where it came from."""

import json
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch import Callback
from transformers import BertForMaskedLM

from polygene_scverse.model import Polygene
from polygene_scverse.model.original._files import ORIGINAL_COLUMNS, read_vocabulary

QUIET = {"enable_progress_bar": False}


# an ordinary model


def test_what_is_known_of_the_model(imported, theirs, labelled):
    assert imported.categories == theirs.categories
    assert imported.genes == theirs.order(labelled)[: theirs.n_genes]
    assert imported.edges_ == theirs.edges
    assert imported.is_trained
    assert imported.adata is None
    assert imported.module.linear is None
    assert imported.module.config.layer_norm_eps == 1e-6
    assert imported.mask_ == "original"
    assert not imported.module.training


def test_registry_is_that_of_a_model_with_data(imported, labelled):
    before = imported.registry
    imported.adata = labelled

    def shape(value):
        return {str(k): shape(v) for k, v in value.items()} if isinstance(value, dict) else type(value)

    with_data = {key: value for key, value in imported.registry.items() if key != "_scvi_uuid"}
    assert shape(before) == shape(with_data)
    assert before["setup_args"] == with_data["setup_args"]


def test_saved_and_loaded_it_is_the_same(imported, labelled, tmp_path):
    imported.save(tmp_path / "model")
    for adata in (False, labelled):
        loaded = Polygene.load(tmp_path / "model", adata=adata)
        assert (loaded.mask_, loaded.edges_, loaded.genes) == ("original", imported.edges_, imported.genes)
        pd.testing.assert_frame_equal(
            loaded.predict_phenotype(labelled)["age"], imported.predict_phenotype(labelled)["age"], check_exact=True
        )


def test_without_data_it_stays_the_original_s(imported, labelled):
    model = imported.without_data()
    assert model.mask_ == "original"
    assert model.predict_phenotype(labelled)["age"].shape == (40, 2)


def test_codes_are_those_of_the_columns(imported, theirs, labelled):
    imported.adata = labelled
    for name, column in ORIGINAL_COLUMNS.items():
        expected = pd.Categorical(labelled.obs[column], categories=theirs.categories[name]).codes
        np.testing.assert_array_equal(imported.codes()[name], expected)


def test_it_is_fine_tuned_and_warns_once(imported, labelled):
    imported.adata = labelled
    edges, before = imported.edges_, imported.module.head.dense.weight.clone()
    with pytest.warns(UserWarning, match="weights are from the original, whose attention mask reveals") as caught:
        imported.train(max_epochs=1, **QUIET)
    assert len(caught) == 1
    assert imported.edges_ == edges
    assert not imported.module.head.dense.weight.equal(before)
    assert imported.mask_ == "leak-free"
    assert np.isfinite(imported.history_["train_loss"].to_numpy(dtype=float)).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        imported.train(max_epochs=2, **QUIET)
    assert len(imported.history_["train_loss"]) == 3


def test_training_without_data_is_refused_in_words(imported):
    with pytest.raises(ValueError, match=r"`adata`: the model has no data to train on. Set model.adata = adata first"):
        imported.train(max_epochs=1)
    assert imported.mask_ == "original"


def test_a_training_that_fails_leaves_a_model_that_predicts(imported, labelled):
    imported.adata = labelled

    class Failing(Callback):
        def on_train_start(self, *_):
            raise RuntimeError("out of memory")

    with pytest.warns(UserWarning, match="original"), pytest.raises(RuntimeError, match="out of memory"):
        imported.train(max_epochs=1, callbacks=[Failing()], **QUIET)
    assert imported.mask_ == "original"
    assert imported.predict_phenotype()["sex"].shape == (40, 2)


# out


def test_out_and_in_again_the_logits_are_equal(imported, theirs, labelled, tmp_path):
    imported.to_original(tmp_path / "out")
    bert, report = BertForMaskedLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(report.values())
    ids, mask = theirs.sentences(labelled, imported.genes)
    for ours, expected in zip(theirs.states(ids, mask, bert.eval()), theirs.states(ids, mask), strict=True):
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)
    assert read_vocabulary(tmp_path / "out") == read_vocabulary(theirs.folder)
    again = Polygene.from_original(tmp_path / "out")
    assert (again.layout, again.edges_, again.mask_) == (imported.layout, imported.edges_, "original")
    pd.testing.assert_frame_equal(again.predict_phenotype(labelled)["age"], imported.predict_phenotype(labelled)["age"])


def test_an_ordinary_model_is_read_by_transformers(trained, tmp_path):
    model = trained(model_kwargs={"linear_path": False, "gene_decoder": False})
    model.to_original(tmp_path / "new" / "out")
    bert = BertForMaskedLM.from_pretrained(tmp_path / "new" / "out").eval()
    words = (tmp_path / "new" / "out" / "vocab.txt").read_text().splitlines()
    assert words == list(model.layout.vocabulary[: model.layout.first_bin_id])
    assert sorted(p.name for p in (tmp_path / "new" / "out").iterdir()) == [
        *("config.json", "genes.txt", "model.safetensors", "vocab.txt")
    ]
    table = model._cells(model.adata, np.arange(10)).read_all()
    ids = np.full((10, model.layout.length), model.layout.first_bin_id)
    ids[:, model.layout.special_positions] = model.layout.special_tokens
    row = np.repeat(np.arange(10), table.cells.lengths)
    ids[row, 4 + table.cells.genes] += table.cells.bins
    ids = torch.from_numpy(ids)
    with torch.no_grad():
        logits = bert(ids, attention_mask=(ids != model.layout.first_bin_id).long()).logits
    for slot, name in enumerate(("cell_type", "sex"), start=1):
        expected = logits[:, slot, list(model.layout.phenotypes[slot - 1].ids)].softmax(-1)
        np.testing.assert_allclose(model.predict_phenotype(indices=range(10))[name], expected, atol=1e-5)


@pytest.mark.parametrize("n_bins", [2, 7], ids=["binary", "binned"])
def test_an_ordinary_model_is_read_again(n_bins, cells, trained, tmp_path):
    """With phenotypes that the original does not have, labels that look alike, and no leak in its mask."""
    adata = cells(n_obs=60)
    adata.obs["cell_type"] = adata.obs["cell_type"].cat.rename_categories({"cell_type_0": "CD4+/CD25 T"})
    model = trained(
        adata, {"linear_path": False, "gene_decoder": False, "n_bins": n_bins}, validation_size=0
    )  # and so not calibrated
    model.to_original(tmp_path / "out")
    again = Polygene.from_original(tmp_path / "out")
    assert (again.layout, again.edges_, again.mask_) == (model.layout, model.edges_, "leak-free")
    assert again.registry["setup_args"]["phenotype_keys"] == ["cell_type", "sex"]
    for name, table in model.predict_phenotype(given="sex").items():
        pd.testing.assert_frame_equal(again.predict_phenotype(adata, given="sex")[name], table)
    again.adata = adata
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again.train(max_epochs=1, **QUIET)


def test_an_exported_model_needs_its_words(trained, tmp_path):
    trained(model_kwargs={"linear_path": False, "gene_decoder": False}).to_original(tmp_path / "out")
    (tmp_path / "out" / "vocab.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"`vocabulary`: there is no vocab.txt in .*out"):
        Polygene.from_original(tmp_path / "out")


@pytest.mark.parametrize("slots", [[{"name": "sex"}] * 2, ["age", "sex"]], ids=["part", "name"])
def test_a_damaged_note_of_the_phenotypes_is_refused(slots, trained, tmp_path):
    trained(model_kwargs={"linear_path": False, "gene_decoder": False}).to_original(tmp_path / "out")
    path = tmp_path / "out" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"polygene_phenotypes": slots}))
    with pytest.raises(ValueError, match=r"`folder`: polygene_phenotypes in config\.json is damaged: "):
        Polygene.from_original(tmp_path / "out")


def test_bins_that_ties_left_empty_come_back(imported, tmp_path):
    n_bins = imported.layout.n_bins
    imported.edges_ = [0.0, *[0.5] * (n_bins - 1)]
    imported.to_original(tmp_path / "out")
    assert Polygene.from_original(tmp_path / "out").edges_ == imported.edges_


def test_phenotypes_of_a_fine_tuned_model_are_still_the_original_s(imported, labelled, tmp_path):
    imported.adata = labelled
    with pytest.warns(UserWarning, match="original"):
        imported.train(max_epochs=1, validation_size=0, **QUIET)
    imported.to_original(tmp_path / "out")
    again = Polygene.from_original(tmp_path / "out")
    assert (again.layout, again.mask_) == (imported.layout, "leak-free")
    pd.testing.assert_frame_equal(again.predict_phenotype(labelled)["age"], imported.predict_phenotype()["age"])


def test_a_linear_path_is_left_out_only_when_asked(trained, tmp_path):
    model = trained(model_kwargs={"gene_decoder": False})
    match = r"`drop_linear_path`: the model has a linear path \(`linear_path=True`\).* drop_linear_path=True to leave"
    with pytest.raises(ValueError, match=match):
        model.to_original(tmp_path / "out")
    assert not (tmp_path / "out").exists()
    model.to_original(tmp_path / "out", drop_linear_path=True)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["bin_edges"] == model.edges_
    bert = BertForMaskedLM.from_pretrained(tmp_path / "out")
    torch.testing.assert_close(bert.cls.predictions.bias.data, model.module.head.bias.data, rtol=0, atol=0)


def test_a_gene_decoder_cannot_be_exported(trained, tmp_path):
    with pytest.raises(
        ValueError, match=r"`gene_decoder`: the model has a gene decoder.* Train with gene_decoder=False"
    ):
        trained(model_kwargs={"linear_path": False}).to_original(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_untrained_model_is_not_written(model_of, tmp_path):
    with pytest.raises(RuntimeError, match="The model is not trained"):
        model_of(linear_path=False, gene_decoder=False).to_original(tmp_path / "out")


def test_a_folder_that_exists_is_kept(trained, tmp_path):
    model = trained(model_kwargs={"linear_path": False, "gene_decoder": False})
    with pytest.raises(ValueError, match=r"`folder`: .* exists\. Pass overwrite=True, or another folder"):
        model.to_original(tmp_path)
    assert list(tmp_path.iterdir()) == []
    model.to_original(tmp_path, overwrite=True)
    assert (tmp_path / "model.safetensors").is_file()
