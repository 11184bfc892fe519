import inspect
from dataclasses import fields

import pytest

import polygene_scverse as pgs
from polygene_scverse.cli._errors import UserError
from polygene_scverse.cli._options import config_keys
from polygene_scverse.cli._settings import (
    IGNORED,
    AuditSettings,
    CheckSettings,
    CounterfactualSettings,
    EmbedSettings,
    EvaluateSettings,
    FillSettings,
    GenerateSettings,
    ImportSettings,
    ImputeSettings,
    NoveltySettings,
    PerturbSettings,
    PredictSettings,
    check_saved_model,
    needed,
)
from polygene_scverse.cli._train_settings import TrainSettings

ORIGINALS_COMMAND = {
    *{"model_name", "phenotypic_tokens_file", "n_epochs", "train_batch_size", "eval_batch_size", "learning_rate"},
    *{"hidden_size", "num_hidden_layers", "num_attention_heads", "shard_size", "train_data_path", "eval_data_path"},
    *{"output_dir", "max_length", "n_highly_variable_genes", "save_steps", "expression_max_value"},
    *{"expression_min_value", "threshold", "mlm_probability", "phenotypic_mlm_probability", "num_bins"},
    *{"sequence_types", "device"},
}
"""Options of both commands of the original."""


def test_training_knows_every_option_of_the_original():
    assert set(config_keys(TrainSettings)) >= ORIGINALS_COMMAND


def test_evaluation_knows_or_needs_not_every_option_of_the_original():
    known, ignored = set(config_keys(EvaluateSettings)), {flag.lstrip("-") for flag in IGNORED}
    assert known | ignored >= ORIGINALS_COMMAND
    assert not known & ignored


def test_what_is_needed():
    settings = EmbedSettings(paths=["a"])
    assert needed(settings, "paths") == (["a"],)
    with pytest.raises(UserError, match="--model and --output are required"):
        needed(settings, "paths", "model", "output")


def test_nothing_said_is_none():
    for settings in (TrainSettings(), EvaluateSettings(), EmbedSettings(), ImportSettings()):
        assert set(vars(settings).values()) == {None}


VERBS = {
    "train": (TrainSettings, {"save_to": "output"}, {"split", "model_kwargs", "train_kwargs", "verbose"}),
    "score_tokens": (EvaluateSettings, {}, set()),
    "check": (CheckSettings, {}, set()),
    "predict_phenotype": (PredictSettings, {}, set()),
    "embed": (EmbedSettings, {}, set()),
    "novelty": (NoveltySettings, {}, set()),
    "fill_phenotype": (FillSettings, {}, set()),
    "audit": (AuditSettings, {}, {"train_kwargs"}),
    "impute": (ImputeSettings, {"genes": "only"}, set()),
    "counterfactual": (CounterfactualSettings, {"genes": "only", "phenotypes": "set"}, set()),
    "perturb": (PerturbSettings, {"genes": "perturb"}, set()),
    "generate": (GenerateSettings, {}, set()),
}
"""For each function, the settings of its command, arguments with another name there, and arguments without an option."""
IN_PYTHON = {"adata", "mod", "key_added", "layer_added"}
"""Arguments without an option: cells are files of one modality, and results are written under the usual keys."""


@pytest.mark.parametrize("verb", VERBS)
def test_a_command_has_the_arguments_of_its_function(verb):
    settings, renamed, left_out = VERBS[verb]
    arguments = set(inspect.signature(getattr(pgs.tl, verb)).parameters) - IN_PYTHON - left_out
    assert {renamed.get(name, name) for name in arguments} <= {entry.name for entry in fields(settings)}
    flags = {name: f"--{renamed[name]}" for name in renamed if name != "save_to"}
    assert getattr(settings, "ARGUMENTS", {}) == flags


def test_a_folder_without_a_saved_model(tmp_path):
    for settings in (AuditSettings(model=tmp_path), TrainSettings(model=tmp_path)):
        with pytest.raises(UserError, match=r"--model: .* has no saved model"):
            settings.check()
    (tmp_path / "model.json").touch()
    check_saved_model(tmp_path)
