"""Fewer counts per cell: test donors whose counts are thinned, compared with logistic regression.

    python benchmarks/depth.py                    # all three data sets
    python benchmarks/depth.py --data kang18

The model is trained on cells of full depth. Each count of the test cells is kept with the same probability. Logistic
regression uses log1p of counts per 1,000 of the 1,000 most variable genes.
"""

from __future__ import annotations

import argparse
import warnings

import anndata as ad
import numpy as np
import pandas as pd
from _splits import Task, kang18, onek1k, tcells
from panels import calibration
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score

import polygene_scverse as pgs

TASKS = {"kang18": kang18, "OneK1K": onek1k, "T cells": tcells}
DEPTHS = (1.0, 0.5, 0.25, 0.1)
N_GENES = 1000


def thinned(cells: ad.AnnData, share: float, seed: int) -> ad.AnnData:
    """Copy of the cells that keeps a share of their counts; cells without counts are left out."""
    adata = cells.copy()
    adata.X.data = np.random.default_rng(seed).binomial(adata.X.data.astype(int), share).astype(np.float32)
    adata.X.eliminate_zeros()
    return adata[np.asarray(adata.X.sum(axis=1)).ravel() > 0].copy()


def logs(adata: ad.AnnData) -> np.ndarray:
    """log1p of counts per 1,000; shape (n_obs, n_vars)."""
    x = adata.X.toarray()
    return np.log1p(1e3 * x / x.sum(axis=1, keepdims=True))


def compare(task: Task, seed: int = 0, max_epochs: int | None = None) -> pd.DataFrame:
    """Scores of one data set; a row for each depth."""
    phenotype, group = task.phenotypes[0], None if task.group is None else "donor"
    train, test = (part[part.obs[phenotype].notna().to_numpy()].copy() for part in (task.train, task.test))
    model = pgs.tl.train(train, phenotypes=phenotype, group_key=group, verbose=False, seed=seed, max_epochs=max_epochs)
    x = logs(train)
    genes = np.argsort(-x.var(axis=0))[:N_GENES]
    baseline = LogisticRegression(C=0.05, max_iter=200).fit(x[:, genes], train.obs[phenotype].astype(str))
    rows = []
    for share in DEPTHS:
        cells = thinned(test, share, seed)
        y = cells.obs[phenotype].astype(str).to_numpy()
        tables = model.predict_phenotype(cells)
        sets = model.prediction_sets(tables, adata=cells)[phenotype]
        of_baseline = pd.DataFrame(baseline.predict_proba(logs(cells)[:, genes]), columns=baseline.classes_)
        row = {
            "data": task.name,
            "share of the counts": share,
            "counts, median": float(np.median(np.asarray(cells.X.sum(axis=1)))),
            "accuracy, ours": accuracy_score(y, model.decide(tables)[phenotype].astype(str)),
            "accuracy, baseline": accuracy_score(y, of_baseline.idxmax(axis=1)),
            "confidence, ours": float(tables[phenotype].max(axis=1).mean()),
            "coverage of 90 % sets": float(sets.to_numpy()[np.arange(len(y)), sets.columns.get_indexer(y)].mean()),
            "categories in a set": float(sets.sum(axis=1).mean()),
        }
        rows.append(row | calibration(y, {"ours": tables[phenotype], "baseline": of_baseline}))
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=list(TASKS), nargs="*", default=list(TASKS), help="data sets")
    parser.add_argument("--max-epochs", type=int, help="length of the training, for a quick look")
    args = parser.parse_args()
    warnings.filterwarnings("ignore", category=UserWarning)
    for name in args.data:
        print(compare(TASKS[name](), max_epochs=args.max_epochs).round(3).to_markdown(index=False), flush=True)
        print()


if __name__ == "__main__":
    main()
