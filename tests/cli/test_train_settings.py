from dataclasses import fields
from inspect import signature

from polygene_scverse.cli._options import config_keys
from polygene_scverse.cli._train_settings import TrainSettings
from polygene_scverse.data.feed._masking import MaskingRates
from polygene_scverse.model.training._checkpoints import Checkpoints
from polygene_scverse.model.training._plan import PolygeneTrainingPlan
from polygene_scverse.module import LossConfig
from polygene_scverse.tl import train


def test_every_argument_of_the_verb_has_a_setting():
    elsewhere = {"adata": "paths", "mod": None, "split": "eval_data", "save_to": "output", "verbose": "quiet"}
    elsewhere |= {"model_kwargs": "n_bins", "train_kwargs": "batch_size"}
    names = {field.name for field in fields(TrainSettings)}
    for name in signature(train).parameters:
        setting = elsewhere.get(name, name)
        assert setting is None or setting in names, name


def test_settings_that_are_values_of_others_have_their_names():
    names = {field.name for field in fields(TrainSettings)}
    plan = set(signature(PolygeneTrainingPlan).parameters) & {"lr", "weight_decay", "warmup", "schedule"}
    loss = {field.name for field in fields(LossConfig)} & {"phenotype_weight", "bin_width", "label_smoothing"}
    assert len(plan) == 4
    assert len(loss) == 3
    assert names >= plan | loss | {"gene_dropout", "max_genes"}
    assert {"gene_dropout", "max_genes", "hide_each"} <= {field.name for field in fields(MaskingRates)}
    assert {"every_steps", "every_epochs", "resume"} <= {field.name for field in fields(Checkpoints)}


def test_no_name_stands_for_two_settings():
    keys = config_keys(TrainSettings)
    assert keys["n_epochs"] == "max_epochs"
    assert keys["num-workers"] == keys["num_workers"] == "num_workers"
    assert set(keys.values()) == {field.name for field in fields(TrainSettings)}
