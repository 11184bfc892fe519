"""What-if questions beside simple baselines: donor 107 of kang18 from donor 101.

    python benchmarks/what_if.py --write                           # test donor
    python benchmarks/what_if.py --choose                          # inside donor 101, to choose `keep`

Control cells of each type are asked for their expected expression as stimulated ones (`tl.counterfactual`); the
predicted shift is compared with the observed one of the held-out cells (mean of log1p of counts per 10,000), over the
model's genes: Pearson correlation of all genes and of the 100 that shift most, slope of these, means over types. Beside
it the shift of the same type in the training cells ("own shift"), the mean shift of all types, and the shift of the
other types weighted by how alike their control cells are. With `--choose` one half of donor 101's cells stands for the
test donor.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from _report import report
from _splits import kang18
from scipy.stats import pearsonr

import polygene_scverse as pgs

KEEPS = (0.0, 0.25, 0.5, 0.75)
MOST_CELLS = 60
RESULTS = Path(__file__).parent / "results"


def log_counts(adata: ad.AnnData) -> np.ndarray:
    """log1p of counts per 10,000; shape (n_cells, n_genes)."""
    x = np.asarray(adata.X.todense(), dtype=float)
    return np.log1p(1e4 * x / x.sum(1, keepdims=True))


def shifts(adata: ad.AnnData, types: list[str]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Observed shift of each type, and the mean of its control cells."""
    x, t, c = log_counts(adata), *(adata.obs[k].astype(str).to_numpy() for k in ("cluster_id", "group_id"))
    means = {k: [x[(t == k) & (c == condition)].mean(0) for condition in ("ctrl", "stim")] for k in types}
    return {k: stim - ctrl for k, (ctrl, stim) in means.items()}, {k: ctrl for k, (ctrl, _) in means.items()}


def rows_of(train: ad.AnnData, test: ad.AnnData, seed: int) -> list[dict]:
    """Figures of every method, means over types."""
    model = pgs.tl.train(train.copy(), phenotypes=["cluster_id", "group_id"], seed=seed, verbose=False)
    at = [train.var_names.get_loc(gene) for gene in model.genes]
    types = list(model.categories["cluster_id"])
    (own, control), (true, _) = shifts(train, types), shifts(test, types)
    found = {"no change": {k: 0 * d for k, d in own.items()}, "own shift": own}
    found["mean shift"] = {k: np.mean(list(own.values()), 0) for k in types}
    found["similarity-weighted shift of other types"] = {}
    for k in types:
        others = [o for o in types if o != k]
        alike = np.array([pearsonr(control[o], control[k])[0] for o in others])
        weights = np.exp(20 * (alike - alike.max()))
        found["similarity-weighted shift of other types"][k] = weights / weights.sum() @ [own[o] for o in others]
    seconds = {}
    for keep in KEEPS:
        name, started, n = f"Polygene, keep={keep}", time.perf_counter(), 0
        found[name] = {}
        for k in types:
            rows = (test.obs["cluster_id"] == k) & (test.obs["group_id"] == "ctrl")
            cells = test[np.flatnonzero(rows)[: test.n_obs if keep == 0 else MOST_CELLS]].copy()
            result = pgs.tl.counterfactual(cells, {"group_id": "stim"}, keep=keep, model=model)
            d = np.zeros(train.n_vars)
            d[at] = (result.X - result.layers["unchanged"]).mean(0)
            found[name][k], n = d, n + cells.n_obs
        seconds[name] = n / (time.perf_counter() - started)
    rows = []
    for name, of_types in found.items():
        scores = []
        for k, p in of_types.items():
            d, p = true[k][at], p[at]
            top = np.argsort(-np.abs(d))[:100]
            same = not p.any()
            scores.append([0.0 if same else pearsonr(p[i], d[i])[0] for i in (slice(None), top)])
            slope = float(p[top] @ d[top] / (d[top] @ d[top]))
            scores[-1] += [slope, float(np.sqrt(((p - d) ** 2).mean()))]
        mean = np.mean(scores, axis=0)
        row = {"method": name, "delta r": mean[0], "of top 100": mean[1], "slope of top 100": mean[2], "RMSE": mean[3]}
        rows.append({**row, "cells/s": seconds.get(name, float("nan"))})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--choose", action="store_true", help="inside the training donor")
    parser.add_argument("--write", action="store_true", help="write the table to results/")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    task = kang18()
    train, test = task.train, task.test
    if arguments.choose:
        half = np.random.default_rng(0).permutation(train.n_obs) % 2 == 0
        train, test = train[half].copy(), train[~half].copy()
    table = pd.concat([pd.DataFrame(rows_of(train, test, seed)) for seed in range(arguments.seeds)])
    rows = table.groupby("method", sort=False).mean().reset_index().to_dict("records")
    command = " ".join(["python benchmarks/what_if.py", *sys.argv[1:]])
    name = "what_if_choose.md" if arguments.choose else "what_if.md"
    where = RESULTS / name if arguments.write else None
    report("kang18: control cells as stimulated", list(rows[0]), rows, command, where)


if __name__ == "__main__":
    main()
