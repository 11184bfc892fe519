"""Prediction of phenotypes in new donors after training on few: repeated draws of 1, 2, 3 and 5 training donors.

    python benchmarks/few_donors.py --quick              # two draws, within the training donors; minutes
    python benchmarks/few_donors.py                      # within the training donors, used to make choices
    python benchmarks/few_donors.py --test --write       # the test donors, and kang18 both ways; the reported results

At most 1,200 cells of the drawn donors are in training, and at most 1,000 cells of other donors are predicted: of the
training donors of `_splits.py` that were not drawn, or with `--test` of the test donors. All methods use the same
cells. The model is trained with `group_key=` and defaults. Baselines use the 3,000 most variable genes, except shrunken
LDA, which uses the 1,000 of these with the highest variance because its time grows with the cube of their number. A
phenotype is left out of a draw whose training cells have only one of its categories; test cells of categories without
training cells are not scored.

Prints means over draws: macro-F1 over categories with at least 10 test cells, accuracy, expected calibration error,
negative log-likelihood, and the coverage of prediction sets at a nominal level of 90 %. The sets of the baselines are
the most probable categories that sum to 90 %. The worst draw is shown below each table.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import _baselines
import anndata as ad
import numpy as np
import pandas as pd
from _splits import TASKS, Task
from rich.console import Console
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import polygene_scverse as pgs
from polygene_scverse.evaluation._features import Features
from polygene_scverse.evaluation._scikit_learn import MAJORITY, fit_predict, inner_folds
from polygene_scverse.fit._conformal import most_probable

MOST_TRAIN, MOST_TEST, COVERAGE = 1200, 1000, 0.9
N_DONORS = (1, 2, 3, 5)
PHENOTYPES = {
    "tcells": ["ct_cov", "cg_cov", "batch_cov"],
    "kang18": ["cluster_id", "group_id"],
    "onek1k": ["cell_type", "sex"],
    "glioblastoma": ["condition", "location", "gender"],
}
"""All phenotypes but those that name the donor: age in OneK1K and glioblastoma."""
BY_LOG_LOSS, BALANCED = "logistic regression, by log-loss", "logistic regression, balanced"
LDA, LDA_GENES = "shrunken LDA", 1000
SCIKIT = {MAJORITY: MAJORITY, BALANCED: "logistic regression on HVGs, balanced", LDA: "shrunken LDA on HVGs"}
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)
MODEL = "Polygene"
SCORES = ["macro-F1", "accuracy", "ECE", "NLL", "coverage"]
HIGH_IS_BAD = ("ECE", "NLL")


@dataclass(frozen=True)
class Draw:
    """Training cells of some donors, and cells of others.

    Parameters
    ----------
    data, n_donors, number
        Name of the data set, training donors, and the number of the draw.
    train, test
        The cells; their donors stand in ``obs["donor"]``.
    phenotypes
        Phenotypes of which the training cells have two categories.
    """

    data: str
    n_donors: int
    number: int
    train: ad.AnnData
    test: ad.AnnData
    phenotypes: list[str]


def _some(adata: ad.AnnData, most: int, seed: int) -> ad.AnnData:
    """At most so many cells, drawn without regard to their donors."""
    rows = np.random.default_rng(seed).permutation(adata.n_obs)[:most]
    return adata[np.sort(rows)].copy()


def draws(key: str, n_draws: int, of_test_donors: bool) -> Iterator[Draw]:
    """Draws of training donors of a data set; one for each donor where that is all there are."""
    task, names = TASKS[key](), PHENOTYPES[key]
    for column in names:
        for side in (task.train, task.test):
            side.obs[column] = side.obs[column].astype(object)
    if key == "kang18":
        ways = [(task.train, task.test), (task.test, task.train)] if of_test_donors else []
        for number, (train, test) in enumerate(ways):
            yield Draw(task.name, 1, number, _some(train, MOST_TRAIN, 0), _some(test, MOST_TEST, 0), names)
        return
    donors = sorted(task.train.obs["donor"].unique())
    for n_donors in N_DONORS:
        if n_donors > len(donors) - (0 if of_test_donors else 1):
            continue
        seen: set[tuple[str, ...]] = set()
        for number in range(n_draws):
            chosen = tuple(sorted(np.random.default_rng([n_donors, number]).permutation(donors)[:n_donors]))
            if chosen in seen:
                continue
            seen.add(chosen)
            drawn = task.train.obs["donor"].isin(chosen).to_numpy()
            train = _some(task.train[drawn], MOST_TRAIN, number)
            test = _some(task.test if of_test_donors else task.train[~drawn], MOST_TEST, number)
            usable = [name for name in names if train.obs[name].nunique() > 1]
            if usable:
                yield Draw(task.name, n_donors, number, train, test, usable)


def score(draw: Draw, phenotype: str, table: pd.DataFrame, chosen: np.ndarray, sets: np.ndarray) -> dict[str, float]:
    """Scores on the test cells whose category is known and was in training.

    Parameters
    ----------
    draw, phenotype
        The cells, and their obs column.
    table
        Probabilities; the columns are categories.
    chosen
        Name of the category that was decided for; shape (n_test,).
    sets
        Whether each category is in the set of a cell; shape (n_test, n_categories).
    """
    seen = set(draw.train.obs[phenotype].dropna().astype(str))
    truth = draw.test.obs[phenotype].to_numpy()
    truth = np.array([str(label) if str(label) in seen else None for label in truth], dtype=object)
    codes = pd.Categorical(truth, categories=list(table.columns)).codes.astype(int)
    decided = pd.Categorical(np.asarray(chosen, dtype=object), categories=list(table.columns)).codes.astype(int)
    if not (codes >= 0).any():
        return dict.fromkeys(SCORES, np.nan)
    known, proba = np.flatnonzero(codes >= 0), table.to_numpy()
    return {
        "macro-F1": pgs.metrics.macro_f1(codes, decided, min_cells=10),
        "accuracy": pgs.metrics.accuracy(codes, decided),
        "ECE": pgs.metrics.ece(codes, proba),
        "NLL": pgs.metrics.nll(codes, proba),
        "coverage": float(sets[known, codes[known]].mean()),
    }


def run_ours(draw: Draw, seed: int, group_key: str | None = "donor") -> list[dict]:
    """Train with defaults, predict the other donors."""
    single = draw.train.obs["donor"].nunique() < 2
    adata = draw.train.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model = pgs.tl.train(adata, phenotypes=draw.phenotypes, group_key=group_key, seed=seed, verbose=False)
        except ValueError:  # versions before this benchmark refused one group
            if not single:
                raise
            model = pgs.tl.train(adata, phenotypes=draw.phenotypes, seed=seed, verbose=False)
        tables = model.predict_phenotype(draw.test)
        sets = model.prediction_sets(tables, coverage=COVERAGE)
    chosen = model.decide(tables)
    return [
        {
            "phenotype": name,
            "method": MODEL,
            **score(draw, name, table, chosen[name].astype(str).to_numpy(), sets[name].to_numpy()),
            "temperature": model.temperature(name),
            "linear share": (model.fitted_.linear_share or [0.0] * 9)[list(tables).index(name)],
        }
        for name, table in tables.items()
    ]


def _by_log_loss(x: np.ndarray, labels: np.ndarray, groups: np.ndarray, x_test: np.ndarray) -> np.ndarray:
    """Logistic regression whose penalty has the best likelihood in folds, of whole donors where there are three."""
    folds, n = inner_folds(x, labels, groups), int(labels.max()) + 1

    def probabilities(penalty: float, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
        pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=penalty, max_iter=300))
        found = np.full((len(others), n), 1e-6)
        found[:, np.unique(labels[rows])] = pipeline.fit(x[rows], labels[rows]).predict_proba(others)
        return found

    usable = [(train, test) for train, test in folds if len(np.unique(labels[train])) > 1]
    losses = [
        np.mean([pgs.metrics.nll(labels[test], probabilities(penalty, train, x[test])) for train, test in usable])
        for penalty in PENALTIES
    ]
    best = PENALTIES[int(np.argmin(losses))] if usable else 1e-3
    return probabilities(best, np.arange(len(x)), x_test)


def run_baselines(draw: Draw) -> list[dict]:
    """The baselines' scores."""
    task = Task(draw.data, draw.train, draw.test, draw.phenotypes, draw.train.obs["donor"])
    x, x_test = _baselines.features(task)
    donors, rows = pd.factorize(draw.train.obs["donor"], sort=True)[0], []
    variable = np.argsort(-x.var(axis=0), kind="stable")[:LDA_GENES]
    for name in draw.phenotypes:
        known = draw.train.obs[name].notna().to_numpy()
        labels, categories = pd.factorize(draw.train.obs[name][known].astype(str), sort=True)
        cells, test = Features(x[known], None), Features(x_test, None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = {BY_LOG_LOSS: _by_log_loss(x[known], labels, donors[known], x_test)}
            for method, classifier in SCIKIT.items():
                genes = variable if method == LDA else slice(None)
                train, others = (Features(part.x[:, genes], None) for part in (cells, test))
                found[method] = fit_predict(classifier, train, labels, donors[known], others, 0)
        for method, proba in found.items():
            table = pd.DataFrame(proba, columns=list(categories))
            chosen = np.asarray(categories)[proba.argmax(1)]
            rows.append(
                {
                    "phenotype": name,
                    "method": method,
                    **score(draw, name, table, chosen, most_probable(proba, COVERAGE)),
                }
            )
    return rows


def summary(table: pd.DataFrame, keys: list[str]) -> str:
    """Means over draws, a row for each method."""
    means = table.groupby([*keys, "method"], sort=False)[SCORES].mean().reset_index()
    return means.to_markdown(index=False, floatfmt=".3f")


def worst(table: pd.DataFrame) -> str:
    """The worst value of each score over the draws, by method."""
    of_methods = table.groupby("method", sort=False)
    found = {s: of_methods[s].max() if s in HIGH_IS_BAD else of_methods[s].min() for s in SCORES}
    return pd.DataFrame(found).reset_index().to_markdown(index=False, floatfmt=".3f")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="*", choices=list(PHENOTYPES), default=list(PHENOTYPES))
    parser.add_argument("--draws", type=int, default=4, help="draws for each number of donors")
    parser.add_argument(
        "--quick", action="store_true", help="one draw of T cells and one of glioblastoma patients each"
    )
    parser.add_argument("--test", action="store_true", help="predict the test donors, and kang18 both ways")
    parser.add_argument("--no-baselines", action="store_true")
    parser.add_argument("--only-baselines", action="store_true")
    parser.add_argument("--table", type=Path, help="csv file of all scores, which a second run adds to")
    parser.add_argument("--write", action="store_true", help="write results/few_donors.md")
    arguments = parser.parse_args()
    console = Console()
    keys = [key for key in arguments.data if not arguments.quick or key in ("tcells", "glioblastoma")]
    rows: list[dict] = []
    if arguments.table is not None and arguments.table.exists():
        rows = pd.read_csv(arguments.table).to_dict("records")
    for key in keys:
        for draw in draws(key, 1 if arguments.quick else arguments.draws, arguments.test):
            found = [] if arguments.no_baselines else run_baselines(draw)
            found += [] if arguments.only_baselines else run_ours(draw, draw.number)
            where = {"data": draw.data, "donors": draw.n_donors, "draw": draw.number}
            rows += [where | row for row in found]
            console.print(f"{draw.data}, {draw.n_donors} donors, draw {draw.number}", highlight=False)
            if arguments.table is not None:
                pd.DataFrame(rows).to_csv(arguments.table, index=False)
    table = pd.DataFrame(rows)
    parts = {
        "All draws and phenotypes": summary(table, []),
        "Worst draw": worst(table),
        "By training donors": summary(table, ["donors"]),
        "By phenotype": summary(table, ["data", "phenotype"]),
    }
    text = "\n\n".join(f"### {title}\n\n{part}" for title, part in parts.items())
    console.print(text, markup=False, soft_wrap=True)
    if arguments.write:
        command = " ".join(["python benchmarks/few_donors.py", *sys.argv[1:]])
        path = Path(__file__).parent / "results" / "few_donors.md"
        path.write_text(f"Printed by `{command}`.\n\n{text}\n")


if __name__ == "__main__":
    main()
