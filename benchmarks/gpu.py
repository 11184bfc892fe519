"""Training steps and predictions on a GPU, in float32 and in bfloat16, compared with the CPU of the same machine.

    python benchmarks/gpu.py                     # on the GPU; writes results/gpu.md
    python benchmarks/gpu.py --device cpu --genes 512 --network default --repeats 1 --output try.md    # without one

Simulated cells in precomputed batches. Times are medians of repeats after a warm-up, measured after the device has
finished. Peak memory is what torch allocated for the network and a step. The share of the peak rate counts required
operations only, as in `speed.py`, relative to a square matrix product in the same precision on the same device. Parity
is the largest difference between the probabilities on the device and on the CPU in float32.

The CPU uses the same large batches, so it is slower than in `speed.py`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from _machine import GIB, matmul_rate, median_seconds
from _report import report
from _simulate import simulate_cells
from rich.console import Console
from speed import GENES, NETWORKS, Cells, needed_operations, our_batches, our_step

from polygene_scverse.data.feed._masking import MaskingRates
from polygene_scverse.module import TransformerConfig

ALL_NETWORKS = {"default": TransformerConfig(), "768/12/12": NETWORKS["768/12/12"]}
BATCH_SIZE = {"default": 256, "768/12/12": 32}
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
RATES = {"train": MaskingRates(), "predict": None}
COLUMNS = ("genes", "network", "step", "precision", "batch", "cells/s", "of the processor, cells/s", "ratio")
COLUMNS += ("% of peak", "peak GiB", "parity")


def probabilities(logits: Sequence[torch.Tensor] | None) -> list[torch.Tensor]:
    """Of each phenotype, in float32 on the processor; none of a training step."""
    return [part.float().softmax(-1).cpu() for part in logits or ()]


def measure(cells: Cells, network: str, name: str, device: str, repeats: int) -> list[dict[str, Any]]:
    """Rows of a network and a step, in both precisions."""
    config, train = ALL_NETWORKS[network], name == "train"
    batches = our_batches(cells.table(), RATES[name], BATCH_SIZE[network])
    n_cells = sum(len(batch["tokens"]) for batch in batches)
    operations = sum(needed_operations(batch, config, cells.layout, train) for batch in batches)

    def run(where: str, precision: str) -> tuple[float, list[torch.Tensor]]:
        torch.manual_seed(0)
        step = our_step(cells.layout, config, train, where, PRECISIONS[precision])
        moved = [{key: tensor.to(where) for key, tensor in batch.items()} for batch in batches]
        first = probabilities(step(moved[0]))
        return n_cells / median_seconds(lambda: [step(batch) for batch in moved], repeats, where), first

    of_processor, expected = run("cpu", "float32")
    rows = []
    for precision in PRECISIONS:
        if device.startswith("cuda"):
            torch.cuda.reset_peak_memory_stats(device)
        speed, found = run(device, precision)
        peak = torch.cuda.max_memory_allocated(device) / GIB if device.startswith("cuda") else float("nan")
        differences = [float((a - b).abs().max()) for a, b in zip(expected, found, strict=True)]
        apart = max(differences, default=float("nan"))
        rate = matmul_rate(8192 if device.startswith("cuda") else 2048, 5, device, PRECISIONS[precision])
        values = (cells.layout.n_genes, network, name, precision, str(BATCH_SIZE[network]), speed, of_processor)
        values += (speed / of_processor, 100 * speed * operations / n_cells / rate, peak, apart)
        rows.append(dict(zip(COLUMNS, values, strict=True)))
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--genes", type=int, nargs="+", choices=GENES, default=list(GENES))
    parser.add_argument("--network", nargs="+", choices=list(ALL_NETWORKS), default=list(ALL_NETWORKS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "gpu.md")
    chosen = parser.parse_args(arguments)
    if chosen.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("--device: torch sees no CUDA device here; --device cpu tries the script.")
    adata, console, rows = simulate_cells(), Console(), []
    for n_genes in chosen.genes:
        cells = Cells(adata, n_genes)
        for network in chosen.network:
            for name in RATES:
                console.print(f"{n_genes} genes, {network}: {name} …")
                rows += measure(cells, network, name, chosen.device, chosen.repeats)
    where = torch.cuda.get_device_name(chosen.device) if chosen.device.startswith("cuda") else "the processor"
    command = "python " + " ".join(["benchmarks/gpu.py", *(sys.argv[1:] if arguments is None else arguments)])
    report(f"On {where}", COLUMNS, rows, command, chosen.output)


if __name__ == "__main__":
    main()
