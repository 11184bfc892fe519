"""Training on and prediction of data larger than memory: peak memory, speed and accuracy.

    python benchmarks/out_of_core.py                # 1,000,000 cells in 20 files, about 1 GB of disk, half an hour
    python benchmarks/out_of_core.py --quick        # 50,000 cells
    python benchmarks/out_of_core.py --predict      # prediction from one file, about three minutes

Cells are negative binomial with known phenotypes. The files are filled with cells drawn from a simulated pool; accuracy
is measured on other simulated cells. Each task runs in its own process, whose memory is monitored from outside,
including child processes. The files are deleted at the end.

If other processes use the machine, compare cells per second of CPU time, not cells per second. Accuracies of the set
that fits into memory differ by chance: buffers change the order of cells, and with more than 50,000 training cells
genes are ranked on a sample in memory, but on all cells from files. With fewer cells, training with one buffer gives
the same weights as training in memory.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import anndata as ad
import lightning.pytorch as pl
import numpy as np
import psutil
import torch
from _machine import GIB
from _report import report
from anndata.experimental import concat_on_disk

import polygene_scverse as pgs
from polygene_scverse._layout import TokenLayout
from polygene_scverse.data.feed._masking import MaskingRates
from polygene_scverse.data.read._binning import original_edges
from polygene_scverse.data.shards._feed import ShardFeed
from polygene_scverse.data.shards._loader import ShardBatches, ShardSampler
from polygene_scverse.data.shards._shard_set import ShardSet
from polygene_scverse.data.shards._survey import survey, tokenizers_of

N_GENES = 2_000
PHENOTYPES = {"cell_type": 12, "disease": 3}
POOL, TEST, FITS = 20_000, 5_000, 100_000
SAMPLE = 10_000
"""Cells that are timed for an estimate."""
MOST_DISK = 10 * 10**9
COLUMNS = ["task", "cells", "buffer", "before training, s", "cells/s", "% of in memory", "cells/CPU s", "% by CPU s"]
COLUMNS += ["peak RSS, GiB", "accuracy"]
PREDICTION = ["task", "cells", "estimated, s", "seconds", "cells/s", "peak RSS, GiB", "accuracy"]
Result = dict[str, Any]


def write_files(folder: Path, n_cells: int, n_files: int, seed: int = 0) -> ad.AnnData:
    """Write the files and return the test cells."""
    cells = pgs.datasets.simulate(
        POOL + TEST, N_GENES, phenotypes=PHENOTYPES, n_groups=20, mean_count=0.05, effect=1.0, seed=seed
    )
    del cells.obsm["truth"]
    pool, test = cells[:POOL], cells[POOL:].copy()
    rng = np.random.default_rng(seed)
    for i, size in enumerate(np.diff(np.linspace(0, n_cells, n_files + 1).astype(int))):
        part = pool[rng.integers(0, POOL, size)].copy()
        part.obs_names = [f"{i}_{j}" for j in range(size)]
        part.write_h5ad(folder / f"shard_{i}.h5ad")
    return test


def disk_of(folder: Path) -> int:
    """Bytes of the files of a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


class Clock(pl.Callback):
    """Cells per second, and per second of processor time, of the training steps; the first few are left out."""

    def __init__(self, n_left_out: int = 20) -> None:
        self.n_left_out, self.n_cells, self.begun, self.ended = n_left_out, 0, (0.0, 0.0), (0.0, 0.0)

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Note the time."""
        self.ended = (time.perf_counter(), time.process_time())
        if self.begun[0]:
            self.n_cells += len(batch["rows"])
        elif trainer.global_step >= self.n_left_out:
            self.begun = self.ended

    @property
    def rates(self) -> tuple[float, float]:
        """Cells per second and per second of processor time, of all threads."""
        wall, cpu = (b - a for a, b in zip(self.begun, self.ended, strict=True))
        return self.n_cells / wall, self.n_cells / cpu


def feed(paths: list[str], buffer_cells: int) -> Result:
    """One pass of the feed over all cells, without a network: every cell once."""
    started = time.perf_counter()
    shards = ShardSet.open(paths, list(PHENOTYPES))
    rows = np.arange(shards.n_obs)
    genes, scale = survey(shards, rows, N_GENES)
    columns = {name: [f"{name}_{i}" for i in range(n)] for name, n in PHENOTYPES.items()}
    layout = TokenLayout.build(columns, genes, 10)
    tokenizers = tokenizers_of(shards, genes, scale, original_edges(10))
    cells = ShardFeed(shards, rows, layout, columns, tokenizers, buffer_cells)
    sampler, batches = ShardSampler(cells, 128), ShardBatches(layout, cells.measured, MaskingRates())
    before = time.perf_counter() - started
    seen = np.zeros(shards.n_obs, dtype=np.int64)
    started = time.perf_counter()
    for key in sampler:
        seen[batches[key]["rows"].numpy()] += 1
    seconds = time.perf_counter() - started
    if not (seen == 1).all():
        raise RuntimeError(f"{int((seen != 1).sum())} cells were not seen exactly once.")
    return {"cells": shards.n_obs, "buffer": buffer_cells, "before training, s": before, "cells/s": len(rows) / seconds}


def train(paths: list[str], test: str, n_steps: int, in_memory: bool, buffer_cells: int) -> Result:
    """Train the default network for so many steps, and predict the test cells."""
    clock, started = Clock(), time.perf_counter()
    kwargs: dict[str, Any] = {"buffer_cells": buffer_cells}
    cells: Any = paths
    if in_memory:
        cells, kwargs = ad.concat([ad.read_h5ad(path) for path in paths]), {}
    n_cells = cells.n_obs if in_memory else sum(ad.read_h5ad(path, backed="r").n_obs for path in paths)
    n_batches = -(-round(n_cells * 0.9) // 16)
    n_epochs = max(1, -(-n_steps // n_batches))
    model = pgs.tl.train(
        cells,
        phenotypes=list(PHENOTYPES),
        validation_size=0.1,
        max_epochs=n_epochs,
        batch_size=16,
        limit_train_batches=min(n_batches, -(-n_steps // n_epochs)),
        verbose=False,
        callbacks=[clock],
        **kwargs,
    )
    unseen = ad.read_h5ad(test)
    tables = model.predict_phenotype(unseen)
    accuracy = np.mean(
        [(table.idxmax(axis=1) == unseen.obs[name].astype(str)).mean() for name, table in tables.items()]
    )
    wall, cpu = clock.rates
    return {
        "cells": n_cells,
        "buffer": "–" if in_memory else buffer_cells,
        "before training, s": clock.begun[0] - started,
        "cells/s": wall,
        "cells/CPU s": cpu,
        "accuracy": float(accuracy),
    }


def predict(path: str, folder: str) -> Result:
    """Predict the cells of a file with a saved model; a sample of them is timed first, for an estimate."""
    model = pgs.model.Polygene.load(folder, adata=False)
    cells = ad.read_h5ad(path, backed="r")
    sample = cells[:SAMPLE].to_memory()
    pgs.tl.predict_phenotype(sample, model=model)
    started = time.perf_counter()
    pgs.tl.predict_phenotype(sample, model=model)
    estimate = (time.perf_counter() - started) * cells.n_obs / sample.n_obs
    print(f"{cells.n_obs:,} cells: about {estimate:.0f} s", flush=True)
    started = time.perf_counter()
    pgs.tl.predict_phenotype(cells, model=model)
    seconds = time.perf_counter() - started
    right = [(cells.obs[f"polygene_{name}"].astype(str) == cells.obs[name].astype(str)).mean() for name in PHENOTYPES]
    rates = {"cells": cells.n_obs, "cells/s": cells.n_obs / seconds, "accuracy": float(np.mean(right))}
    return rates | {"estimated, s": estimate, "seconds": seconds}


def run_prediction(folder: Path, n_cells: int, n_files: int) -> list[Mapping[str, Any]]:
    """Prediction of a quarter of the cells and of all, each from one file."""
    pool = write_files(folder, n_cells, n_files)
    model, rows = str(folder / "model"), []
    pgs.tl.train(pool, phenotypes=list(PHENOTYPES), save_to=model, verbose=False)
    paths = [folder / f"shard_{i}.h5ad" for i in range(n_files)]
    for part in (paths[: max(1, n_files // 4)], paths):
        path = folder / "all.h5ad"
        concat_on_disk(part, path)
        print(f"{len(part)} of {n_files} files: {path.stat().st_size / 1e9:.2f} GB")
        rows.append({"task": "prediction from one file", **watched(predict, str(path), model)})
        print(rows[-1])
        path.unlink()
    return rows


def _work(connection: Any, n_threads: int, task: Callable[..., Result], arguments: tuple) -> None:
    torch.set_num_threads(n_threads)
    connection.send(task(*arguments))


def watched(task: Callable[..., Result], *arguments: Any) -> Result:
    """Run a task in a new process; adds the highest sum of resident memory of it and its children, in GiB."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(there, torch.get_num_threads(), task, arguments))
    process.start()
    there.close()
    peak = 0
    while not here.poll(0.05):
        peak = max(peak, _resident(process.pid))
        if process.exitcode is not None and not here.poll():
            raise RuntimeError(f"the task ended with exit code {process.exitcode}.")
    result = here.recv()
    process.join()
    return result | {"peak RSS, GiB": peak / GIB}


def _resident(pid: int | None) -> int:
    try:
        root = psutil.Process(pid)
        return sum(process.memory_info().rss for process in [root, *root.children(recursive=True)])
    except psutil.NoSuchProcess:
        return 0


def run(folder: Path, n_cells: int, n_files: int, n_steps: int, buffer_cells: int) -> list[Mapping[str, Any]]:
    """All tasks."""
    test = folder / "test.h5ad"
    write_files(folder, n_cells, n_files).write_h5ad(test)
    disk = disk_of(folder)
    print(f"{n_cells:,} cells in {n_files} files: {disk / 1e9:.2f} GB")
    if disk > MOST_DISK:
        raise RuntimeError(f"the files take {disk / 1e9:.1f} GB, more than {MOST_DISK / 1e9:.0f}.")
    paths = [str(folder / f"shard_{i}.h5ad") for i in range(n_files)]
    few = paths[: max(1, min(n_files // 2, n_files * FITS // n_cells))]
    small = min(buffer_cells, 8_192)
    tasks = {
        f"feed alone, {max(1, n_files // 4)} files": (feed, paths[: max(1, n_files // 4)], buffer_cells),
        f"feed alone, {n_files} files": (feed, paths, buffer_cells),
        f"training, {n_files} files": (train, paths, str(test), n_steps, False, buffer_cells),
        "a set that fits, in memory": (train, few, str(test), n_steps, True, buffer_cells),
        "a set that fits, one buffer": (train, few, str(test), n_steps, False, 2 * FITS),
        "a set that fits, several buffers": (train, few, str(test), n_steps, False, small),
    }
    rows: list[Result] = []
    for name, (task, *arguments) in tasks.items():
        rows.append({"task": name, **watched(task, *arguments)})
        print(rows[-1])
    in_memory = next(row for row in rows if row["task"].endswith("in memory"))
    for row in rows:
        for column, rate in (("% of in memory", "cells/s"), ("% by CPU s", "cells/CPU s")):
            if rate in in_memory and "accuracy" in row:
                row[column] = 100 * row[rate] / in_memory[rate]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=1_000_000)
    parser.add_argument("--files", type=int, default=20)
    parser.add_argument("--steps", type=int, default=2_048, help="training steps of 16 cells")
    parser.add_argument("--buffer-cells", type=int, default=65_536)
    parser.add_argument("--folder", type=Path, default=None, help="where to make the folder of the files")
    parser.add_argument("--quick", action="store_true", help="50,000 cells, 512 steps, buffers of 8,192")
    parser.add_argument("--predict", action="store_true", help="prediction alone, whose results are in another file")
    arguments = parser.parse_args()
    command = "python benchmarks/out_of_core.py"
    sizes = [arguments.cells, arguments.files, arguments.steps, arguments.buffer_cells]
    if arguments.quick:
        command, sizes = f"{command} --quick", [50_000, 10, 512, 8_192]
    results = Path(__file__).parent / "results"
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        rows = run_prediction(Path(folder), *sizes[:2]) if arguments.predict else run(Path(folder), *sizes)
    if arguments.predict:
        title = f"{sizes[0]:,} cells x {N_GENES:,} genes; default network"
        report(title, PREDICTION, rows, f"{command} --predict", results / "out_of_core_prediction.md")
        return
    title = (
        f"{sizes[0]:,} cells x {N_GENES:,} genes in {sizes[1]} files; default network, {sizes[2]:,} steps of 16 cells"
    )
    report(title, COLUMNS, rows, command, results / "out_of_core.md")


if __name__ == "__main__":
    main()
