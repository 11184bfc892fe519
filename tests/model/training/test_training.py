"""Training: that it learns, what its arguments do, and how it goes on."""

import logging
import os

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import pytest
import torch

from polygene_scverse.data.feed._masking import MaskingRates
from polygene_scverse.model.training._training import default_max_epochs

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


# learning


def test_it_learns(cells, model_of):
    adata = cells(400, 60, effect=2.0)
    model = model_of(adata, n_genes=60)
    model.train(max_epochs=10, enable_progress_bar=False, validation_size=0.25)
    known, guess = model.codes(model.validation_indices), model.predict_phenotype(indices=model.validation_indices)
    assert np.mean(guess["sex"].to_numpy().argmax(1) == known["sex"]) > 0.9
    assert np.mean(guess["cell_type"].to_numpy().argmax(1) == known["cell_type"]) > 0.9
    losses = model.history_["validation_loss"]["validation_loss"].astype(float)
    assert losses.iloc[-1] < losses.iloc[0]


@pytest.mark.parametrize(
    "kwargs",
    [{"n_bins": 2}, {"n_bins": 4, "binning": [0, 0.5, 1, 2]}, {"n_bins": 6, "binning": "original"}, {"n_layers": 0}],
    ids=["binary", "edges", "original", "linear path alone"],
)
def test_encodings_train(trained, kwargs):
    model = trained(model_kwargs=kwargs)
    assert np.isfinite(model.history_["validation_loss"].to_numpy(dtype=float)).all()
    assert len(model.edges_) == kwargs.get("n_bins", 10)
    np.testing.assert_allclose(model.predict_phenotype()["sex"].sum(1), 1, rtol=1e-5)


def test_given_edges_are_used(trained):
    assert trained(model_kwargs={"n_bins": 3, "binning": [0, 1.5, 7]}).edges_ == [0, 1.5, 7]


def test_quantile_edges_see_the_training_cells_only(cells, trained):
    adata = cells()
    rows = np.arange(0, 60, 2)
    model = trained(adata, split=(rows, rows + 1))
    x = adata.X.toarray()[rows]
    x = np.log1p(x / x.sum(1, keepdims=True) * 1e4)
    np.testing.assert_allclose(model.edges_[2:], np.quantile(x[x > 0], np.linspace(0, 1, 10)[1:-1]), rtol=1e-5)


def test_wrong_edges_are_refused_and_leave_the_model_as_it_was(model_of):
    model = model_of(n_bins=4, binning=[0, 2, 1, 3])
    with pytest.raises(ValueError, match=r"`binning`: found the edges .*, but n_bins=4 lower edges are needed"):
        model.train(**QUIET)
    assert model.edges_ is None


def test_a_refused_training_leaves_no_edges_behind(cells, model_of, trained):
    adata, fresh = cells(), trained()
    good, bad = adata.X.copy(), adata.X.copy()
    bad.data[0] = -1
    adata.X = bad
    model = model_of(adata)
    with pytest.raises(ValueError, match="negative values"):
        model.train(**QUIET)
    adata.X = good
    model.train(**QUIET)
    assert model.edges_ == fresh.edges_
    assert same(weights(model), weights(fresh))


@pytest.mark.parametrize(
    ("n_cells", "n_expressed", "epochs"),
    [(100, 5, 10), (100, 20, 5), (1, 1, 12), (10_000, 1, 4)],
    ids=["by cells", "by genes", "at most", "at least"],
)
def test_default_epochs_by_hand(monkeypatch, n_cells, n_expressed, epochs):
    monkeypatch.setattr("polygene_scverse.model.training._training.CELL_VISITS", 1000)
    monkeypatch.setattr("polygene_scverse.model.training._training.GENE_VISITS", 10_000)
    assert default_max_epochs(np.full(n_cells, n_expressed)) == epochs


def test_default_epochs_reach_the_trainer(monkeypatch, trained):
    monkeypatch.setattr("polygene_scverse.model.training._training.CELL_VISITS", 324)
    model = trained(max_epochs=None)
    assert len(model.history_["train_loss"]) == 6  # of 54 training cells


# arguments


def test_validation_is_a_share_of_the_cells(trained):
    model = trained(validation_size=0.25)
    assert (len(model.train_indices), len(model.validation_indices)) == (45, 15)
    assert sorted([*model.train_indices, *model.validation_indices]) == list(range(60))


def test_no_validation(trained):
    with pytest.warns(UserWarning, match="`early_stopping`: it has no effect, because no cells are held out"):
        model = trained(validation_size=0, early_stopping=True)
    assert not [key for key in model.history_ if "validation" in key]
    assert np.isfinite(model.history_["train_loss"].to_numpy(dtype=float)).all()
    assert len(model.train_indices) == 60


def test_groups_are_held_out_whole(cells, trained):
    adata = cells()
    model = trained(adata, group_key="donor", validation_size=0.3)
    held_out = set(adata.obs["donor"].iloc[model.validation_indices])
    assert len(held_out) == 2
    assert not held_out & set(adata.obs["donor"].iloc[model.train_indices])


def test_unknown_group_is_refused(trained):
    with pytest.raises(KeyError, match=r"`group_key`: \['patient'\] are not columns of adata.obs"):
        trained(group_key="patient")


def test_split_is_taken(trained):
    model = trained(split=([5, 3, 1], [0, 2]))
    assert (list(model.train_indices), list(model.validation_indices)) == ([1, 3, 5], [0, 2])


@pytest.mark.parametrize(
    ("split", "match"),
    [(([], [1]), "`split`: found 0 training and 1"), (([1, 2], [2]), "`split`: 1 cells are on both sides")],
    ids=["empty side", "shared cell"],
)
def test_a_split_that_cannot_be_is_refused(trained, split, match):
    with pytest.raises(ValueError, match=match):
        trained(split=split)


def test_a_split_that_shares_a_donor_is_refused(cells, trained):
    adata = cells()
    first = np.flatnonzero(adata.obs["donor"] == "donor_0")
    with pytest.raises(ValueError, match=r"`split`: the groups \['donor_0'\] are on both sides"):
        trained(adata, split=(first[:3], first[3:]), group_key="donor")


@pytest.mark.parametrize("masking", [MaskingRates(expressed=0.0), {"expressed": 0.0}], ids=["rates", "mapping"])
def test_masking_reaches_the_feed(trained, masking):
    model = trained(masking=masking)
    assert model.history_["gene_loss_train"].iloc[0, 0] == 0


def test_unknown_masking_is_refused(trained):
    with pytest.raises(ValueError, match="`expressed`: found 2"):
        trained(masking={"expressed": 2})


def test_trainer_arguments_reach_the_trainer(trained):
    seen = Recorder()
    trained(callbacks=[seen], max_epochs=3, limit_train_batches=2, gradient_clip_val=0.5, accelerator="cpu", devices=1)
    assert seen.epochs == 3
    assert (seen.trainer.num_training_batches, seen.trainer.gradient_clip_val) == (2, 0.5)


def test_defaults_of_the_trainer(trained):
    seen = Recorder()
    trained(callbacks=[seen])
    assert seen.trainer.gradient_clip_val == 1.0
    assert seen.trainer.check_val_every_n_epoch == 1


def test_plan_arguments_reach_the_plan(trained):
    model = trained(plan_kwargs={"lr": 0.0})
    untrained = trained(max_epochs=0)  # gene embeddings and frequencies are fitted before the first step
    found, first = dict(model.module.named_parameters()), dict(untrained.module.named_parameters())
    assert found.keys() == first.keys()
    assert same(found, first)


def test_workers_change_nothing(trained):
    model = trained(loader_kwargs={"num_workers": 1, "multiprocessing_context": "fork"})
    assert same(weights(model), weights(trained()))


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_any_batch_size(trained, batch_size):
    model = trained(batch_size=batch_size)
    assert np.isfinite(model.history_["train_loss"].to_numpy(dtype=float)).all()


@pytest.mark.parametrize("argument", ["batch_size", "accumulate_grad_batches"])
@pytest.mark.parametrize("value", [0, 1.5])
def test_batches_of_no_cells_are_refused(trained, argument, value):
    with pytest.raises(ValueError, match=f"`{argument}`: found {value}, but it must be at least 1"):
        trained(**{argument: value})


def test_early_stopping_stops(trained):
    model = trained(
        max_epochs=20,
        early_stopping=True,
        early_stopping_patience=2,
        plan_kwargs={"lr": 0.0},
    )
    assert len(model.history_["validation_loss"]) == 3


def test_without_early_stopping_it_goes_on(trained):
    model = trained(max_epochs=8, plan_kwargs={"lr": 0.0})
    assert len(model.history_["validation_loss"]) == 8


def test_mixed_precision_gives_a_finite_loss(trained):
    model = trained(precision="bf16-mixed")
    for table in model.history_.values():
        assert np.isfinite(table.to_numpy(dtype=float)).all()
    assert all(p.dtype == torch.float32 for p in model.module.parameters())


def test_max_genes_is_reported(cells, trained, caplog):
    with caplog.at_level(logging.INFO, logger="polygene_scverse"):
        trained(masking={"max_genes": 3})
    assert "cells express more than max_genes=3 genes" in caplog.text


def test_max_genes_is_silent_where_it_does_not_bite(trained, caplog):
    with caplog.at_level(logging.INFO, logger="polygene_scverse"):
        trained()
    assert "max_genes" not in caplog.text


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
    with pytest.warns(UserWarning, match=r"'unknown' \(.* cells in 'sex'\) is read as missing"):
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


def test_a_training_that_diverges_leaves_the_model_as_it_was(cells, model_of, trained):
    adata, model = cells(), trained()
    before, fitted, history = weights(model), dict(vars(model.fitted_)), model.history_
    with pytest.raises(
        ValueError, match=r"`plan_kwargs`: the training diverged: weights became NaN.* lower learning rate"
    ):
        model.train(**QUIET, plan_kwargs={"lr": 1e30})
    assert same(weights(model), before)
    assert vars(model.fitted_) == fitted
    assert model.history_ is history
    assert model.is_trained_
    fresh = model_of(adata)
    with pytest.raises(ValueError, match="the training diverged"):
        fresh.train(**QUIET, plan_kwargs={"lr": 1e30})
    assert not fresh.is_trained_
