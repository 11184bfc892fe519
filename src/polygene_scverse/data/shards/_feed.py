"""Cells of many files, read in buffers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from polygene_scverse._layout import TokenLayout
from polygene_scverse.data.feed._table import CellTable
from polygene_scverse.data.read._phenotypes import encode_all
from polygene_scverse.data.read._tokens import Tokenizer
from polygene_scverse.data.shards._shard_set import ShardSet

BUFFER_CELLS = 65_536
"""Default number of cells that are shuffled together."""
BLOCK_CELLS = 256
"""Number of neighbouring training cells of a file that are read together into a buffer."""


class ShardFeed:
    """Training or other cells of a set of files; everything but their expression is in memory.

    Parameters
    ----------
    shards
        The files.
    ids
        Ascending numbers of the cells; shape (n_cells,).
    layout
        Token ids and positions.
    columns
        Obs column of each phenotype and its categories.
    tokenizers
        One tokenizer per file.
    buffer_cells
        Number of cells that are in memory and shuffled together.
    """

    def __init__(
        self,
        shards: ShardSet,
        ids: NDArray[np.int64],
        layout: TokenLayout,
        columns: dict[str, list[str]],
        tokenizers: Sequence[Tokenizer],
        buffer_cells: int = BUFFER_CELLS,
    ) -> None:
        self.shards, self.ids, self.layout, self.columns = shards, ids, layout, columns
        self.tokenizers, self.buffer_cells = list(tokenizers), buffer_cells
        codes, _ = encode_all(shards.obs.iloc[ids], columns)
        self.codes = codes.astype(np.int16)
        sets = np.stack([tokenizer.measured for tokenizer in tokenizers])
        self.measured, kind_of_file = np.unique(sets, axis=0, return_inverse=True)
        self.kind_of_file = kind_of_file.reshape(-1)
        self.lengths: NDArray[np.int64] = np.zeros(len(ids), dtype=np.int64)

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, at: NDArray[np.int64]) -> CellTable:
        """Read cells, given by ascending positions among `ids`."""
        ids = self.ids[at]
        file = np.searchsorted(self.shards.starts, ids, side="right") - 1
        cells = self.shards.read(ids, self.tokenizers)
        codes, kinds = self.codes[at].astype(np.int64), self.kind_of_file[file]
        return CellTable(cells, codes, ids, self.layout, self.measured, kinds)

    def buffers(self, size: int, rng: np.random.Generator) -> list[NDArray[np.int64]]:
        """Divide the cells into buffers of randomly ordered blocks.

        Parameters
        ----------
        size
            Number of cells per buffer.
        rng
            Random generator for the order of the blocks.

        Returns
        -------
        Ascending positions among `ids` of each buffer; all buffers but the last have `size` cells.
        """
        if len(self.ids) <= size:
            return [np.arange(len(self.ids))]
        cuts = np.searchsorted(self.ids, self.shards.starts)
        blocks = [np.arange(i, min(i + BLOCK_CELLS, b)) for a, b in pairwise(cuts) for i in range(a, b, BLOCK_CELLS)]
        order = np.concatenate([blocks[i] for i in rng.permutation(len(blocks))])
        return [np.sort(order[i : i + size]) for i in range(0, len(order), size)]
