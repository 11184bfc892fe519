"""How defaults were chosen: by cross-validation within the training donors, without the test donors.

    python benchmarks/choices.py --linear     # settings of the linear path; some minutes
    python benchmarks/choices.py --models     # whole models, with one path or both, …; 15 minutes per data set
    python benchmarks/choices.py --read       # how many genes of a cell the transformer reads; 20 minutes

Folds: each of the three training donors with the most cells (T cells), thirds of the training donors (OneK1K), or
thirds of the training cells if there is one donor (kang18, pbmc68k). Cells of all folds are scored together.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
from _splits import TASKS, Task
from rich.console import Console
from scipy.special import softmax
from sklearn.metrics import f1_score
from sklearn.neighbors import KNeighborsClassifier

import polygene_scverse as pgs
from polygene_scverse._constants import N_GENES, RANK, TARGET_SUM
from polygene_scverse.data.read._ranking import genes_by_rank
from polygene_scverse.fit import _gene_scaler
from polygene_scverse.fit._linear_path import fit_discriminants

N_FOLDS = 3
LINEAR = {
    "default": {},
    "counts per 10,000 in place of 1,000": {"LINEAR_SUM": TARGET_SUM},
    "0.01 added to deviations in place of 0.2": {"ADDED_DEVIATION": 0.01},
    "shrinkage 0.4 in place of 0.6": {"shrinkage": 0.4},
    "shrinkage 0.8 in place of 0.6": {"shrinkage": 0.8},
    "1 cell at the mean of all in place of 5": {"prior_cells": 1.0},
    "20 cells at the mean of all in place of 5": {"prior_cells": 20.0},
    "500 genes in place of 1,000": {"max_genes": 500},
    "all genes in place of 1,000": {"max_genes": 10**6},
    "2,000 genes to choose from in place of 3,000": {"N_GENES": 2000},
    "nothing of the log share in the logit in place of half": {"prior": 0.0},
    "all of the log share in the logit in place of half": {"prior": 1.0},
}
"""What is changed of the linear path, one by one: arguments of `fit_discriminants`, constants of its scaler."""
BALANCES = (0.0, 0.25, 0.5)
MODELS = {
    "both paths": {},
    "without linear path": {"model_kwargs": {"linear_path": False}},
    "without transformer": {"model_kwargs": {"n_layers": 0}},
    "phenotypes at full weight from the first step": {"plan_kwargs": {"phenotype_rise": 0.0}},
}
GENES = "hidden expressed genes"
READ = (1.0, 0.75, 0.5, 0.25, 0.0)
"""Shares of a cell's expressed genes that the transformer reads; at least 32 genes."""
NEIGHBOURS = 15
"""Nearest neighbours in the embedding that vote for the category of a cell."""
KNN = "neighbours in the embedding, macro-F1"


def folds(task: Task) -> Iterator[tuple[ad.AnnData, ad.AnnData]]:
    """Training cells but those of a fold, and those of the fold."""
    train = task.train
    if task.group is None:
        fold = np.random.RandomState(1).permutation(train.n_obs) % N_FOLDS
    else:
        donors = task.group.value_counts().index
        each = {donor: i if i < N_FOLDS or len(donors) > 2 * N_FOLDS else -1 for i, donor in enumerate(donors)}
        fold = np.array([each[donor] % N_FOLDS if each[donor] >= 0 else -1 for donor in task.group])
    for i in range(N_FOLDS):
        yield train[fold != i].copy(), train[fold == i].copy()


def categories_of(task: Task, phenotype: str) -> list[str]:
    """Categories of the training cells, of all folds."""
    return sorted(task.train.obs[phenotype].dropna().astype(str).unique())


def codes_of(adata: ad.AnnData, phenotype: str, categories: list[str]) -> np.ndarray:
    """Category codes, -1 where unknown."""
    return pd.Categorical(adata.obs[phenotype].astype(object), categories=categories).codes.astype(int)


class Scored:
    """Probabilities of the cells of all folds."""

    def __init__(self) -> None:
        self.codes, self.proba, self.shares = [], [], []

    def add(self, codes: np.ndarray, proba: np.ndarray, counts: np.ndarray) -> None:
        """Cells of a fold whose category was in training, and how many training cells each category had."""
        known = (codes >= 0) & (counts[codes] > 0)
        codes, proba = codes[known], proba[known]
        self.codes.append(codes)
        self.proba.append(proba)
        self.shares.append(np.broadcast_to(np.maximum(counts, 1.0) / max(counts.sum(), 1.0), proba.shape))

    def scores(self) -> dict[str, float]:
        """Of the probabilities, and of categories chosen with each balance."""
        codes, proba, shares = (np.concatenate(part) for part in (self.codes, self.proba, self.shares))
        row = {"ECE": pgs.metrics.ece(codes, proba), "NLL": pgs.metrics.nll(codes, proba)}
        for balance in BALANCES:
            chosen = (proba / shares**balance).argmax(axis=1)
            row[f"macro-F1, {balance:g}"] = pgs.metrics.macro_f1(codes, chosen, min_cells=10)
            row[f"accuracy, {balance:g}"] = pgs.metrics.accuracy(codes, chosen)
        return row


def expression(train: ad.AnnData, test: ad.AnnData, n_genes: int) -> tuple[np.ndarray, np.ndarray]:
    """What the linear path sees of the most variable genes of the training cells."""
    genes = genes_by_rank(train.var[RANK], n_genes)
    sides = []
    for side in (train, test):
        side = side.copy()
        if np.all(side.X.data == np.rint(side.X.data)):
            sc.pp.normalize_total(side, target_sum=TARGET_SUM)
            sc.pp.log1p(side)
        side = side[:, genes].X.tocsr()
        side.data = _gene_scaler.rescale(side.data)
        sides.append(side)
    measured = np.ones(len(genes), dtype=bool)
    statistics = _gene_scaler.GeneScaler.fit(sides[0], measured)
    return tuple(statistics.standardise(side, measured) for side in sides)


def linear_rows(task: Task) -> list[dict]:
    """Discriminants alone with each setting; fifths of the training cells say how sure they may be."""
    scored = {(p, name): Scored() for p in task.phenotypes for name in LINEAR}
    for train, test in folds(task):
        pgs.pp.prepare(train)
        part = np.random.default_rng(0).permutation(train.n_obs) % 5
        for name, changed in LINEAR.items():
            constants = {key: changed[key] for key in changed if hasattr(_gene_scaler, key)}
            with patch.dict(vars(_gene_scaler), constants):
                x, x_test = expression(train, test, changed.get("N_GENES", N_GENES))
            arguments = {key: changed[key] for key in changed if key.islower()}
            for phenotype in task.phenotypes:
                categories = categories_of(task, phenotype)
                y, y_test = (codes_of(side, phenotype, categories) for side in (train, test))
                path = fit_discriminants(lambda rows, x=x: x[rows], y, len(categories), part, **arguments)
                counts = np.bincount(y[y >= 0], minlength=len(categories))
                scored[phenotype, name].add(y_test, softmax(path(x_test), axis=1), counts)
    return [{"data": task.name, "phenotype": p, "linear path": name, **s.scores()} for (p, name), s in scored.items()]


def add_predictions(
    scored: Scored, task: Task, phenotype: str, train: ad.AnnData, test: ad.AnnData, table: pd.DataFrame
) -> tuple[np.ndarray, np.ndarray]:
    """Add the predicted probabilities of a fold; return the codes of its training and test cells."""
    categories = categories_of(task, phenotype)
    codes, codes_test = (codes_of(side, phenotype, categories) for side in (train, test))
    counts = np.bincount(codes[codes >= 0], minlength=len(categories))
    scored.add(codes_test, table.reindex(columns=categories, fill_value=0.0).to_numpy(), counts)
    return codes, codes_test


def model_rows(task: Task, seed: int) -> list[dict]:
    """Whole models with default settings; hidden genes are those of the cells that training held out by itself."""
    scored = {(p, name): Scored() for p in task.phenotypes for name in MODELS}
    genes: dict[str, list[float]] = {name: [] for name in MODELS}
    for train, test in folds(task):
        for name, kwargs in MODELS.items():
            model = pgs.tl.train(train.copy(), phenotypes=task.phenotypes, seed=seed, verbose=False, **kwargs)
            genes[name].append(model.history_["gene_accuracy_expressed_validation"].iloc[-1, 0])
            for phenotype, table in model.predict_phenotype(test).items():
                add_predictions(scored[phenotype, name], task, phenotype, train, test, table)
    return [
        {"data": task.name, "phenotype": p, "model": name, **s.scores(), GENES: np.mean(genes[name])}
        for (p, name), s in scored.items()
    ]


def read_rows(task: Task, seed: int) -> list[dict]:
    """Models whose transformer reads fewer genes of each cell in prediction; all else is as in training."""
    scored = {(p, share): Scored() for p in task.phenotypes for share in READ}
    voted: dict[tuple[str, float], list[float]] = {key: [] for key in scored}
    for train, test in folds(task):
        donors = task.group is not None and train.obs["donor"].nunique() >= 3
        arguments = {"phenotypes": task.phenotypes, "group_key": "donor" if donors else None}
        model = pgs.tl.train(train, **arguments, seed=seed, verbose=False)
        for share in READ:
            model.module.linear.limit(share)
            embeddings = [model.get_latent_representation(side) for side in (train, test)]
            for phenotype, table in model.predict_phenotype(test).items():
                codes, codes_test = add_predictions(scored[phenotype, share], task, phenotype, train, test, table)
                (x, y), (x_test, y_test) = (
                    (x[c >= 0], c[c >= 0]) for x, c in zip(embeddings, (codes, codes_test), strict=True)
                )
                found = KNeighborsClassifier(NEIGHBOURS).fit(x, y).predict(x_test)
                voted[phenotype, share].append(f1_score(y_test, found, average="macro"))
    return [
        {"data": task.name, "phenotype": p, "share read": share, **s.scores(), KNN: np.mean(voted[p, share])}
        for (p, share), s in scored.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    choices = [key for key in TASKS if key != "glioblastoma"]  # kept for the end: nothing is chosen on it
    parser.add_argument("--data", nargs="*", choices=choices, default=choices)
    parser.add_argument("--linear", action="store_true")
    parser.add_argument("--models", action="store_true")
    parser.add_argument("--read", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    tasks = [TASKS[key]() for key in arguments.data]
    results, console = Path(__file__).parent / "results", Console(soft_wrap=True)
    parts = {
        "linear": linear_rows,
        "models": lambda task: model_rows(task, arguments.seed),
        "read": lambda task: read_rows(task, arguments.seed),
    }
    for part, rows_of in parts.items():
        if not getattr(arguments, part):
            continue
        rows = [row for task in tasks for row in rows_of(task)]
        text = pd.DataFrame(rows).to_markdown(index=False, floatfmt=".3f")
        console.print(text, markup=False, highlight=False)
        command = " ".join(["python benchmarks/choices.py", *sys.argv[1:]])
        (results / f"choices_{part}.md").write_text(f"Printed by `{command}`.\n\n{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
