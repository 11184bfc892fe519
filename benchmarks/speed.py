"""Speed and memory of a step, compared with a dense Hugging Face BERT with batches made as in the original.

    python benchmarks/speed.py --quick              # 2432 genes, network 64/12/4, and the data feed: some minutes
    python benchmarks/speed.py --genes 512 --network 768/12/12
    python benchmarks/speed.py --all                # every row; under an hour
    python benchmarks/speed.py --users              # beside logistic regression and scANVI; --quick: prediction only
    python benchmarks/speed.py --users --device cuda

Both sides use the same simulated cells and network in one run. They alternate, and a ratio is the median of the ratios
of the repeats. Batches are precomputed, except in the rows of the data feed. Both sides have dropout 0.1, torch's fused
AdamW, and batches of a size that suits them; gene dropout and `max_genes` are off. Memory is the peak above that of a
new process before the network is created. The share of the matrix-product rate counts required operations only: real
tokens, attention to visible keys, and in the last layer only the queried tokens; the backward pass counts twice the
forward.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import _dense
import _users
import numpy as np
import torch
from _machine import GIB, matmul_rate, peak_memory
from _report import report
from _simulate import PHENOTYPES, check_density, simulate_cells, sparse_cells
from anndata import AnnData
from rich.console import Console

from polygene_scverse._layout import TokenLayout
from polygene_scverse.data.feed._loader import BatchDataset, LengthSampler, make_loader
from polygene_scverse.data.feed._masking import MaskingRates
from polygene_scverse.data.feed._table import CellTable
from polygene_scverse.data.read._binning import original_edges
from polygene_scverse.data.read._expression import Expression
from polygene_scverse.data.read._tokens import Tokenizer
from polygene_scverse.engine import INPUTS, Query
from polygene_scverse.module import PolygeneModule, TransformerConfig

Batch = dict[str, torch.Tensor]
Step = Callable[[Batch], None]

NETWORKS = {
    "64/12/4": TransformerConfig(n_hidden=64, n_layers=12, n_heads=4, n_intermediate=3072, dropout=0.1),
    "768/12/12": TransformerConfig(n_hidden=768, n_layers=12, n_heads=12, n_intermediate=3072, dropout=0.1),
}
GENES = (512, 2432)
BATCH_SIZE = {("64/12/4", 512): 8, ("64/12/4", 2432): 2, ("768/12/12", 512): 8, ("768/12/12", 2432): 4}
DENSE_BATCH_SIZE = {("64/12/4", 512): 8, ("64/12/4", 2432): 2, ("768/12/12", 512): 4, ("768/12/12", 2432): 1}
N_BATCHES = 4
SECONDS_PER_ROW, LEAST_REPEATS = 300, 3
OFF = {"gene_dropout": 0.0, "max_genes": 10**9}
RATES: dict[str, MaskingRates | None] = {
    "train": MaskingRates(**OFF),
    "train, 15 % of all genes": MaskingRates(not_expressed=0.15, **OFF),
    "infer": None,
}
COLUMNS = ("genes", "network", "step", "batch, ours / dense", "ours, cells/s", "dense, cells/s", "ratio")
COLUMNS += ("ours, peak GiB", "dense, peak GiB", "ours, % of matrix-product rate")


class Cells:
    """The simulated cells cut to the top-ranked genes, as both sides read them."""

    def __init__(self, adata: AnnData, n_genes: int) -> None:
        categories = {name: list(adata.obs[name].cat.categories) for name in PHENOTYPES}
        self.layout = TokenLayout.build(categories, list(adata.var_names[:n_genes]), n_bins=10)
        self.expression = Expression.of(adata)
        self.codes = np.stack([adata.obs[name].cat.codes.to_numpy(np.int64) for name in PHENOTYPES], axis=1)
        self.counts, self.totals = adata.X[:, :n_genes], np.asarray(adata.X.sum(1)).ravel()

    def table(self) -> CellTable:
        """Tokens of all cells."""
        names, scale = self.expression.var_names, self.expression.scale
        tokenizer = Tokenizer.match(self.layout.genes, names, scale, original_edges(10))
        rows = np.arange(len(self.codes))
        return CellTable(tokenizer.read(self.expression, rows), self.codes, rows, self.layout, tokenizer.measured)

    def dense(self, rows: np.ndarray, train: bool, seed: int = 0) -> Batch:
        """A batch as the original makes it."""
        rng = np.random.default_rng(seed) if train else None
        return _dense.make_batch(self.counts[rows], self.totals[rows], self.codes[rows], self.layout, rng)


def our_batches(table: CellTable, rates: MaskingRates | None, batch_size: int) -> list[Batch]:
    """Evenly spread over the lengths of a shuffled window, so that they stand for all."""
    sampler = LengthSampler(table.cells.lengths, batch_size, shuffle=True)
    window = sorted(sampler.batches()[:64], key=lambda rows: table.cells.lengths[rows].sum())
    chosen = window[len(window) // (2 * N_BATCHES) :: len(window) // N_BATCHES]
    if rates is None:
        return [Query().batch(table, rows) for rows in chosen]
    return [BatchDataset(table, rates)[0, rows] for rows in chosen]


def our_step(
    layout: TokenLayout,
    config: TransformerConfig,
    train: bool,
    device: str = "cpu",
    precision: torch.dtype = torch.float32,
) -> Callable[[Batch], Any]:
    """A training step with AdamW, or the logits of all phenotypes; weights are in float32, products in `precision`."""
    module = PolygeneModule(layout, config, linear_path=False).to(device)
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-4, fused=True)
    module.train(train)
    none = torch.zeros(layout.n_phenotypes, device=device)

    def products() -> AbstractContextManager[Any]:
        if precision == torch.float32:
            return nullcontext()
        return torch.autocast(device.split(":")[0], dtype=precision)

    def training_step(batch: Batch) -> None:
        with products():
            loss = module(batch)[2].loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    @torch.inference_mode()
    def prediction(batch: Batch) -> list[torch.Tensor]:
        with products():
            return module.predict(*(batch[name] for name in INPUTS), none)

    return training_step if train else prediction


def needed_operations(batch: Batch, config: TransformerConfig, layout: TokenLayout, train: bool) -> float:
    """Floating-point operations that the step cannot do without."""
    h, keys = config.n_hidden, batch["key_mask"].sum(1).double()
    n_targets = (batch["target_bins"] >= 0).sum(1).double()

    def block(queries: torch.Tensor) -> torch.Tensor:
        projections = 2 * h * h * 2 * (queries + keys)  # query and output of queries, key and value of keys
        return projections + 2 * queries * keys * h * 2 + 2 * queries * h * config.n_intermediate * 2

    asked = layout.n_phenotypes + n_targets
    heads = 2 * h * (asked * h + sum(PHENOTYPES.values()) + n_targets * layout.n_bins)
    forward = (config.n_layers - 1) * block(keys + n_targets) + block(asked) + heads
    return float(forward.sum()) * (3 if train else 1)


def cells_per_second(step: Callable[[Any], Any], batches: Sequence[Batch]) -> float:
    started = time.perf_counter()
    for batch in batches:
        step(batch)
    return sum(len(next(iter(batch.values()))) for batch in batches) / (time.perf_counter() - started)


def prepare_steps(make: Callable[..., Step], arguments: tuple, batch: dict[str, np.ndarray]) -> Callable[[], None]:
    """What `peak_memory` runs: the network is made and makes two steps, the second with the optimiser's state."""
    tensors = {name: torch.from_numpy(a) for name, a in batch.items()}

    def task() -> None:
        step = make(*arguments)
        step(tensors)
        step(tensors)

    return task


def memory_of(make: Callable[..., Step], arguments: tuple, batch: Batch) -> float:
    return peak_memory(prepare_steps, make, arguments, {name: t.numpy() for name, t in batch.items()}) / GIB


def measure(cells: Cells, table: CellTable, network: str, names: Sequence[str], repeats: int) -> list[dict]:
    """Rows of steps that share the dense side; it and ours alternate."""
    config, layout, n_genes = NETWORKS[network], cells.layout, cells.layout.n_genes
    train, our_size, size = names[0] != "infer", BATCH_SIZE[network, n_genes], DENSE_BATCH_SIZE[network, n_genes]
    arguments = (layout, config, train)
    ours = {name: our_batches(table, RATES[name], our_size) for name in names}
    dense = cells.dense(np.arange(size), train)
    our, their = our_step(*arguments), _dense.make_step(*arguments)
    warm_up = [our_size * N_BATCHES / cells_per_second(our, batches[-1:]) for batches in ours.values()]
    seconds = sum(warm_up) + size / cells_per_second(their, [dense])
    repeats = max(LEAST_REPEATS, min(repeats, int(SECONDS_PER_ROW / seconds)))
    rates: dict[str, list[tuple[float, float, float]]] = {name: [] for name in names}
    for _ in range(repeats):
        matmul = matmul_rate()
        speeds = {name: cells_per_second(our, batches) for name, batches in ours.items()}
        of_dense = cells_per_second(their, [dense])
        for name, speed in speeds.items():
            rates[name].append((speed, of_dense, matmul))
    del our, their
    dense_memory = memory_of(_dense.make_step, arguments, dense)
    rows = []
    for name, batches in ours.items():
        speed, of_dense, matmul = np.array(rates[name]).T
        n_cells = sum(len(b["tokens"]) for b in batches)
        operations = sum(needed_operations(b, config, layout, train) for b in batches) / n_cells
        values = (n_genes, network, name, f"{our_size} / {size}", np.median(speed), np.median(of_dense))
        values += (np.median(speed / of_dense), memory_of(our_step, arguments, batches[-1]), dense_memory)
        rows.append(dict(zip(COLUMNS, (*values, 100 * np.median(speed * operations / matmul)), strict=True)))
    return rows


def feed_rows(cells: Cells, density: float, repeats: int) -> list[dict]:
    """Cells per second from counts to batches: tokens once, batches in each epoch; dense: both in each epoch."""
    table, size, n_dense = cells.table(), 128, 512
    once, each, dense = [], [], []
    for repeat in range(repeats):
        started = time.perf_counter()
        cells.table()
        once.append(len(table) / (time.perf_counter() - started))
        started = time.perf_counter()
        loader = make_loader(
            BatchDataset(table, RATES["train"]), LengthSampler(table.cells.lengths, size, shuffle=True)
        )
        n_cells = sum(len(batch["tokens"]) for batch in loader)
        each.append(n_cells / (time.perf_counter() - started))
        started = time.perf_counter()
        for start in range(0, n_dense, size):
            cells.dense(np.arange(start, start + size), train=True, seed=repeat)
        dense.append(n_dense / (time.perf_counter() - started))
    shape = {"genes": cells.layout.n_genes, "network": f"density {100 * density:.0f} %"}
    return [
        {**shape, "step": name, "batch, ours / dense": f"{size} / {size}", "ours, cells/s": np.median(values)}
        | ({"dense, cells/s": np.median(dense), "ratio": np.median(np.array(values) / dense)})
        for name, values in (("feed: tokens, once", once), ("feed: batches, each epoch", each))
    ]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--genes", type=int, nargs="+", choices=GENES, default=[2432])
    parser.add_argument("--network", nargs="+", choices=list(NETWORKS), default=["64/12/4"])
    parser.add_argument("--repeats", type=int, default=5, help="at most; slow rows have fewer, but three")
    parser.add_argument("--quick", action="store_true", help="three repeats")
    parser.add_argument("--all", action="store_true", help="every row")
    parser.add_argument("--users", action="store_true", help="the default network beside what users would pick instead")
    parser.add_argument("--expressed", type=int, nargs="+", choices=_users.EXPRESSED, default=list(_users.EXPRESSED))
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="with --users: where ours computes")
    parser.add_argument("--output", type=Path, help="by default speed.md or speed_users.md in results")
    arguments = parser.parse_args()
    name = "speed_users" + "_cuda" * (arguments.device == "cuda") if arguments.users else "speed"
    arguments.output = arguments.output or Path(__file__).parent / "results" / f"{name}.md"
    if arguments.all:
        arguments.genes, arguments.network = list(GENES), list(NETWORKS)
    if arguments.quick:
        arguments.repeats = LEAST_REPEATS
    return arguments


def main() -> None:
    arguments, console, rows = parse_arguments(), Console(), []
    torch.manual_seed(0)
    command = "python " + " ".join(["benchmarks/speed.py", *sys.argv[1:]])
    if arguments.users:
        warnings.simplefilter("ignore")
        repeats, trains = arguments.repeats, not arguments.quick
        rows = _users.users_rows(arguments.expressed, repeats, trains, arguments.device)
        report("Speed beside others", _users.COLUMNS, rows, command, arguments.output)
        return
    adata = simulate_cells()
    densities = check_density(adata)
    console.print(f"20,000 cells; share of non-zeros by number of genes: {densities}")
    for n_genes in arguments.genes:
        cells = Cells(adata, n_genes)
        table = cells.table()
        for network in arguments.network:
            for names in (("train", "train, 15 % of all genes"), ("infer",)):
                console.print(f"{n_genes} genes, {network}: {names[0]} …")
                rows += measure(cells, table, network, names, arguments.repeats)
        rows += feed_rows(cells, densities[n_genes], arguments.repeats)
    sparse = sparse_cells()
    rows += feed_rows(Cells(sparse, sparse.n_vars), 0.05, arguments.repeats)
    report("Speed", COLUMNS, rows, command, arguments.output)


if __name__ == "__main__":
    main()
