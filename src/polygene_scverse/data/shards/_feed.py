"""Cells of many files, in buffers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from polygene_scverse._layout import TokenLayout
from polygene_scverse.data.feed._table import CellTable
from polygene_scverse.data.read._phenotypes import encode_all
from polygene_scverse.data.read._tokens import Cells, Tokenizer
from polygene_scverse.data.shards._shard_set import ShardSet

BUFFER_CELLS = 65_536
"""Cells that are shuffled together, unless said otherwise."""
BLOCK_CELLS = 256
"""Neighbouring training cells of a file that are read, and come into a buffer, together."""


class CellPart(NamedTuple):
    """The cells of a batch: their tokens, phenotype codes and numbers, and which set of measured genes each has."""

    cells: Cells
    codes: NDArray[np.int64]
    ids: NDArray[np.int64]
    kinds: NDArray[np.int64]


@dataclass(frozen=True)
class ShardCells(CellTable):
    """Cells in memory that may differ in the genes that are measured; `measured` has a row for each set of genes.

    Parameters
    ----------
    kinds
        Row of `measured` of each cell; shape (n_cells,).
    """

    kinds: NDArray[np.int64]

    def measured_in(self, rows: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Whether each gene is measured in some cells; shape (n_genes,), or (n_rows, n_genes) where they differ.

        Cells that have the same genes are computed with as those in memory, to the last bit.
        """
        kinds = self.kinds[rows]
        return self.measured[kinds[0]] if len(kinds) and (kinds == kinds[0]).all() else self.measured[kinds]

    def read(self, rows: NDArray[np.integer]) -> ShardCells:
        """Some of the cells."""
        return ShardCells(*self.take(rows)[:3], self.layout, self.measured, self.kinds[rows])

    def take(self, rows: NDArray[np.integer]) -> CellPart:
        """Some of the cells, in the order asked for."""
        return CellPart(self.cells.take(rows), self.codes[rows], self.ids[rows], self.kinds[rows])


class ShardFeed:
    """The training cells, or others, of a set of files: all is known of them but their expression.

    Parameters
    ----------
    shards
        The files.
    ids
        Ascending numbers of the cells; shape (n_cells,).
    layout
        Ids and positions.
    columns
        The obs column of each phenotype and its categories.
    tokenizers
        A tokenizer for each file.
    buffer_cells
        Cells that are in memory and shuffled together.
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

    def read(self, at: NDArray[np.int64]) -> ShardCells:
        """Read cells, given by ascending positions among `ids`."""
        ids = self.ids[at]
        file = np.searchsorted(self.shards.starts, ids, side="right") - 1
        cells = self.shards.read(ids, self.tokenizers)
        codes, kinds = self.codes[at].astype(np.int64), self.kind_of_file[file]
        return ShardCells(cells, codes, ids, self.layout, self.measured, kinds)

    def buffers(self, size: int, rng: np.random.Generator) -> list[NDArray[np.int64]]:
        """Cut the cells into buffers of blocks from anywhere.

        Parameters
        ----------
        size
            Cells of a buffer.
        rng
            Decides the order of the blocks.

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
