"""What is fitted after the weights: written, read and forgotten as a whole."""

import copy
import dataclasses
from dataclasses import fields

import numpy as np
import pandas as pd
import pytest
import torch

from polygene_scverse.fit import FittedState
from polygene_scverse.fit._calibration import Calibration
from polygene_scverse.fit._conformal import ConformalScores
from polygene_scverse.fit._expression_factors import ExpressionFactors, Factors
from polygene_scverse.fit._kinds import Kinds
from polygene_scverse.fit._novelty import NoveltyReference, Space
from polygene_scverse.model import Polygene

RNG = np.random.default_rng(0)
FIGURES = {"ece_before": 0.1, "ece_after": 0.05, "nll_before": 1.0, "nll_after": 0.9}
COUNTS, PAIRS = [np.array([3.0, 4.0], dtype=np.float32), np.array([7.0], dtype=np.float32)], {"0,1": [[0, 0], [1, 0]]}


def single(*shape):
    return RNG.normal(size=shape).astype(np.float32)


@pytest.fixture
def state():
    """Every field is filled."""
    return FittedState(
        calibration={"kind": Calibration(1.5, True, "held-out", n_cells=70, group_key="donor", n_groups=2, **FIGURES)},
        conformal={"kind": ConformalScores(RNG.integers(0, 3, 9).astype(np.int32), single(9))},
        novelty=NoveltyReference(
            Space(
                *(single(5) for _ in range(3)),
                single(2, 5),
                single(5),
                {"kind": single(3, 2)},
                {"kind": single(2, 2)},
                {"kind": single(3)},
            ),
            {"kind": single(9)},
            {"kind": single(9)},
        ),
        linear_share=[0.25, 0.7],
        category_counts=[np.array([1.0, 2.0, 0.0], dtype=np.float32)],
        masking={"expressed": 0.15, "not_expressed": "match"},
        pairs={"0,1": [[0, 1]]},
        confounding={"donor": {"kind": 0.5}},
        factors=ExpressionFactors(*(Factors(single(5), single(2, 5), single(2), single(5)) for _ in range(2))),
        kinds=Kinds(RNG.integers(0, 2, (3, 2)), np.array([4.0, 1.0, 2.0]), single(4, 21)),
    )


def assert_same(a, b):
    """Values and types, all the way down."""
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert list(a) == list(b)
        for name in a:
            assert_same(a[name], b[name])
    elif isinstance(a, list):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    elif isinstance(a, np.ndarray):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    elif dataclasses.is_dataclass(a):
        assert_same(vars(a), vars(b))
    else:
        np.testing.assert_equal(a, b)  # NaN, the error of no cell, is itself


def converted(value, convert):
    """A mapping or list whose arrays are something else."""
    if isinstance(value, dict):
        return {name: converted(item, convert) for name, item in value.items()}
    if isinstance(value, list):
        return [converted(item, convert) for item in value]
    return convert(value) if isinstance(value, np.ndarray) else value


# written and read


@pytest.mark.parametrize(
    "convert",
    [lambda a: a, torch.from_numpy, lambda a: a.tolist(), lambda a: a.astype(np.float64)],
    ids=["arrays", "tensors", "lists", "doubles"],
)
def test_comes_back_from_plain_containers(state, convert):
    plain = state.to_dict()
    assert list(plain) == [field.name for field in fields(FittedState)]
    assert_same(FittedState.from_dict(converted(plain, convert)), state)


def test_an_empty_state_comes_back():
    assert_same(FittedState.from_dict(FittedState().to_dict()), FittedState())


def test_what_is_written_is_a_copy(state):
    before, plain = copy.deepcopy(state), state.to_dict()
    plain["novelty"]["space"]["cap"][:] = 0
    plain["conformal"]["kind"]["codes"][:] = 0
    plain["linear_share"].append(1.0)
    plain["calibration"].clear()
    assert_same(state, before)


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"validation_size": 0.0},
        {"group_key": "donor", "validation_size": 0.4},
        {"model_kwargs": {"linear_path": False}},
    ],
    ids=["usual", "none held out", "groups", "no linear path"],
)
def test_saved_with_a_model(trained, cells, kwargs, tmp_path, query):
    model = trained(cells(200, missing=0.1), **kwargs)
    model.fitted_.confounding = {"donor": {"sex": 0.5}}
    assert model.fitted_.novelty is not None
    model.save(tmp_path / "model")
    loaded = Polygene.load(tmp_path / "model", adata=False)
    assert_same(loaded.fitted_, model.fitted_)
    assert_same(loaded.calibration_, model.calibration_)
    pd.testing.assert_frame_equal(loaded.novelty(query), model.novelty(query), check_exact=True)
    loaded.save(tmp_path / "again")
    assert_same(Polygene.load(tmp_path / "again", adata=False).fitted_, model.fitted_)


def test_saved_with_an_untrained_model(model_of, tmp_path):
    model_of().save(tmp_path / "model")
    assert_same(Polygene.load(tmp_path / "model", adata=False).fitted_, FittedState())


# forgotten


def test_is_forgotten_in_place_but_for_what_the_cells_say(state):
    other, confounding = state, copy.deepcopy(state.confounding)
    state.invalidate(COUNTS, PAIRS)
    assert other is state
    assert_same(state, FittedState(category_counts=COUNTS, pairs=PAIRS, confounding=confounding))


def test_what_others_hold_of_it_is_left_alone(state):
    """Fields are put in place of the old ones, which are not emptied."""
    calibration, shares = state.calibration, state.linear_share
    state.invalidate(COUNTS, PAIRS)
    assert list(calibration) == ["kind"]
    assert shares == [0.25, 0.7]


def test_temperatures(state):
    assert (state.temperature("kind"), state.temperature("sex")) == (1.5, 1.0)
    state.invalidate(COUNTS, PAIRS)
    assert state.temperature("kind") == 1.0
