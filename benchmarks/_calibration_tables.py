"""Calibration error and coverage of prediction sets on held-out donors."""

from __future__ import annotations

import numpy as np
import pandas as pd
from _splits import Task

import polygene_scverse as pgs

COVERAGES = (0.8, 0.9, 0.95)
N_DRAWS = 1000


def codes_of(task: Task, phenotype: str, categories: list[str]) -> np.ndarray:
    """True codes of the test cells, -1 where unknown or absent from training."""
    return pd.Categorical(task.test.obs[phenotype].astype(object), categories=categories).codes.astype(int)


def interval(values: np.ndarray, groups: np.ndarray | None, seed: int = 0) -> tuple[float, float]:
    """95 % bootstrap interval of a mean: over groups if there are at least five, else over cells within groups.

    Parameters
    ----------
    values
        One value per cell; shape (n_cells,).
    groups
        Donor of each cell; shape (n_cells,). None for a single donor.
    seed
        Seed of the random draws.
    """
    rng = np.random.default_rng(seed)
    groups = np.zeros(len(values)) if groups is None else groups
    parts = [values[groups == group] for group in np.unique(groups)]
    means = []
    for _ in range(N_DRAWS):
        if len(parts) >= 5:
            drawn = [parts[i] for i in rng.integers(0, len(parts), len(parts))]
        else:
            drawn = [part[rng.integers(0, len(part), len(part))] for part in parts]
        means.append(np.concatenate(drawn).mean())
    return tuple(np.quantile(means, [0.025, 0.975]))


def calibration_rows(task: Task, model: pgs.model.Polygene) -> list[dict]:
    """Calibration error and likelihood of a trained model on the test cells, without and with temperature scaling."""
    tables = model.predict_phenotype(task.test)
    rows = []
    for name, table in tables.items():
        codes, temperature = codes_of(task, name, list(table.columns)), model.temperature(name)
        raw = np.power(np.clip(table.to_numpy(dtype=float), 1e-30, 1), temperature)
        raw /= raw.sum(axis=1, keepdims=True)
        rows.append(
            {
                "data": task.name,
                "phenotype": name,
                "temperature": temperature,
                "ECE before": pgs.metrics.ece(codes, raw),
                "ECE": pgs.metrics.ece(codes, table),
                "NLL before": pgs.metrics.nll(codes, raw),
                "NLL": pgs.metrics.nll(codes, table),
                "fitted on": model.calibration_[name]["note"],
            }
        )
    return rows


def coverage_rows(
    task: Task, model: pgs.model.Polygene, test_groups: np.ndarray | None = None, *, by_category: bool = False
) -> list[dict]:
    """Coverage and size of prediction sets on the test cells.

    Parameters
    ----------
    task
        The data set.
    model
        A model trained on its training cells.
    test_groups
        Donor of each test cell, for the intervals.
    by_category
        Whether prediction sets are calibrated for each category.
    """
    tables = model.predict_phenotype(task.test)
    rows = []
    for coverage in COVERAGES:
        found = model.prediction_sets(tables, coverage=coverage, by_category=by_category, adata=task.test)
        for name, sets in found.items():
            codes = codes_of(task, name, list(sets.columns))
            known = codes >= 0
            held = sets.to_numpy()[known, codes[known]].astype(float)
            low, high = interval(held, None if test_groups is None else np.asarray(test_groups)[known])
            of_each = [held[codes[known] == code].mean() for code in np.unique(codes[known])]
            sizes = sets.to_numpy()[known].sum(axis=1)
            rows.append(
                {
                    "data": task.name,
                    "phenotype": name,
                    "asked": coverage,
                    "coverage": held.mean(),
                    "interval": f"{low:.3f} to {high:.3f}",
                    "lowest of a category": min(of_each),
                    "mean size": sizes.mean(),
                    "empty": (sizes == 0).mean(),
                }
            )
    return rows
