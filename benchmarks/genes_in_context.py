"""Genes that drive predictions and genes whose role depends on context, compared with simple baselines.

    python benchmarks/genes_in_context.py --write                        # trains three models
    python benchmarks/genes_in_context.py --choose --max-epochs 2        # within the training donors
    python benchmarks/genes_in_context.py --simulated --write            # tests of roles

*rank*: the 20 highest genes of each category by `tl.rank_genes` in the training cells, of the 1,000 most variable ones,
and how many of them are among the 20 highest Wilcoxon genes of held-out donors; compared with coefficients of logistic
regression (times standard deviations), and with Wilcoxon in the training donors. *deletion*: mean probability of the
predicted category of held-out cells before and after deletion of the 20 expressed genes with the highest evidence for
it, for *rank_genes* the evidence against all other categories, as in its scores; a second table deletes the genes found
by `tl.explain_prediction` and other methods, and also gives the mean decrease of the log-odds. *--simulated*: power and
false positives of `tl.polyfunctionality` on simulated tissues, compared with simpler tests.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
from _attribution import FULL, RANKED, Attribution, weights_of
from _context_genes import rows_of_draw
from _report import report
from _splits import DATA
from scipy.special import expit, logsumexp
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression

import polygene_scverse as pgs
from polygene_scverse.model import Polygene

RESULTS = Path(__file__).parent / "results"
N_TOP, N_VARIABLE = 20, 1000
MOST_TRAIN, MOST_TEST = 3000, 1500
DRAWS = ((0, 8, 0.1), (1, 6, 0.1), (10, 8, 0.0))
"""Seed, number of donors and share of planted genes of simulated tissues."""
TEST_COLUMNS = ("donors", "planted", "test", "power at FDR .05", "false among found", "p < .05 of others", "AUROC")
DATA_SETS = {
    "kang18": ("kang18_pbmc_ifnb.h5ad", "cluster_id", "sample_id"),
    "OneK1K": ("onek1k_40donors.h5ad", "cell_type", "indiv"),
    "T cells": ("tcells_7donors.h5ad", "ct_cov", "ind_cov"),
}


def held_out(name: str, donors: np.ndarray, choose: bool) -> tuple[np.ndarray, np.ndarray]:
    """Which cells are for training and for the test: whole donors, with `choose` of those of the training."""
    levels = sorted(set(donors))
    words = {"kang18": ("107",), "T cells": ("IGTB143", "IGTB508")}
    last = levels[:12] if name == "OneK1K" else [d for d in levels if any(word in d for word in words[name])]
    test = np.isin(donors, last)
    if not choose:
        return ~test, test
    rest = [d for d in levels if d not in last]
    if len(rest) < 3:
        half = np.random.default_rng(0).random(len(donors)) < 0.6
        return ~test & half, ~test & ~half
    inner = np.isin(donors, rest[::3])
    return ~test & ~inner, inner


def cells_of(name: str, choose: bool) -> tuple[ad.AnnData, ad.AnnData]:
    """Training and test cells, as in the first measurements of the baselines."""
    file, phenotype, donor = DATA_SETS[name]
    rng, adata = np.random.default_rng(0), ad.read_h5ad(DATA / file)
    adata = adata[adata.obs[phenotype].notna().to_numpy()]
    train, test = (np.flatnonzero(side) for side in held_out(name, adata.obs[donor].astype(str).to_numpy(), choose))
    rng.shuffle(train)
    rng.shuffle(test)
    return adata[train[:MOST_TRAIN]].copy(), adata[test[:MOST_TEST]].copy()


def model_of(name: str, train: ad.AnnData, folder: Path | None, choose: bool, epochs: int | None) -> Polygene:
    """The model of these cells, with default arguments; read from `folder` if it was saved there before."""
    _, phenotype, donor = DATA_SETS[name]
    path = None if folder is None else folder / (name.replace(" ", "_") + ("_choose" if choose else ""))
    if path is not None and path.is_dir():
        return Polygene.load(path, adata=False)
    group = donor if train.obs[donor].nunique() > 2 else None
    return pgs.tl.train(train, phenotypes=phenotype, group_key=group, max_epochs=epochs, save_to=path, verbose=False)


def log_counts(adata: ad.AnnData, total: float) -> np.ndarray:
    """log1p of counts per so many; shape (n_cells, n_genes)."""
    x = adata.X.toarray() if sp.issparse(adata.X) else np.asarray(adata.X)
    return np.log1p(total * x / np.maximum(x.sum(1, keepdims=True), 1)).astype(np.float32)


def wilcoxon(x: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Probability that a cell of the category expresses a gene more than another, less one half; shape (n_genes,)."""
    n, m = own.sum(), (~own).sum()
    return rankdata(x, axis=0)[own].sum(0) / (n * m) - (n + 1) / (2 * m) - 0.5


def top(scores: np.ndarray) -> set[int]:
    """The highest."""
    return set(np.argsort(-scores)[:N_TOP].tolist())


def rank_rows(
    name: str, folder: Path | None, choose: bool, epochs: int | None, n_cells: int, n_deleted: int
) -> tuple[list[dict], list[dict]]:
    """Agreement with held-out markers, and deletion; then deletion by method."""
    train, test = cells_of(name, choose)
    phenotype = DATA_SETS[name][1]
    model = model_of(name, train, folder, choose, epochs)
    a, b = log_counts(train, 1e3), log_counts(test, 1e3)
    genes = np.argsort(-a.var(0))[:N_VARIABLE]
    y, yt = (x.obs[phenotype].astype(str).to_numpy() for x in (train, test))
    kept = [c for c in sorted(set(y)) if (y == c).sum() >= 30 and (yt == c).sum() >= N_TOP]
    regression = LogisticRegression(C=0.05, max_iter=200).fit(a[:, genes], y)
    pgs.tl.rank_genes(train, phenotype, n_cells=n_cells, model=model)
    table = train.uns["polygene_rank_genes"]
    at = pd.Index(train.var_names[genes])
    rows: dict[str, list[float]] = {}
    for category in kept:
        truth = top(wilcoxon(b[:, genes], yt == category))
        scores = pd.Series(table["scores"][category], table["names"][category])
        change = pd.Series(table["logfoldchanges"][category], table["names"][category])
        coefficient = regression.coef_[list(regression.classes_).index(category)] * a[:, genes].std(0)
        mean = a[y == category][:, genes].mean(0) - a[y != category][:, genes].mean(0)
        found = {
            "rank_genes": scores.reindex(at).fillna(-np.inf).to_numpy(),
            "rank_genes, higher in the category": scores.where(change > 0).reindex(at).fillna(-np.inf).to_numpy(),
            "logistic regression": coefficient,
            "difference of means": mean,
            "Wilcoxon of the training donors": wilcoxon(a[:, genes], y == category),
        }
        for method, values in found.items():
            rows.setdefault(method, []).append(len(top(values) & truth) / N_TOP)
    agreement = [{"data": name, "method": m, "top 20 in common": float(np.mean(v))} for m, v in rows.items()]
    rows_of_both, methods = deletion_rows(name, model, regression, test[:n_deleted].copy(), genes)
    return merge(agreement, rows_of_both), methods


def deletion_rows(
    name: str, model: Polygene, regression: LogisticRegression, test: ad.AnnData, genes: np.ndarray
) -> tuple[list[dict], list[dict]]:
    """The predicted category with and without the genes that are the strongest evidence for it.

    Returns rows of logistic regression and of `tl.rank_genes`, and rows of methods that look for genes of the model.
    """
    phenotype = DATA_SETS[name][1]
    rng, x = np.random.default_rng(0), log_counts(test, 1e3)[:, genes].astype(np.float64)
    before, cells = regression.decision_function(x), np.arange(len(x))
    guess = before.argmax(1)

    def regressed(order: np.ndarray | None) -> np.ndarray:
        """Log-odds of the predicted category if the first genes in this order are deleted; shape (n_cells,)."""
        values = x.copy()
        if order is not None:
            np.put_along_axis(values, np.argsort(-order, 1)[:, :N_TOP], 0, 1)
        logits = regression.decision_function(values)
        own = logits[cells, guess]
        logits[cells, guess] = -np.inf
        return own - logsumexp(logits, axis=1)

    weights = weights_of(regression.coef_, list(regression.classes_), list(test.var_names[genes]), model, phenotype)
    found = Attribution(model, phenotype, N_TOP, weights).deletions(test)
    random = regressed(np.where(x > 0, rng.random(x.shape), -1.0))
    theirs = (regressed(None), regressed(x * regression.coef_[guess]), random)
    ours = (found[FULL], found[RANKED], found["random genes"])
    rows = []
    for method, (full, deleted, at_random) in (("logistic regression", theirs), ("rank_genes", ours)):
        rows.append({"data": name, "method": method, "probability": float(expit(full).mean())})
        rows[-1]["20 genes deleted"] = float(expit(deleted).mean())
        rows[-1]["20 random genes deleted"] = float(expit(at_random).mean())
    methods = [("logistic regression, all genes", theirs[0], theirs[0])]
    methods += [("logistic regression, its own genes deleted", theirs[1], theirs[0])]
    methods += [(method, values, found[FULL]) for method, values in found.items()]
    return rows, [
        {
            "data": name,
            "genes deleted from the model": method,
            "probability": float(expit(values).mean()),
            "decrease of log-odds": float((full - values).mean()),
        }
        for method, values, full in methods
    ]


def merge(rows: list[dict], more: list[dict]) -> list[dict]:
    """Rows of the same method together."""
    for row in more:
        next(r for r in rows if r["method"] == row["method"]).update(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", choices=list(DATA_SETS), default=list(DATA_SETS))
    parser.add_argument("--choose", action="store_true", help="within the training donors, short trainings")
    parser.add_argument("--max-epochs", type=int, help="passes over the cells; the default of the training by default")
    parser.add_argument("--models", type=Path, help="folder where models are kept between runs")
    parser.add_argument("--n-cells", type=int, default=10, help="of `tl.rank_genes`")
    parser.add_argument("--n-deleted", type=int, default=50, help="held-out cells in which genes are deleted")
    parser.add_argument("--simulated", action="store_true", help="tests of roles on simulated tissues instead")
    parser.add_argument("--write", action="store_true", help="write the tables to results/")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    words = [word for word in sys.argv[1:] if word not in ("--models", str(arguments.models))]
    command = " ".join(["python benchmarks/genes_in_context.py", *words])

    def show(title: str, columns: Sequence[str], rows: list[dict], name: str) -> None:
        report(title, columns, rows, command, RESULTS / f"{name}.md" if arguments.write else None)

    if arguments.simulated:
        rows = [row for draw in DRAWS for row in rows_of_draw(*draw, arguments.max_epochs)]
        show("Genes whose role differs between tissues", TEST_COLUMNS, rows, "polyfunctionality")
        return
    settings = (arguments.models, arguments.choose, arguments.max_epochs, arguments.n_cells, arguments.n_deleted)
    tables = [rank_rows(name, *settings) for name in arguments.data]
    columns = ["data", "method", "top 20 in common", "probability", "20 genes deleted", "20 random genes deleted"]
    show("Which genes carry a category", columns, [row for rows, _ in tables for row in rows], "genes_in_context")
    columns = ["data", "genes deleted from the model", "probability", "decrease of log-odds"]
    show("Twenty genes deleted", columns, [row for _, rows in tables for row in rows], "genes_deleted")


if __name__ == "__main__":
    main()
