"""Cost per cell as a function of the number of genes of the model, and of the number of genes that a cell expresses.

    python benchmarks/scaling.py

Training steps (forward, backward, AdamW) and predictions, on random cells that all express the same number of genes, in
precomputed batches. Sizes alternate within a repeat, and the median of the repeats is printed: first with 200 expressed
genes for models of 512 to 16,384 genes, then with 4,096 genes and 64 to 1,024 expressed ones. Writes
results/scaling.md and results/scaling.png.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from _report import report
from rich.console import Console

from polygene_scverse._layout import TokenLayout
from polygene_scverse.data.feed._loader import BatchDataset
from polygene_scverse.data.feed._masking import MaskingRates
from polygene_scverse.data.feed._table import CellTable
from polygene_scverse.data.read._tokens import Cells
from polygene_scverse.engine import INPUTS, Query
from polygene_scverse.module import PolygeneModule
from polygene_scverse.module._transformer import TransformerConfig, resolve_config

mpl.use("Agg")
RESULTS = Path(__file__).parent / "results"
NETWORKS = {
    "default": resolve_config("tiny"),
    "64/12/4": TransformerConfig(n_hidden=64, n_layers=12, n_heads=4, n_intermediate=3072, dropout=0.1),
}
N_GENES, N_EXPRESSED = (512, 1024, 2048, 4096, 8192, 16384), (64, 128, 256, 512, 1024)
FIXED_GENES, FIXED_EXPRESSED, N_BINS, SECONDS = 4096, 200, 10, 1.0
PHENOTYPES = {"cell_type": 20, "sex": 2}
COLUMNS = ("network", "step", "genes", "expressed", "ms per cell", "relative to the first")


def random_batch(n_genes: int, n_expressed: int, size: int, rates: MaskingRates | None) -> tuple[TokenLayout, dict]:
    """A batch of cells that express the same number of random genes."""
    rng = np.random.default_rng(0)
    layout = TokenLayout.build(
        {name: [f"{name}_{i}" for i in range(n)] for name, n in PHENOTYPES.items()},
        [f"gene_{i}" for i in range(n_genes)],
        N_BINS,
    )
    genes = np.concatenate([np.sort(rng.permutation(n_genes)[:n_expressed]) for _ in range(size)])
    n = size * n_expressed
    cells = Cells(
        np.arange(0, n + 1, n_expressed),
        genes.astype(np.int32),
        rng.integers(1, N_BINS, n).astype(np.int16),
        rng.gamma(2.0, 1.0, n).astype(np.float32),
    )
    codes = np.stack([rng.integers(0, c, size) for c in PHENOTYPES.values()], axis=1)
    rows = np.arange(size)
    table = CellTable(cells, codes, rows, layout, np.ones(n_genes, dtype=bool))
    return layout, Query().batch(table, rows) if rates is None else BatchDataset(table, rates)[0, rows]


class Side:
    """A network of a size, with a batch for it."""

    def __init__(self, network: str, step: str, n_genes: int, n_expressed: int, size: int) -> None:
        rates = MaskingRates(gene_dropout=0.0) if step == "train" else None
        layout, self.batch = random_batch(n_genes, n_expressed, size, rates)
        self.module, self.size = PolygeneModule(layout, NETWORKS[network]), size
        self.module.train(step == "train")
        self.optimizer = torch.optim.AdamW(self.module.parameters(), lr=1e-4, fused=True)
        self.step = self.train if step == "train" else self.infer
        self.times: list[float] = []

    def train(self) -> None:
        """Forward, backward, AdamW."""
        loss = self.module(self.batch)[2].loss
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    @torch.inference_mode()
    def infer(self) -> None:
        """Predict the phenotypes."""
        share = torch.full((len(PHENOTYPES),), 0.7)  # prediction looks at the linear path as well
        self.module.predict(*(self.batch[name] for name in INPUTS), share)

    def measure(self) -> None:
        """Repeat the step for a while; note the seconds per cell."""
        self.step()
        started, n = time.perf_counter(), 0
        while time.perf_counter() - started < SECONDS:
            self.step()
            n += 1
        self.times.append((time.perf_counter() - started) / (n * self.size))


def series(network: str, step: str, shapes: list[tuple[int, int]], size: int, repeats: int) -> list[dict]:
    """Rows of one line of the figure."""
    sides = [Side(network, step, *shape, size) for shape in shapes]
    for _ in range(repeats):
        for side in sides:
            side.measure()
    costs = [1000 * float(np.median(side.times)) for side in sides]
    return [
        dict(zip(COLUMNS, (network, step, f"{g:,}", f"{e:,}", cost, cost / costs[0]), strict=True))
        for (g, e), cost in zip(shapes, costs, strict=True)
    ]


def draw(lines: list[list[dict]], path: Path) -> None:
    """Cost against genes on the left, against expressed genes on the right."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
    for rows in lines:
        of_genes = len({row["genes"] for row in rows}) > 1
        ax, key = (axes[0], "genes") if of_genes else (axes[1], "expressed")
        x = [int(row[key].replace(",", "")) for row in rows]
        ax.plot(x, [row["ms per cell"] for row in rows], "o-", label=f"{rows[0]['network']}, {rows[0]['step']}")
    axes[0].set(xlabel=f"genes of the model ({FIXED_EXPRESSED} expressed)", ylabel="ms per cell")
    axes[1].set(xlabel=f"expressed genes (of {FIXED_GENES:,})")
    for ax in axes:
        ax.set(xscale="log", yscale="log")
        ax.spines[["top", "right"]].set_visible(False)
    axes[1].legend(frameon=False, fontsize="small")
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    arguments, console, lines = parser.parse_args(), Console(), []
    torch.manual_seed(0)
    for network in NETWORKS:
        for step in ("train", "infer"):
            console.print(f"{network}: {step} …")
            for shapes in ([(n, FIXED_EXPRESSED) for n in N_GENES], [(FIXED_GENES, n) for n in N_EXPRESSED]):
                lines.append(series(network, step, shapes, arguments.batch_size, arguments.repeats))
    RESULTS.mkdir(exist_ok=True)
    draw(lines, RESULTS / "scaling.png")
    rows = [row for line in lines for row in line]
    report("Scaling", COLUMNS, rows, "python benchmarks/scaling.py", RESULTS / "scaling.md")


if __name__ == "__main__":
    main()
