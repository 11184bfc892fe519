"""The oracle is `train` on the cells in memory."""

import warnings

import anndata as ad
import numpy as np
import pytest
import torch

import polygene_scverse as pgs
from polygene_scverse._constants import RANK
from polygene_scverse.data.shards import _feed
from polygene_scverse.model import _recipe


def assert_same_model(a, b):
    assert a.genes == b.genes
    assert a.edges_ == b.edges_
    assert a.categories == b.categories
    np.testing.assert_array_equal(a.train_indices, b.train_indices)
    np.testing.assert_array_equal(a.validation_indices, b.validation_indices)
    for name, value in a.module.state_dict().items():
        assert torch.equal(value, b.module.state_dict()[name]), name


def concatenated(paths):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read = ad.read_h5ad if paths[0].suffix == ".h5ad" else ad.read_zarr
        return ad.concat([read(path) for path in paths])


@pytest.fixture
def small(small):
    """One epoch is enough here."""
    return {**small, "max_epochs": 1}


ARGUMENTS = {
    "default": {},
    "groups": {"group_key": "donor", "phenotypes": "cell_type"},
    "split": {"split": (np.arange(200), np.arange(200, 300))},
    "no validation": {"validation_size": 0.0},
    "seed": {"seed": 5, "validation_size": 0.3, "max_epochs": 2},
}


@pytest.mark.parametrize("arguments", ARGUMENTS.values(), ids=ARGUMENTS)
def test_files_that_fit_are_trained_as_in_memory(arguments, simulated, small, write_files):
    paths = write_files(simulated)
    arguments = {**small, "n_genes": 25, **arguments}
    assert_same_model(pgs.tl.train(paths, **arguments), pgs.tl.train(concatenated(paths), **arguments))


def test_a_pattern_a_list_and_zarr_give_the_same(simulated, small, write_files, tmp_path):
    paths = write_files(simulated)
    first = pgs.tl.train(paths, **small)
    write_files(simulated, suffix="zarr")
    for pattern in ("shard_{0..2}.h5ad", "shard_?.h5ad", "shard_{0..2}.zarr"):
        assert_same_model(pgs.tl.train(str(tmp_path / pattern), **small), first)


def test_genes_in_another_order_are_matched_by_name(simulated, small, write_files):
    """The first file decides the order of equal ranks, so that it keeps its own."""
    paths = write_files(simulated)
    expected = pgs.tl.train(paths, n_genes=25, **small)
    rng = np.random.default_rng(0)
    paths = write_files(simulated, change=lambda i, part: part[:, rng.permutation(60)].copy() if i else part)
    found = pgs.tl.train(paths, n_genes=25, **small)
    assert found.genes == expected.genes
    a, b = (model.predict_phenotype(simulated)["sex"] for model in (found, expected))
    np.testing.assert_allclose(a, b, atol=1e-4)  # totals are summed in another order


def test_genes_are_those_that_all_files_rank(simulated, small, write_files):
    simulated.var[RANK] = np.arange(60)[::-1].astype(float)
    model = pgs.tl.train(write_files(simulated), n_genes=5, **small)
    assert model.genes == list(simulated.var_names[::-1][:5])


def test_what_the_groups_determine_is_said(simulated, small, write_files):
    simulated.obs["sex"] = np.where(simulated.obs["donor"].astype(str) < "donor3", "male", "female")
    paths, models = write_files(simulated), []
    for cells in (paths, concatenated(paths)):
        with pytest.warns(UserWarning, match=r"phenotypes that depend on 'donor' cannot be separated from it.*sex"):
            models.append(pgs.tl.train(cells, phenotypes=["sex", "cell_type"], group_key="donor", **small))
    assert models[0].fitted_.confounding == models[1].fitted_.confounding


def test_several_buffers_learn_as_well(simulated, small, write_files, monkeypatch):
    monkeypatch.setattr(_feed, "BLOCK_CELLS", 10)
    paths, fit = write_files(simulated), {**small, "max_epochs": 12, "plan_kwargs": {"lr": 0.01}}
    whole, parts = pgs.tl.train(paths, **fit), pgs.tl.train(paths, buffer_cells=50, **fit)
    first, last = (
        np.array([model.history_["train_loss"].iloc[at, 0] for model in (whole, parts)], dtype=float) for at in (0, -1)
    )
    np.testing.assert_allclose(first[1], first[0], atol=0.15)
    assert (last < first - 2).all(), (first, last)  # by seed, 2.9 to 6.4 with one buffer, and 4.2 to 6.2 with several
    genes = [float(model.history_["gene_loss_train"].iloc[-1, 0]) for model in (whole, parts)]
    np.testing.assert_allclose(genes[1], genes[0], atol=0.1)


def test_files_are_left_as_they_are(simulated, small, write_files):
    paths = write_files(simulated)
    before = [path.read_bytes() for path in paths]
    pgs.tl.train(paths, **small)
    assert [path.read_bytes() for path in paths] == before


def test_the_model_is_saved_and_predicts(simulated, small, write_files, tmp_path):
    model = pgs.tl.train(write_files(simulated), save_to=tmp_path / "model", **small)
    pgs.tl.predict_phenotype(simulated, model=tmp_path / "model")
    np.testing.assert_allclose(simulated.obsm["polygene_sex_proba"], model.predict_phenotype(simulated)["sex"])


def test_the_summary_says_what_was_decided(simulated, small, write_files, capsys):
    pgs.tl.train(write_files(simulated), group_key="donor", **{**small, "verbose": True})
    said = capsys.readouterr().out
    for word in ("X of 3 files", "counts", "cell_type", "donor", "60 of 60"):
        assert word in said, word


def test_held_out_cells_are_bounded(simulated, small, write_files, monkeypatch):
    """Single cells beyond the bound are trained on; of whole groups some cells are not looked at."""
    monkeypatch.setattr(_recipe, "MAX_HELD_OUT", 12)
    paths = write_files(simulated)
    ways = {
        "cells": {},
        "few groups": {"group_key": "donor"},
        "groups": {"group_key": "donor", "validation_size": 0.17},
    }
    models = {name: pgs.tl.train(paths, **kwargs, **small) for name, kwargs in ways.items()}
    cells, few, groups = models.values()
    assert {len(model.validation_indices) for model in models.values()} == {12}
    assert len(cells.train_indices) == len(few.train_indices) == 288
    donors = simulated.obs["donor"].to_numpy()
    assert len(groups.train_indices) == 250
    assert not set(donors[groups.train_indices]) & set(donors[groups.validation_indices])


ERRORS = {
    "no file": ("none_{0..2}.h5ad", {}, FileNotFoundError, r"no file matches '.*none_0\.h5ad', of the pattern"),
    "column": (
        "*.h5ad",
        {"phenotypes": "age"},
        KeyError,
        r"`phenotypes`: 'age' is not a column of obs in .*shard_0\.h5ad",
    ),
    "group": ("*.h5ad", {"group_key": "batch"}, KeyError, r"`group_key`: 'batch' .*shard_0\.h5ad"),
    "layer": ("*.h5ad", {"layer": "counts"}, KeyError, r"layers/counts is not in .*shard_0\.h5ad"),
    "buffer": (
        "*.h5ad",
        {"buffer_cells": 8, "batch_size": 16},
        ValueError,
        r"`buffer_cells`: found 8, but a buffer must",
    ),
}


@pytest.mark.parametrize(("pattern", "arguments", "error", "match"), ERRORS.values(), ids=ERRORS)
def test_wrong_input(pattern, arguments, error, match, simulated, small, write_files, tmp_path):
    write_files(simulated)
    with pytest.raises(error, match=match):
        pgs.tl.train(str(tmp_path / pattern), **arguments, **small)


def test_something_else_is_no_data(small):
    with pytest.raises(TypeError, match=r"`adata`: found 3\. Pass AnnData, MuData, or the paths"):
        pgs.tl.train(3, **small)
