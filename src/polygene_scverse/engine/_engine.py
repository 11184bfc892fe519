"""The loop over cells for all queries: batches of cells of similar length, with results in the order of the cells."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polygene_scverse._progress import progress
from polygene_scverse._validate import check_whole
from polygene_scverse.data.feed._source import CellSource
from polygene_scverse.data.feed._table import CellTable
from polygene_scverse.engine._query import Query
from polygene_scverse.engine._threads import Threads
from polygene_scverse.module import PolygeneModule

Batch = dict[str, Tensor]
Function = Callable[[Batch], Sequence[Tensor]]
Consumer = Callable[[NDArray[np.int64], Sequence[Tensor]], None]
INPUTS: Final = ("tokens", "positions", "key_mask", "values", "measured")
"""Arrays of a batch that the prediction methods of the module take."""
BLOCK: Final = 2048
"""Cells that are read at a time; the next block is read while the network computes."""


@dataclass(frozen=True)
class Engine:
    """Run a network on cells.

    Parameters
    ----------
    module
        The network.
    batch_size
        Maximum number of cells per step.
    tokens
        Approximate number of tokens per step on a CPU, so that intermediate results stay in the cache.
    for_phenotypes
        Whether the functions that are run only predict phenotypes, for which the module may read fewer genes.
    """

    module: PolygeneModule
    batch_size: int = 128
    tokens: int = 16384
    for_phenotypes: bool = False

    def __post_init__(self) -> None:
        check_whole(self.batch_size, "batch_size", 1)

    def with_linear_path(
        self, weights: NDArray[np.floating], bias: NDArray[np.floating], prior: NDArray[np.floating] | None = None
    ) -> Engine:
        """Return the network with another linear path; other weights are shared, and the original is not changed.

        Parameters
        ----------
        weights, bias, prior
            As for `LinearPath.load`; the expression caps and centres are kept.

        Raises
        ------
        ValueError
            If the network has no linear path.
        """
        own = self.module.linear
        if own is None:
            raise ValueError("`linear_path`: the model has none. Create it with linear_path=True, the default.")
        other = copy.deepcopy(own)
        other.load(weights, bias, own.cap.numpy(force=True), own.centre.numpy(force=True), prior)
        module = copy.copy(self.module)
        module._modules = {**self.module._modules, "linear": other}
        return replace(self, module=module)

    def run(self, source: CellSource, query: Query, function: Function, consume: Consumer) -> None:
        """Call `function` on every batch and pass its results to `consume`; nothing else is stored.

        If this takes long, a progress bar is shown.

        Parameters
        ----------
        source
            The cells, which are read in blocks.
        query
            What is shown to the network and predicted.
        function
            Computes results from the tensors of a batch. It is called in several threads at once and must not change
            shared state.
        consume
            Called with the positions of the cells of a batch, shape (n_batch,), and the results for them.
        """
        layout, n_cells = self.module.layout, len(source)

        def read(start: int) -> CellTable:
            return source.read(np.arange(start, min(start + BLOCK, n_cells)))

        def batches(threads: Threads) -> Iterator[tuple[CellTable, int, NDArray[np.int64]]]:
            for start, table in threads.ahead(read, range(0, n_cells, BLOCK)):
                sizes = self._n_read(table.lengths) + layout.n_special
                for rows in cut_batches(table.lengths, sizes, self.batch_size, self.tokens):
                    yield table, start, rows

        def answer(batch: tuple[CellTable, int, NDArray[np.int64]]) -> Sequence[Tensor]:
            table, _, rows = batch
            with torch.inference_mode():  # inference mode is set per thread
                return function(query.batch(table, rows))

        on_cpu = self.module.device.type == "cpu"
        tabulated, bar = self.module.encoder.tabulated(layout, n_cells), progress("cells", n_cells)
        with evaluating(self.module), torch.inference_mode(), tabulated, Threads.of(on_cpu) as threads, bar as advance:
            for (_, start, rows), outputs in threads.map(answer, batches(threads)):
                consume(start + rows, outputs)
                advance(len(rows))

    def _n_read(self, lengths: NDArray[np.int64]) -> NDArray[np.int64]:
        """Number of genes that the network reads from cells with `lengths` expressed genes; shape (n_cells,)."""
        if self.module.linear is None or not self.for_phenotypes:
            return lengths
        return self.module.linear.n_read(torch.from_numpy(lengths)).numpy(force=True)

    def gather(self, source: CellSource, query: Query, function: Function) -> list[NDArray[np.float32]]:
        """As `run`, but return one row for each cell, in the order of the cells; shape (n_cells, any) each."""
        results: list[NDArray[np.float32]] = []

        def write(rows: NDArray[np.int64], outputs: Sequence[Tensor]) -> None:
            if not results:
                results.extend(np.zeros((len(source), *o.shape[1:]), dtype=np.float32) for o in outputs)
            for result, output in zip(results, outputs, strict=True):
                result[rows] = output.float().cpu().numpy()

        self.run(source, query, function, write)
        return results


def cut_batches(
    lengths: NDArray[np.int64], sizes: NDArray[np.int64], batch_size: int, tokens: int
) -> list[NDArray[np.int64]]:
    """Split cells into batches of similar length, longest first, with at least one cell each; returns row numbers.

    Parameters
    ----------
    lengths
        Number of expressed genes of each cell; shape (n_cells,).
    sizes
        Number of tokens of each cell, which increases with its length; shape (n_cells,).
    batch_size, tokens
        Maximum numbers of cells, and of tokens including padding, in a batch.
    """
    order = np.argsort(-lengths, kind="stable")
    found, start = [], 0
    while start < len(order):
        n = max(1, min(batch_size, tokens // int(sizes[order[start]])))
        found.append(order[start : start + n])
        start += n
    return found


@contextmanager
def evaluating(module: torch.nn.Module) -> Iterator[None]:
    """Context manager that disables dropout and restores the previous mode."""
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)
