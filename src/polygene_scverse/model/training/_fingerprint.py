"""Identity of a training, checked before resuming from a checkpoint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polygene_scverse.data.feed._loader import CellSplitter
from polygene_scverse.data.feed._table import CellTable
from polygene_scverse.data.shards._feed import ShardFeed
from polygene_scverse.module import PolygeneModule


def digest(*arrays: NDArray[Any]) -> str:
    """Short hash of arrays."""
    found = hashlib.blake2b(digest_size=6)
    for array in arrays:
        found.update(f"{array.dtype} {array.shape}".encode())
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()


def cells_digest(cells: CellTable | ShardFeed | None) -> str:
    """Hash of cells, labels and, in memory, tokens; for files also of the buffers, which determine the order."""
    if cells is None:
        return "none"
    arrays: list[NDArray[Any]] = [cells.ids, cells.codes, cells.measured]
    buffers = ""
    if isinstance(cells, ShardFeed):
        buffers = f", buffers of {cells.buffer_cells}"
    else:
        arrays += [cells.cells.indptr, cells.cells.genes, cells.cells.bins, cells.cells.values]
    return f"{len(cells)} cells ({digest(*arrays)}){buffers}"


def identity_of(
    module: PolygeneModule, splitter: CellSplitter, edges: list[float] | None, arguments: Mapping[str, Any]
) -> dict[str, str]:
    """Everything that must match for a training to resume from a checkpoint, by description.

    Parameters
    ----------
    module
        The network; its weights may differ.
    splitter
        The cells, and how batches are made of them.
    edges
        Bin edges.
    arguments
        Further arguments of the training.
    """
    layout = np.frombuffer(json.dumps(module.layout.to_dict(), sort_keys=True).encode(), np.uint8)
    kinds = {slot.name: len(slot.categories) for slot in module.layout.phenotypes}
    return {
        "model": f"{module.layout.n_genes} genes, categories {kinds} ({digest(layout)})",
        "network": f"{asdict(module.config)}, linear path {module.linear is not None}, "
        f"gene decoder {module.gene_decoder is not None}",
        "loss": str(asdict(module.loss_config)),
        "bin edges": str(edges),
        "training cells": cells_digest(splitter.train),
        "validation cells": cells_digest(splitter.validation),
        "masking": str(asdict(splitter.rates)),
        "seed": str(splitter.seed),
        "cells per step": str(splitter.batch_size),
        **{name: str(value) for name, value in arguments.items()},
    }
