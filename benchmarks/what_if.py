"""What-if questions compared with simple baselines: donor 107 of kang18 from donor 101.

    python benchmarks/what_if.py --write                 # test donor
    python benchmarks/what_if.py --choose                # within donor 101, to choose `keep`
    python benchmarks/what_if.py --speed --write         # 2,000 cells at once
    python benchmarks/what_if.py --null --write          # false discoveries with permuted labels of donors

The expected expression of control cells of each type as stimulated cells is predicted (`tl.counterfactual`). The
predicted shift is compared with the observed one of the held-out cells (mean of log1p of counts per 10,000), over the
model's genes: Pearson correlation over all genes and over the 100 that shift most, the slope over the latter, means
over types. Baselines are the shift of the same type in the training cells ("own shift"), the mean shift of all types,
and the shift of the other types weighted by the similarity of their control cells. With `--choose`, one half of donor
101's cells replaces the test donor. cells/s is for calls with some dozens of cells, where the fixed cost of a call
dominates; `--speed` predicts 2,000 cells at once (those of the test donor, repeated), for all genes of the model, and
imputes as many cells; it does not depend on the weights.

`--null`: a meaningless label is assigned at random to donors, or to half of the cells of each donor. Cells are
predicted with the other label, and genes with fdr < .05 are counted (`get.counterfactual`): all of them are false.
OneK1K: 40 donors, one label each. T cells: 7 donors, both labels in each. Simulated: 12 donors whose samples differ,
one label each or both, without and with 40 of 400 genes that do shift. FDR is the mean share of false discoveries over
draws and levels (cell types), "any" the share of those with any discovery. For comparison, Welch's t-test (with
Benjamini and Hochberg) treats the cells of a donor as replicates. The test uses the observed differences, so a model is
trained in the first draw only, to show that it makes no difference.
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
import scanpy as sc
import scipy.sparse as sp
from _report import report
from _splits import kang18, onek1k, tcells
from scipy.stats import false_discovery_control, pearsonr, ttest_ind

import polygene_scverse as pgs

KEEPS = (0.0, 0.25, 0.5, 0.75)
MOST_CELLS = 60
N_SPEED = 2000
N_NULL, N_DONORS, N_SIMULATED, N_SHIFTED = 2400, 12, 400, 40
NULLS = ("simulated, both labels", "simulated, one label each", "simulated, both labels, shifts",
         "simulated, one label each, shifts", "OneK1K", "T cells")  # fmt: skip
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


def speed_rows(train: ad.AnnData, test: ad.AnnData) -> list[dict]:
    """Cells per second of calls for many cells."""
    model = pgs.tl.train(train.copy(), phenotypes=["cluster_id", "group_id"], max_epochs=1, verbose=False)
    many = test[np.resize(np.arange(test.n_obs), N_SPEED)].copy()
    many.obs_names_make_unique()
    calls = {
        "counterfactual": lambda: pgs.tl.counterfactual(many, {"group_id": "stim"}, model=model),
        "counterfactual and its table by type": lambda: pgs.get.counterfactual(
            pgs.tl.counterfactual(many, {"group_id": "stim"}, model=model), groupby="cluster_id"
        ),
        "impute": lambda: pgs.tl.impute(many, model=model),
    }
    rows = []
    for name, call in calls.items():
        times = []
        for _ in range(3):
            started = time.perf_counter()
            call()
            times.append(time.perf_counter() - started)
        seconds = float(np.median(times))
        rows.append({"call": name, "cells": N_SPEED, "genes": len(model.genes), "cells/s": N_SPEED / seconds})
    return rows


def labelled(name: str, seed: int) -> tuple[ad.AnnData, str | None, int]:
    """Cells with a label of donors, the column of levels, and how many genes do shift, which stand first."""
    rng = np.random.default_rng(seed)
    if name in ("OneK1K", "T cells"):
        task = onek1k() if name == "OneK1K" else tcells()
        adata = ad.concat([task.train, task.test])
        adata = adata[rng.permutation(adata.n_obs)[:N_NULL]].copy()
        donors, of_cell = np.unique(adata.obs["donor"].astype(str), return_inverse=True)
        half = rng.permutation(len(donors))[: len(donors) // 2]
        label = np.isin(of_cell, half) if name == "OneK1K" else rng.random(adata.n_obs) < 0.5
        adata.obs = pd.DataFrame({"donor": donors[of_cell], "type": adata.obs[task.phenotypes[0]].astype(str)})
        n_shifted, groupby = 0, "type"
    else:
        n_shifted = N_SHIFTED if "shifts" in name else 0
        donor, both = np.repeat(np.arange(N_DONORS), N_NULL // N_DONORS), "both" in name
        second = rng.random(len(donor)) < 0.5
        label = second if both else np.isin(donor, rng.permutation(N_DONORS)[: N_DONORS // 2])
        sample = rng.normal(0, 1, (2, N_DONORS, 5)) @ rng.normal(0, 0.15, (5, N_SIMULATED))  # genes go together
        rates = rng.normal(-0.5, 1, N_SIMULATED) + sample[0, donor] + both * sample[1, donor] * second[:, None]
        rates[:, :n_shifted] += np.where(np.arange(n_shifted) % 2, 0.7, -0.7) * label[:, None]
        counts = sp.csr_matrix(rng.poisson(np.exp(rates)).astype(np.float32))
        adata = ad.AnnData(counts, obs=pd.DataFrame({"donor": donor.astype(str)}))
        adata.obs_names = [f"cell{i}" for i in range(adata.n_obs)]
        adata.var_names, groupby = [f"gene{i}" for i in range(N_SIMULATED)], None
    adata.obs["label"] = np.where(label, "yes", "no")
    return adata, groupby, n_shifted


def without_model(adata: ad.AnnData) -> ad.AnnData:
    """What `tl.counterfactual` returns, of a model that expects nothing."""
    nothing = np.zeros(adata.shape, dtype=np.float32)
    note = {"phenotypes": {"label": "yes"}, "columns": {"label": "label"}}
    var = pd.DataFrame({"measured": True}, index=adata.var_names)
    layers = {"unchanged": nothing, "observed": sp.csr_matrix(log_counts(adata))}
    return ad.AnnData(nothing, adata.obs, var, layers=layers, uns={"polygene": {"counterfactual": note}})


def null_row(name: str, n_draws: int) -> dict:
    """False discoveries over draws of labels."""
    found: dict[str, list[float]] = {"FDR": [], "any": [], "found": [], "cells": []}
    for seed in range(n_draws):
        adata, groupby, n_shifted = labelled(name, seed)
        sc.pp.filter_genes(adata, min_cells=1)
        result = without_model(adata)
        arguments = {"groupby": groupby, "group_key": "donor", "seed": seed}
        table = pgs.get.counterfactual(result, **arguments)
        if seed == 0:
            model = pgs.tl.train(adata, phenotypes=["label"], max_epochs=1, verbose=False)
            other = pgs.get.counterfactual(pgs.tl.counterfactual(adata, {"label": "yes"}, model=model), **arguments)
            both = table.merge(other, on=["level", "gene"])  # the model lacks genes that its training cells lack
            np.testing.assert_allclose(both["fdr_x"], both["fdr_y"], atol=0.05)
        real = list(adata.var_names[:n_shifted])
        for level, part in table[table["fdr"].notna()].groupby("level", observed=True):
            genes = part["gene"][part["fdr"] < 0.05]
            found["FDR"].append(float((~genes.isin(real)).mean()) if len(genes) else 0.0)
            found["any"].append(float(len(genes) > 0))
            found["found"].append(float(np.isin(real, genes).mean()) if real else np.nan)
            rows = np.ones(result.n_obs, bool) if groupby is None else (result.obs[groupby] == level).to_numpy()
            x, yes = result.layers["observed"][rows].toarray(), (result.obs["label"][rows] == "yes").to_numpy()
            p = np.nan_to_num(ttest_ind(x[yes], x[~yes], equal_var=False).pvalue, nan=1.0)
            wrong = result.var_names[false_discovery_control(p) < 0.05]
            found["cells"].append(float((~wrong.isin(real)).mean()) if len(wrong) else 0.0)
    row = {"cells": name, "draws x levels": len(found["FDR"])}
    row |= {key: float(np.mean(found[key])) for key in ("FDR", "any")}
    row["found of those that shift"] = float(np.mean(found["found"]))
    return {**row, "FDR of a t-test over cells": float(np.mean(found["cells"]))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--choose", action="store_true", help="inside the training donor")
    parser.add_argument("--write", action="store_true", help="write the table to results/")
    parser.add_argument("--speed", action="store_true", help="many cells at once")
    parser.add_argument("--null", action="store_true", help="false discoveries where labels mean nothing")
    parser.add_argument("--draws", type=int, default=50, help="draws of labels; a fifth of them of real cells")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    command = " ".join(["python benchmarks/what_if.py", *sys.argv[1:]])
    if arguments.speed:
        task = kang18()
        rows = speed_rows(task.train, task.test)
        where = RESULTS / "what_if_speed.md" if arguments.write else None
        report("many cells at once, median of three", list(rows[0]), rows, command, where)
        return
    if arguments.null:
        rows = []
        for name in NULLS:
            rows.append(null_row(name, arguments.draws if "simulated" in name else arguments.draws // 5))
            print(rows[-1], flush=True)
        where = RESULTS / "what_if_null.md" if arguments.write else None
        report("labels of donors that mean nothing", list(rows[0]), rows, command, where)
        return
    task = kang18()
    train, test = task.train, task.test
    if arguments.choose:
        half = np.random.default_rng(0).permutation(train.n_obs) % 2 == 0
        train, test = train[half].copy(), train[~half].copy()
    table = pd.concat([pd.DataFrame(rows_of(train, test, seed)) for seed in range(arguments.seeds)])
    rows = table.groupby("method", sort=False).mean().reset_index().to_dict("records")
    name = "what_if_choose.md" if arguments.choose else "what_if.md"
    where = RESULTS / name if arguments.write else None
    report("kang18: control cells as stimulated", list(rows[0]), rows, command, where)


if __name__ == "__main__":
    main()
