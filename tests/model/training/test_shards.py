"""The oracle is the model of the same cells in memory."""

import numpy as np
import pytest
import torch

from polygene_scverse.abilities import _calibrate
from polygene_scverse.data.feed._masking import MaskingRates
from polygene_scverse.data.read._scale import COUNTS
from polygene_scverse.data.shards import _feed
from polygene_scverse.data.shards._shard_set import ShardSet
from polygene_scverse.fit._linear_path import N_FOLDS, fit_discriminants
from polygene_scverse.model import Polygene
from polygene_scverse.model.training._fingerprint import cells_digest
from polygene_scverse.model.training._shards import read_shards, shard_registry
from polygene_scverse.model.training._training import train_model

SMALL = {"n_hidden": 16, "n_layers": 1, "n_heads": 2, "n_intermediate": 16}
KEYS = ["cell_type", "sex"]
SPLIT = np.arange(0, 240), np.arange(240, 300)
QUIET = {"enable_progress_bar": False}


def in_memory(adata, genes, max_epochs=1, limit=1.0, **kwargs):
    """A model trained on the cells in memory."""
    Polygene.setup_anndata(adata, phenotype_keys=KEYS)
    model = Polygene(adata, genes=genes, **SMALL, **kwargs)
    model.train(max_epochs=max_epochs, split=SPLIT, limit_train_batches=limit, **QUIET)
    return model


def untrained(paths, genes, **kwargs):
    """A model of the cells of files, and the files."""
    shards = ShardSet.open(paths, KEYS, "donor")
    return Polygene(None, shard_registry(Polygene, shards, KEYS, None), genes=genes, **SMALL, **kwargs), shards


def cells_of(model, shards, buffer_cells=1000, rows=SPLIT, binning=None):
    where = {"binning": binning or model.binning_, "groups": None, "buffer_cells": buffer_cells}
    return read_shards(shards, rows, model.layout, model._columns, [COUNTS] * len(shards.files), **where)


def of_files(paths, genes, buffer_cells=1000, rows=SPLIT, seed=0, max_epochs=1, limit=1.0, workers=0, **kwargs):
    """A model trained on them, as `train_on_files` does."""
    model, shards = untrained(paths, genes, **kwargs)
    arguments = {"max_epochs": max_epochs, "batch_size": 16, "seed": seed, "plan_kwargs": None, "checkpoints": None}
    arguments |= {"loader_kwargs": {"num_workers": workers}, **QUIET, "limit_train_batches": limit}
    train_model(model, cells_of(model, shards, buffer_cells, rows), MaskingRates(), **arguments)
    return model


def assert_same_weights(a, b):
    a, b = a.module.state_dict(), b.module.state_dict()
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


BINNINGS = {
    "quantile": {},
    "original": {"binning": "original", "n_bins": 5},
    "given": {"binning": [0.0, 5.0, 6.0], "n_bins": 3},
    "binary": {"n_bins": 2},
}


@pytest.mark.parametrize("binning", BINNINGS.values(), ids=BINNINGS)
def test_a_set_that_fits_is_trained_as_in_memory(binning, simulated, write_files):
    """To the last bit."""
    genes = list(simulated.var_names[5:45])
    theirs = in_memory(simulated, genes, max_epochs=2, **binning)
    ours = of_files(write_files(simulated), genes, max_epochs=2, **binning)
    assert ours.edges_ == theirs.edges_
    assert ours.categories == theirs.categories
    assert_same_weights(ours, theirs)
    assert ours.history_.keys() == theirs.history_.keys()
    for name, table in theirs.history_.items():
        np.testing.assert_array_equal(ours.history_[name], table, err_msg=name)


def test_the_result_is_an_ordinary_model(simulated, write_files, tmp_path):
    genes = list(simulated.var_names[5:45])
    model = of_files(write_files(simulated), genes)
    assert type(model) is Polygene
    assert model.adata is None
    model.save(tmp_path / "model")
    loaded = Polygene.load(tmp_path / "model", adata=False)
    expected = in_memory(simulated, genes).predict_phenotype()["cell_type"]
    for found in (model, loaded):
        np.testing.assert_array_equal(found.predict_phenotype(simulated)["cell_type"], expected)
    with pytest.raises(ValueError, match=r"loaded without data\. Pass the cells"):
        model.predict_phenotype()


def test_the_registry_says_what_that_of_all_cells_says(simulated, write_files):
    ours = untrained(write_files(simulated), ["gene1"])[0].registry
    Polygene.setup_anndata(simulated, phenotype_keys=KEYS)
    theirs = Polygene(simulated, genes=["gene1"], **SMALL).registry
    for field in theirs["field_registries"]:
        assert ours["field_registries"][field] == theirs["field_registries"][field], field
    assert ours["setup_args"] == theirs["setup_args"]


def test_several_buffers_train_the_same_in_any_number_of_workers(simulated, write_files, monkeypatch):
    monkeypatch.setattr(_feed, "BLOCK_CELLS", 10)
    paths, genes = write_files(simulated), list(simulated.var_names)
    models = [of_files(paths, genes, 50, workers=n) for n in (0, 2)]
    assert_same_weights(*models)
    other = of_files(paths, genes, 50, seed=1)
    assert not torch.equal(other.module.head.dense.weight, models[0].module.head.dense.weight)


def test_the_linear_path_is_that_of_the_cells_in_memory_however_they_are_read(simulated, write_files, monkeypatch):
    """Of all cells, or of the same draw of them: to the last bit, though other buffers train another transformer."""
    monkeypatch.setattr(_feed, "BLOCK_CELLS", 10)
    genes, paths = list(simulated.var_names[5:45]), write_files(simulated)
    for most in (20_000, 110):
        monkeypatch.setattr(_calibrate, "MAX_CELLS", most)
        whole, parts = in_memory(simulated, genes), of_files(paths, genes, 50)
        for name, value in whole.module.linear.state_dict().items():
            assert torch.equal(parts.module.linear.state_dict()[name], value), name
        assert not torch.equal(whole.module.head.dense.weight, parts.module.head.dense.weight)


def test_one_buffer_of_all_files_decides_the_edges(simulated, write_files, monkeypatch):
    """Near those of all cells."""
    monkeypatch.setattr(_feed, "BLOCK_CELLS", 10)
    genes = list(simulated.var_names)
    of_all = in_memory(simulated, genes).edges_
    edges = of_files(write_files(simulated), genes, 120).edges_
    assert edges != of_all
    np.testing.assert_allclose(edges, of_all, atol=0.2)


def test_a_training_with_other_buffers_is_another_one(simulated, write_files):
    """It does not go on where the first was interrupted: the order of cells differs."""
    paths, words = write_files(simulated), []
    for buffer_cells in (64, 64, 128):
        model, shards = untrained(paths, list(simulated.var_names))
        words.append(cells_digest(cells_of(model, shards, buffer_cells).train))
    assert words[0] == words[1] != words[2]
    assert words[0].endswith("buffers of 64")


def test_edges_of_an_earlier_training_are_kept(simulated, write_files):
    """Whichever cells are there now."""
    model, shards = untrained(write_files(simulated), list(simulated.var_names))
    edges = cells_of(model, shards).edges
    some = np.arange(100), np.arange(240, 300)
    assert cells_of(model, shards, rows=some).edges != edges
    found = cells_of(model, shards, rows=some, binning=edges)
    assert found.edges == edges
    bins = np.digitize(found.validation.cells.values.astype(float), edges) - 1
    np.testing.assert_array_equal(found.validation.cells.bins, bins)


def test_genes_that_a_file_lacks_are_said_and_centred_by_the_cells_that_have_them(simulated, write_files):
    """As by training on the other files alone."""
    genes = list(simulated.var_names[:20])
    paths = write_files(simulated, change=lambda i, part: part[:, 3:].copy() if i == 1 else part)
    with pytest.warns(
        UserWarning, match=r"Some of the 20 genes are unmeasured in 1 of 3 files: \['shard_1.h5ad lacks 3'\]"
    ):
        model = of_files(paths, genes)
    others = of_files([paths[0], paths[2]], genes, rows=(np.arange(190), np.arange(190, 250)))
    paths = [m.module.linear for m in (model, others)]
    for name in ("cap", "centre"):
        of_both = [getattr(path, name) for path in paths]
        np.testing.assert_allclose(of_both[0][:3], of_both[1][:3], rtol=1e-5, err_msg=name)
        assert not torch.allclose(of_both[0][3:], of_both[1][3:], rtol=1e-3), name
    assert torch.isfinite(paths[0].weights).all()
    assert paths[0].weights[:3].any()


def test_unmeasured_genes_are_average_ones_in_the_linear_path(simulated, write_files):
    """The dense oracle: 0 in standardised expression, whose statistics are of the cells that have the gene."""
    paths = write_files(simulated, change=lambda i, part: part[:, 3:].copy() if i == 1 else part)
    rows, genes = SPLIT[0], list(simulated.var_names[:20])
    with pytest.warns(UserWarning, match="are unmeasured in 1 of 3 files"):
        model = of_files(paths, genes)
    with pytest.warns(UserWarning, match="are unmeasured in 1 of 3 files"):
        table = cells_of(*untrained(paths, genes)).train.read(np.arange(len(rows)))
    x, measured = table.cells.matrix(20).toarray().astype(float), table.measured_in(np.arange(len(rows)))
    assert measured.all(1).sum() == 190
    x = np.where(measured, np.log1p(np.expm1(x) / 10.0), np.nan)
    deviation = np.nanstd(x, axis=0) + 0.2
    cap = np.nanmean(x, axis=0) + 5 * deviation
    centre = np.nanmean(np.minimum(x, cap), axis=0)
    standard = np.nan_to_num((np.minimum(x, cap) - centre) / deviation).astype(np.float32)
    folds = np.random.default_rng(0).permutation(len(rows)) % N_FOLDS
    labels = zip(table.codes.T, (3, 2), strict=True)
    parts = [fit_discriminants(lambda at: standard[at], codes, n, folds) for codes, n in labels]
    expected = np.concatenate([part.weights for part in parts], axis=1) / deviation[:, None]
    np.testing.assert_allclose(model.module.linear.weights, expected, rtol=1e-3, atol=1e-4)


def test_default_length_of_training(simulated, write_files):
    """As many epochs as in memory, though lengths are known of one buffer only."""
    genes, kwargs = list(simulated.var_names), {"max_epochs": None, "limit": 1}
    models = of_files(write_files(simulated), genes, 50, **kwargs), in_memory(simulated, genes, **kwargs)
    n_epochs = [len(model.history_["train_loss"]) for model in models]
    assert n_epochs[0] == n_epochs[1] > 1


def test_a_phenotype_with_one_category(simulated, write_files):
    simulated.obs["sex"] = "male"
    with pytest.raises(ValueError, match=r"obs\['sex'\] has only one category, 'male'"):
        untrained(write_files(simulated), ["gene1"])
