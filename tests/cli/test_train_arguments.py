import numpy as np
import pytest

from polygene_scverse.cli._errors import UserError
from polygene_scverse.cli._train_arguments import (
    binning_of,
    columns_of,
    device_of,
    masking_of,
    model_arguments,
    n_genes_of,
    train_arguments,
    without_none,
)
from polygene_scverse.cli._train_settings import TrainSettings
from polygene_scverse.data.feed._masking import MaskingRates
from polygene_scverse.data.feed._rates import ORIGINAL_RATES
from polygene_scverse.data.read._binning import original_edges


def test_nothing_said_is_nothing_passed():
    assert train_arguments(TrainSettings()) == {"verbose": True}


def test_what_is_said_is_passed_under_its_name():
    settings = TrainSettings(
        phenotypes=["sex, tissue", "age"],
        ordered=["age"],
        group_key="donor",
        max_epochs=3,
        batch_size=9,
        lr=2e-5,
        warmup=0.2,
        n_hidden=64,
        linear_path=False,
        bin_width=0.7,
        accumulate=4,
        num_workers=2,
        device="cpu",
        devices=2,
        nodes=3,
        strategy="ddp",
        quiet=True,
        seed=0,
    )
    assert train_arguments(settings) == {
        "phenotypes": ["sex", "tissue", "age"],
        "ordered": ["age"],
        "group_key": "donor",
        "max_epochs": 3,
        "batch_size": 9,
        "plan_kwargs": {"lr": 2e-5, "warmup": 0.2},
        "model_kwargs": {"n_hidden": 64, "linear_path": False, "loss": {"bin_width": 0.7}},
        "accumulate_grad_batches": 4,
        "loader_kwargs": {"num_workers": 2},
        "accelerator": "cpu",
        "devices": 2,
        "num_nodes": 3,
        "strategy": "ddp",
        "verbose": False,
        "seed": 0,
    }


def test_without_none():
    assert without_none({"a": None, "b": 0, "c": False}) == {"b": 0, "c": False}
    assert model_arguments(TrainSettings()) is None


# genes


@pytest.mark.parametrize(
    ("settings", "expected"),
    [({}, None), ({"n_genes": 2432}, 2432), ({"max_length": 2440}, 2432), ({"n_genes": 512, "max_length": 520}, 512)],
    ids=["none", "genes", "length", "both"],
)
def test_number_of_genes(settings, expected):
    assert n_genes_of(TrainSettings(**settings)) == expected


def test_genes_and_length_that_contradict_each_other():
    with pytest.raises(UserError, match="--max-length: found 2440, but 512 genes and 8 other tokens make 520"):
        n_genes_of(TrainSettings(n_genes=512, max_length=2440))


# bins


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, None),
        ({"binning": "original"}, "original"),
        ({"threshold": 0.1}, original_edges(10)),
        ({"threshold": 0.1, "expression_min": 0.0, "expression_max": 10.0}, [0, *np.linspace(0.1, 10, 9)]),
        ({"expression_min": 0.5, "expression_max": 2.5, "n_bins": 4}, [0, 0.5, 1.5, 2.5]),
        ({"threshold": 0.5, "n_bins": 2}, [0, 0.5]),
        ({"threshold": 0.5, "n_bins": 2, "expression_max": 0.3}, [0, 0.5]),
    ],
    ids=["none", "name", "threshold", "as the original's command", "range", "binary", "binary with a range"],
)
def test_bins(settings, expected):
    found = binning_of(TrainSettings(**settings))
    if isinstance(expected, (str, type(None))):
        assert found == expected
    else:
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"threshold": 9.5}, "--threshold: found 9.5, but it must be above 0 and below the last edge, 9.0"),
        ({"threshold": 0.5, "binning": "quantile"}, "--binning: passed together with --threshold"),
    ],
    ids=["above the last", "two ways"],
)
def test_bins_that_cannot_be(settings, match):
    with pytest.raises(UserError, match=match):
        binning_of(TrainSettings(**settings))


# what is hidden


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, None),
        ({"mask_genes": 0.2, "mask_phenotypes": 0.7}, {"expressed": 0.2, "hide_each": 0.7}),
        ({"mask_not_expressed": "0.1"}, {"not_expressed": 0.1}),
        ({"mask_not_expressed": "match", "max_genes": 9}, {"not_expressed": "match", "max_genes": 9}),
    ],
    ids=["none", "rates", "a number", "match"],
)
def test_what_is_hidden(settings, expected):
    assert masking_of(TrainSettings(**settings)) == expected


@pytest.mark.parametrize(
    ("settings", "rate", "other"),
    [({}, 0.15, 0.15), ({"mask_genes": 0.3}, 0.3, 0.3), ({"mask_genes": 0.3, "mask_not_expressed": "0.1"}, 0.3, 0.1)],
    ids=["plain", "one rate", "two rates"],
)
def test_rates_of_the_original(settings, rate, other):
    found = MaskingRates(**masking_of(TrainSettings(masking="original", **settings)))
    assert (found.expressed, found.not_expressed) == (rate, other)
    assert (found.gene_dropout, found.hide_all) == (ORIGINAL_RATES.gene_dropout, ORIGINAL_RATES.hide_all)


def test_a_rate_that_is_no_number():
    with pytest.raises(UserError, match="--mask-not-expressed: found 'all', but it must be a number or 'match'"):
        masking_of(TrainSettings(mask_not_expressed="all"))


# the rest


def test_another_network():
    with pytest.raises(UserError, match="--model-name: found 'roberta', but 'bert' is the only network"):
        train_arguments(TrainSettings(model_name="roberta"))
    assert train_arguments(TrainSettings(model_name="bert")) == {"verbose": True}


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        (None, {}),
        ("cpu", {"accelerator": "cpu"}),
        ("auto", {"accelerator": "auto"}),
        ("cuda", {"accelerator": "gpu"}),
        ("cuda:1", {"accelerator": "gpu", "devices": [1]}),
    ],
    ids=str,
)
def test_devices(monkeypatch, device, expected):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert device_of(device) == expected


@pytest.mark.parametrize(
    ("available", "device", "match"),
    [
        (True, "cuda:x", "--device: found 'cuda:x'"),
        (False, "cuda", "torch sees no such device here"),
        (True, "tpu", "--device: found 'tpu', but it must be auto, cpu, cuda, cuda:1 or mps"),
        (True, "cuda:", "--device: found 'cuda:'"),
    ],
    ids=["no number", "no card", "another device", "empty number"],
)
def test_devices_that_are_not(monkeypatch, available, device, match):
    monkeypatch.setattr("torch.cuda.is_available", lambda: available)
    with pytest.raises(UserError, match=match):
        device_of(device)


def test_phenotypes_may_have_the_originals_names():
    assert columns_of(["sex", "age"], ["sex", "development_stage"]) == ["sex", "development_stage"]
    assert columns_of(["age", "mine"], ["age", "development_stage"]) == ["age", "mine"]
    assert columns_of(None, ["age"]) is None
