"""The oracle of a training in one call is each of its steps alone; that of files the cells in memory."""

import gc
import weakref
from types import SimpleNamespace

import anndata as ad
import lightning.pytorch as pl
import mudata as md
import numpy as np
import pandas as pd
import pytest
import torch

from polygene_scverse._constants import RANK
from polygene_scverse.data.read._expression import Expression
from polygene_scverse.data.read._ranking import choose_genes
from polygene_scverse.data.read._split import resolve_split
from polygene_scverse.data.shards._shard_set import ShardSet
from polygene_scverse.model import Polygene, _recipe
from polygene_scverse.model._recipe import train_on_cells, train_on_files

SMALL = {"n_hidden": 16, "n_layers": 1, "n_heads": 2, "n_intermediate": 16}
QUIET = {"model_kwargs": SMALL, "max_epochs": 1, "enable_progress_bar": False}
KEYS = ["cell_type", "sex"]


def assert_same_model(a, b):
    assert a.genes == b.genes
    assert a.edges_ == b.edges_
    assert a.categories == b.categories
    for name in ("train_indices", "validation_indices"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    np.testing.assert_equal(a.calibration_, b.calibration_)  # errors of no cells are NaN
    for name, value in a.module.state_dict().items():
        assert torch.equal(value, b.module.state_dict()[name]), name


def by_steps(adata, rows, genes, seed=0, group_key=None, **kwargs):
    Polygene.setup_anndata(adata, phenotype_keys=KEYS)
    model = Polygene(adata, genes=genes, seed=seed, **SMALL)
    model.train(split=rows, group_key=group_key, seed=seed, max_epochs=1, enable_progress_bar=False, **kwargs)
    return model


# cells in memory


ARGUMENTS = {
    "default": {},
    "groups and a seed": {"group_key": "donor", "validation_size": 0.3, "seed": 4},
    "split": {"split": (np.arange(200), np.arange(200, 300))},
    "masking and batches": {"masking": {"expressed": 0.4}, "batch_size": 32, "plan_kwargs": {"lr": 0.01}},
    "trainer": {"limit_train_batches": 3, "accumulate_grad_batches": 2},
}


@pytest.mark.parametrize("arguments", ARGUMENTS.values(), ids=ARGUMENTS)
def test_as_its_steps_alone(arguments, simulated):
    """A split, genes ranked on the training cells, a set-up and a training."""
    found = train_on_cells(simulated.copy(), phenotypes=KEYS, n_genes=20, **arguments, **QUIET)
    seed, key = arguments.get("seed", 0), arguments.get("group_key")
    rows = resolve_split(simulated, key, arguments.get("validation_size", 0.1), arguments.get("split"), seed)
    genes = choose_genes(Expression.of(simulated), rows[0], 20, seed=seed)
    rest = {name: value for name, value in arguments.items() if name not in ("split", "validation_size")}
    assert_same_model(found, by_steps(simulated.copy(), rows, genes, **rest))


def test_without_held_out_cells_there_are_no_groups(simulated):
    model = train_on_cells(simulated, phenotypes=KEYS, group_key="donor", validation_size=0.0, **QUIET)
    assert len(model.train_indices) == 300
    assert not [name for name in model.history_ if "validation" in name]
    assert {entry["n_groups"] for entry in model.calibration_.values()} == {0}


def test_ranks_that_are_there_decide(simulated):
    simulated.var[RANK] = np.arange(60.0)[::-1]
    assert train_on_cells(simulated, phenotypes=KEYS, n_genes=5, **QUIET).genes == list(simulated.var_names[:54:-1])


def places(simulated):
    """The same counts elsewhere; X cannot be used."""
    data = simulated.copy()
    data.layers["counts"], data.raw = data.X, data.copy()
    data.X = -data.X
    return data


@pytest.mark.parametrize("where", [{"layer": "counts"}, {"use_raw": True}], ids=["layer", "raw"])
def test_expression_of_another_place(where, simulated):
    expected = train_on_cells(simulated, phenotypes=KEYS, n_genes=20, **QUIET)
    found = train_on_cells(places(simulated), phenotypes=KEYS, n_genes=20, **where, **QUIET)
    assert_same_model(found, expected)


def test_ranks_of_raw_are_those_of_its_own_genes(simulated):
    data = simulated[:, :30].copy()
    simulated.var[RANK] = np.arange(60.0)[::-1]
    data.raw = simulated
    model = train_on_cells(data, phenotypes=KEYS, n_genes=5, use_raw=True, **QUIET)
    assert model.genes == list(simulated.var_names[:54:-1])


def test_backed_cells(simulated, tmp_path):
    simulated.write_h5ad(tmp_path / "cells.h5ad")
    expected = train_on_cells(simulated, phenotypes=KEYS, n_genes=20, **QUIET)
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    assert_same_model(train_on_cells(backed, phenotypes=KEYS, n_genes=20, **QUIET), expected)
    backed.file.close()


def test_a_modality(simulated):
    other = simulated[:, :3].copy()
    other.var_names = ["protein1", "protein2", "protein3"]
    expected = train_on_cells(simulated.copy(), phenotypes=KEYS, n_genes=20, **QUIET)
    with md.set_options(pull_on_update=False):
        data = md.MuData({"other": other, "rna": simulated})
    assert_same_model(train_on_cells(data, phenotypes=KEYS, n_genes=20, mod="rna", **QUIET), expected)


def test_what_was_decided_is_told_before_the_training(simulated):
    told = []
    rest = {"group_key": "donor", "n_genes": 20, **QUIET}
    model = train_on_cells(
        places(simulated), phenotypes=KEYS, layer="counts", tell=lambda d: told.append((d, d.model.is_trained_)), **rest
    )
    ((decisions, trained),) = told
    assert not trained
    assert decisions.model is model
    for rows, kept in zip(decisions.rows, (model.train_indices, model.validation_indices), strict=True):
        np.testing.assert_array_equal(rows, kept)
    assert (decisions.scale.kind, decisions.where, decisions.n_vars) == ("counts", "adata.layers['counts']", 60)
    labels = simulated.obs["cell_type"].cat.codes.to_numpy()
    np.testing.assert_array_equal(decisions.codes["cell_type"], labels[decisions.rows[0]])
    assert set(decisions.codes) == set(KEYS)


def test_the_expression_that_was_read_is_let_go_before_the_training(simulated, monkeypatch):
    """Tokens are kept, nothing else."""
    loaded, load = [], Expression.loaded

    def loading(self):
        found = load(self)
        loaded.append(weakref.ref(found))
        return found

    class Look(pl.Callback):
        def on_train_start(self, trainer, module):
            gc.collect()
            self.gone = loaded[0]() is None

    monkeypatch.setattr(Expression, "loaded", loading)
    look = Look()
    train_on_cells(simulated, phenotypes=KEYS, callbacks=[look], **QUIET)
    assert look.gone


def test_an_argument_that_nobody_knows_is_refused(simulated):
    with pytest.raises(TypeError, match="epochs"):
        train_on_cells(simulated, phenotypes=KEYS, epochs=3, **QUIET)


# files


@pytest.mark.parametrize(
    "arguments",
    [{}, {"group_key": "donor", "seed": 3}, {"validation_size": 0.0}, ARGUMENTS["masking and batches"]],
    ids=["default", "groups and a seed", "no validation", "masking and batches"],
)
def test_files_that_fit_are_trained_on_as_cells_in_memory(arguments, simulated, write_files):
    shards = ShardSet.open(write_files(simulated), KEYS, "donor")
    found = train_on_files(shards, phenotypes=KEYS, n_genes=20, **arguments, **QUIET)
    assert_same_model(found, train_on_cells(simulated, phenotypes=KEYS, n_genes=20, **arguments, **QUIET))
    assert found.adata is None


def test_what_was_decided_of_files_is_told(simulated, write_files):
    told, shards = [], ShardSet.open(write_files(simulated), KEYS)
    model = train_on_files(shards, phenotypes=KEYS, n_genes=20, tell=told.append, **QUIET)
    (decisions,) = told
    assert (decisions.model.genes, decisions.model.categories) == (model.genes, model.categories)  # now without data
    assert (decisions.scale.kind, decisions.where, decisions.n_vars) == ("counts", "X of 3 files", 60)
    labels = simulated.obs["cell_type"].cat.codes.to_numpy()
    np.testing.assert_array_equal(decisions.codes["cell_type"], labels[decisions.rows[0]])


def test_of_many_held_out_cells_a_draw_is_looked_at(simulated, write_files, monkeypatch):
    """Of whole groups; the rest of them is not trained on."""
    monkeypatch.setattr(_recipe, "MAX_HELD_OUT", 12)
    told, shards = [], ShardSet.open(write_files(simulated), KEYS, "donor")
    model = train_on_files(shards, phenotypes=KEYS, group_key="donor", validation_size=0.17, tell=told.append, **QUIET)
    train, held_out = told[0].rows
    assert (len(train), len(held_out), len(model.validation_indices)) == (250, 50, 12)
    assert set(model.validation_indices) < set(held_out)
    np.testing.assert_array_equal(model.train_indices, train)
    assert np.all(np.diff(model.validation_indices) > 0)


@pytest.mark.parametrize(
    ("n_obs", "group_key", "expected"),
    [(1000, None, 0.1), (1_000_000, None, 0.01), (1_000_000, "donor", 0.1)],
    ids=["few cells", "many cells", "groups"],
)
def test_share_held_out(n_obs, group_key, expected, monkeypatch):
    class Asked(Exception):  # noqa: N818
        pass

    def ask(data, group_key, validation_size, split, seed, names):
        raise Asked(validation_size)

    monkeypatch.setattr(_recipe, "resolve_split", ask)
    shards = SimpleNamespace(n_obs=n_obs, obs=pd.DataFrame({"sex": ["female", "male"] * 5, "donor": range(10)}))
    with pytest.raises(Asked) as asked:
        train_on_files(shards, group_key=group_key, validation_size=0.1)
    assert asked.value.args == (expected,)
