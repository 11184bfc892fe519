import pytest

from polygene_scverse.cli._errors import UserError
from polygene_scverse.cli._options import config_keys
from polygene_scverse.cli._settings import IGNORED, EmbedSettings, EvaluateSettings, ImportSettings, needed
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
