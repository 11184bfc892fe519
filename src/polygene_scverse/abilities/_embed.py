"""Embeddings of cells."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from polygene_scverse.abilities._predict import linear_share
from polygene_scverse.data.feed._source import CellSource
from polygene_scverse.engine import INPUTS, Batch, Engine, Query
from polygene_scverse.fit import FittedState

POOLINGS = ("decision", "phenotypes", "genes", "cls")


def embed(engine: Engine, state: FittedState, source: CellSource, query: Query, pooling: str) -> NDArray[np.float32]:
    """Embedding of each cell; shape (n_cells, n_hidden).

    Parameters
    ----------
    engine, state
        The network and its fitted state.
    source
        The cells.
    query
        What is shown to the network.
    pooling
        One of `POOLINGS`, or the name of a phenotype, see `Polygene.get_latent_representation`.
    """
    module, share = engine.module, linear_share(engine, state)
    layout, s = module.layout, module.layout.n_special

    def pooled(batch: Batch) -> list[Tensor]:
        if pooling == "decision":
            return [module.decision_states(*(batch[name] for name in INPUTS), share).mean(1)]
        arrays = [batch[name] for name in INPUTS[:3]]
        if pooling == "genes":
            mask = batch["key_mask"][:, s:, None].to(module.device)
            states = module.states(*arrays)[:, s:] * mask
            return [states.sum(1) / mask.sum(1).clamp(min=1)]
        slots = {"cls": [0], "phenotypes": list(range(1, 1 + layout.n_phenotypes))}
        asked = slots.get(pooling) or [1 + layout.phenotype_names.index(pooling)]
        return [module.states(*arrays, asked).mean(1)]

    engine = replace(engine, for_phenotypes=pooling == "decision")
    return engine.gather(source, query, pooled)[0]
