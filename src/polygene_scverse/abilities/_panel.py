"""Cells that lack some of the model's genes: adapt the network to them, and estimate its accuracy on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from polygene_scverse.abilities._predict import linear_logits, predict
from polygene_scverse.data.feed._source import draw_cells
from polygene_scverse.data.feed._table import CellTable
from polygene_scverse.engine import Engine, Query
from polygene_scverse.fit import FittedState
from polygene_scverse.fit._calibration import MIN_CELLS
from polygene_scverse.fit._decision import decide
from polygene_scverse.fit._linear_path import PRIOR
from polygene_scverse.fit._panels import PanelAccuracy, PanelMoments, transformer_part
from polygene_scverse.fit._temperature import fit_temperature
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


@dataclass(frozen=True)
class PanelPath:
    """Linear path that is refitted to some genes, before it is divided by its temperature.

    Parameters
    ----------
    weights, biases
        As returned by `PanelMoments.discriminants`.
    simulated
        Accuracy on simulated cells for each phenotype.
    """

    weights: NDArray[np.float64]
    biases: NDArray[np.float64]
    simulated: dict[str, float]

    @classmethod
    def fit(cls, engine: Engine, panels: PanelMoments, measured: NDArray[np.bool_]) -> Self:
        """Refit the path to the measured genes; shape (n_genes,)."""
        n = engine.module.n_categories
        weights, biases = panels.discriminants(measured, n)
        simulated = panels.simulated_accuracy(weights, biases + PRIOR * panels.log_shares(n), n)
        return cls(weights, biases, dict(zip(engine.module.layout.phenotype_names, simulated.tolist(), strict=True)))


def for_panel(
    engine: Engine, state: FittedState, measured: NDArray[np.bool_], path: PanelPath | None = None
) -> tuple[Engine, FittedState]:
    """Adapt the network to cells that lack some genes; it is returned unchanged if all relevant genes are measured.

    The linear path is refitted to the measured genes, with the temperature of similarly informative panels of held-out
    cells; the less the genes tell, the more a category's share of the training cells counts, up to its full weight. The
    transformer was trained with most of the genes: if fewer are measured, its share of the mixture is reduced, down to
    zero, and so is the effect of a temperature below 1, which was fitted to both paths.

    Parameters
    ----------
    engine, state
        The network and its fitted state; neither is changed.
    measured
        Whether each gene is measured; shape (n_genes,).
    path
        Linear path for these genes, if already fitted.
    """
    panels, n = state.panels, engine.module.n_categories
    if panels is None or measured[panels.genes].all() or not measured[panels.genes].any():
        return engine, state
    part = transformer_part(measured)
    calibration = {
        name: replace(entry, temperature=entry.temperature ** (part if entry.temperature < 1 else 1))
        for name, entry in state.calibration.items()
    }
    shares = [1.0 - part * (1.0 - share) for share in state.linear_share]
    path = PanelPath.fit(engine, panels, measured) if path is None else path
    trials = [state.panel_accuracy.get(name) for name in path.simulated]
    factors = [1.0 if of is None else of.factor(x) for of, x in zip(trials, path.simulated.values(), strict=True)]
    divisors = np.repeat(factors, n)
    prior = np.minimum(PRIOR / divisors, 1.0) * panels.log_shares(n)
    adapted = engine.with_linear_path(path.weights / divisors, path.biases / divisors + prior, prior)
    return adapted, replace(state, linear_share=shares, calibration=calibration)


def fit_panel_accuracy(
    engine: Engine, state: FittedState, held_out: CellTable, log_shares: Mapping[str, NDArray[np.float64]], seed: int
) -> None:
    """Fit the temperature of the linear path to random subsets of the genes, and measure the accuracy with them.

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
    if state.panels is None:
        return
    some, n_genes = draw_cells(held_out, TRIAL_CELLS, seed), engine.module.layout.n_genes
    random = np.random.default_rng(seed)
    chosen = [random.permutation(n_genes)[: max(int(share * n_genes), 1)] for share in (1.0, *SHARES)]
    trials = [np.isin(np.arange(n_genes), genes) for genes in chosen]
    codes = dict(zip(engine.module.layout.phenotype_names, some.codes.T, strict=True))
    paths = [PanelPath.fit(engine, state.panels, measured) for measured in trials]
    simulated, fitted = pd.DataFrame([path.simulated for path in paths]), _fit_temperatures(engine, some, paths)
    for name in codes:
        if n_known := int((codes[name] >= 0).sum()):
            temperatures = fitted[name] if n_known >= MIN_CELLS else None
            state.panel_accuracy[name] = PanelAccuracy.of(simulated[name], n_known, temperatures)
    observed = _measure(engine, state, some, trials, paths, log_shares)
    for name, entry in state.panel_accuracy.items():
        state.panel_accuracy[name] = entry.with_accuracy(simulated[name], observed[name])


def _fit_temperatures(engine: Engine, held_out: CellTable, paths: Sequence[PanelPath]) -> pd.DataFrame:
    """Temperature of each panel and phenotype, fitted to held-out cells; shape (n_panels, n_phenotypes)."""
    fitted = []
    for path in paths:
        logits = linear_logits(engine.with_linear_path(path.weights, path.biases), held_out)
        known = [(z[codes >= 0], codes[codes >= 0]) for z, codes in zip(logits, held_out.codes.T, strict=True)]
        fitted.append([fit_temperature(*of_one) for of_one in known])
    return pd.DataFrame(fitted, columns=list(engine.module.layout.phenotype_names))


def _measure(
    engine: Engine,
    state: FittedState,
    held_out: CellTable,
    trials: Sequence[NDArray[np.bool_]],
    paths: Sequence[PanelPath],
    log_shares: Mapping[str, NDArray[np.float64]],
) -> pd.DataFrame:
    """Accuracy of the finished model on held-out cells with each panel; shape (n_panels, n_phenotypes)."""
    names, observed = engine.module.layout.phenotype_names, []
    for measured, path in zip(trials, paths, strict=True):
        adapted, of_panel = for_panel(engine, state, measured, path)
        query = Query(removed=tuple(np.flatnonzero(~measured).tolist()))
        tables = predict(adapted, of_panel, held_out, query, names)
        decided = [decide(tables[name], log_shares[name], temperature=of_panel.temperature(name)) for name in names]
        observed.append([accuracy(*pair) for pair in zip(held_out.codes.T, decided, strict=True)])
    return pd.DataFrame(observed, columns=list(names))


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
    simulated = PanelPath.fit(engine, state.panels, measured).simulated
    return {name: entry.expected(simulated[name]) for name, entry in state.panel_accuracy.items()}
