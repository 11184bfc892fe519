"""Cells that lack some of the model's genes: adapt the network to them, and estimate its accuracy on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from polygene_scverse.abilities._predict import predict
from polygene_scverse.data.feed._source import draw_cells
from polygene_scverse.data.feed._table import CellTable
from polygene_scverse.engine import Engine, Query
from polygene_scverse.fit import FittedState
from polygene_scverse.fit._decision import decide
from polygene_scverse.fit._linear_path import PRIOR
from polygene_scverse.fit._panels import PanelAccuracy, transformer_part
from polygene_scverse.metrics import accuracy

SHARES: Final = (0.6, 0.4, 0.25, 0.25, 0.15, 0.15, 0.08, 0.08, 0.04, 0.04)
"""Shares of the genes that are kept in trials on held-out cells."""
TRIAL_CELLS: Final = 1_000
"""Number of held-out cells in a trial."""
LEAST_OVERLAP, ENOUGH_GENES = 0.02, 30
"""Minimum share, or minimum number, of the model's genes that query cells must have."""


def enough_genes(measured: NDArray[np.bool_]) -> bool:
    """Whether cells with these measured genes can be predicted; `measured` has shape (n_genes,)."""
    return bool(measured.mean() >= LEAST_OVERLAP or measured.sum() >= ENOUGH_GENES)


def for_panel(
    engine: Engine,
    state: FittedState,
    measured: NDArray[np.bool_],
    linear: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
) -> tuple[Engine, FittedState]:
    """Adapt the network to cells that lack some genes; it is returned unchanged if all relevant genes are measured.

    The linear path is refitted to the measured genes. The transformer was trained with most of the genes: if fewer are
    measured, its share of the mixture is reduced, down to zero, and so is the effect of a temperature below 1, which
    was fitted to both paths.

    Parameters
    ----------
    engine, state
        The network and its fitted state; neither is changed.
    measured
        Whether each gene is measured; shape (n_genes,).
    linear
        Linear path for these genes as returned by `PanelMoments.weights`, if already computed.
    """
    panels = state.panels
    if panels is None or measured[panels.genes].all() or not measured[panels.genes].any():
        return engine, state
    part = transformer_part(measured)
    calibration = {
        name: replace(entry, temperature=entry.temperature ** (part if entry.temperature < 1 else 1))
        for name, entry in state.calibration.items()
    }
    shares = [1.0 - part * (1.0 - share) for share in state.linear_share]
    linear = panels.weights(measured, engine.module.n_categories, PRIOR) if linear is None else linear
    return engine.with_linear_path(*linear), replace(state, linear_share=shares, calibration=calibration)


def fit_panel_accuracy(
    engine: Engine, state: FittedState, held_out: CellTable, log_shares: Mapping[str, NDArray[np.float64]], seed: int
) -> None:
    """Measure the accuracy on held-out cells with random subsets of the genes.

    Parameters
    ----------
    engine, state
        The network and its fitted state; the state is filled in place.
    held_out
        Held-out cells.
    log_shares
        Log of each category's share of the training cells.
    seed
        Seed of the draws.
    """
    if (panels := state.panels) is None:
        return
    some, names = draw_cells(held_out, TRIAL_CELLS, seed), list(engine.module.layout.phenotype_names)
    n_genes, random = engine.module.layout.n_genes, np.random.default_rng(seed)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for share in (1.0, *SHARES):
        measured = np.zeros(n_genes, dtype=bool)
        measured[random.permutation(n_genes)[: max(int(share * n_genes), 1)]] = True
        gone = tuple(int(gene) for gene in np.flatnonzero(~measured))
        linear = panels.weights(measured, engine.module.n_categories, PRIOR)
        of_panel = for_panel(engine, state, measured, linear)
        tables = predict(*of_panel, some, Query(removed=gone), names)
        of_each = panels.simulated_accuracy(*linear, engine.module.n_categories)
        for i, (name, codes) in enumerate(zip(names, some.codes.T, strict=True)):
            if (codes >= 0).any():
                decided = decide(tables[name], log_shares[name], temperature=of_panel[1].temperature(name))
                found[name].append((float(of_each[i]), accuracy(codes, decided)))
    for name, codes in zip(names, some.codes.T, strict=True):
        if found[name]:
            simulated, observed = np.array(found[name]).T
            state.panel_accuracy[name] = PanelAccuracy.of(simulated, observed, int((codes >= 0).sum()))


def expected_accuracy(engine: Engine, state: FittedState, measured: NDArray[np.bool_]) -> dict[str, float]:
    """Expected accuracy of each phenotype with these genes, on cells like the held-out ones.

    Parameters
    ----------
    engine, state
        The network and its fitted state.
    measured
        Whether each gene is measured; shape (n_genes,).

    Returns
    -------
    Accuracy by phenotype; phenotypes without held-out cells are left out.
    """
    if state.panels is None or not state.panel_accuracy:
        return {}
    n = engine.module.n_categories
    of_each = state.panels.simulated_accuracy(*state.panels.weights(measured, n, PRIOR), n)
    simulated = dict(zip(engine.module.layout.phenotype_names, of_each, strict=True))
    return {name: entry.expected(simulated[name]) for name, entry in state.panel_accuracy.items()}
