"""Accuracy on held-out donors with default settings, compared with simple baselines.

    python benchmarks/accuracy.py                      # T cells and kang18, the model and baselines
    python benchmarks/accuracy.py --all --seeds 3
    python benchmarks/accuracy.py --ablation

Prints for each phenotype: macro-F1 over classes with at least 10 test cells, macro-F1 over all classes, accuracy,
expected calibration error (15 bins) and negative log-likelihood; for hidden genes the accuracy of the expression bin
among expressed genes, compared with majority bins; the accuracy of nearest neighbours in the embedding, compared with
50 PCs; and the training times.
Polygene is told the donors of the training cells (`group_key`) if there are several. It chooses by probability / (share
of the training cells) ** 0.5, the default; baselines choose the most probable category. Numbers are means over seeds;
for pbmc68k, which has one donor, means over five folds with one seed each.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import _baselines
import numpy as np
import pandas as pd
from _genes import gene_half
from _splits import N_FOLDS, TASKS, Task, pbmc68k
from rich.console import Console
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier

import polygene_scverse as pgs

ABLATIONS = {
    "Polygene": {},
    "without linear path": {"linear_path": False},
    "without transformer": {"n_layers": 0},
}


def score(
    task: Task, phenotype: str, proba: np.ndarray, categories: list[str], chosen: np.ndarray | None = None
) -> dict[str, float]:
    """Scores on the test cells whose category is known and was in training; by default the most probable is chosen."""
    chosen = proba.argmax(1) if chosen is None else chosen
    truth = pd.Categorical(task.test.obs[phenotype].astype(object), categories=categories).codes.astype(int)
    return {
        "macro-F1 (>= 10)": pgs.metrics.macro_f1(truth, chosen, min_cells=10),
        "macro-F1": pgs.metrics.macro_f1(truth, chosen),
        "accuracy": pgs.metrics.accuracy(truth, chosen),
        "ECE": pgs.metrics.ece(truth, proba),
        "NLL": pgs.metrics.nll(truth, proba),
    }


def neighbour_accuracy(task: Task, train_z: np.ndarray, test_z: np.ndarray, phenotype: str) -> float:
    """Share of test cells whose 15 nearest training cells agree with their label."""
    known, asked = task.train.obs[phenotype].notna(), task.test.obs[phenotype].notna()
    labels = task.train.obs[phenotype].astype(str)[known]
    neighbours = KNeighborsClassifier(15).fit(train_z[known], labels)
    return float((neighbours.predict(test_z[asked]) == task.test.obs[phenotype].astype(str)[asked]).mean())


def run_ours(task: Task, name: str, seed: int, model_kwargs: dict) -> tuple[list[dict], pgs.model.Polygene, float]:
    """Train with defaults on the training cells, naming their donors if there are several; predict the test cells."""
    started = time.perf_counter()
    adata, group_key = task.train.copy(), None if task.group is None else "donor"
    kwargs = {"phenotypes": task.phenotypes, "group_key": group_key, "seed": seed, "model_kwargs": model_kwargs}
    model = pgs.tl.train(adata, verbose=False, **kwargs)
    seconds = time.perf_counter() - started
    rows = []
    tables = model.predict_phenotype(task.test)
    chosen = model.decide(tables)
    for phenotype, table in tables.items():
        codes = chosen[phenotype].cat.codes.to_numpy()
        scores = score(task, phenotype, table.to_numpy(), list(table.columns), codes)
        rows.append({"data": task.name, "phenotype": phenotype, "method": name, "seed": seed, **scores})
    return rows, model, seconds


def speed(model: pgs.model.Polygene, seconds: float) -> dict[str, float]:
    """How long a training took, all included, and how many cells it saw in a second, counting repeats."""
    n_cells, n_epochs = len(model.train_indices), len(model.history_["train_loss"])
    return {"cells": n_cells, "epochs": n_epochs, "seconds": seconds, "cells/s": n_cells * n_epochs / seconds}


def run_baselines(task: Task) -> list[dict]:
    """The baselines' scores."""
    rows = []
    for phenotype in task.phenotypes:
        categories = sorted(task.train.obs[phenotype].dropna().astype(str).unique())
        for name, proba in _baselines.run(task, phenotype).items():
            scores = score(task, phenotype, proba, categories)
            rows.append({"data": task.name, "phenotype": phenotype, "method": name, "seed": 0, **scores})
    return rows


def embedding_rows(task: Task, model: pgs.model.Polygene) -> list[dict]:
    """Nearest-neighbour accuracy in each kind of embedding and in 50 PCs."""
    train_x, test_x = _baselines.features(task)
    pca = PCA(50, random_state=0).fit(train_x)
    spaces = {"50 PCs": (pca.transform(train_x), pca.transform(test_x))}
    for pooling in ("decision", "phenotypes", "genes", "cls"):
        spaces[f"Polygene, {pooling}"] = tuple(
            model.get_latent_representation(side, pooling=pooling) for side in (task.train, task.test)
        )
    return [
        {"data": task.name, "phenotype": p, "space": name, "kNN accuracy": neighbour_accuracy(task, *space, p)}
        for p in task.phenotypes
        for name, space in spaces.items()
    ]


def markdown(rows: list[dict]) -> str:
    """A table of means over seeds."""
    table = pd.DataFrame(rows).drop(columns="seed", errors="ignore")
    keys = [c for c in table.columns if table[c].dtype == object]
    table = table.groupby(keys, sort=False).mean().reset_index()
    return table.to_markdown(index=False, floatfmt=".3f")


def runs(keys: list[str], n_seeds: int) -> Iterator[tuple[Task, list[int]]]:
    """Data sets, or folds of one, and the seeds to train with."""
    for key in keys:
        if key == "pbmc68k":
            yield from ((pbmc68k(fold), [fold]) for fold in range(N_FOLDS))
        else:
            yield TASKS[key](), list(range(n_seeds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="*", choices=list(TASKS), default=["tcells", "kang18"])
    parser.add_argument("--all", action="store_true", help="all data sets")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--no-baselines", action="store_true")
    parser.add_argument("--ablation", action="store_true", help="also without linear path and without transformer")
    arguments = parser.parse_args()
    console, phenotypes, genes, spaces, times = Console(), [], [], [], []
    methods = ABLATIONS if arguments.ablation else {"Polygene": {}}
    for task, seeds in runs(list(TASKS) if arguments.all else arguments.data, arguments.seeds):
        if not arguments.no_baselines:
            phenotypes += run_baselines(task)
        for seed in seeds:
            for name, kwargs in methods.items():
                rows, model, seconds = run_ours(task, name, seed, kwargs)
                console.print(f"{task.name}: {name}, seed {seed}, trained in {seconds:.0f} s")
                phenotypes += rows
                times.append({"data": task.name, "method": name, "seed": seed, **speed(model, seconds)})
                genes += gene_half(task, model, name)
                if name == "Polygene" and seed == seeds[0]:
                    spaces += embedding_rows(task, model)
    parts = {"Phenotypes": phenotypes, "Hidden expressed genes": genes, "Embeddings": spaces, "Training": times}
    text = "\n\n".join(f"### {title}\n\n{markdown(rows)}" for title, rows in parts.items())
    console.print(text, markup=False, soft_wrap=True)
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    command = " ".join(["python benchmarks/accuracy.py", *sys.argv[1:]])
    (results / "accuracy.md").write_text(f"Printed by `{command}`.\n\n{text}\n")


if __name__ == "__main__":
    main()
