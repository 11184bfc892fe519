"""What was fitted to the weights follows them: through trainings that go on, fail, or never begin."""

import copy

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import pytest
import torch

from polygene_scverse.engine import INPUTS, Engine, Query
from polygene_scverse.fit import FittedState
from polygene_scverse.model import Polygene

QUIET = {"max_epochs": 1, "enable_progress_bar": False}
NAMES = ("cell_type", "sex")


class StopsAt(pl.Callback):
    """Raises an error before a step."""

    def __init__(self, step, error=RuntimeError):
        self.step, self.error = step, error

    def on_train_batch_start(self, trainer, plan, batch, batch_idx):
        if trainer.global_step == self.step:
            raise self.error("stop here")


def failed(model, step=3, error=RuntimeError, **kwargs):
    """The model after a training that fails."""
    with pytest.raises(error):
        model.train(**{**QUIET, "callbacks": [StopsAt(step, error)], **kwargs})
    return model


def assert_same(a, b, exact=True):
    """Of predictions, novelty and everything else that follows from what was fitted."""
    for name, table in a["predicted"].items():
        pd.testing.assert_frame_equal(b["predicted"][name], table, check_exact=exact)
    pd.testing.assert_frame_equal(b["novelty"], a["novelty"], check_exact=exact)
    np.testing.assert_array_equal(b["latent"], a["latent"])
    assert a["calibration"] == b["calibration"]
    for name, shares in a["log_shares"].items():
        np.testing.assert_array_equal(b["log_shares"][name], shares)
    for name, sets in a["sets"].items():
        pd.testing.assert_frame_equal(b["sets"][name], sets)


def answers(model, query):
    predicted = model.predict_phenotype(query)
    return {
        "predicted": predicted,
        "novelty": model.novelty(query),
        "latent": model.get_latent_representation(query),
        "calibration": model.calibration_,
        "log_shares": model.log_shares,
        "sets": model.prediction_sets(predicted, coverage=0.8),
    }


def differ(a, b):
    return not np.allclose(a["predicted"]["sex"], b["predicted"]["sex"], atol=1e-4) and not a["novelty"].equals(
        b["novelty"]
    )


def test_a_failure_before_the_first_step_leaves_the_gene_decoder(trained, cells):
    model = trained(cells(120))
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    failed(model, step=0, split=(np.arange(20, 120), np.arange(20)))
    for name, value in model.module.state_dict().items():
        assert torch.equal(value, before[name]), name


# copies without data


def test_a_copy_without_data_follows_a_further_training(trained, cells, query):
    model = trained(cells(120), validation_size=0.5)
    before, other = answers(model, query), model.without_data()
    assert other.fitted_ is model.fitted_
    assert_same(answers(other, query), before)
    model.train(**QUIET, split=(np.arange(20, 120), np.arange(20)), plan_kwargs={"lr": 0.02})
    after = answers(model, query)
    assert differ(before, after)
    assert_same(answers(other, query), after)
    assert other.fitted_ is model.fitted_


def test_a_copy_follows_a_training_that_fails(trained, cells, query):
    model = trained(cells(120))
    other = model.without_data()
    failed(model)
    for name, table in model.predict_phenotype(query).items():
        pd.testing.assert_frame_equal(other.predict_phenotype(query)[name], table, check_exact=True)
    assert other.calibration_ == {}
    with pytest.raises(ValueError, match="it stores no training cells to compare with"):
        other.novelty(query)


def test_a_loaded_model_is_no_copy(trained, cells, query, tmp_path):
    model = trained(cells(120), validation_size=0.5)
    model.save(tmp_path / "model")
    loaded, before = Polygene.load(tmp_path / "model", adata=False), answers(model, query)
    model.train(**QUIET)
    assert_same(answers(loaded, query), before)


# a training that fails


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("first", [True, False], ids=["first training", "second training"])
def test_after_a_failure_nothing_that_was_fitted_is_left(trained, model_of, cells, query, first, error):
    adata = cells(120, missing=0.1)
    model = model_of(adata) if first else trained(adata, validation_size=0.5)
    rows = np.arange(30, 120)
    failed(model, error=error, split=(rows, np.arange(30)), masking={"expressed": 0.3})
    state = model.fitted_
    assert (model.calibration_, state.conformal, state.linear_share, state.novelty) == ({}, {}, [], None)
    assert [model.temperature(name) for name in NAMES] == [1.0, 1.0]
    with pytest.raises(ValueError, match="`model`: it stores no training cells to compare with"):
        model.novelty(query)
    with pytest.warns(UserWarning, match="every set contains all categories"):
        sets = model.prediction_sets(model.predict_phenotype(query))
    assert all(table.to_numpy().all() for table in sets.values())
    assert state.masking["expressed"] == 0.3
    for name, counts in zip(NAMES, state.category_counts, strict=True):
        codes = model.codes(rows)[name]
        np.testing.assert_array_equal(counts, np.bincount(codes[codes >= 0], minlength=len(counts)))
    assert model.count_hidden_tokens(query).rates.expressed == 0.3
    assert model.get_latent_representation(query).shape == (50, 16)
    assert model.joint_phenotype(query, phenotypes=NAMES).shape == (50, 3, 2)


def test_after_a_failure_the_transformer_predicts_alone(trained, cells, query):
    model = failed(trained(cells(120)))
    tables = model.predict_phenotype(query)
    batch = Query().batch(model._cells(query).read_all(), np.arange(50))
    with torch.no_grad():
        logits = model.module.transformer_logits(*(batch[name] for name in INPUTS[:3]))
    for name, of_name in zip(NAMES, logits, strict=True):
        np.testing.assert_allclose(tables[name], of_name.softmax(-1), atol=1e-5)
    assert model.module.linear.weights.any()  # those of the first training are there, and count for nothing


def test_after_a_failure_the_model_is_saved_and_calibrated_and_trained(trained, cells, query, tmp_path):
    model = failed(trained(cells(120)))
    model.save(tmp_path / "model")
    loaded = Polygene.load(tmp_path / "model", adata=False)
    assert loaded.calibration_ == {}
    assert loaded.fitted_.linear_share == []
    expected = model.predict_phenotype(query)["sex"]
    pd.testing.assert_frame_equal(loaded.predict_phenotype(query)["sex"], expected, check_exact=True)
    loaded.calibrate(cells(90, seed=3))
    assert loaded.calibration_["sex"]["fitted"]
    assert model.calibration_ == {}
    model.train(**QUIET, validation_size=0.5)
    assert model.calibration_["sex"]["fitted"]
    assert min(model.fitted_.linear_share) > 0
    assert model.novelty(query)["novelty"].between(0, 1).all()


# a training that never begins


def refusals(tmp_path):
    (tmp_path / "file").write_text("no folder")
    return {
        "checkpoints": ({"checkpoints": tmp_path / "file"}, OSError),
        "checkpoints of no epochs": ({"checkpoints": {"folder": tmp_path / "new", "every_epochs": 0}}, ValueError),
        "group_key": ({"group_key": "patient"}, KeyError),
        "split": ({"split": ([1, 2], [2])}, ValueError),
        "batch_size": ({"batch_size": 0}, ValueError),
        "masking": ({"masking": {"expressed": 2}}, ValueError),
        "max_epochs": ({"max_epochs": -1}, ValueError),
        "plan": ({"plan_kwargs": {"learning_rate": 1.0}}, Exception),
        "trainer": ({"accelerator": "abacus"}, Exception),
        "before the first step": ({"callbacks": [StopsAt(0)]}, RuntimeError),
    }


REFUSALS = (
    *("checkpoints", "checkpoints of no epochs", "group_key", "split", "batch_size", "masking", "max_epochs"),
    *("plan", "trainer", "before the first step"),
)


@pytest.mark.parametrize("what", REFUSALS)
def test_a_training_that_is_refused_leaves_all_as_it_was(trained, cells, query, tmp_path, what):
    model = trained(cells(120), validation_size=0.5)
    before, state, fields = answers(model, query), model.fitted_, copy.copy(vars(model.fitted_))
    other, edges = model.without_data(), list(model.edges_)
    arguments, error = refusals(tmp_path)[what]
    with pytest.raises(error):
        model.train(**{**QUIET, **arguments})
    assert model.fitted_ is other.fitted_ is state
    for name, value in fields.items():
        assert getattr(state, name) is value, name
    assert model.edges_ == edges
    assert model.is_trained
    for one in (model, other):
        assert_same(answers(one, query), before)


@pytest.mark.parametrize("what", REFUSALS)
def test_a_first_training_that_is_refused_leaves_nothing(model_of, cells, query, tmp_path, what):
    model = model_of(cells(120))
    arguments, error = refusals(tmp_path)[what]
    with pytest.raises(error):
        model.train(**{**QUIET, **arguments})
    assert model.fitted_ == FittedState()
    assert model.edges_ is None
    assert not model.is_trained
    with pytest.raises(RuntimeError, match="The model is not trained"):
        model.predict_phenotype(query)


def test_data_that_cannot_be_read_leave_all_as_it_was(trained, cells, query):
    adata = cells(120)
    model = trained(adata, validation_size=0.5)
    before, good = answers(model, query), adata.X.copy()
    adata.X.data[0] = -1
    with pytest.raises(ValueError, match="negative values"):
        model.train(**QUIET)
    assert_same(answers(model, query), before)
    adata.X = good
    model.train(**QUIET)
    assert differ(before, answers(model, query))


# what is fitted in a training


def test_engine_and_model_agree_on_what_was_fitted(trained, cells):
    """The share and the temperatures in the order of the phenotypes of the layout."""
    model = trained(cells(200), validation_size=0.5)
    assert list(model.calibration_) == list(NAMES)
    assert list(model.fitted_.conformal) == list(NAMES)
    assert list(model.fitted_.novelty.entropies) == list(NAMES)
    assert len(model.fitted_.linear_share) == 2
    assert Engine(model.module).module.layout.phenotype_names == NAMES
