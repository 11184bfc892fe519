"""Rivals of the model: classifiers of scikit-learn, and others where they are installed, on the same genes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from polygene_scverse._quiet import quiet
from polygene_scverse._validate import check_choice, shorten
from polygene_scverse.data.read._binning import EVERY_VALUE
from polygene_scverse.data.read._expression import Expression
from polygene_scverse.data.read._tokens import Tokenizer
from polygene_scverse.evaluation._scanvi import scanvi_probabilities
from polygene_scverse.model import Polygene

STRENGTHS = (1e-3, 1e-2, 1e-1)
"""Values of C, the inverse of the penalty, that are tried."""
N_COMPONENTS, N_NEIGHBORS, N_INNER_FOLDS = 50, 15, 3
MAJORITY = "majority"


@dataclass(frozen=True)
class Side:
    """Training or test cells as rivals see them.

    Parameters
    ----------
    x
        log1p of counts per 10,000 of the model's genes; shape (n_cells, n_genes).
    counts
        Their raw counts, None if the data have none; shape (n_cells, n_genes).
    """

    x: NDArray[np.float32]
    counts: sp.csr_matrix | None

    def take(self, rows: NDArray[np.integer] | NDArray[np.bool_]) -> Side:
        """Some of the cells."""
        return Side(self.x[rows], None if self.counts is None else self.counts[rows])


def make_side(model: Polygene, adata: AnnData, layer: str | None = None, use_raw: bool = False) -> Side:
    """Expression of the model's genes as the model reads it, unbinned and dense."""
    expression, rows = Expression.of(adata, layer, use_raw).loaded(), np.arange(adata.n_obs)
    scale, names = expression.scale, expression.var_names
    cells = Tokenizer.match(model.genes, names, scale, EVERY_VALUE, expression.footing).read(expression, rows)
    columns = names.get_indexer(pd.Index(model.genes))
    counts = expression.rows(rows)[:, columns] if scale.kind == "counts" else None
    return Side(cells.matrix(model.layout.n_genes).toarray(), counts)


Rival = Callable[[Side, NDArray[np.int64], NDArray[np.int64] | None, Side, int], NDArray[np.float64]]


def _folds(labels: NDArray[np.int64], groups: NDArray[np.int64] | None) -> GroupKFold | StratifiedKFold:
    """Folds inside the training cells: of whole groups where there are three or more."""
    n_groups = 0 if groups is None else len(np.unique(groups))
    if n_groups >= 3:
        return GroupKFold(min(N_INNER_FOLDS, n_groups))
    rarest = int(np.bincount(np.unique(labels, return_inverse=True)[1]).min())
    return StratifiedKFold(min(N_INNER_FOLDS, max(2, rarest)))


def _estimator(name: str, n: int, folds: GroupKFold | StratifiedKFold, seed: int) -> object:
    """The classifier of a name; `n` is the number of genes, or of cells in the smallest fold if that is lower."""
    pca = PCA(min(N_COMPONENTS, n), random_state=seed)
    if name == MAJORITY:
        return DummyClassifier(strategy="prior")
    if name.startswith("kNN"):
        return make_pipeline(pca, KNeighborsClassifier(min(N_NEIGHBORS, n)))
    if name.startswith("boosted trees"):
        # without the penalty a category of one or two cells drives all scores to infinity
        trees = HistGradientBoostingClassifier(early_stopping=False, l2_regularization=10.0, random_state=seed)
        return make_pipeline(pca, trees)
    steps = [StandardScaler()] if "HVGs" in name else [StandardScaler(), pca]
    weight = "balanced" if "balanced" in name else None
    pipeline = make_pipeline(*steps, LogisticRegression(max_iter=1000, class_weight=weight))
    return GridSearchCV(pipeline, {"logisticregression__C": STRENGTHS}, cv=folds, scoring="f1_macro")


def _scikit_learn(name: str) -> Rival:
    def run(
        train: Side, labels: NDArray[np.int64], groups: NDArray[np.int64] | None, test: Side, seed: int
    ) -> NDArray[np.float64]:
        folds = _folds(labels, groups)
        smallest = min(len(inner) for inner, _ in folds.split(train.x, labels, groups))
        estimator = _estimator(name, min(smallest, train.x.shape[1]), folds, seed)
        extra = {"groups": groups} if isinstance(estimator, GridSearchCV) and isinstance(folds, GroupKFold) else {}
        return estimator.fit(train.x, labels, **extra).predict_proba(test.x)  # type: ignore[attr-defined]

    return run


def _scanvi(
    train: Side, labels: NDArray[np.int64], groups: NDArray[np.int64] | None, test: Side, seed: int
) -> NDArray[np.float64]:
    if train.counts is None or test.counts is None:
        raise ValueError("`rivals`: scANVI needs raw counts, but adata has log1p values. Leave it out.")
    return scanvi_probabilities(train.counts, labels, test.counts, seed=seed)


def _celltypist(
    train: Side, labels: NDArray[np.int64], groups: NDArray[np.int64] | None, test: Side, seed: int
) -> NDArray[np.float64]:
    """One-against-rest logistic regression of CellTypist; its sigmoids are divided by their sum."""
    import celltypist  # an optional package

    genes = np.array([f"gene{i}" for i in range(train.x.shape[1])])
    query = AnnData(test.x)
    query.var_names = genes
    with quiet("celltypist.logger"):
        model = celltypist.train(train.x, labels=labels.astype(str), genes=genes, check_expression=False, n_jobs=1)
        table = celltypist.annotate(query, model=model).probability_matrix
    values = table[[str(label) for label in np.unique(labels)]].to_numpy(dtype=np.float64)
    return values / values.sum(axis=1, keepdims=True)


SCIKIT_LEARN = (
    MAJORITY,
    "kNN on PCs",
    "logistic regression on HVGs",
    "logistic regression on HVGs, balanced",
    "logistic regression on PCs",
    "logistic regression on PCs, balanced",
    "boosted trees on PCs",
)
RIVALS: dict[str, Rival] = {
    **{name: _scikit_learn(name) for name in SCIKIT_LEARN},
    "CellTypist": _celltypist,
    "scANVI": _scanvi,
}


def choose_rivals(rivals: str | Sequence[str] | None) -> list[str]:
    """Names of the rivals to run; None for those of scikit-learn, and CellTypist where it can be trained.

    Raises
    ------
    ValueError
        If a name is unknown, or CellTypist was asked for and cannot be trained.
    """
    if rivals is None:
        return [*SCIKIT_LEARN, *(["CellTypist"] if not celltypist_problem() else [])]
    names = [rivals] if isinstance(rivals, str) else list(rivals)
    for name in names:
        check_choice(name, list(RIVALS), "rivals")
    if "CellTypist" in names and (problem := celltypist_problem()):
        others = [name for name in RIVALS if name != "CellTypist"]
        raise ValueError(f"`rivals`: CellTypist cannot be trained here: {problem}. Pass some of {shorten(others)}.")
    return names


def celltypist_problem() -> str:
    """Why CellTypist cannot be trained here; empty if it can."""
    try:
        version("celltypist")
    except PackageNotFoundError:
        return "it is not installed"
    minor = tuple(int(part) for part in version("scikit-learn").split(".")[:2])
    if minor >= (1, 8):
        return f"it passes an argument to LogisticRegression that scikit-learn {version('scikit-learn')} removed"
    return ""


def run_rival(
    name: str, train: Side, codes: NDArray[np.int64], groups: NDArray[np.int64] | None, test: Side, n: int, seed: int
) -> NDArray[np.float64]:
    """Train a rival on the cells whose category is known, and predict.

    Parameters
    ----------
    name
        Its name in `RIVALS`.
    train, test
        The cells.
    codes
        Category of each training cell, -1 where unknown; shape (n_train,).
    groups
        Group of each training cell, which stays whole while penalties are tuned; None if there is none.
    n
        Number of categories.
    seed
        Seed of what is drawn.

    Returns
    -------
    Probabilities, 0 for categories without a training cell; shape (n_test, n).
    """
    known = codes >= 0
    found = np.unique(codes[known])
    out = np.zeros((len(test.x), n))
    of_known = None if groups is None else groups[known]
    out[:, found] = RIVALS[name](train.take(known), codes[known], of_known, test, seed)
    return out
