"""The only loop over cells: any source, any query, in batches of like length, results in the order of the cells."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polygene_scverse.data.feed._loader import LengthSampler
from polygene_scverse.data.feed._source import CellSource
from polygene_scverse.data.feed._table import CellTable
from polygene_scverse.data.read._source import BLOCK
from polygene_scverse.engine._query import Query
from polygene_scverse.module import PolygeneModule

Batch = dict[str, Tensor]
Function = Callable[[Batch], Sequence[Tensor]]
Consumer = Callable[[NDArray[np.int64], Sequence[Tensor]], None]
Observer = Callable[[NDArray[np.int64], CellTable], None]
INPUTS: Final = ("tokens", "positions", "key_mask", "values", "measured")
"""Arrays of a batch that the module's methods of prediction take."""


@dataclass(frozen=True)
class Engine:
    """A network that is asked questions.

    Parameters
    ----------
    module
        The network.
    batch_size
        Cells per step.
    """

    module: PolygeneModule
    batch_size: int = 64

    def run(
        self,
        source: CellSource,
        query: Query,
        function: Function,
        consume: Consumer,
        observe: Observer | None = None,
    ) -> None:
        """Call `function` on every batch, and hand its results on; nothing else is kept.

        Parameters
        ----------
        source
            The cells; they are read in blocks.
        query
            What is shown and asked for.
        function
            From the tensors of a batch to results.
        consume
            Takes the positions of the cells of a batch, shape (n_batch,), and the results for them.
        observe
            Takes each block of cells as it is read, with their positions, for what is not asked of the network.
        """
        with evaluating(self.module), torch.inference_mode():
            for start in range(0, len(source), BLOCK):
                block = np.arange(start, min(start + BLOCK, len(source)))
                table = source.read(block)
                if observe is not None:
                    observe(block, table)
                for rows in LengthSampler(table.lengths, self.batch_size).batches():
                    consume(start + rows, function(query.batch(table, rows)))

    def gather(
        self, source: CellSource, query: Query, function: Function, observe: Observer | None = None
    ) -> list[NDArray[np.float32]]:
        """As `run`, with a row for each cell, in the order of the cells; (n_cells, any) each."""
        results: list[NDArray[np.float32]] = []

        def write(rows: NDArray[np.int64], outputs: Sequence[Tensor]) -> None:
            if not results:
                results.extend(np.zeros((len(source), *o.shape[1:]), dtype=np.float32) for o in outputs)
            for result, output in zip(results, outputs, strict=True):
                result[rows] = output.float().cpu().numpy()

        self.run(source, query, function, write, observe)
        return results


@contextmanager
def evaluating(module: torch.nn.Module) -> Iterator[None]:
    """Without dropout; afterwards the mode is as it was."""
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)
