"""Joint distribution: prediction of hidden genes from genes and phenotypes, and effects of a phenotype on genes.

    python benchmarks/joint.py --data kang18 --seeds 3             # test donors
    python benchmarks/joint.py --data kang18 --choose              # within the training donors, to choose defaults
    python benchmarks/joint.py --data kang18 --left-out            # trained without stimulated cells of one type

Prints, together with baselines, for hidden genes: the negative log-likelihood (15 % of the expressed genes and as many
not-expressed ones, offset as in the loss, natural log), that of the bins of expressed genes, and their accuracy; the
same with 0 to 100 % of the other genes hidden as well, with true phenotypes shown or hidden; for kang18, the
correlation of the predicted and true shift of mean expression of each cell type when the token of the condition is
swapped; and the phenotype scores of the transformer alone and of both paths. `--choose` uses one fold of the training
cells for testing.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import torch
from _splits import DATA, TASKS, Task
from choices import folds
from scipy.special import log_softmax, logsumexp
from scipy.stats import pearsonr

import polygene_scverse as pgs
from polygene_scverse._constants import TARGET_SUM
from polygene_scverse.data.feed._batch import make_batch
from polygene_scverse.data.feed._masking import Masking, MaskingRates, draw
from polygene_scverse.data.feed._random import cell_keys, uniform
from polygene_scverse.fit._bin_values import BinValues, fit_bin_values
from polygene_scverse.fit._temperature import fit_temperature
from polygene_scverse.model import Polygene

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
PRIOR_CELLS = 5.0
MOST_CELLS = 600
HIDE_STREAM = 99
QUIET = MaskingRates(gene_dropout=0.0, hide_all=1.0, max_genes=10**9)


def gene_logits(model: Polygene, batch: dict[str, np.ndarray]) -> np.ndarray:
    """Logits of the targets' bins; shape (n_cells, n_targets, n_bins)."""
    tensors = {name: torch.from_numpy(np.ascontiguousarray(a)) for name, a in batch.items()}
    with torch.inference_mode():
        outputs = model.module.inference(**model.module._get_inference_input(tensors))
        return model.module.generative(**outputs)["gene_logits"].numpy()


def hidden_genes(model: Polygene, adata: ad.AnnData, share: float = 0.0, given: bool = False) -> pd.DataFrame:
    """Log-likelihoods of hidden genes: one row a target, with its cell, gene, bin and offset.

    Parameters
    ----------
    model
        The model.
    adata
        The cells.
    share
        Share of the genes that are no targets which is hidden too.
    given
        Whether the true phenotypes are shown.
    """
    table = model._cells(adata, np.arange(adata.n_obs)).read_all()
    rows = np.sort(np.random.default_rng(0).permutation(len(table))[:MOST_CELLS])
    parts = []
    for start in range(0, len(rows), 50):
        at = rows[start : start + 50]
        cells, codes = table.cells.take(at), table.codes[at]
        m = draw(cells, at, table.measured, codes.shape[1], QUIET, seed=0, epoch=0)
        keys = np.repeat(cell_keys(1, 0, at), cells.lengths)
        m = replace(m, visible=m.visible & (uniform(keys, HIDE_STREAM, cells.genes) >= share))
        m = replace(m, hidden=np.full_like(m.hidden, not given) | (codes < 0))
        m = replace(m, shown_share=m.shown_share * np.float32(1 - share))
        batch = make_batch(cells, m, table.layout, codes)
        logits = gene_logits(model, batch)
        known = batch["target_bins"] >= 0
        logits[..., 0] += batch["zero_offset"][:, None]
        n_keys = batch["key_mask"].shape[1]
        genes = batch["positions"][:, n_keys:] - table.layout.first_gene_position
        part = {"cell": np.broadcast_to(at[:, None], known.shape)[known], "gene": genes[known]}
        part |= {"bin": batch["target_bins"][known]}
        part |= {"offset": np.broadcast_to(batch["zero_offset"][:, None], known.shape)[known]}
        parts.append(pd.DataFrame(part | scored(logits[known], part["bin"])))
    return pd.concat(parts, ignore_index=True)


def scored(logits: np.ndarray, bins: np.ndarray) -> dict[str, np.ndarray]:
    """Log-likelihood of the bins, that of expressed ones among bins 1 and up, and whether they are guessed."""
    each = np.arange(len(bins))
    of_expressed = log_softmax(logits[:, 1:], axis=1)
    return {
        "nll": logsumexp(logits, axis=1) - logits[each, bins],
        "nll of expressed": np.where(bins > 0, -of_expressed[each, np.maximum(bins - 1, 0)], np.nan),
        "accuracy of expressed": np.where(bins > 0, 1.0 + logits[:, 1:].argmax(1) == bins, np.nan),
    }


def frequencies(model: Polygene, adata: ad.AnnData, groups: np.ndarray | None = None) -> np.ndarray:
    """Smoothed log frequencies of bins of each gene in each group of cells; shape (n_groups, n_genes, n_bins)."""
    cells = model._cells(adata, np.arange(adata.n_obs)).read_all().cells
    groups = np.zeros(len(cells), dtype=int) if groups is None else groups
    g, v = model.layout.n_genes, model.layout.n_bins
    n = max(groups.max() + 1, 1)
    used = np.repeat(groups, cells.lengths)
    flat = ((used.astype(np.int64) * g + cells.genes) * v + cells.bins)[used >= 0]
    counts = np.bincount(flat, minlength=n * g * v).reshape(n, g, v).astype(float)
    counts[..., 0] = np.bincount(groups[groups >= 0], minlength=n)[:, None] - counts.sum(-1)
    usual = counts.sum((0, 1)) / counts.sum()
    of_gene = counts.sum(0) + usual
    of_gene /= of_gene.sum(-1, keepdims=True)
    counts += PRIOR_CELLS * of_gene
    return np.log(counts / counts.sum(-1, keepdims=True))


def combinations(model: Polygene, adata: ad.AnnData, columns: list[int]) -> np.ndarray:
    """Number of the combination of some phenotypes' categories, -1 where one is unknown."""
    codes = model._cells(adata, np.arange(adata.n_obs)).read_all().codes[:, columns]
    sizes = [len(list(model.categories.values())[i]) for i in columns]
    return np.where((codes < 0).any(1), -1, np.ravel_multi_index(np.maximum(codes, 0).T, sizes))


def gene_rows(model: Polygene, train: ad.AnnData, test: ad.AnnData, shares: Sequence[float] = SHARES) -> list[dict]:
    """Hidden genes, with baselines on the same targets."""
    columns = ["nll", "nll of expressed", "accuracy of expressed"]
    rows = []
    found = hidden_genes(model, test)
    every = list(range(model.layout.n_phenotypes))
    baselines = {"frequencies of gene": [], "of gene and first phenotype": [0], "of gene and all phenotypes": every}
    for name, used in baselines.items():
        if used:
            of_train, of_test = (combinations(model, side, used) for side in (train, test))
            n = int(max(of_train.max(), of_test.max())) + 1
            table = frequencies(model, train, np.append(of_train, n - 1)[:-1])
            table = np.concatenate([table, np.repeat(frequencies(model, train), max(0, n - len(table)), 0)])
            group = of_test[found["cell"]]
        else:
            table, group = frequencies(model, train), np.zeros(len(found), dtype=int)
        usual = frequencies(model, train)[0, found["gene"]]
        logits = np.where((group >= 0)[:, None], table[group, found["gene"]], usual)
        logits[:, 0] += found["offset"]
        scores = pd.DataFrame(scored(logits, found["bin"].to_numpy())).mean()
        rows.append({"hidden": "", "shown phenotypes": "", "method": name, **scores})
    for share in shares:
        for given in (False, True):
            part = found if share == 0 and not given else hidden_genes(model, test, share, given)
            row = {"hidden": f"{share:.0%}", "shown phenotypes": "all" if given else "none", "method": "Polygene"}
            rows.append({**row, **part[columns].mean()})
    return rows


def ask(model: Polygene, adata: ad.AnnData, rows: np.ndarray, codes: np.ndarray, shown_share: float) -> np.ndarray:
    """Mean probability of each gene's bins over cells with other phenotypes, where the gene is hidden.

    Parameters
    ----------
    model
        The model.
    adata
        The cells.
    rows
        Which cells.
    codes
        Phenotypes that are shown; shape (n_rows, n_phenotypes).
    shown_share
        Share of the genes that is shown, the same genes whatever the phenotypes.

    Returns
    -------
    Shape (n_genes, n_bins).
    """
    table = model._cells(adata, rows).read_all()
    g, v = model.layout.n_genes, model.layout.n_bins
    sums, n_asked = np.zeros((g, v)), np.zeros(g)
    for start in range(0, len(rows), 20):
        at = np.arange(start, min(start + 20, len(rows)))
        cells = table.cells.take(at)
        n = len(at)
        keys = cell_keys(2, 0, rows[at])
        hidden = uniform(keys[:, None], HIDE_STREAM, np.arange(g)) >= shown_share  # (n, G)
        entry_rows = np.repeat(np.arange(n), cells.lengths)
        target = hidden[entry_rows, cells.genes]
        dense = np.zeros((n, g), dtype=bool)
        dense[entry_rows, cells.genes] = True
        zero_rows, zero_genes = np.nonzero(hidden & ~dense)
        m = Masking(
            visible=~target,
            target=target,
            zero_rows=zero_rows,
            zero_genes=zero_genes,
            log_sampling_ratio=np.zeros(n, dtype=np.float32),
            hidden=codes[at] < 0,
            shown_share=np.full(n, shown_share, dtype=np.float32),
        )
        batch = make_batch(cells, m, table.layout, codes[at])
        logits = gene_logits(model, batch)
        n_keys = batch["key_mask"].shape[1]
        known = batch["target_bins"] >= 0
        genes = (batch["positions"][:, n_keys:] - table.layout.first_gene_position)[known]
        np.add.at(sums, genes, np.exp(log_softmax(logits[known], axis=1)))
        n_asked += np.bincount(genes, minlength=g)
    return sums / np.maximum(n_asked, 1)[:, None]


def log_counts(adata: ad.AnnData, total: float | None = None) -> np.ndarray:
    """log1p of counts per `total`, by default the median; shape (n_cells, n_genes)."""
    x = np.asarray(adata.X.todense(), dtype=float)
    totals = x.sum(1, keepdims=True)
    return np.log1p(x / totals * (np.median(totals) if total is None else total))


def bin_values(model: Polygene, train: ad.AnnData, values: np.ndarray) -> BinValues:
    """What bins of the training cells stand for on some scale of expression."""
    table = model._cells(train, np.arange(train.n_obs)).read_all()
    cells, rows = table.cells, np.repeat(np.arange(train.n_obs), table.cells.lengths)
    sizes = [len(c) for c in model.categories.values()]
    entries = (rows, cells.genes, cells.bins, values[rows, cells.genes])
    return fit_bin_values(*entries, table.codes, sizes, model.layout.n_genes, model.layout.n_bins)


def shift(
    model: Polygene, adata: ad.AnnData, rows: np.ndarray, values: BinValues, column: int, a: int, b: int, share: float
) -> np.ndarray:
    """Predicted change of each gene's mean expression when a phenotype is swapped; shape (n_genes,)."""
    codes, sizes = model._cells(adata, rows).read_all().codes, [len(c) for c in model.categories.values()]
    sides = []
    for category in (a, b):
        swapped = codes.copy()
        swapped[:, column] = category
        sides.append((ask(model, adata, rows, swapped, share) * values.of(swapped[:1], sizes)[0]).sum(1))
    return sides[1] - sides[0]


def counterfactual_rows(
    model: Polygene, train: ad.AnnData, test: ad.AnnData, values: dict[str, np.ndarray]
) -> list[dict]:
    """kang18: the condition's token swapped for control cells of each type, beside shifts of the training cells."""
    genes = model.genes
    at = {"train": train[:, genes], "test": test[:, genes]}
    x = {side: values[side][:, train.var_names.get_indexer(genes)] for side in at}
    means = bin_values(model, train, x["train"])
    types = list(model.categories["cluster_id"])
    control, stimulated = (list(model.categories["group_id"]).index(c) for c in ("ctrl", "stim"))
    column = model.layout.phenotype_names.index("group_id")
    keys = ("cluster_id", "group_id")
    labels = {side: tuple(a.obs[k].astype(str).to_numpy() for k in keys) for side, a in at.items()}

    def true_shift(side: str, kind: str) -> np.ndarray:
        t, c = labels[side]
        return x[side][(t == kind) & (c == "stim")].mean(0) - x[side][(t == kind) & (c == "ctrl")].mean(0)

    rows = []
    others = {t: true_shift("train", t) for t in types}
    for kind in types:
        t, c = labels["test"]
        d = true_shift("test", kind)
        top = np.argsort(-np.abs(d))[:100]
        cells = np.flatnonzero((t == kind) & (c == "ctrl"))
        found = {"own shift of the training cells": others[kind], "mean shift": np.mean(list(others.values()), 0)}
        found["Polygene, no gene shown"] = shift(model, test, cells[:1], means, column, control, stimulated, 0.0)
        found["Polygene, half shown"] = shift(model, test, cells[:60], means, column, control, stimulated, 0.5)
        for name, p in found.items():
            row = {"delta r": pearsonr(p, d)[0], "of top 100": pearsonr(p[top], d[top])[0]}
            rows.append({"method": name, "type": kind, **row})
    return rows


def left_out_rows(adata: ad.AnnData, seed: int, kwargs: dict) -> list[dict]:
    """kang18: stimulated cells of one type left out of training; control cells of the type with the token swapped."""
    values = log_counts(adata)
    t, c = (adata.obs[k].astype(str).to_numpy() for k in ("cluster_id", "group_id"))
    types, rows = sorted(set(t)), []
    mean = lambda kind, condition: values[(t == kind) & (c == condition)].mean(0)  # noqa: E731
    for kind in types:
        m0, m1 = mean(kind, "ctrl"), mean(kind, "stim")
        x, y = values[(t == kind) & (c == "stim")], values[(t == kind) & (c == "ctrl")]
        score = (m1 - m0) / np.sqrt(x.var(0) / len(x) + y.var(0) / len(y) + 1e-9)
        top = np.argsort(-np.abs(score))[:100]
        others = [o for o in types if o != kind]
        shifts = np.array([mean(o, "stim") - mean(o, "ctrl") for o in others])
        sim = np.array([pearsonr(mean(o, "ctrl"), m0)[0] for o in others])
        w = np.exp(20 * (sim - sim.max()))
        found = {"no change": 0 * m0, "mean shift": shifts.mean(0), "similarity-weighted shift": w / w.sum() @ shifts}
        train = adata[~((t == kind) & (c == "stim"))].copy()
        model = fit(train, ["cluster_id", "group_id"], seed, kwargs)[0]
        index = [adata.var_names.get_loc(g) for g in model.genes]
        means = bin_values(model, train, values[~((t == kind) & (c == "stim"))][:, index])
        cells = np.flatnonzero((t == kind) & (c == "ctrl"))
        column = model.layout.phenotype_names.index("group_id")
        codes = [list(model.categories["group_id"]).index(k) for k in ("ctrl", "stim")]
        for name, share, part in (("no gene shown", 0.0, cells[:1]), ("half shown", 0.5, cells[:60])):
            p = np.zeros(len(m0))
            p[index] = shift(model, adata, part, means, column, *codes, share)
            found[f"Polygene, {name}"] = p
        for name, p in found.items():
            q = np.clip(m0 + p, 0, None)
            row = {"R2 all": pearsonr(q, m1)[0] ** 2, "R2 top 100": pearsonr(q[top], m1[top])[0] ** 2}
            row["delta r"] = 0.0 if not p.any() else pearsonr(q - m0, m1 - m0)[0]
            rows.append({"method": name, "type": kind, **row})
    return rows


def phenotype_rows(model: Polygene, train: ad.AnnData, test: ad.AnnData, validation: np.ndarray) -> list[dict]:
    """Scores of the transformer alone, with a temperature of its own, and of both paths."""
    rows, state = [], model.fitted_
    truth = dict(
        zip(model.layout.phenotype_names, model._cells(test, np.arange(test.n_obs)).read_all().codes.T, strict=True)
    )
    usual = dict(vars(state))
    for method in ("transformer alone", "both paths"):
        if method == "transformer alone":
            state.linear_share, state.calibration = [], {}
            codes = model._cells(train, validation).codes
            for i, (name, table) in enumerate(model.predict_phenotype(train, indices=validation).items()):
                known = codes[:, i] >= 0
                logits = np.log(np.maximum(table.to_numpy()[known], 1e-12))
                temperature = fit_temperature(logits, codes[known, i]) if known.any() else 1.0
                state.calibration[name] = replace(usual["calibration"][name], temperature=temperature)
        tables = model.predict_phenotype(test)
        chosen = model.decide(tables)
        for name, table in tables.items():
            codes, guess, proba = truth[name], chosen[name].cat.codes.to_numpy(), table.to_numpy()
            row = {"macro-F1 (>= 10)": pgs.metrics.macro_f1(codes, guess, min_cells=10)}
            row |= {"accuracy": pgs.metrics.accuracy(codes, guess), "NLL": pgs.metrics.nll(codes, proba)}
            rows.append({"phenotype": name, "method": method, **row, "ECE": pgs.metrics.ece(codes, proba)})
        vars(state).update(usual)
    return rows


def fit(train: ad.AnnData, phenotypes: list[str], seed: int, kwargs: dict) -> tuple[Polygene, float, np.ndarray]:
    """Train with defaults but for `kwargs`; the seconds that it took, and the rows that were held out."""
    started, train = time.perf_counter(), train.copy()
    model = pgs.tl.train(train, phenotypes=phenotypes, seed=seed, verbose=False, **kwargs)
    return model, time.perf_counter() - started, train.uns["polygene"]["train"]["validation"]


def run(task: Task, seed: int, kwargs: dict, choose: bool, shares: Sequence[float]) -> dict[str, list[dict]]:
    """All figures of a data set but those of cells left out."""
    train, test = next(folds(task)) if choose else (task.train, task.test)
    model, seconds, validation = fit(train, task.phenotypes, seed, kwargs)
    started = time.perf_counter()
    model.predict_phenotype(test)
    speed = test.n_obs / (time.perf_counter() - started)
    tables = {
        "Hidden genes": gene_rows(model, train, test, shares),
        "Phenotypes": phenotype_rows(model, train, test, validation),
    }
    if task.name == "kang18":
        values = {"train": log_counts(train, TARGET_SUM), "test": log_counts(test, TARGET_SUM)}
        tables["Condition swapped"] = counterfactual_rows(model, train, test, values)
    tables["Training"] = [{"method": "Polygene", "seconds": seconds, "prediction, cells/s": speed}]
    return tables


def markdown(rows: list[dict]) -> str:
    """A table of means over seeds, and over types."""
    table = pd.DataFrame(rows).drop(columns="type", errors="ignore")
    keys = [k for k in ("hidden", "shown phenotypes", "phenotype", "method") if k in table]
    table = table.groupby(keys, sort=False).mean(numeric_only=True).reset_index()
    return table.to_markdown(index=False, floatfmt=".3f")


def draw_curve(rows: list[dict], path: Path) -> None:
    """Likelihood of hidden genes against the share of the others that is hidden too, beside frequencies."""
    import matplotlib.pyplot as plt

    table = pd.DataFrame(rows).groupby(["method", "hidden", "shown phenotypes"], sort=False)["nll"].mean().reset_index()
    ours = table[table["method"] == "Polygene"]
    figure, axes = plt.subplots(figsize=(5, 3.2), layout="constrained")
    for (shown, part), color in zip(ours.groupby("shown phenotypes"), ("#0072B2", "#D55E00"), strict=True):
        shares = part["hidden"].str.rstrip("%").astype(float)
        axes.plot(shares, part["nll"], "o-", color=color, label=f"Polygene, {shown} of the phenotypes shown")
    styles = zip(table[table["method"] != "Polygene"].itertuples(), (":", "--", "-."), strict=False)
    for row, style in styles:
        axes.axhline(row.nll, color="0.4", linestyle=style, label=row.method)
    axes.set(xlabel="other genes hidden (%)", ylabel="NLL of a hidden gene (nats)")
    axes.legend(fontsize="x-small", frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="*", choices=list(TASKS), default=["kang18"])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--choose", action="store_true", help="inside the training donors")
    parser.add_argument("--left-out", action="store_true", help="kang18: stimulated cells of each type left out")
    parser.add_argument("--settings", default="{}", help="arguments of tl.train as JSON")
    parser.add_argument("--short", action="store_true", help="0, 50 and 100 %% hidden only")
    parser.add_argument("--write", default="", help="name of the table in results/; curves are drawn beside it")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    kwargs, texts = json.loads(arguments.settings), []
    for key in arguments.data:
        found: dict[str, list[dict]] = {}
        task = TASKS[key]()
        for seed in range(arguments.seeds):
            if arguments.left_out:
                adata = ad.read_h5ad(DATA / "kang18_pbmc_ifnb.h5ad") if not arguments.choose else task.train
                tables = {"Stimulated cells of a type left out": left_out_rows(adata, seed, kwargs)}
            else:
                tables = run(task, seed, kwargs, arguments.choose, SHARES[::2] if arguments.short else SHARES)
            for name, rows in tables.items():
                found.setdefault(name, []).extend(rows)
        for name, rows in found.items():
            if name == "Hidden genes" and arguments.write:
                draw_curve(rows, Path(__file__).parent / "results" / f"joint_{key}.png")
            texts.append(f"### {task.name}: {name}\n\n{markdown(rows)}")
    text = "\n\n".join(texts)
    print(text, flush=True)
    if arguments.write:
        command = " ".join(["python benchmarks/joint.py", *sys.argv[1:]])
        (Path(__file__).parent / "results" / arguments.write).write_text(f"Printed by `{command}`.\n\n{text}\n")


if __name__ == "__main__":
    main()
