"""Small panels: cells with a subset of the genes, compared with logistic regression refitted on these genes.

    python benchmarks/panels.py                    # all three data sets
    python benchmarks/panels.py --data kang18

The model is trained once, on all genes, and predicts test donors with random panels of the 1,000 most variable genes.
Logistic regression, on log1p of counts per 1,000 with the true totals of cells, is refitted on each panel, or keeps its
weights with zeros for missing genes. It uses all training cells; the model holds out a tenth of them, or of the donors.
Prediction sets should have a coverage of 0.9. Labels are also predicted from the nearest training cells: in the
embedding, where training cells have all genes, and in principal components of the panel.
"""

from __future__ import annotations

import argparse
import warnings

import anndata as ad
import numpy as np
import pandas as pd
from _splits import DATA
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score
from sklearn.neighbors import KNeighborsClassifier

import polygene_scverse as pgs

DATA_SETS = {
    "kang18": ("kang18_pbmc_ifnb", "cluster_id", "sample_id", lambda donors: [d for d in donors if "107" in d]),
    "OneK1K": ("onek1k_40donors", "cell_type", "indiv", lambda donors: donors[:12]),
    "T cells": ("tcells_7donors", "ct_cov", "ind_cov", lambda donors: [d for d in donors if "143" in d or "508" in d]),
}
SHARES = (0.5, 0.25, 0.1, 0.05)
MOST_TRAIN, MOST_TEST, N_GENES, N_DRAWS = 3000, 1500, 1000, 3
COVERAGE, N_NEIGHBORS, N_PCS = 0.9, 15, 30


def compare(name: str, max_epochs: int | None = None) -> pd.DataFrame:
    """Scores of one data set; a row for each share of genes, means over draws of the panel."""
    file, phenotype, group, test_donors = DATA_SETS[name]
    adata = ad.read_h5ad(DATA / f"{file}.h5ad")
    adata = adata[adata.obs[phenotype].notna().to_numpy()].copy()
    donors = adata.obs[group].astype(str)
    test = donors.isin(test_donors(sorted(donors.unique()))).to_numpy()
    random = np.random.default_rng(0)
    rows = [random.permutation(np.flatnonzero(side)) for side in (~test, test)]
    train, query = (np.sort(side[:most]) for side, most in zip(rows, (MOST_TRAIN, MOST_TEST), strict=True))
    y = adata.obs[phenotype].astype(str).to_numpy()
    counts = adata.X.toarray().astype(np.float32)
    x = np.log1p(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1) * 1e3)
    genes = np.argsort(-x[train].var(axis=0))[:N_GENES]
    categories = [c for c in np.unique(y[train]) if (y[train] == c).sum() >= 30 and (y[query] == c).sum() >= 20]
    groups = {"group_key": group} if donors.iloc[train].nunique() > 2 else {}
    model = pgs.tl.train(adata[train].copy(), phenotypes=phenotype, verbose=False, max_epochs=max_epochs, **groups)
    reference = model.get_latent_representation(adata[train].copy())
    whole = LogisticRegression(C=0.05, max_iter=200).fit(x[train][:, genes], y[train])
    found = []
    for share in (1.0, *SHARES):
        for draw in range(1 if share == 1.0 else N_DRAWS):
            places = np.random.default_rng(draw).permutation(len(genes))[: int(share * len(genes))]
            panel = genes[places]
            zero = np.zeros((len(query), len(genes)), dtype=np.float32)
            zero[:, places] = x[query][:, panel]
            refit = LogisticRegression(C=0.05, max_iter=200).fit(x[train][:, panel], y[train])
            cells = adata[query] if share == 1.0 else adata[query][:, panel]
            cells = cells.copy()
            tables = model.predict_phenotype(cells)
            ours = model.decide(tables)[phenotype].astype(str).to_numpy()
            answers = {"ours": ours, "refit": refit.predict(x[query][:, panel]), "zero-filled": whole.predict(zero)}
            scores = {
                f"F1, {key}": f1_score(y[query], p, labels=categories, average="macro") for key, p in answers.items()
            }
            scores |= {
                "accuracy, ours": accuracy_score(y[query], ours),
                "accuracy, expected": model.expected_accuracy(cells)[phenotype],
            }
            of_refit = pd.DataFrame(refit.predict_proba(x[query][:, panel]), columns=refit.classes_)
            scores |= calibration(y[query], {"ours": tables[phenotype], "refit": of_refit})
            sets = model.prediction_sets(tables, coverage=COVERAGE, adata=cells)[phenotype]
            scores |= coverage(y[query], sets)
            states = reference, model.get_latent_representation(cells)
            pca = PCA(N_PCS, random_state=0).fit(x[train][:, panel])
            spaces = {
                "embedding": states,
                "PCs of these genes": [pca.transform(x[side][:, panel]) for side in (train, query)],
            }
            for space, (of_train, of_query) in spaces.items():
                nearest = KNeighborsClassifier(N_NEIGHBORS).fit(of_train, y[train])
                scores[f"accuracy, neighbours in {space}"] = nearest.score(of_query, y[query])
            found.append({"data": name, "share of 1,000 genes": share, **scores})
    return pd.DataFrame(found).groupby(["data", "share of 1,000 genes"], sort=False).mean().reset_index()


def calibration(y: np.ndarray, tables: dict[str, pd.DataFrame]) -> dict[str, float]:
    """Calibration error and NLL of each method; test cells of categories that are not in training are left out."""
    found = {}
    for score, function in (("ECE", pgs.metrics.ece), ("NLL", pgs.metrics.nll)):
        for method, table in tables.items():
            found[f"{score}, {method}"] = function(table.columns.astype(str).get_indexer(y), table.to_numpy())
    return found


def coverage(y: np.ndarray, sets: pd.DataFrame) -> dict[str, float]:
    """Share of prediction sets that contain the true category, and their mean size."""
    codes = sets.columns.astype(str).get_indexer(y)
    held = sets.to_numpy()[np.flatnonzero(codes >= 0), codes[codes >= 0]]
    return {"coverage": float(held.mean()), "categories in a set": float(sets.to_numpy().sum(axis=1).mean())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=list(DATA_SETS), nargs="*", default=list(DATA_SETS), help="data sets")
    parser.add_argument("--max-epochs", type=int, help="length of the training, for a quick look")
    args = parser.parse_args()
    warnings.filterwarnings("ignore", category=UserWarning)
    for name in args.data:
        table = compare(name, args.max_epochs).rename(columns={"F1, ours": "**F1, ours**"})
        print(table.round(3).to_markdown(index=False), flush=True)
        print()


if __name__ == "__main__":
    main()
