"""Adding categories: a model of 8 T-cell subtypes learns the other 2, compared with a model trained on all 10.

    python benchmarks/growth.py                                        # default training
    python benchmarks/growth.py --max-epochs 2                         # short training
    python benchmarks/growth.py --max-epochs 2 --pairs 0 --table growth.csv     # one pair; adds rows to the table
    python benchmarks/growth.py --max-epochs 1 --parts IGTB514_IGTB514 # a held-out training donor, each path alone

The ten subtypes are new in five pairs, drawn once. Test donors are never in training. The model of 8 learns the 2 in
two ways: from cells of the 2 only, with cells of the 8 drawn from what the model stores about them, and from cells of
all 10. Macro-F1 of the old subtypes is over test cells of the 8 (``old``), before and after; that of the new ones is
over all test cells.

``--parts`` shows how much each of the two prediction paths loses, on a held-out training donor, and how much the linear
path loses if it is fitted to drawn cells instead of what the model stores about the old ones.
``--evidence`` tests whether the batch of a cell, passed with ``given=``, improves the prediction of its subtype.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path
from typing import Any
from unittest import mock

import anndata as ad
import numpy as np
import pandas as pd
from _report import report
from _splits import tcells
from sklearn.metrics import f1_score

import polygene_scverse as pgs
from polygene_scverse.model import Polygene, _recipe

PHENOTYPE, GROUP = "ct_cov", "donor"


def scores(model: Polygene, test: ad.AnnData, old: list[str], new: list[str]) -> dict[str, float]:
    """Macro-F1 of the old categories over their cells, and of old and new ones over all cells."""
    predicted = model.decide(model.predict_phenotype(test))[PHENOTYPE].astype(str).to_numpy()
    true = test.obs[PHENOTYPE].astype(str).to_numpy()
    mine = np.isin(true, old)

    def f1(labels: list[str], rows: np.ndarray) -> float:
        found = f1_score(true[rows], predicted[rows], labels=labels, average="macro", zero_division=0)
        return float(found)

    every = np.ones(len(true), dtype=bool)
    return {"old": f1(old, mine), "old, all cells": f1(old, every), "new": f1(new, every)}


def compare(train: ad.AnnData, test: ad.AnnData, pair: list[str], refit: Polygene, **kwargs: Any) -> list[dict]:
    """Rows of one pair of new categories."""
    old = [c for c in refit.categories[PHENOTYPE] if c not in pair]
    is_new = train.obs[PHENOTYPE].isin(pair).to_numpy()
    base = pgs.tl.train(train[~is_new].copy(), phenotypes=PHENOTYPE, **kwargs)
    rows = {"before": base}
    for name, cells in (("grown, new cells alone", train[is_new]), ("grown, old and new cells", train)):
        start = time.time()
        rows[name] = pgs.tl.train(cells.copy(), model=base, **kwargs | {"n_genes": None})
        print(f"{name}: {time.time() - start:.0f} s", flush=True)
    rows["refit on all"] = refit
    return [{"new subtypes": " + ".join(pair), "model": name, **scores(m, test, old, pair)} for name, m in rows.items()]


def parts(train: ad.AnnData, donor: str, pairs: list[int], **kwargs: Any) -> list[dict]:
    """Rows of each path alone, on cells of a training donor who is held out; new cells are passed alone."""
    held_out = (train.obs[GROUP].astype(str) == donor).to_numpy()
    train, test = train[~held_out].copy(), train[held_out].copy()
    refit = pgs.tl.train(train.copy(), phenotypes=PHENOTYPE, **kwargs)
    found = []
    for pair in pairs_of(refit, pairs):
        old = [c for c in refit.categories[PHENOTYPE] if c not in pair]
        is_new = train.obs[PHENOTYPE].isin(pair).to_numpy()
        base = pgs.tl.train(train[~is_new].copy(), phenotypes=PHENOTYPE, **kwargs)
        models = {"before": base}
        with mock.patch.object(_recipe, "earlier_cells", return_value=None):
            models["grown, all fitted to drawn cells"] = pgs.tl.train(train[is_new].copy(), model=base, **kwargs)
        models["grown, new cells alone"] = pgs.tl.train(train[is_new].copy(), model=base, **kwargs)
        for name, model in {**models, "refit on all": refit}.items():
            fitted = model.fitted_.linear_share
            for path, share in (("both", fitted), ("transformer", [0.0]), ("linear", [1.0])):
                model.fitted_.linear_share = share
                which = {"donor": donor, "new subtypes": " + ".join(pair), "model": name, "path": path}
                found.append({**which, **scores(model, test, old, pair)})
            model.fitted_.linear_share = fitted
        print(*found[-12:], sep="\n", flush=True)
    return found


def pairs_of(model: Polygene, numbers: list[int]) -> list[list[str]]:
    """Pairs of categories, drawn once."""
    names = [str(name) for name in np.random.default_rng(0).permutation(model.categories[PHENOTYPE])]
    return [names[2 * pair : 2 * pair + 2] for pair in numbers]


def evidence(train: ad.AnnData, test: ad.AnnData, **kwargs: Any) -> None:
    """Print macro-F1 of subtypes with and without the batch of the cells as evidence."""
    model = pgs.tl.train(train.copy(), phenotypes=[PHENOTYPE, "batch_cov"], **kwargs)
    true = test.obs[PHENOTYPE].astype(str).to_numpy()
    for given in (None, "batch_cov"):
        tables = model.predict_phenotype(test, phenotypes=PHENOTYPE, given=given)
        predicted = model.decide(tables)[PHENOTYPE].astype(str).to_numpy()
        p = tables[PHENOTYPE].to_numpy()[np.arange(len(true)), tables[PHENOTYPE].columns.get_indexer(true)]
        f1 = f1_score(true, predicted, labels=model.categories[PHENOTYPE], average="macro", zero_division=0)
        print(f"given={given}: macro-F1 {f1:.3f}, NLL {-np.log(np.maximum(p, 1e-9)).mean():.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, nargs="*", help="pairs of new subtypes")
    parser.add_argument("--max-epochs", type=int, help="length of each training, by default that of tl.train")
    parser.add_argument("--n-genes", type=int, help="genes of the models, by default those of tl.train")
    parser.add_argument("--cells", type=int, help="training cells, by default 4,000")
    parser.add_argument("--table", type=Path, help="csv file that rows are added to; without --pairs it is reported")
    parser.add_argument("--parts", nargs="+", help="training donors to hold out, each path alone, and no more")
    parser.add_argument("--evidence", action="store_true", help="print what given= of the batch does, and no more")
    parser.add_argument("--output", type=Path, help="markdown file")
    args = parser.parse_args()
    warnings.filterwarnings("ignore", category=UserWarning)
    before = pd.read_csv(args.table) if args.table is not None and args.table.exists() else pd.DataFrame()
    rows: list[dict] = before.to_dict("records")
    todo = range(5) if args.pairs is None and not rows else args.pairs or []
    kwargs = {"max_epochs": args.max_epochs, "n_genes": args.n_genes, "group_key": GROUP, "verbose": False}
    task = tcells()
    train, test = (d[d.obs[PHENOTYPE].notna().to_numpy()].copy() for d in (task.train, task.test))
    train = train[: args.cells].copy()  # they are in a drawn order
    if args.evidence:
        return evidence(train, test, **kwargs)
    if args.parts:
        rows = [row for donor in args.parts for row in parts(train, donor, args.pairs or list(range(5)), **kwargs)]
        means = pd.DataFrame(rows).groupby(["model", "path"], sort=False)[["old", "new"]].mean().reset_index()
        print(means.round(3).to_string(index=False))
        return None
    if todo:
        refit = pgs.tl.train(train.copy(), phenotypes=PHENOTYPE, **kwargs)
        for pair in pairs_of(refit, list(todo)):
            rows += compare(train, test, pair, refit, **kwargs)
            print(*rows[-4:], sep="\n", flush=True)
            if args.table is not None:
                pd.DataFrame(rows).to_csv(args.table, index=False)
    measures = ["old", "old, all cells", "new"]
    for name in dict.fromkeys(row["model"] for row in rows):
        of_model = [row for row in rows if row["model"] == name]
        means = {m: float(np.nanmean([row[m] for row in of_model])) for m in measures}
        rows.append({"new subtypes": "mean", "model": name, **means})
    for row in rows:
        if row["model"] == "before":
            row["new"] = row["old, all cells"] = float("nan")
    given = {"--max-epochs": args.max_epochs, "--n-genes": args.n_genes, "--cells": args.cells}
    command = " ".join(["python benchmarks/growth.py", *(f"{k} {v}" for k, v in given.items() if v is not None)])
    report("Macro-F1 on test donors", ["new subtypes", "model", *measures], rows, command, args.output)


if __name__ == "__main__":
    main()
