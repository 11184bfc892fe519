"""Models come back from disk as they were, and no file runs code."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from polygene_scverse.datasets import simulate
from polygene_scverse.model import Polygene

SMALL = {"n_hidden": 16, "n_layers": 1, "n_heads": 2, "n_intermediate": 16}
NAMES = ("cell_type", "sex")


class Touch:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def trained(**kwargs):
    adata = simulate(60, 40, missing=0.1)
    Polygene.setup_anndata(adata, phenotype_keys=list(NAMES))
    model = Polygene(adata, **{"genes": list(adata.var_names), **SMALL, **kwargs})
    model.train(max_epochs=2, enable_progress_bar=False)
    return model


@pytest.fixture(scope="module")
def model():
    return trained()


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "model"
    model.save(folder)
    return folder


@pytest.fixture
def query():
    return simulate(30, 40, seed=1)


def assert_same_predictions(a, b):
    for name in NAMES:
        pd.testing.assert_frame_equal(a[name], b[name], check_exact=True)


@pytest.mark.parametrize("adata", [False, None], ids=["False", "None"])
def test_without_data(model, folder, query, adata):
    loaded = Polygene.load(folder, adata=adata)
    assert loaded.adata is None
    assert_same_predictions(loaded.predict_phenotype(query), model.predict_phenotype(query))
    np.testing.assert_array_equal(loaded.get_latent_representation(query), model.get_latent_representation(query))


def test_with_data(model, folder):
    loaded = Polygene.load(folder, adata=model.adata)
    assert_same_predictions(loaded.predict_phenotype(), model.predict_phenotype())


def test_saved_data_come_back(model, tmp_path):
    model.save(tmp_path / "model", save_anndata=True)
    loaded = Polygene.load(tmp_path / "model")
    assert loaded.adata is not model.adata
    pd.testing.assert_index_equal(loaded.adata.obs_names, model.adata.obs_names)
    assert_same_predictions(loaded.predict_phenotype(), model.predict_phenotype())
    assert Polygene.load(tmp_path / "model", adata=False).adata is None


@pytest.mark.parametrize(
    "kwargs",
    [
        {"n_bins": 2},
        {"n_bins": 4, "binning": np.array([0, 0.5, 1, 2])},
        {"linear_path": False},
        {"loss": {"bin_width": 2.0}, "dropout": 0.3},
        {"genes": None, "n_genes": 12},
    ],
    ids=["binary", "edges", "no linear path", "loss and sizes", "ranked genes"],
)
def test_every_kind_of_model_comes_back(kwargs, tmp_path, query):
    model = trained(**kwargs)
    model.save(tmp_path / "model")
    loaded = Polygene.load(tmp_path / "model", adata=False)
    assert loaded.layout == model.layout
    assert (loaded.module.config, loaded.module.loss_config) == (model.module.config, model.module.loss_config)
    assert_same_predictions(loaded.predict_phenotype(query), model.predict_phenotype(query))


def test_state_comes_back(model, folder):
    loaded = Polygene.load(folder, adata=False)
    assert loaded.layout == model.layout
    assert loaded.edges_ == model.edges_
    assert loaded.categories == model.categories
    assert loaded.genes == model.genes
    np.testing.assert_array_equal(loaded.train_indices, model.train_indices)
    np.testing.assert_array_equal(loaded.validation_indices, model.validation_indices)
    assert loaded.is_trained
    assert not loaded.module.training
    for name, value in model.module.state_dict().items():
        assert torch.equal(value, loaded.module.state_dict()[name]), name


def test_history_comes_back(model, folder):
    loaded = Polygene.load(folder, adata=False)
    assert set(loaded.history_) == set(model.history_)
    for name, table in model.history_.items():
        expected = table.astype(float)
        pd.testing.assert_frame_equal(loaded.history_[name].astype(float), expected, check_column_type=False)


def test_a_loaded_model_is_saved_again(model, folder, tmp_path, query):
    Polygene.load(folder, adata=False).save(tmp_path / "again")
    again = Polygene.load(tmp_path / "again", adata=False)
    assert_same_predictions(again.predict_phenotype(query), model.predict_phenotype(query))
    assert set(again.history_) == set(model.history_)


def test_an_untrained_model_is_saved(tmp_path):
    adata = simulate(20, 10)
    Polygene.setup_anndata(adata)
    Polygene(adata, genes=["gene_1"], **SMALL).save(tmp_path / "model")
    assert not Polygene.load(tmp_path / "model", adata=False).is_trained


def test_a_loaded_model_trains_on(folder):
    loaded = Polygene.load(folder, adata=simulate(60, 40, missing=0.1))
    edges = list(loaded.edges_)
    loaded.train(max_epochs=1, enable_progress_bar=False)
    assert loaded.edges_ == edges
    assert len(loaded.history_["train_loss"]) == 3


def test_going_on_after_loading_is_going_on_without(tmp_path):
    a = trained()
    a.save(tmp_path / "model")
    b = Polygene.load(tmp_path / "model", adata=a.adata)
    for model in (a, b):
        model.train(max_epochs=1, enable_progress_bar=False, seed=5)
    for name, value in a.module.state_dict().items():
        assert torch.equal(value, b.module.state_dict()[name]), name


# other data than those of the training


def test_other_genes_are_matched_by_name(model, folder, query):
    order = np.random.default_rng(0).permutation(40)
    loaded = Polygene.load(folder, adata=query[:, order].copy())
    assert_same_predictions(loaded.predict_phenotype(), model.predict_phenotype(query))


def test_data_without_the_phenotypes_are_welcome(model, folder, query):
    bare = query.copy()
    bare.obs = bare.obs[[]]
    assert_same_predictions(Polygene.load(folder, adata=bare).predict_phenotype(), model.predict_phenotype(query))


def test_labels_that_are_not_known_are_said_once(model, folder, query):
    query.obs["sex"] = ["sex_0", "other"] * 15
    with pytest.warns(UserWarning, match=r"obs\['sex'\]: the model was not trained on \['other'\]") as caught:
        loaded = Polygene.load(folder, adata=query)
    assert len(caught) == 1
    assert loaded.codes()["sex"].tolist() == [0, -1] * 15
    assert_same_predictions(loaded.predict_phenotype(), model.predict_phenotype(query))


# files


@pytest.mark.parametrize("prefix", [None, "best_"], ids=["no prefix", "prefix"])
def test_prefix(model, tmp_path, query, prefix):
    model.save(tmp_path / "model", prefix=prefix)
    assert (tmp_path / "model" / f"{prefix or ''}model.json").is_file()
    loaded = Polygene.load(tmp_path / "model", adata=False, prefix=prefix)
    assert_same_predictions(loaded.predict_phenotype(query), model.predict_phenotype(query))


def test_a_folder_is_not_overwritten_unasked(model, folder):
    with pytest.raises(ValueError, match="already exists"):
        model.save(folder)
    model.save(folder, overwrite=True)


def test_an_absent_folder_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"`dir_path`: there is no folder"):
        Polygene.load(tmp_path / "nothing")


READERS = {
    "load": Polygene.load,
    "load_registry": Polygene.load_registry,
    "view_setup_args": Polygene.view_setup_args,
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS.keys())
def test_a_crafted_file_runs_no_code(folder, tmp_path, read):
    marker = tmp_path / "marker"
    (tmp_path / "model").mkdir()
    torch.save({"attr_dict": Touch(marker)}, tmp_path / "model" / "model.pt")
    with pytest.raises(ValueError, match="a pickled model of scvi-tools, which could run code"):
        read(tmp_path / "model")
    assert not marker.exists()
    for file in folder.iterdir():  # a pickle in the place of each file
        shutil.rmtree(tmp_path / "model")
        shutil.copytree(folder, tmp_path / "model")
        torch.save({"attr_dict": Touch(marker)}, tmp_path / "model" / file.name)
        with pytest.raises(ValueError, match="is damaged"):
            read(tmp_path / "model")
    assert not marker.exists()


def test_the_registry_of_a_saved_model_is_read(model, folder):
    assert Polygene.load_registry(folder)["setup_args"]["phenotype_keys"] == list(NAMES)


def test_setup_arguments_of_a_saved_model_are_shown(folder, capsys):
    Polygene.view_setup_args(folder)
    assert "phenotype_keys" in capsys.readouterr().out


def test_the_old_format_is_not_read(folder, tmp_path):
    with pytest.raises(AttributeError, match="no version of Polygene wrote scvi-tools' old format"):
        Polygene.convert_legacy_save(folder, tmp_path / "new")


def test_of_several_processes_the_first_saves(trained, tmp_path):
    model = trained()
    assert model.first_process
    model.first_process = False
    for other in (model, model.without_data()):
        other.save(tmp_path / "model")
    assert not (tmp_path / "model").exists()
