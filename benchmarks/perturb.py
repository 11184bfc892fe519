"""Perturbed genes: regulators planted in simulated cells, and the time for 100 genes in 1,000 cells.

    python benchmarks/perturb.py --write

Each of three cell types has regulators that determine it: their activity in a cell decides its type by a noisy vote.
Each regulator also drives five other genes. 100 genes are silenced in 1,000 new cells (`tl.perturb`): all regulators,
and genes that nothing depends on. AUROC: of the largest absolute z of a gene (`get.perturb`), for regulators against
the others, by phenotype, embedding, expected expression of the other genes together ("expression") and of any one of
them ("genes"). Two baselines do not need a network: coefficients of logistic regression times mean expression, for the
phenotype, and the mean absolute correlation with other genes. Found: regulators with fdr < .05. FDR: share of other
genes among all with fdr < .05; by phenotype with labels of all cells permuted before training, share of the table's
rows with fdr < .05. `specific`: share of a regulator's squared shift of other genes that remains after the mean shift
of random genes is subtracted. `seconds`: for 100 genes and 200 random ones in 1,000 cells.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
from _report import report
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

import polygene_scverse as pgs

N_GENES, N_REGULATORS, N_TARGETS, N_TYPES = 600, 24, 5, 3
N_TRAIN, N_ASKED, N_PERTURBED = 2000, 1000, 100
KINDS = ("knockout", "overexpress")
RESULTS = Path(__file__).parent / "results"


def simulate(seed: int) -> tuple[ad.AnnData, np.ndarray]:
    """Cells whose type follows from regulators; and which genes these are."""
    rng = np.random.default_rng(seed)
    n, order = N_TRAIN + N_ASKED, rng.permutation(N_GENES)
    regulators = order[:N_REGULATORS]
    targets = order[N_REGULATORS : N_REGULATORS * (1 + N_TARGETS)].reshape(N_REGULATORS, N_TARGETS)
    activity = rng.normal(0, 1, (n, N_REGULATORS))
    votes = np.stack([activity[:, k::N_TYPES].sum(1) for k in range(N_TYPES)], 1)
    types = (votes + rng.gumbel(0, 0.5, votes.shape)).argmax(1)
    log_rate = np.log(0.6) + rng.normal(-0.3, 0.8, N_GENES) + rng.normal(0, 0.3, (n, 1))
    log_rate[:, regulators] = np.log(1.0) + activity
    for j in range(N_REGULATORS):
        log_rate[:, targets[j]] += 0.8 * activity[:, [j]]
    counts = rng.poisson(np.exp(log_rate) * rng.gamma(4, 1 / 4, log_rate.shape)).astype(np.float32)
    obs = pd.DataFrame(
        {"cell_type": pd.Categorical.from_codes(types, ["a", "b", "c"])}, index=[f"c{i}" for i in range(n)]
    )
    obs["donor"] = pd.Categorical((np.arange(n) % 6).astype(str))
    var = pd.DataFrame(index=[f"gene{i}" for i in range(N_GENES)])
    neither = order[N_REGULATORS * (1 + N_TARGETS) :]
    var["regulator"], var["neither"] = np.isin(np.arange(N_GENES), regulators), np.isin(np.arange(N_GENES), neither)
    return ad.AnnData(sp.csr_matrix(counts), obs=obs, var=var), types


def largest(table: pd.DataFrame, genes: list[str]) -> np.ndarray:
    """Largest absolute z of each gene; those that change no cell have 0."""
    return table.assign(z=table["z"].abs()).groupby("perturbation")["z"].max().reindex(genes).fillna(0.0).to_numpy()


def trained(seed: int, *, permuted: bool) -> tuple[pgs.model.Polygene, ad.AnnData, ad.AnnData]:
    """A model, its cells, and new ones."""
    adata, _ = simulate(seed)
    if permuted:
        adata.obs["cell_type"] = adata.obs["cell_type"].to_numpy()[np.random.default_rng(seed).permutation(adata.n_obs)]
    train, new = adata[:N_TRAIN].copy(), adata[N_TRAIN:].copy()
    return pgs.tl.train(train, phenotypes=["cell_type"], group_key="donor", seed=seed, verbose=False), train, new


def row_of(
    model: pgs.model.Polygene, train: ad.AnnData, new: ad.AnnData, kind: str, seed: int, *, permuted: bool
) -> dict:
    """Figures of one kind of perturbation."""
    rng = np.random.default_rng(seed)
    regulators = list(train.var_names[train.var["regulator"]])
    others = list(rng.permutation(train.var_names[train.var["neither"]])[: N_PERTURBED - N_REGULATORS])
    genes = [*regulators, *others]
    started = time.perf_counter()
    result = pgs.tl.perturb(new, genes, kind=kind, model=model, seed=seed)
    seconds = time.perf_counter() - started
    tables = {o: pgs.get.perturb(result, o) for o in ("cell_type", "embedding", "expression", "genes")}
    row: dict = {"cells": "labels permuted" if permuted else "planted", "kind": kind}
    x = train.X.toarray()
    x = np.log1p(1e4 * x / x.sum(1, keepdims=True))
    truth = np.isin(genes, regulators)
    at = train.var_names.get_indexer(genes)
    judge = LogisticRegression(C=0.01, max_iter=200).fit(x, train.obs["cell_type"])
    r = np.abs(np.nan_to_num(np.corrcoef(x.T)))
    scores = {name: largest(table, genes) for name, table in tables.items()}
    scores |= {"LR, cell_type": np.abs(judge.coef_).max(0)[at] * x.mean(0)[at], "correlation": (r.sum(1) - 1)[at]}
    for name, score in scores.items():
        nothing = permuted and name.endswith("cell_type")
        row[f"AUROC {name}"] = float("nan") if nothing else float(roc_auc_score(truth, score))
    for name, table in tables.items():
        found = table[table["fdr"] < 0.05]
        nothing = permuted and name == "cell_type"
        row[f"found {name}"] = float("nan") if nothing else float(np.isin(regulators, found["perturbation"]).mean())
        wrong = float((~found["perturbation"].isin(regulators)).mean()) if len(found) else 0.0
        row[f"FDR {name}"] = len(found) / len(table) if nothing else wrong
    left = tables["expression"].set_index("perturbation").loc[regulators, "specific"].mean()
    return {**row, "specific": float(left), "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--parts", nargs="*", choices=(*KINDS, "permuted"), default=(*KINDS, "permuted"))
    parser.add_argument("--table", type=Path, help="CSV file of rows that are there, to which others are added")
    parser.add_argument("--write", action="store_true", help="write the table to results/")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    there = arguments.table is not None and arguments.table.exists()
    rows: list[dict] = pd.read_csv(arguments.table).to_dict("records") if there else []
    for seed in range(arguments.seeds):
        for part in arguments.parts:
            permuted, kind = part == "permuted", part if part in KINDS else KINDS[0]
            if permuted or part == arguments.parts[0]:
                some = trained(seed, permuted=permuted)
            rows.append(row_of(*some, kind, seed, permuted=permuted))
            print(rows[-1], flush=True)
            if arguments.table is not None:
                pd.DataFrame(rows).to_csv(arguments.table, index=False)
    table = pd.DataFrame(rows).groupby(["cells", "kind"], sort=False).mean().reset_index()
    command = f"python benchmarks/perturb.py --seeds {arguments.seeds} --write"
    where = RESULTS / "perturb.md" if arguments.write else None
    flat = table.melt(["cells", "kind"], var_name="figure").pivot_table(
        index="figure", columns=["cells", "kind"], values="value", sort=False, dropna=False
    )
    flat.columns = [f"{kind}, {cells}" for cells, kind in flat.columns]
    flat = flat.reset_index().dropna(axis=1, how="all")
    report("planted regulators", list(flat.columns), flat.to_dict("records"), command, where)


if __name__ == "__main__":
    main()
