"""Cells on demand beside simple generators: the 500 most variable genes of kang18, donor 107 held out.

    python benchmarks/generation.py --write

For each class (cell type and condition) as many cells are generated (`tl.generate`) as the test donor has. Beside them
stand real training cells, genes drawn independently within a class, and a Gaussian copula of each class. RF-AUC: a
random forest that tells them from test cells (.5 is best); energy distance per class on 30 principal components; r:
agreement of gene-gene correlations within classes, 150 genes; TSTR: macro-F1 on test cells of logistic regression
trained on them; "as asked": share that logistic regression trained on real cells predicts back; slope: of log-fold
changes between conditions, 100 genes; attack: AUROC of telling training from test cells by their distance to the
nearest generated cell (it cannot tell donors from membership: all training cells are of another donor).
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from _report import report
from _splits import kang18
from scipy.spatial.distance import cdist
from scipy.stats import norm, pearsonr
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict

import polygene_scverse as pgs

KEYS = ["cluster_id", "group_id"]
N_GENES, MOST_TEST = 500, 1200
RESULTS = Path(__file__).parent / "results"


def log_normal(counts: np.ndarray, total: float) -> np.ndarray:
    """log1p of counts per `total`; shape (n_cells, n_genes)."""
    return np.log1p(counts / np.maximum(counts.sum(1, keepdims=True), 1) * total)


def baseline(kind: str, real: np.ndarray, n: int, r: np.random.Generator) -> np.ndarray:
    """Counts of a simple generator from those of a class's training cells."""
    if kind == "real training cells":
        return real[r.integers(0, len(real), n)]
    if kind == "independent genes":
        return np.stack([real[r.integers(0, len(real), n), j] for j in range(real.shape[1])], 1)
    ranks = np.argsort(np.argsort(real + r.uniform(-0.49, 0.49, real.shape), 0), 0)
    z = norm.ppf((ranks + 0.5) / len(real))
    s = LedoitWolf(assume_centered=True).fit(z).covariance_
    d = np.sqrt(np.diag(s))
    root = np.linalg.cholesky(s / np.outer(d, d) + 1e-6 * np.eye(len(s)))
    u = norm.cdf(r.standard_normal((n, len(s))) @ root.T)
    at = np.minimum((u * len(real)).astype(int), len(real) - 1)
    return np.stack([np.sort(real[:, j])[at[:, j]] for j in range(real.shape[1])], 1)


def correlations(x: np.ndarray, y: np.ndarray, genes: np.ndarray) -> np.ndarray:
    """Gene-gene correlations within classes."""
    z = x[:, genes] - pd.DataFrame(x[:, genes]).groupby(y).transform("mean").to_numpy()
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.nan_to_num(np.corrcoef(z.T)[np.triu_indices(len(genes), 1)])


def fold_changes(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Differences of the conditions' means, type after type; shape (n_types, n_genes)."""
    means = pd.DataFrame(x).groupby(y).mean()
    types = [c[: -len("|stim")] for c in means.index if c.endswith("|stim") and f"{c[:-5]}|ctrl" in means.index]
    return np.array([means.loc[f"{t}|stim"] - means.loc[f"{t}|ctrl"] for t in types])


def energy(a: np.ndarray, b: np.ndarray) -> float:
    """Energy distance of two sets of cells."""
    n, m = len(a), len(b)
    return 2 * cdist(a, b).mean() - cdist(a, a).sum() / (n * (n - 1)) - cdist(b, b).sum() / (m * (m - 1))


def rows_of(seed: int, rounds: list[int]) -> list[dict]:
    """Figures of every generator."""
    task = kang18()
    train, test = task.train, task.test[:MOST_TEST]
    c = {side: np.asarray(a.X.todense(), float) for side, a in (("train", train), ("test", test))}
    total = float(np.median(c["train"].sum(1)))
    genes = np.argsort(-log_normal(c["train"], total).var(0))[:N_GENES]
    model = pgs.tl.train(train.copy(), phenotypes=KEYS, seed=seed, verbose=False)
    genes = genes[np.isin(train.var_names[genes], model.genes)]
    y = {
        side: a.obs[KEYS].astype(str).agg("|".join, axis=1).to_numpy() for side, a in (("train", train), ("test", test))
    }
    n_train, n_test = (pd.Series(y[side]).value_counts() for side in ("train", "test"))
    classes = [k for k in sorted(n_train.index) if n_train[k] >= 20 and n_test.get(k, 0) >= 10]
    at = {side: np.isin(y[side], classes) for side in y}
    y = {side: y[side][at[side]] for side in y}
    c = {side: c[side][at[side]][:, genes] for side in c}
    total = float(np.median(c["train"].sum(1)))
    real, held = (log_normal(c[side], total) for side in ("train", "test"))
    pca = PCA(30, random_state=0).fit(real)
    top = np.argsort(-c["train"].mean(0))[:150]
    judge = LogisticRegression(C=0.1, max_iter=300).fit(real, y["train"])
    true_r, true_d = correlations(held, y["test"], top), fold_changes(held, y["test"])
    most = np.argsort(-np.abs(true_d), axis=1)[:, :100]
    made: dict[str, tuple[np.ndarray, float]] = {}
    for kind in ("real training cells", "independent genes", "Gaussian copula of each class"):
        x, r, started = np.zeros_like(c["test"]), np.random.default_rng(1 + seed), time.perf_counter()
        for k in classes:
            x[y["test"] == k] = baseline(kind, c["train"][y["train"] == k], int((y["test"] == k).sum()), r)
        made[kind] = x, time.perf_counter() - started
    for n_rounds in [None, *rounds]:
        started = time.perf_counter()
        asked = pd.DataFrame([k.rsplit("|", 1) for k in y["test"]], columns=KEYS)
        found = pgs.tl.generate(asked, model=model, n_rounds=n_rounds, seed=seed)
        columns = found.var_names.get_indexer(train.var_names[genes])
        x = np.asarray(found.layers["counts"].todense(), float)[:, columns]
        made["Polygene" if n_rounds is None else f"Polygene, {n_rounds} rounds"] = x, time.perf_counter() - started
    rows = []
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    for kind, (counts, seconds) in made.items():
        x = log_normal(counts, total)
        truth = np.r_[np.ones(len(held)), np.zeros(len(x))]
        p, q, of_train = (pca.transform(part) for part in (x, held, real))
        auc = []
        for both in (np.r_[held, x], np.r_[q, p]):
            forest = RandomForestClassifier(100, min_samples_leaf=3, random_state=0)
            auc.append(
                roc_auc_score(truth, cross_val_predict(forest, both, truth, cv=folds, method="predict_proba")[:, 1])
            )
        trained = LogisticRegression(C=0.1, max_iter=300).fit(x, y["test"])
        near = -np.r_[cdist(of_train, p).min(1), cdist(q, p).min(1)]
        d = fold_changes(x, y["test"])
        slopes = [d[i, m] @ true_d[i, m] / (true_d[i, m] @ true_d[i, m]) for i, m in enumerate(most)]
        rows.append(
            {
                "generator": kind,
                "RF-AUC genes": auc[0],
                "RF-AUC 30 PCs": auc[1],
                "energy": float(np.mean([energy(p[y["test"] == k], q[y["test"] == k]) for k in classes])),
                "r": float(pearsonr(correlations(x, y["test"], top), true_r)[0]),
                "TSTR": float(f1_score(y["test"], trained.predict(held), average="macro")),
                "as asked": float((judge.predict(x) == y["test"]).mean()),
                "zeros": float((counts == 0).mean()),
                "slope": float(np.mean(slopes)),
                "attack": float(roc_auc_score(np.r_[np.ones(len(of_train)), np.zeros(len(q))], near)),
                "cells/s": len(x) / seconds,
            }
        )
    zeros = float((c["test"] == 0).mean())
    own = float((judge.predict(held) == y["test"]).mean())
    rows.append({"generator": "test cells themselves", "zeros": zeros, "as asked": own})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--rounds", type=int, nargs="*", default=[1, 10])
    parser.add_argument("--write", action="store_true", help="write the table to results/")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    table = pd.concat([pd.DataFrame(rows_of(seed, arguments.rounds)) for seed in range(arguments.seeds)])
    rows = table.groupby("generator", sort=False).mean().reset_index().to_dict("records")
    command = " ".join(["python benchmarks/generation.py", *sys.argv[1:]])
    where = RESULTS / "generation.md" if arguments.write else None
    report("kang18: cells on demand, 500 genes", list(rows[0]), rows, command, where)


if __name__ == "__main__":
    main()
