"""Probabilities of phenotypes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polygene_scverse.data.feed._source import CellSource
from polygene_scverse.engine import INPUTS, Batch, Engine, Query, log_shares, probabilities
from polygene_scverse.engine._engine import Function
from polygene_scverse.fit import FittedState

UNSEEN: Final = -1e4
"""Logit of a category without training cells: its probability is 0 at any temperature."""


def linear_share(engine: Engine, state: FittedState) -> Tensor:
    """Mixture weight of the linear path in each phenotype, on the module's device; shape (n_phenotypes,)."""
    shares = state.linear_share or [0.0] * engine.module.layout.n_phenotypes
    return torch.tensor(shares, dtype=torch.float32, device=engine.module.device)


def _category_counts(engine: Engine, state: FittedState) -> list[NDArray[np.float32]]:
    """Training cells of each category of each phenotype; all 0 if not known."""
    return state.category_counts or [np.zeros(n, dtype=np.float32) for n in engine.module.n_categories]


def category_log_shares(engine: Engine, state: FittedState) -> list[Tensor]:
    """Log of each category's share of the training cells, all equal if not known; one tensor per phenotype."""
    counts = _category_counts(engine, state)
    return [log_shares(c).to(engine.module.device) for c in counts]


def unseen_offsets(engine: Engine, state: FittedState) -> list[Tensor]:
    """Offsets of the logits with which categories without training cells are never predicted.

    Returns
    -------
    For each phenotype, 0 or a large negative number for each category; all 0 if counts are not known.
    """
    counts = _category_counts(engine, state)
    offsets = [np.where(c.any() & (c == 0), UNSEEN, 0.0).astype(np.float32) for c in counts]
    return [torch.from_numpy(offset).to(engine.module.device) for offset in offsets]


def phenotype_logits(
    engine: Engine,
    state: FittedState,
    source: CellSource,
    query: Query | None = None,
    slots: Sequence[int] | None = None,
    also: Function | None = None,
) -> list[NDArray[np.float32]]:
    """Uncalibrated logits of phenotypes, both paths combined; for each phenotype shape (n_cells, n_categories).

    Parameters
    ----------
    engine, state
        The network and its fitted state.
    source
        The cells.
    query
        What is shown to the network; by default all expressed genes and no phenotype.
    slots
        Slots of the phenotypes; default: all.
    also
        Computes further results from the tensors of a batch, which are returned after the logits.
    """
    share, offsets = linear_share(engine, state), unseen_offsets(engine, state)
    slots = range(engine.module.layout.n_phenotypes) if slots is None else slots

    def logits(batch: Batch) -> list[Tensor]:
        found = engine.module.predict(*(batch[name] for name in INPUTS), share)
        others = [] if also is None else also(batch)
        return [*(found[slot] + offsets[slot] for slot in slots), *others]

    engine = replace(engine, for_phenotypes=True)
    return engine.gather(source, Query() if query is None else query, logits)


def linear_logits(engine: Engine, source: CellSource) -> list[NDArray[np.float32]]:
    """Logits of the linear path alone; for each phenotype shape (n_cells, n_categories)."""

    def logits(batch: Batch) -> list[Tensor]:
        return engine.module.linear_logits(batch["positions"], batch["values"], batch["measured"])

    return engine.gather(source, Query(), logits)


def predict(
    engine: Engine, state: FittedState, source: CellSource, query: Query, names: Sequence[str]
) -> dict[str, NDArray[np.float32]]:
    """Calibrated probabilities of phenotypes; for each name shape (n_cells, n_categories).

    Parameters
    ----------
    engine, state, source, query
        As for `phenotype_logits`.
    names
        Names of the phenotypes.
    """
    slots = [engine.module.layout.phenotype_names.index(name) for name in names]
    logits = phenotype_logits(engine, state, source, query, slots)
    return {name: probabilities(part, state.temperature(name)) for name, part in zip(names, logits, strict=True)}
