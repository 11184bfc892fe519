"""The command as a whole: help, version, and what is imported for them."""

import subprocess
import sys
import tomllib
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import pytest

from polygene_scverse.cli import app
from polygene_scverse.cli._app import join_words

COMMANDS = ("train", "evaluate", "predict", "embed", "import-original")


def test_help_names_the_commands_and_exit_codes(polygene):
    said = polygene("--help").said
    for word in (*COMMANDS, "0 success", "2 invalid input or options"):
        assert word in said


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command(polygene, command):
    said = polygene(command, "--help").said
    for word in ("--output", "--config", "--debug"):
        assert word in said


def test_version(polygene):
    assert polygene("--version").said == version("polygene-scverse")


def test_nothing_said_is_help(polygene):
    assert "Usage" in polygene(code=2).said


def test_the_script_is_installed():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    module, _, name = project["scripts"]["polygene"].partition(":")
    assert getattr(import_module(module), name) is app


HELP = """
import sys
from polygene_scverse.cli import app
try:
    app(sys.argv[1:])
except SystemExit as end:
    assert not end.code, end.code
heavy = {"torch", "scvi", "lightning", "anndata", "scanpy", "pandas", "numpy", "matplotlib"} & set(sys.modules)
assert not heavy, heavy
"""


@pytest.mark.parametrize("args", [["--help"], ["--version"], ["train", "--help"]], ids=" ".join)
def test_help_imports_nothing_heavy(args):
    result = subprocess.run([sys.executable, "-c", HELP, *args], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip()


def test_the_package_itself_imports_a_room_when_asked():
    code = "import sys, polygene_scverse as pgs; assert 'torch' not in sys.modules; dir(pgs)\n"
    code += "assert pgs.metrics.accuracy([1], [1]) == 1; assert 'torch' not in sys.modules"
    result = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_a_room_that_does_not_exist():
    import polygene_scverse

    with pytest.raises(AttributeError, match="module 'polygene_scverse' has no attribute 'rooms'"):
        polygene_scverse.rooms  # noqa: B018
    assert {"tl", "datasets", "__version__"} <= set(dir(polygene_scverse))


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--sequence_types", "sex", "tissue", "--lr", "1"], ["--sequence_types", "sex,tissue", "--lr", "1"]),
        (["a.h5ad", "--sequence_types", "sex"], ["a.h5ad", "--sequence_types", "sex"]),
        (["--sequence_types", "sex", "age"], ["--sequence_types", "sex,age"]),
        (["--phenotypes", "sex", "a.h5ad"], ["--phenotypes", "sex", "a.h5ad"]),
        (["--sequence_types", "--lr", "1", "2"], ["--sequence_types", "--lr", "1", "2"]),
        ([], []),
    ],
    ids=["two", "one", "last", "ours", "none", "empty"],
)
def test_phenotypes_may_follow_each_other_as_in_the_original(args, expected):
    assert join_words(args) == expected


BAD = """
import sys
from polygene_scverse.cli import app
try:
    app(sys.argv[1:])
except SystemExit as end:
    assert end.code == 2, end.code
heavy = {"torch", "scvi", "lightning", "anndata", "scanpy", "pandas", "numpy"} & set(sys.modules)
assert not heavy, heavy
"""


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["predict", "--balance", "2"], "--balance: found 2.0, but it must be from 0 to 1."),
        (["perturb", "--kind", "crispr"], "--kind: found 'crispr', but it must be one of knockout, overexpress."),
        (["train", "--batch-size", "0"], "--batch-size: found 0, but it must be at least 1."),
        (["train", "--model", "no/folder"], "--model: no/folder has no saved model"),
        (["audit"], "--output and --sample-key are required. See --help."),
        (["generate"], "--model, --n-obs and --output are required. See --help."),
        (["counterfactual"], "--set is required. See --help."),
    ],
)
def test_bad_options_are_refused_before_anything_heavy_is_imported(args, words):
    result = subprocess.run([sys.executable, "-c", BAD, *args], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert f"Error: {words}" in result.stderr


@pytest.mark.parametrize("command", ["evaluate", "check", "predict", "embed"])
def test_a_bad_model_is_refused_before_anything_heavy_is_imported(command, tmp_path):
    args = [command, "cells.h5ad", "--model", str(tmp_path), *(() if command == "check" else ("-o", "out"))]
    result = subprocess.run([sys.executable, "-c", BAD, *args], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "--model:" in result.stderr
    assert "neither a saved model" in result.stderr
