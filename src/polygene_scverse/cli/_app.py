"""The command line interface: functions of `tl` for files.

Nothing heavy is imported before a command runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from polygene_scverse.cli._options import add_command
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
)
from polygene_scverse.cli._train_settings import TrainSettings

MANY_WORDS = "--sequence_types"
"""Option of the original that accepts several values."""


class Commands(TyperGroup):
    """Command group that accepts lists of phenotypes in the format of the original."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command line."""
        return super().parse_args(ctx, join_words(args))


def join_words(args: Sequence[str]) -> list[str]:
    """Convert ``--sequence_types sex tissue`` to ``--sequence_types sex,tissue``; the next option ends the list."""
    joined: list[str] = []
    taking = False
    for arg in args:
        taking = taking and not arg.startswith("-")
        if taking and joined[-1] != MANY_WORDS:
            joined[-1] += f",{arg}"
        else:
            joined.append(arg)
        taking = taking or arg == MANY_WORDS
    return joined


app = typer.Typer(
    cls=Commands,
    name="polygene",
    help="Predict phenotypes of single cells. Exit codes: 0 success, 1 unexpected error, 2 invalid input or options.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(version("polygene-scverse"))
        raise typer.Exit


@app.callback()
def main(
    wanted: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_say_version, is_eager=True)
    ] = False,
) -> None:
    """Predict phenotypes of single cells. Exit codes: 0 success, 1 unexpected error, 2 invalid input or options."""


def _later(module: str, name: str) -> Any:
    """Create a function that is imported when it is called."""

    def run(settings: Any) -> None:
        getattr(import_module(f"polygene_scverse.cli.{module}"), name)(settings)

    return run


add_command(app, "train", TrainSettings, _later("_train", "train"))
add_command(app, "evaluate", EvaluateSettings, _later("_evaluate", "evaluate"), ignored=IGNORED)
add_command(app, "check", CheckSettings, _later("_check", "check"))
add_command(app, "predict", PredictSettings, _later("_predict", "predict"))
add_command(app, "embed", EmbedSettings, _later("_predict", "embed"))
add_command(app, "novelty", NoveltySettings, _later("_predict", "novelty"))
add_command(app, "fill", FillSettings, _later("_predict", "fill"))
add_command(app, "audit", AuditSettings, _later("_audit", "audit"))
add_command(app, "impute", ImputeSettings, _later("_what_if", "impute"))
add_command(app, "counterfactual", CounterfactualSettings, _later("_what_if", "counterfactual"))
add_command(app, "perturb", PerturbSettings, _later("_what_if", "perturb"))
add_command(app, "generate", GenerateSettings, _later("_what_if", "generate"))
add_command(app, "import-original", ImportSettings, _later("_import_original", "import_original"))
