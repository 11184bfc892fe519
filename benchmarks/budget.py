"""Scores of held-out donors against the length of training: where the defaults stand.

    python benchmarks/budget.py                    # passes over the cells, all other settings as by default
    python benchmarks/budget.py --settings '{"max_epochs": 5, "plan_kwargs": {"lr": 0.001}}' '{"batch_size": 32}'

Within the training donors, on the first fold of `choices.py`; test donors are not used. Each row is one setting:
training time, scores of the finished model and of the transformer alone (means over phenotypes), and of hidden genes.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
from _splits import TASKS, Task
from choices import folds
from joint import fit, hidden_genes, phenotype_rows
from rich.console import Console

from polygene_scverse.model.training._training import default_max_epochs

EPOCHS = (1, 2, 3, 5, 8, 12, 20)
SCORES = ("macro-F1 (>= 10)", "accuracy", "NLL", "ECE")


def row(task: Task, seed: int, settings: dict[str, Any]) -> dict[str, object]:
    """Figures of one training with some arguments of `tl.train`."""
    train, test = next(folds(task))
    model, seconds, validation = fit(train, task.phenotypes, seed, settings)
    found: dict[str, object] = {"data": task.name, "settings": words(settings)}
    lengths = model._cells(train, model.train_indices).read_all().lengths
    found |= {"epochs": len(model.history_["train_loss"]), "default epochs": default_max_epochs(lengths)}
    found |= {"seconds": seconds}
    scores = pd.DataFrame(phenotype_rows(model, train, test, validation)).groupby("method")[list(SCORES)].mean()
    found |= {name: scores.loc["both paths", name] for name in SCORES}
    found |= {f"{name}, transformer alone": scores.loc["transformer alone", name] for name in (SCORES[0], "NLL")}
    genes = hidden_genes(model, test)[["nll", "accuracy of expressed"]].mean()
    return found | {"hidden genes: NLL": genes["nll"], "accuracy of expressed": genes["accuracy of expressed"]}


def words(settings: dict[str, Any]) -> str:
    """Settings in a cell of a table."""
    flat = {**settings, **settings.get("plan_kwargs", {})}
    return ", ".join(f"{k}={v}" for k, v in flat.items() if k not in ("max_epochs", "plan_kwargs")) or "default"


def draw(table: pd.DataFrame, path: Path) -> None:
    """Plot negative log-likelihoods against the number of epochs; the default number is marked."""
    import matplotlib.pyplot as plt

    names = {
        "NLL": "finished model",
        "NLL, transformer alone": "transformer alone",
        "hidden genes: NLL": "hidden genes",
    }
    figure, axes = plt.subplots(1, table["data"].nunique(), figsize=(9, 3.3), layout="constrained", squeeze=False)
    for axis, (name, part) in zip(axes[0], table.groupby("data", sort=False), strict=True):
        for (column, label), color in zip(names.items(), ("#0072B2", "#D55E00", "#009E73"), strict=True):
            axis.plot(part["epochs"], part[column], "o-", color=color, markersize=3, label=label)
        axis.axvline(part["default epochs"].iloc[0], color="0.6", linestyle=":", label="default")
        axis.set(xscale="log", xlabel="epochs", title=name, xticks=part["epochs"], xticklabels=part["epochs"])
        axis.minorticks_off()
    axes[0, 0].set_ylabel("NLL of held-out donors (nats)")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    choices = [key for key in TASKS if key != "glioblastoma"]  # nothing is chosen on it
    parser.add_argument("--data", nargs="*", choices=choices, default=["tcells", "kang18", "onek1k"])
    of_epochs = [{"max_epochs": n} for n in EPOCHS]
    parser.add_argument("--settings", nargs="*", type=json.loads, default=of_epochs, help="arguments of tl.train")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--write", default="", help="name of the table in results/")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    rows, console = [], Console(soft_wrap=True)
    for key in arguments.data:
        task = TASKS[key]()
        for settings in arguments.settings:
            for seed in range(arguments.seeds):
                rows.append(row(task, seed, settings))
                print(rows[-1], flush=True)
    keys = ["data", "settings", "epochs", "default epochs"]
    table = pd.DataFrame(rows).groupby(keys, sort=False).mean(numeric_only=True).reset_index()
    text = table.to_markdown(index=False, floatfmt=[""] * 4 + [".0f"] + [".3f"] * (table.shape[1] - 5))
    console.print(text, markup=False, highlight=False)
    if arguments.write:
        command = " ".join(["python benchmarks/budget.py", *sys.argv[1:]])
        path = Path(__file__).parent / "results" / arguments.write
        path.write_text(f"Printed by `{command}`; means of {arguments.seeds} seed(s).\n\n{text}\n", encoding="utf-8")
        draw(table, path.with_suffix(".png"))


if __name__ == "__main__":
    main()
