"""Reliability of results: baselines on held-out donors, calibration, novelty, evidence, audit, and a null.

    python benchmarks/trust.py                          # all parts
    python benchmarks/trust.py --part evaluate --data tcells kang18
    python benchmarks/trust.py --part audit --most 10

Prints one or more tables for each part and writes them to results/trust_<part>.md, and all parts to results/trust.md.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from _audit import audit_rows
from _calibration_tables import calibration_rows, coverage_rows
from _joint import joint_tables
from _novelty import novelty_table
from _splits import DATA, TASKS, Task
from rich.console import Console

import polygene_scverse as pgs
from polygene_scverse.evaluation._baselines import choose_baselines

RESULTS = Path(__file__).parent / "results"
SCORES = ["macro_f1_10", "macro_f1", "balanced_accuracy", "accuracy", "ece", "nll"]


def with_split(task: Task) -> tuple[ad.AnnData, tuple[np.ndarray, np.ndarray], str | None]:
    """Training and test cells in one object, the rows of each, and the column of donors."""
    both = ad.concat([task.train, task.test], index_unique="-", keys=["train", "test"])
    rows = np.arange(both.n_obs)
    group_key = "donor" if "donor" in both.obs else None
    return both, (rows[: task.train.n_obs], rows[task.train.n_obs :]), group_key


def evaluate(arguments: argparse.Namespace) -> dict[str, str]:
    """The model beside all baselines on the fixed splits: figures with intervals, differences, donors, words."""
    texts = {}
    for key in arguments.data:
        task = TASKS[key]()
        adata, split, group_key = with_split(task)
        counts = np.array_equal(adata.X.data, np.rint(adata.X.data))  # scANVI takes nothing else
        baselines = [*choose_baselines(None), "scANVI"] if arguments.scanvi and counts else None
        pgs.tl.evaluate(
            adata,
            group_key=group_key,
            phenotypes=task.phenotypes,
            split=split,
            baselines=baselines,
            seed=arguments.seed,
            train_kwargs={"max_epochs": arguments.epochs},
        )
        table = pgs.get.evaluation(adata)
        texts[f"{task.name}: scores (95 % interval)"] = figures(table)
        texts[f"{task.name}: the model minus the baseline"] = differences(table)
        if group_key is not None:
            texts[f"{task.name}: single donors"] = by_donor(pgs.get.evaluation(adata, by_group=True))
        texts[f"{task.name}: in words"] = "\n".join(f"* {sentence}" for sentence in table.attrs["notes"])
    return texts


def figures(table: pd.DataFrame) -> str:
    """Values and intervals, a row per phenotype and method."""
    text = [f"{r.value:.3f} ({r.low:.3f}–{r.high:.3f})" for r in table.itertuples()]
    return _wide(table.assign(text=text))


def differences(table: pd.DataFrame) -> str:
    """Paired differences; whether the model is better, worse or not significantly different."""
    baselines = table[table["verdict"] != ""]
    text = [
        f"{r.difference:+.3f} ({r.difference_low:+.3f} to {r.difference_high:+.3f}) {r.verdict}"
        for r in baselines.itertuples()
    ]
    return _wide(baselines.assign(text=text))


def by_donor(table: pd.DataFrame) -> str:
    """Values in single donors."""
    table = table.assign(method=table["method"] + ", " + table["group"], text=[f"{v:.3f}" for v in table["value"]])
    return _wide(table)


def _wide(table: pd.DataFrame) -> str:
    wide = table.pivot(index=["phenotype", "method"], columns="score", values="text")
    order = pd.MultiIndex.from_frame(table[["phenotype", "method"]].drop_duplicates())
    return wide.loc[order, SCORES].reset_index().to_markdown(index=False)


def null(arguments: argparse.Namespace) -> dict[str, str]:
    """Sex of 40 donors, constant within donors: labels permuted between donors beside the true ones."""
    adata = ad.read_h5ad(DATA / "onek1k_40donors.h5ad")
    rows = np.random.default_rng(arguments.seed).permutation(adata.n_obs)[: arguments.cells]
    adata = adata[np.sort(rows)].copy()
    report = pgs.pp.confounding(adata, group_key="indiv", phenotypes=["sex", "cell_type"])
    table = pgs.tl.evaluate(
        adata,
        group_key="indiv",
        phenotypes="sex",
        split=4,
        baselines=["majority", "logistic regression on HVGs, balanced"],
        n_null=arguments.permutations,
        seed=arguments.seed,
        train_kwargs={"max_epochs": arguments.epochs},
    )
    notes = adata.uns["polygene"]["evaluate"]["notes"]
    return {
        "OneK1K: what the donor alone determines": report.reset_index().to_markdown(index=False, floatfmt=".3f"),
        "OneK1K, sex: scores (of permuted labels lowest and highest)": figures(table),
        "OneK1K, sex: in words": "\n".join(f"* {sentence}" for sentence in notes),
    }


def calibration(arguments: argparse.Namespace) -> dict[str, str]:
    """Calibration error before and after the temperature, and coverage of prediction sets, on held-out donors."""
    calibrated, covered = [], []
    for key in arguments.data:
        task = TASKS[key]()
        model = pgs.tl.train(
            task.train,
            phenotypes=task.phenotypes,
            max_epochs=arguments.epochs,
            verbose=False,
            **_groups(task, arguments),
        )
        calibrated += calibration_rows(task, model)
        donors = task.test.obs["donor"].to_numpy() if "donor" in task.test.obs else None
        for by_category in (False, True):
            rows = coverage_rows(task, model, donors, by_category=by_category)
            covered += [{**row, "sets": "of each category" if by_category else "marginal"} for row in rows]
    return {"Calibration on held-out donors": markdown(calibrated), "Coverage on held-out donors": markdown(covered)}


def novelty(arguments: argparse.Namespace) -> dict[str, str]:
    """Each category left out of training: how well its cells are told from the others."""
    texts = {}
    for key, phenotype in {"tcells": "ct_cov", "kang18": "cluster_id", "onek1k": "cell_type"}.items():
        task = TASKS[key]()
        settings = {"max_epochs": arguments.epochs, "trials": True, **_groups(task, arguments)}
        table = novelty_table(task, phenotype, **settings)
        texts[f"{task.name}, {phenotype}: not in the reference"] = table.to_markdown(index=False, floatfmt=".3f")
    return texts


def _groups(task: Task, arguments: argparse.Namespace) -> dict:
    """The donors are named where there are several."""
    return {"group_key": None if task.group is None else "donor", "seed": arguments.seed}


def markdown(rows: list[dict]) -> str:
    """A table of rows."""
    return pd.DataFrame(rows).to_markdown(index=False, floatfmt=".3f")


def audit(arguments: argparse.Namespace) -> dict[str, str]:
    """Planted swaps of single samples and of pairs."""
    rows = audit_rows(max_epochs=arguments.epochs or 4, most=arguments.most, seed=arguments.seed)
    return {"Planted swaps": markdown(rows)}


def joint(arguments: argparse.Namespace) -> dict[str, str]:
    """What evidence is worth, and joint predictions beside independent ones."""
    evidence, joints = joint_tables(max_epochs=arguments.epochs, seed=arguments.seed)
    return {
        "Evidence": markdown(evidence),
        "Log-likelihood per cell of two phenotypes": markdown(joints),
    }


PARTS = {
    "evaluate": evaluate,
    "null": null,
    "calibration": calibration,
    "novelty": novelty,
    "joint": joint,
    "audit": audit,
}


def write(part: str, texts: dict[str, str], command: str) -> None:
    """The file of a part, and the file of all parts there are."""
    body = "\n\n".join(f"### {title}\n\n{text}" for title, text in texts.items())
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"trust_{part}.md").write_text(f"## {part}\n\nPrinted by `{command}`.\n\n{body}\n", encoding="utf-8")
    found = [RESULTS / f"trust_{name}.md" for name in PARTS]
    texts_of_all = [path.read_text(encoding="utf-8") for path in found if path.is_file()]
    (RESULTS / "trust.md").write_text("\n".join(texts_of_all), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", nargs="*", choices=list(PARTS), default=list(PARTS))
    parser.add_argument(
        "--data", nargs="*", choices=list(TASKS), default=list(TASKS), help="for evaluate and calibration"
    )
    parser.add_argument("--scanvi", action="store_true", help="scANVI among the baselines of evaluate")
    parser.add_argument("--most", type=int, help="swaps of each kind for audit, drawn; by default all")
    parser.add_argument("--permutations", type=int, default=5, help="for null")
    parser.add_argument("--cells", type=int, default=4000, help="for null")
    parser.add_argument("--epochs", type=int, help="passes over the training cells; by default those of tl.train")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    console = Console(soft_wrap=True)
    for part in arguments.part:
        texts = PARTS[part](arguments)
        for title, text in texts.items():
            console.print(f"\n### {title}\n\n{text}", markup=False, highlight=False)
        write(part, texts, "python benchmarks/trust.py " + " ".join(sys.argv[1:]))


if __name__ == "__main__":
    main()
