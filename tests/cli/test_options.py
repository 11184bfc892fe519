from dataclasses import dataclass

import pytest
import typer
from typer.testing import CliRunner

from polygene_scverse.cli._options import add_command, argument, config_keys, merged, option


@dataclass(frozen=True)
class Settings:
    """Say what was said."""

    paths: list[str] | None = argument("Paths.")
    lr: float | None = option("Rate.", "--learning_rate")
    names: list[str] | None = option("Names.", "-n", "--their_names")
    linear: bool | None = option("Flag.")
    share: float | None = option("Share.", "--their_share", low=0, high=1)
    kind: str | None = option("Kind.", choices=("one", "two"))
    n_cells: int | None = option("Number.", low=1)


@pytest.fixture
def run():
    """Run a command with these settings; gives what it was called with."""
    app, seen = typer.Typer(), []
    add_command(app, "say", Settings, seen.append, ignored=("--shard_size",))

    def invoke(*args):
        result = CliRunner().invoke(app, list(args))
        return (seen[-1] if seen else None), result

    return invoke


def test_what_is_not_said_is_none(run):
    assert run()[0] == Settings()


def test_every_name_is_understood(run):
    expected = Settings(paths=["a", "b"], lr=0.1, names=["x", "y"], linear=False)
    assert run("a", "b", "--lr", "0.1", "--names", "x", "-n", "y", "--no-linear")[0] == expected
    assert (
        run("a", "b", "--learning_rate", ".1", "--their_names", "x", "--their_names", "y", "--no-linear")[0] == expected
    )


def test_the_help_shows_ours_and_names_theirs(run):
    _, result = run("--help")
    said = " ".join(result.output.replace("│", " ").split())
    assert "Say what was said." in said
    assert "Rate. Also --learning_rate." in said
    assert said.count("--learning_rate") == 1
    assert "--shard_size" not in said


@pytest.mark.parametrize(
    ("args", "lr"),
    [([], 0.5), (["--lr", "0.1"], 0.1), (["--learning_rate", "0.1"], 0.1)],
    ids=["file", "ours", "theirs"],
)
def test_the_command_line_goes_before_the_file(run, tmp_path, args, lr):
    config = tmp_path / "config.yaml"
    config.write_text("learning_rate: 0.5\nnames: x\nlinear: true\npaths: [a, b]\nshard_size: 3\n")
    settings, result = run("--config", str(config), *args)
    assert settings == Settings(paths=["a", "b"], lr=lr, names=["x"], linear=True), result.output
    assert "Warning: ignored, as the saved model determines them: --shard_size." in result.stderr


def test_an_unknown_key_is_an_error_that_names_it(run, tmp_path):
    (tmp_path / "config.toml").write_text("lrr = 1")
    settings, result = run("--config", str(tmp_path / "config.toml"))
    assert settings is None
    assert result.exit_code == 2
    assert "lrr" in result.output


def test_a_value_of_the_wrong_kind_is_an_error_in_both_places(run, tmp_path):
    (tmp_path / "config.toml").write_text('lr = "high"')
    for args in (["--lr", "high"], ["--config", str(tmp_path / "config.toml")]):
        settings, result = run(*args)
        assert settings is None
        assert result.exit_code == 2
        assert "number" in result.output


def test_names_in_a_file():
    keys = config_keys(Settings)
    assert keys["lr"] == keys["learning_rate"] == "lr"
    assert keys["names"] == keys["their_names"] == "names"
    assert (keys["linear"], keys["paths"]) == ("linear", "paths")
    others = {"share", "their_share", "kind", "n_cells", "n-cells"}
    assert set(keys) == {"paths", "lr", "learning_rate", "names", "their_names", "linear"} | others


def test_merged():
    values = {"lr": 1.0, "lr__0": 2.0, "names": ["x"], "names__0": [], "linear": None, "paths": []}
    assert merged(values) == {"lr": 2.0, "names": ["x"], "linear": None, "paths": None}


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--share", "2"], "--share: found 2.0, but it must be from 0 to 1."),
        (["--their_share", "-0.1"], "--share: found -0.1, but it must be from 0 to 1."),
        (["--share", "nan"], "--share: found nan, but it must be from 0 to 1."),
        (["--n-cells", "0"], "--n-cells: found 0, but it must be at least 1."),
        (["--kind", "three"], "--kind: found 'three', but it must be one of one, two."),
    ],
)
def test_values_are_checked_before_the_command_runs(run, args, words):
    seen, result = run(*args)
    assert seen is None
    assert result.exit_code == 2
    assert words in result.output


def test_limits_are_allowed(run):
    expected = Settings(share=1.0, kind="two", n_cells=1)
    assert run("--share", "1", "--kind", "two", "--n-cells", "1")[0] == expected


def test_values_of_a_file_are_checked(run, tmp_path):
    (tmp_path / "run.json").write_text('{"share": 3}')
    seen, result = run("--config", str(tmp_path / "run.json"))
    assert seen is None
    assert "--share: found 3.0" in result.output
