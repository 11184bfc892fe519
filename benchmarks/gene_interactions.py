"""Time to compute a gene-gene matrix, compared with a loop over pairs of genes as in the original.

    python benchmarks/gene_interactions.py

States are random; the loop runs over 200 genes and is extrapolated to all pairs. The pass over cells that computes the
states is timed on a small untrained network: 2,000 simulated cells, 2,000 genes.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _report import report
from scipy.spatial.distance import cosine, mahalanobis

import polygene_scverse as pgs
from polygene_scverse.metrics._gene_interactions import gene_covariance
from polygene_scverse.model import Polygene

SIZES = ((2000, 64), (2432, 768))
LOOPED = 200
REPEATS = 3
COLUMNS = ("genes", "hidden units", "what", "seconds", "loop over pairs, seconds", "ratio")


def seconds(function: Callable[[], Any]) -> float:
    """Median over repeats."""
    taken = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        function()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def row(n_genes: int, n_hidden: int, metric: str) -> dict[str, Any]:
    """Time one matrix; its covariance is counted."""
    states = np.random.default_rng(0).normal(size=(n_genes, n_hidden)).astype(np.float32)
    ours = seconds(lambda: pgs.metrics.gene_interactions(states, metric=metric))
    inverse = np.linalg.inv(gene_covariance(states))

    def loop() -> None:
        for i in range(LOOPED):
            for j in range(i + 1, LOOPED):
                if metric == "cosine":
                    cosine(states[i], states[j])
                else:
                    mahalanobis(states[i], states[j], inverse)

    theirs = seconds(loop) * (n_genes * (n_genes - 1)) / (LOOPED * (LOOPED - 1))
    numbers = {"seconds": ours, "loop over pairs, seconds": theirs, "ratio": theirs / ours}
    return {"genes": n_genes, "hidden units": n_hidden, "what": f"{metric} matrix", **numbers}


def pass_over_cells() -> dict[str, Any]:
    """Time the states of all genes in three contexts."""
    adata = pgs.datasets.simulate(2000, 2000, phenotypes={"cell_type": 3, "sex": 2}, mean_count=0.1)
    Polygene.setup_anndata(adata, phenotype_keys=["cell_type", "sex"])
    model = Polygene(adata, genes=list(adata.var_names))
    model.edges_, model.is_trained_ = [0.0, *np.linspace(0.1, 9.0, 9)], True
    taken = seconds(lambda: model.get_gene_states(groupby="cell_type"))
    what = f"states of genes in {adata.n_obs:,} cells, {adata.X.nnz / adata.n_obs:.0f} expressed each"
    return {"genes": adata.n_vars, "hidden units": model.module.config.n_hidden, "what": what, "seconds": taken}


def main() -> None:
    torch.set_num_threads(1)
    rows = [row(*size, metric) for size in SIZES for metric in ("cosine", "mahalanobis")]
    output = Path(__file__).parent / "results" / "gene_interactions.md"
    command = "python benchmarks/gene_interactions.py"
    report("Gene-gene matrices", COLUMNS, [*rows, pass_over_cells()], command, output)


if __name__ == "__main__":
    main()
