"""Compare generated cells, simple generators and real cells with the same held-out cells.

Shapes: N cells, G genes, P columns of phenotypes, K classes (combinations of their categories).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from polygene_scverse.evaluation._generators import GENERATORS
from polygene_scverse.evaluation._likeness import (
    Codes,
    Floats,
    agreement,
    auroc,
    class_changes,
    energy_distance,
    forest_scores,
    gene_correlations,
    mean_error,
    nearest,
    normalized,
    slope,
    variance_ratio,
)

MIN_CELLS: Final = 10
"""Minimum number of cells of a class in each set (generated, held out, and real); other classes are left out."""
N_COMPONENTS: Final = 30
"""Number of principal components in which distances are computed."""
N_CORRELATED: Final = 150
"""Number of genes whose correlations are compared, those with the highest means."""
ALL: Final = "all"
"""Level of all classes together."""
SLOPE: Final = "slope_"
"""Prefix of the metric of a slope, before the phenotype that differs."""
BEST: Final = {
    "rf_auc": "0.5",
    "energy": "0",
    "correlation": "1",
    "mean_error": "0",
    "variance_ratio": "1",
    "zeros": "reference",
    "tstr_f1": "1",
    "as_requested": "1",
    "nn_ratio": "1",
    "attack_auroc": "0.5",
}
"""Best value of each metric, in the order of the table; slopes, whose best value is 1, come before ``"tstr_f1"``."""
Scores = dict[tuple[str, str], float]
"""Value by class and metric."""


@dataclass(frozen=True)
class CellSet:
    """Counts of cells, and their classes.

    Parameters
    ----------
    counts
        Counts, or values proportional to them within a cell; shape (N, G).
    classes
        Class of each cell; shape (N,).
    """

    counts: Floats
    classes: Codes

    def take(self, rows: NDArray[np.integer]) -> CellSet:
        """Return a subset of the cells."""
        return CellSet(self.counts[rows], self.classes[rows])


def usable_classes(sets: Sequence[Codes], n_classes: int) -> NDArray[np.bool_]:
    """Whether each class has enough cells in each set; shape (K,)."""
    counts = [np.bincount(codes[codes >= 0], minlength=n_classes) for codes in sets]
    return np.asarray(np.min(counts, axis=0) >= MIN_CELLS)


def draw_alike(
    sets: Sequence[Codes], classes: NDArray[np.integer], most: int, random: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Draw the same number of cells of each class from each set, ordered by class, at most `most` in total.

    Parameters
    ----------
    sets
        Class of each cell.
    classes
        Classes to draw.
    most
        Maximum number of cells; above it, all classes are reduced by the same factor, but not below `MIN_CELLS`.
    random
        Random generator.

    Returns
    -------
    Rows for each set.
    """
    n = np.array([min(int((codes == k).sum()) for codes in sets) for k in classes])
    if n.sum() > most:
        n = np.minimum(n, np.maximum(MIN_CELLS, n * most // n.sum()))
    found = []
    for codes in sets:
        rows = [random.permutation(np.flatnonzero(codes == k))[:m] for k, m in zip(classes, n, strict=True)]
        found.append(np.concatenate([np.sort(part) for part in rows]))
    return found


def halves(codes: Codes, random: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of two random halves, with numbers of cells of each class that differ by at most one."""
    order = random.permutation(len(codes))
    order = order[np.argsort(codes[order], kind="stable")]
    return np.sort(order[::2]), np.sort(order[1::2])


class Judge:
    """Scores of cells compared with held-out cells; results that are the same for all cells are computed once.

    Parameters
    ----------
    real
        Cells to which simple generators, a logistic regression and principal components are fitted.
    reference
        Held-out cells with which others are compared.
    labels
        Category of each phenotype of each class, with phenotypes as columns; shape (K, P).
    members
        Whether the generator was trained on `real`; otherwise the metrics of memorisation are NaN.
    seed
        Seed of the random forest.
    """

    def __init__(self, real: CellSet, reference: CellSet, labels: pd.DataFrame, members: bool, seed: int) -> None:
        self.labels, self.seed, self.classes = labels, seed, reference.classes
        self.names = class_names(labels)
        self.total = float(np.median(real.counts.sum(axis=1)))
        x, self.x = (normalized(cells.counts, self.total) for cells in (real, reference))
        self.zeros = reference.counts == 0
        self.pca = _components(x)
        self.components = self.pca.transform(self.x)
        self.top = np.argsort(-real.counts.mean(axis=0), kind="stable")[:N_CORRELATED]
        self.classifier = _classifier(x, real.classes)
        self.members = CellSet(x, real.classes) if members else None
        self.others = {str(name): differing(labels, name) for name in labels.columns}
        self.changes = self._changes(self.x)

    def score(self, cells: CellSet) -> Scores:
        """Compute all metrics for each class and for all classes together.

        Parameters
        ----------
        cells
            Cells with the classes of the reference, in the same order.
        """
        x = normalized(cells.counts, self.total)
        components, of_forest = self.pca.transform(x), forest_scores(self.x, x, self.seed)
        spaces = self._spaces(x)
        predicted = _classifier(x, self.classes).predict(self.x)
        asked, changes = self.classifier.predict(x) == self.classes, self._changes(x)
        f1 = f1_score(self.classes, predicted, average=None, labels=np.arange(len(self.names)), zero_division=0)
        scores: Scores = {}
        for k, name in enumerate(self.names):
            at = self.classes == k
            here, there = x[at], self.x[at]
            correlations = (gene_correlations(part[:, self.top], self.classes[at]) for part in (here, there))
            found = {
                "rf_auc": auroc(of_forest[0][at], of_forest[1][at]),
                "energy": energy_distance(components[at], self.components[at]),
                "correlation": agreement(*correlations),
                "mean_error": mean_error(here, there),
                "variance_ratio": variance_ratio(here, there),
                "zeros": float((cells.counts[at] == 0).mean()),
                **{f"{SLOPE}{c}": slope(changes[c][k], self.changes[c][k]) for c in self.others},
                "tstr_f1": float(f1[k]),
                "as_requested": float(asked[at].mean()),
                **self._memorised(spaces, at, k),
            }
            scores |= {(name, metric): value for metric, value in found.items()}
        together = self._of_all(cells, x, of_forest, asked)
        together |= self._memorised(spaces, np.ones(len(x), dtype=bool), None)
        for metric in metrics_of(self.others):
            of_classes = pd.Series([scores[name, metric] for name in self.names])
            scores[ALL, metric] = together[metric] if metric in together else float(of_classes.mean())
        return scores

    def of_reference(self) -> Scores:
        """Metrics of the reference cells themselves, if these are not the best values by definition."""
        asked = self.classifier.predict(self.x) == self.classes
        rows = {name: self.classes == k for k, name in enumerate(self.names)} | {ALL: np.ones(len(asked), dtype=bool)}
        scores: Scores = {(name, "zeros"): float(self.zeros[at].mean()) for name, at in rows.items()}
        return scores | {(name, "as_requested"): float(asked[at].mean()) for name, at in rows.items()}

    def _of_all(
        self, cells: CellSet, x: Floats, of_forest: tuple[Floats, Floats], asked: NDArray[np.bool_]
    ) -> dict[str, float]:
        """Metrics that are computed from all cells together, instead of as the mean over classes."""
        correlations = (gene_correlations(part[:, self.top], self.classes) for part in (x, self.x))
        return {
            "rf_auc": auroc(*of_forest),
            "correlation": agreement(*correlations),
            "zeros": float((cells.counts == 0).mean()),
            "as_requested": float(asked.mean()),
        }

    def _memorised(
        self, spaces: tuple[Floats, Floats, Floats], at: NDArray[np.bool_], k: int | None
    ) -> dict[str, float]:
        """Nearest-neighbour ratio and membership attack; NaN without the cells that the generator was trained on.

        Parameters
        ----------
        spaces
            Generated, held-out and training cells in principal components of all of them. In components of one of the
            sets, cells of that set would be farther from the others, whatever the generator does.
        at
            Rows of the generated and held-out cells.
        k
            Class of the training cells; None for all classes.
            Class of the training cells; None for all.
        """
        if self.members is None:
            return {"nn_ratio": float("nan"), "attack_auroc": float("nan")}
        components, held_out, members = spaces[0][at], spaces[1][at], spaces[2]
        members = members if k is None else members[self.members.classes == k]
        usual = float(np.median(nearest(held_out, members)))
        ratio = float(np.median(nearest(components, members))) / usual if usual > 0 else float("nan")
        attack = auroc(-nearest(held_out, components), -nearest(members, components))
        return {"nn_ratio": ratio, "attack_auroc": attack}

    def _spaces(self, x: Floats) -> tuple[Floats, Floats, Floats]:
        """Generated, held-out and training cells in principal components of all of them."""
        if self.members is None:
            return x, x, x
        pca = _components(np.concatenate([x, self.x, self.members.counts]))
        return pca.transform(x), pca.transform(self.x), pca.transform(self.members.counts)

    def _changes(self, x: Floats) -> dict[str, NDArray[np.float64]]:
        """Log fold changes between classes that differ in one phenotype, for each phenotype; shape (K, G) each."""
        means = np.stack([x[self.classes == k].mean(axis=0) for k in range(len(self.names))])
        return {name: class_changes(means, others) for name, others in self.others.items()}


def compare(
    generated: CellSet, reference: CellSet, real: CellSet, labels: pd.DataFrame, *, members: bool, seed: int
) -> pd.DataFrame:
    """Compute the table of :func:`~polygene_scverse.tl.check_generated`.

    Parameters
    ----------
    generated, reference
        Cells with the same number of each class, ordered by class.
    real
        Cells to which simple generators are fitted.
    labels, members, seed
        As for `Judge`.
    """
    judge = Judge(real, reference, labels, members, seed)
    columns = {"generated": judge.score(generated)}
    for name, make in GENERATORS.items():
        random, counts = np.random.default_rng([seed, 1]), np.zeros_like(reference.counts)
        for k in range(len(labels)):
            at = np.flatnonzero(reference.classes == k)
            counts[at] = make(real.counts[real.classes == k], len(at), random)
        columns[name] = judge.score(CellSet(counts, reference.classes))
    columns["reference"] = judge.of_reference()
    n_cells = {name: int((reference.classes == k).sum()) for k, name in enumerate(judge.names)}
    n_cells[ALL] = len(reference.classes)
    rows = []
    for level in [ALL, *judge.names]:
        for metric, best in metrics_of(judge.others).items():
            values = {name: scores.get((level, metric), float("nan")) for name, scores in columns.items()}
            rows.append({"level": level, "metric": metric, "best": best, "n_cells": n_cells[level], **values})
    return pd.DataFrame(rows)


def metrics_of(phenotypes: Iterable[str]) -> dict[str, str]:
    """All metrics and their best values."""
    slopes = {f"{SLOPE}{name}": "1" for name in phenotypes}
    before = list(BEST).index("tstr_f1")
    items = list(BEST.items())
    return {**dict(items[:before]), **slopes, **dict(items[before:])}


def class_names(labels: pd.DataFrame) -> list[str]:
    """Names of classes: their categories, separated by a bar."""
    return [" | ".join(map(str, row)) for row in labels.itertuples(index=False)]


def differing(labels: pd.DataFrame, name: str) -> NDArray[np.bool_]:
    """Whether each two classes differ in this phenotype alone; shape (K, K)."""
    same = {column: labels[column].to_numpy()[:, None] == labels[column].to_numpy() for column in labels}
    found = ~same[name]
    for column in labels:
        if column != name:
            found &= same[column]
    return np.asarray(found)


def _components(x: Floats) -> PCA:
    return PCA(min(N_COMPONENTS, x.shape[1], len(x) - 1), random_state=0).fit(x)


def _classifier(x: Floats, y: Codes) -> LogisticRegression:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(C=0.1, max_iter=300).fit(x, y)
