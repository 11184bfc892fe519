"""Train on real cells, predict, embed and draw, in under three minutes on a laptop.

Cells: 700 PBMC that ship with scanpy. Phenotypes: cell type (``bulk_labels``) and cell-cycle ``phase``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from rich.console import Console
from rich.progress import track
from rich.table import Table
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import polygene_scverse as pgs

BASELINES = {
    "majority class": DummyClassifier(),
    "logistic regression": make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500)),
}


def compare(adata, phenotype: str, train: np.ndarray, test: np.ndarray) -> list[dict]:
    """Held-out accuracy and macro-F1 of the model and of two baselines."""
    labels = adata.obs[phenotype].astype("category").cat
    truth, names = labels.codes.to_numpy(), labels.categories
    predicted = adata.obs[f"polygene_{phenotype}"].astype(pd.CategoricalDtype(names)).cat.codes.to_numpy()
    guesses = {"Polygene": predicted[test]}
    x = adata.X.toarray()
    for name, baseline in BASELINES.items():
        guesses[name] = baseline.fit(x[train], truth[train]).predict(x[test])
    return [
        {
            "phenotype": phenotype,
            "method": name,
            "accuracy": pgs.metrics.accuracy(truth[test], guess),
            "macro-F1": pgs.metrics.macro_f1(truth[test], guess),
        }
        for name, guess in guesses.items()
    ]


def show(console: Console, rows: list[dict], n_test: int) -> None:
    """Print the comparison."""
    table = Table(title=f"{n_test} held-out cells, one random split: an upper bound")
    for name in rows[0]:
        table.add_column(name)
    for row in rows:
        table.add_row(*(f"{v:.3f}" if isinstance(v, float) else v for v in row.values()))
    console.print(table)


def main() -> None:
    """Run the demo."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("polygene_demo"), help="where figures go")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    mpl.use("Agg")
    console = Console()

    adata = pgs.datasets.pbmc68k()
    model = pgs.tl.train(adata, validation_size=0.2)
    pgs.tl.predict_phenotype(adata)
    pgs.tl.embed(adata)

    test, train = model.validation_indices, model.train_indices
    rows = [row for phenotype in model.categories for row in compare(adata, phenotype, train, test)]
    show(console, rows, len(test))

    figures = {
        "umap.png": lambda: pgs.pl.umap(adata, color=["bulk_labels", "polygene_bulk_labels"], show=False),
        "confusion.png": lambda: pgs.pl.confusion(adata[test], "bulk_labels", show=False),
        "history.png": lambda: pgs.pl.history(adata, show=False),
    }
    for name, draw in track(figures.items(), description="drawing", console=console):
        axes = np.ravel(draw())
        axes[0].figure.savefig(folder / name, dpi=150, bbox_inches="tight")
    console.print(f"Figures are in {folder.resolve()}: {', '.join(figures)}")


if __name__ == "__main__":
    main()
