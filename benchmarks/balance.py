"""Whether generated cells of rare subtypes improve their prediction: T cells, two donors held out.

    python benchmarks/balance.py --seeds 3 --write

Every subtype with fewer training cells than the median is filled up to it, with cells of `tl.generate` or with copies
of its training cells. For comparison: the training cells alone, and class weights. "rare": mean F1 of the subtypes that
are filled up and have at least 10 test cells. Classifiers are logistic regression on standardised genes (C = 0.01), and
Polygene with few epochs.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
from _report import report
from _splits import tcells
from anndata import AnnData
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import polygene_scverse as pgs

KEY, MIN_TEST, N_EPOCHS = "ct_cov", 10, 5
RESULTS = Path(__file__).parent / "results"


def logarithms(adata: AnnData) -> np.ndarray:
    """log1p of counts per 10,000."""
    x = adata.X.toarray().astype(float)
    return np.log1p(x / np.maximum(x.sum(1, keepdims=True), 1) * 1e4)


def joined(train: AnnData, more: AnnData) -> AnnData:
    """Training cells and others, counts of the same genes."""
    part = AnnData(sp.csr_matrix(more[:, train.var_names].X), obs=more.obs[[KEY]].astype(str), var=train.var[[]])
    own = AnnData(sp.csr_matrix(train.X), obs=train.obs[[KEY]].astype(str), var=train.var[[]])
    return ad.concat([own, part], index_unique="-")


def rows_of(seed: int, networks: bool) -> list[dict]:
    """Scores of every way of training, of logistic regression alone or of Polygene too."""
    task = tcells()
    train, test = (part[part.obs[KEY].notna()].copy() for part in (task.train, task.test))
    n = train.obs[KEY].astype(str).value_counts()
    lacking = {name: int(n.median()) - k for name, k in n.items() if k < n.median()}
    rare = [name for name in lacking if (test.obs[KEY] == name).sum() >= MIN_TEST]
    asked = pd.DataFrame({KEY: np.repeat(list(lacking), list(lacking.values()))})
    asked.index = [f"generated{i}" for i in range(len(asked))]
    model = pgs.tl.train(train.copy(), phenotypes=[KEY], seed=seed, max_epochs=1, n_genes=train.n_vars, verbose=False)
    generated = pgs.tl.generate(asked, model=model, seed=seed)
    train, test = train[:, model.genes].copy(), test[:, model.genes].copy()  # without those that are 0 in all cells
    generated.X = generated.layers["counts"].astype(np.float32)
    random = np.random.default_rng(seed)
    copies = [random.choice(np.flatnonzero(train.obs[KEY] == name), k) for name, k in lacking.items()]
    sets = {
        "training cells": train,
        "and copies of rare ones": joined(train, train[np.concatenate(copies)]),
        "and generated rare ones": joined(train, generated),
    }
    truth, x = test.obs[KEY].astype(str).to_numpy(), logarithms(test)
    rows = []

    def add(method: str, cells: str, predicted: np.ndarray) -> None:
        kinds = [k for k in n.index if (truth == k).sum() >= MIN_TEST]
        f1 = dict(zip(kinds, f1_score(truth, predicted, labels=kinds, average=None, zero_division=0), strict=True))
        scores = {"macro-F1": np.mean(list(f1.values())), "rare": np.mean([f1[k] for k in rare])}
        by_class = {f"F1 {k} ({n[k]} cells)": f1[k] for k in rare}
        rows.append({"method": method, "cells": cells, **scores, "accuracy": (truth == predicted).mean(), **by_class})

    for name, cells in sets.items():
        fitted = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500))
        add("logistic regression", name, fitted.fit(logarithms(cells), cells.obs[KEY].astype(str)).predict(x))
    fitted = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500, class_weight="balanced"))
    fitted.fit(logarithms(train), train.obs[KEY].astype(str))
    add("logistic regression", "training cells, class weights", fitted.predict(x))
    for name, cells in sets.items() if networks else ():
        model = pgs.tl.train(cells.copy(), phenotypes=[KEY], seed=seed, max_epochs=N_EPOCHS, verbose=False)
        query = test.copy()
        pgs.tl.predict_phenotype(query, model=model)
        add(f"Polygene, {N_EPOCHS} epochs", name, query.obs[f"polygene_{KEY}"].astype(str).to_numpy())
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--no-polygene", action="store_true", help="logistic regression alone")
    parser.add_argument("--write", action="store_true", help="write the table to results/")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    table = pd.concat([pd.DataFrame(rows_of(seed, not arguments.no_polygene)) for seed in range(arguments.seeds)])
    rows = table.groupby(["method", "cells"], sort=False).mean().reset_index().to_dict("records")
    command = " ".join(["python benchmarks/balance.py", *sys.argv[1:]])
    report("T cells: rare subtypes", list(rows[0]), rows, command, RESULTS / "balance.md" if arguments.write else None)


if __name__ == "__main__":
    main()
