"""Denoising compared with simple methods: molecular cross-validation on four data sets.

    python benchmarks/impute.py --write
    python benchmarks/impute.py --network --data kang18         # includes the network's result, default training
    python benchmarks/impute.py --choose                        # cells of training donors, used to make choices

Nine tenths of the molecules of 2,000 random cells and their 1,000 most variable genes are kept; the others are
predicted. A model is trained on the kept molecules, and `tl.impute` denoises the same cells. MSE: of log1p of counts
per 10,000, for which Polygene predicts the mean of logarithms (`log=True`). Poisson: the loss of counts, for which it
predicts the mean of counts (`log=False`). The simple methods have one prediction for both: class mean, which uses the
true class; kNN, 15 or 50 neighbours in 30 principal components, without the cell itself or with it; 5, 10 or 20
principal components of square roots; diffusion over the 15 nearest neighbours (as MAGIC); "none", the kept molecules.
All cells are in training, as for the simple methods. `tl.impute` does not use the network by default, so it is trained
for one epoch unless `--network` requests its prediction (`keep=0.75`).
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
import scipy.sparse as sp
from _report import report
from _splits import DATA
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

import polygene_scverse as pgs

N_CELLS, N_GENES, KEPT = 2000, 1000, 0.9
SETS = {
    "kang18": ("kang18_pbmc_ifnb.h5ad", ["cluster_id", "group_id"], "sample_id", ["ctrl107", "stim107"]),
    "OneK1K": ("onek1k_40donors.h5ad", ["cell_type"], "indiv", []),
    "T cells": ("tcells_7donors.h5ad", ["ct_cov"], "ind_cov", ["IGTB143_IGTB143", "IGTB508_IGTB508"]),
    "glioblastoma": ("glioblastoma_5patients.h5ad", ["condition"], "patient_id", ["PW036", "PW040"]),
}
"""File, phenotypes, column of donors, and those whose cells are no part of `--choose`."""
RESULTS = Path(__file__).parent / "results"


def molecules(name: str, *, choose: bool) -> tuple[ad.AnnData, np.ndarray]:
    """Cells with the molecules that are kept, and the others."""
    file, phenotypes, donor, held_out = SETS[name]
    adata, rng = ad.read_h5ad(DATA / file), np.random.default_rng(int(choose))
    if choose:
        donors = adata.obs[donor].astype(str)
        adata = adata[~donors.isin(held_out or sorted(donors.unique())[:12]).to_numpy()]
    adata = adata[rng.permutation(adata.n_obs)[:N_CELLS]]
    counts = np.asarray(adata.X.todense()).astype(int)
    genes = np.argsort(-counts.var(0))[:N_GENES]
    kept = rng.binomial(counts[:, genes], KEPT)
    other = counts[:, genes] - kept
    some = (kept.sum(1) > 0) & (other.sum(1) > 0)
    obs = adata.obs.loc[some, phenotypes].astype(str)
    x = sp.csr_matrix(kept[some].astype(np.float32))
    return ad.AnnData(x, obs=obs, var=pd.DataFrame(index=adata.var_names[genes])), other[some].astype(float)


def simple(counts: np.ndarray, classes: np.ndarray) -> dict[str, np.ndarray]:
    """Expected counts by simple methods; shape (n_cells, n_genes) each."""
    totals = counts.sum(1, keepdims=True)
    depth = totals / np.median(totals)
    scaled = counts / depth
    roots = np.sqrt(scaled)
    found = {"none": counts, "gene mean": scaled.mean(0) * depth, "class mean": np.zeros_like(counts)}
    for c in np.unique(classes):
        found["class mean"][classes == c] = scaled[classes == c].mean(0)
    found["class mean"] *= depth
    pcs = PCA(30, random_state=0).fit_transform(roots)
    for k in (15, 50):
        near = NearestNeighbors(n_neighbors=k).fit(pcs).kneighbors(return_distance=False)
        found[f"kNN {k}"] = scaled[near].mean(1) * depth
        near = np.column_stack([np.arange(len(pcs)), near])
        found[f"kNN {k} and itself"] = scaled[near].mean(1) * depth
    for n in (5, 10, 20):
        pca = PCA(n, random_state=0).fit(roots)
        found[f"PCA {n} of roots"] = np.clip(pca.inverse_transform(pca.transform(roots)), 0, None) ** 2 * depth
    near = NearestNeighbors(n_neighbors=15).fit(pcs).kneighbors(return_distance=False)
    rows = np.repeat(np.arange(len(pcs)), 15)
    graph = sp.csr_matrix((np.ones(near.size), (rows, near.ravel())), shape=(len(pcs),) * 2)
    graph = graph + graph.T + sp.eye(len(pcs))
    graph = sp.diags(1 / np.asarray(graph.sum(1)).ravel()) @ graph
    for _ in range(3):
        roots = graph @ roots
    return {**found, "diffusion": roots**2 * depth}


def mse(predicted: np.ndarray, other: np.ndarray) -> float:
    """Of log1p of counts per 10,000."""
    logs = [np.log1p(x / np.maximum(x.sum(1, keepdims=True), 1e-9) * 1e4) for x in (predicted, other)]
    return float(((logs[0] - logs[1]) ** 2).mean())


def poisson_loss(predicted: np.ndarray, other: np.ndarray, n_kept: float) -> float:
    """Of counts, brought to the number of the other molecules."""
    predicted = predicted * other.sum() / n_kept
    return float((predicted - other * np.log(predicted + 1e-6)).mean())


def rows_of(name: str, *, choose: bool, network: bool) -> list[dict]:
    """A row for each method."""
    adata, other = molecules(name, choose=choose)
    counts = adata.X.toarray().astype(float)
    totals = counts.sum(1, keepdims=True)
    arguments = {"max_epochs": None if network else 1, "validation_size": 0.0}
    model = pgs.tl.train(adata, phenotypes=list(adata.obs), seed=0, verbose=False, **arguments)
    classes = adata.obs.agg("|".join, axis=1).to_numpy()
    answers = {method: (x, x, float("nan")) for method, x in simple(counts, classes).items()}
    methods: dict[str, dict] = {"Polygene": {}} | ({"Polygene, network": {"keep": 0.75}} if network else {})
    for method, arguments in methods.items():
        both, started = [], time.perf_counter()
        for log in (True, False):
            pgs.tl.impute(adata, model=model, log=log, **arguments)
            x = np.nan_to_num(adata.layers["imputed"].astype(float))  # genes of which no molecule was kept
            both.append((np.expm1(x) if log else x) * totals / 1e4)
        answers[method] = (*both, 2 * len(totals) / (time.perf_counter() - started))
    scored = {m: (mse(a, other), poisson_loss(b, other, counts.sum()), s) for m, (a, b, s) in answers.items()}
    return [{"data": name, "method": m, "MSE": a, "Poisson": b, "cells/s": s} for m, (a, b, s) in scored.items()]


def summary(rows: list[dict]) -> list[dict]:
    """Ours beside the best and the worst simple method, for each metric."""
    table, found = pd.DataFrame(rows), []
    for (name, metric), part in table.melt(["data", "method"], ["MSE", "Poisson"], "metric").groupby(
        ["data", "metric"], sort=False
    ):
        values = part.set_index("method")["value"]
        others = values[~values.index.str.startswith("Polygene")]
        row = {"data": name, "metric": metric, "Polygene": values["Polygene"]}
        row |= {"best simple method": others.idxmin(), "its value": others.min()}
        row |= {
            "worst simple method": others.max(),
            "best of all": "yes" if values["Polygene"] < others.min() else "no",
        }
        found.append(row)
    return found


def four(value: object) -> object:
    """Four decimals: methods differ in the third."""
    return f"{value:.4f}" if isinstance(value, float) else value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=list(SETS), nargs="+", default=list(SETS))
    parser.add_argument("--choose", action="store_true", help="cells of training donors, another draw")
    parser.add_argument("--network", action="store_true", help="also the network's answer")
    parser.add_argument("--write", action="store_true", help="write the tables to results/")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    rows: list[dict] = []
    for name in arguments.data:
        rows += rows_of(name, choose=arguments.choose, network=arguments.network)
        print(pd.DataFrame(rows[-2:]), flush=True)
    command = " ".join(["python benchmarks/impute.py", *sys.argv[1:]])
    end = ("_choose" if arguments.choose else "") + ("_network" if arguments.network else "")
    short = summary(rows)
    for title, table, name in (("ours and simple methods", short, "impute"), ("all methods", rows, "impute_all")):
        where = RESULTS / f"{name}{end}.md" if arguments.write else None
        texts = [{k: four(v) if k != "cells/s" else v for k, v in row.items()} for row in table]
        report(f"molecules that were left out: {title}", list(table[0]), texts, command, where)


if __name__ == "__main__":
    main()
