"""Training: seeds, what is left alone, and going on."""

import logging
import os

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import pytest
import torch

QUIET = {"max_epochs": 1, "enable_progress_bar": False}


def weights(model):
    return {name: value.clone() for name, value in model.module.state_dict().items()}


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


class Recorder(pl.Callback):
    """What the trainer was given."""

    def on_train_start(self, trainer, module):
        self.trainer, self.mode, self.epochs = trainer, module.module.training, 0

    def on_train_epoch_end(self, trainer, module):
        self.epochs += 1


# seeds


def test_the_same_seed_gives_bit_identical_weights(trained):
    a, b, c = (weights(trained(model_kwargs={"dropout": 0.3}, max_epochs=2, seed=seed)) for seed in (3, 3, 4))
    assert same(a, b)
    assert not same(a, c)


def test_a_seed_is_not_disturbed_by_the_global_state(trained):
    a = weights(trained(model_kwargs={"dropout": 0.3}))
    torch.rand(7)
    np.random.rand(3)  # noqa: NPY002
    assert same(a, weights(trained(model_kwargs={"dropout": 0.3})))


# what is left alone


def test_global_state_is_as_before(model_of, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.pytorch.utilities.rank_zero")]
    state = lambda: (  # noqa: E731
        torch.get_num_threads(),
        torch.is_grad_enabled(),
        torch.are_deterministic_algorithms_enabled(),
        [log.level for log in loggers],
        dict(os.environ),
    )
    before, rng, numpy_rng = state(), torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    model = model_of()
    model.train(max_epochs=1)
    model.predict_phenotype()
    model.get_latent_representation()
    assert state() == before
    assert torch.equal(torch.get_rng_state(), rng)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_rng)  # noqa: NPY002
    assert list(tmp_path.iterdir()) == []


def test_the_callers_arguments_are_as_before(trained):
    callbacks, plan, loader, masking = [Recorder()], {"lr": 0.01}, {"num_workers": 0}, {"expressed": 0.2}
    arguments = {"callbacks": callbacks, "plan_kwargs": plan, "loader_kwargs": loader, "masking": masking}
    trained(**arguments, early_stopping=True, enable_progress_bar=True)
    assert (len(callbacks), plan, loader, masking) == (1, {"lr": 0.01}, {"num_workers": 0}, {"expressed": 0.2})


def test_the_data_are_as_before(cells, trained):
    adata = cells(missing=0.1)
    expected = adata.copy()
    model = trained(adata)
    model.predict_phenotype()
    np.testing.assert_array_equal(adata.X.toarray(), expected.X.toarray())
    pd.testing.assert_frame_equal(adata.obs, expected.obs)
    pd.testing.assert_frame_equal(adata.var, expected.var)
    assert set(adata.uns) - set(expected.uns) == {"_scvi_uuid", "_scvi_manager_uuid"}
    assert not adata.layers
    assert set(adata.obsm) == set(expected.obsm)


def test_a_model_is_trained_in_training_mode_and_left_in_evaluation_mode(trained):
    seen, model = Recorder(), trained()
    assert not model.module.training
    model.train(callbacks=[seen], **QUIET)
    assert seen.mode
    assert not model.module.training


# going on


def test_going_on_keeps_edges_and_fits_the_linear_path_anew(cells, trained):
    adata = cells()
    model = trained(adata, split=(np.arange(20), np.arange(20, 30)))
    edges, path, before = list(model.edges_), model.module.linear.weights.clone(), weights(model)
    model.train(split=(np.arange(30, 50), np.arange(20, 30)), **QUIET)
    assert model.edges_ == edges
    assert not torch.equal(model.module.linear.weights, path)
    assert not same(weights(model), before)
    assert len(model.history_["train_loss"]) == 2


def test_labels_changed_after_the_set_up_are_said_and_unknown(cells, model_of):
    adata = cells()
    model = model_of(adata)
    adata.obs["sex"] = adata.obs["sex"].cat.rename_categories({"sex_0": "female"})
    with pytest.warns(UserWarning, match=r"obs\['sex'\]: the model was not trained on \['female'\]") as caught:
        model.train(**QUIET)
    assert len(caught) == 1
    assert np.isfinite(model.history_["train_loss"].to_numpy(dtype=float)).all()


def test_unknown_labels_train(cells, trained):
    adata = cells(missing=0.5)
    adata.obs["sex"] = adata.obs["sex"].cat.add_categories("unknown").fillna("unknown")
    with pytest.warns(UserWarning, match="'unknown' of .* cells in 'sex' is read as missing"):
        model = trained(adata)
    assert model.categories["sex"] == ["sex_0", "sex_1"]
    assert np.isfinite(model.history_["train_loss"].to_numpy(dtype=float)).all()


def test_cells_with_nothing_expressed_train(cells, trained):
    adata = cells()
    x = adata.X.toarray()
    x[:10] = 0
    adata.X = x
    model = trained(adata, batch_size=3)
    assert np.isfinite(model.history_["train_loss"].to_numpy(dtype=float)).all()
    assert np.isfinite(model.predict_phenotype()["sex"].to_numpy()).all()
