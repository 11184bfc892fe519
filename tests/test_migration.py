"""docs/migration.md: no empty cell, and nothing in it that is not there."""

import re
from pathlib import Path

import pytest
import typer

import polygene_scverse as pgs
from polygene_scverse.cli import app

TESTS = Path(__file__).parent
PAGE = (TESTS.parent / "docs" / "migration.md").read_text()
COMMANDS = typer.main.get_command(app).commands
ORIGINAL = (
    *("model_name", "phenotypic_tokens_file", "n_epochs", "train_batch_size", "eval_batch_size", "learning_rate"),
    *("hidden_size", "num_hidden_layers", "num_attention_heads", "shard_size", "train_data_path", "eval_data_path"),
    *("output_dir", "max_length", "n_highly_variable_genes", "save_steps", "expression_max_value"),
    *("expression_min_value", "threshold", "mlm_probability", "phenotypic_mlm_probability", "num_bins"),
    *("sequence_types", "device"),
)
"""Options of the original's two commands."""
DEFECTS = 21
LINES_OF_ITS_README = 21


def table(title):
    """Rows of the first table under a heading, the titles of its columns first."""
    section = PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    assert set(rows[1]) <= set("|-")
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in (rows[0], *rows[2:])]


TITLES = re.findall(r"^## (.+)$", PAGE, re.MULTILINE)[1:]


def options(command):
    return {name for parameter in COMMANDS[command].params for name in (*parameter.opts, *parameter.secondary_opts)}


@pytest.mark.parametrize("title", TITLES)
def test_no_cell_is_empty(title):
    head, *rows = table(title)
    assert rows
    for row in rows:
        assert len(row) == len(head), row
        assert all(row), row


def test_every_line_and_every_defect_has_its_row():
    assert len(table("The original's README, line by line")) == 1 + LINES_OF_ITS_README
    assert len(table("Defects of the original, and what is done here")) == 1 + DEFECTS


def test_every_option_of_the_original_stands_in_the_table_and_is_understood():
    rows = "\n".join(row[0] for row in table("Options of the two commands"))
    for name in ORIGINAL:
        assert f"`--{name}`" in rows
        for command in ("train", "evaluate"):
            assert f"--{name}" in options(command), (command, name)


@pytest.mark.parametrize(("command", "column"), [("train", 1), ("evaluate", 2)], ids=["train", "evaluate"])
def test_our_options_are_there(command, column):
    named = {
        flag for row in table("Options of the two commands")[1:] for flag in re.findall(r"--[a-z_-]+", row[column])
    }
    assert len(named) > 8
    assert named <= options(command)


def test_functions_and_methods_are_there():
    functions, methods = (set(re.findall(words, PAGE)) for words in (r"pgs\.(\w+)\.(\w+)", r"`Polygene\.(\w+)"))
    assert functions
    assert methods
    for room, name in functions:
        assert hasattr(getattr(pgs, room), name), f"pgs.{room}.{name}"
    for name in methods:
        assert hasattr(pgs.model.Polygene, name), name


def test_tests_are_there():
    written = "\n".join(path.read_text() for path in TESTS.rglob("test_*.py"))
    for *_, tests in table("Defects of the original, and what is done here")[1:]:
        for name in re.findall(r"`(test_\w+)`", tests):
            assert f"def {name}(" in written, name
    for name in set(re.findall(r"`(tests/[\w/]+\.py)`", PAGE)):
        assert (TESTS.parent / name).is_file(), name


def test_pages_that_it_leads_to_are_there():
    for page in re.findall(r"\]\((\w+\.md)\)", PAGE):
        assert (TESTS.parent / "docs" / page).is_file(), page


def test_the_readme_leads_here():
    assert "docs/migration.md" in (TESTS.parent / "README.md").read_text()
