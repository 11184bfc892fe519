"""What a user of scvi-tools expects of a model."""

import threading

import numpy as np
import pytest
import scvi

import polygene_scverse as pgs
from polygene_scverse.model import Polygene

QUIET = {"enable_progress_bar": False, "batch_size": 64}


@pytest.fixture
def make(simulated):
    """A function that sets up an untrained model."""

    def make(**kwargs):
        adata = simulated.copy()
        Polygene.setup_anndata(adata, "donor")
        return Polygene(adata, n_genes=20, n_hidden=16, n_layers=1, n_intermediate=16, **kwargs)

    return make


def weights(model):
    return np.concatenate([p.detach().numpy().ravel() for p in model.module.parameters()])


def test_epochs_come_first(make):
    model = make()
    model.train(1, **QUIET)
    assert len(model.history_["train_loss"]) == 1


def test_the_share_to_train_on(make):
    model = make()
    model.train(1, train_size=0.8, **QUIET)
    assert len(model.train_indices) == 240
    assert len(model.validation_indices) == 60
    with pytest.raises(ValueError, match=r"`train_size`: found 0.8 with validation_size=0.1"):
        model.train(1, train_size=0.8, validation_size=0.1, **QUIET)


def test_rows_of_both_sides(make):
    model = make()
    indexing = [np.arange(200), np.arange(200, 260), np.array([], dtype=int)]
    model.train(1, datasplitter_kwargs={"external_indexing": indexing}, **QUIET)
    np.testing.assert_array_equal(model.train_indices, indexing[0])
    np.testing.assert_array_equal(model.validation_indices, indexing[1])
    with pytest.raises(ValueError, match="names test cells"):
        model.train(1, datasplitter_kwargs={"external_indexing": [[0], [1], [2]]}, **QUIET)
    with pytest.raises(ValueError, match="pin_memory"):
        model.train(1, datasplitter_kwargs={"pin_memory": True}, **QUIET)


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"shuffle_set_split": False}, "`shuffle_set_split`.*split="),
        ({"load_sparse_tensor": True}, "`load_sparse_tensor`.*Only expressed genes"),
        ({"plan_kwargs": {"reduce_lr_on_plateau": True}}, "'reduce_lr_on_plateau'.*schedule"),
        ({"plan_kwargs": {"learning_rate": 1.0}}, r"'learning_rate'. There are \['lr'"),
        ({"max_epoch": 3}, "`max_epoch`"),
        ({"datamodule": None}, "`datamodule`"),
    ],
    ids=["shuffle", "sparse", "plateau", "plan", "misspelled", "datamodule"],
)
def test_what_has_no_use_is_not_swallowed(make, kwargs, words):
    model = make()
    before = weights(model)
    with pytest.raises(TypeError, match=words):
        model.train(1, **QUIET, **kwargs)
    np.testing.assert_array_equal(weights(model), before)
    assert not model.is_trained


def test_the_seed_of_scvi_tools_counts(make, simulated, small, monkeypatch):
    def trained(**kwargs):
        model = make(**kwargs)
        model.train(1, **QUIET, **kwargs)
        return weights(model)

    first = trained(seed=3)
    assert not np.array_equal(first, trained())
    monkeypatch.setattr(scvi.settings, "_seed", 3)
    np.testing.assert_array_equal(first, trained())
    assert make().init_params_["non_kwargs"]["seed"] == 3
    assert pgs.tl.train(simulated, phenotypes="donor", **small).init_params_["non_kwargs"]["seed"] == 3
    assert simulated.uns["polygene"]["train"]["seed"] == 3


def test_two_threads_train_as_each_does_alone(make):
    models = [make(seed=seed) for seed in (0, 1)]
    alone = [make(seed=seed) for seed in (0, 1)]
    for seed, model in enumerate(alone):
        model.train(2, seed=seed, **QUIET)
    errors = []

    def train(seed):
        try:
            models[seed].train(2, seed=seed, **QUIET)
        except Exception as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=train, args=(seed,)) for seed in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    for one, other in zip(alone, models, strict=True):
        np.testing.assert_array_equal(weights(one), weights(other))
        for name, table in one.predict_phenotype().items():
            np.testing.assert_array_equal(table, other.predict_phenotype()[name])
