"""Prediction of the expression bins of hidden expressed genes, compared with the majority bin."""

from __future__ import annotations

import numpy as np
import torch
from _splits import Task

from polygene_scverse.data.feed._loader import BatchDataset, LengthSampler
from polygene_scverse.data.feed._masking import MaskingRates
from polygene_scverse.model import Polygene


def hidden_genes(model: Polygene, task: Task) -> dict[str, np.ndarray]:
    """True and predicted bins of hidden expressed genes of the test cells, with the gene and cell of each.

    15 % of the expressed genes and all phenotypes are hidden; there is no gene dropout.
    """
    table = model._cells(task.test, np.arange(task.test.n_obs)).read_all()
    dataset = BatchDataset(table, MaskingRates(gene_dropout=0.0, hide_all=1.0, max_genes=10**9), seed=0)
    found = {"truth": [], "guess": [], "gene": [], "cell": []}
    with torch.inference_mode():
        for key in LengthSampler(table.cells.lengths, 64):
            batch = dataset[key]
            outputs = model.module.inference(**model.module._get_inference_input(batch))
            logits = model.module.generative(**outputs)["gene_logits"]
            expressed = batch["target_bins"] > 0
            n_keys = batch["key_mask"].shape[1]
            genes = batch["positions"][:, n_keys:] - model.layout.first_gene_position
            found["truth"].append(batch["target_bins"][expressed])
            found["guess"].append((1 + logits[..., 1:].argmax(-1))[expressed])
            found["gene"].append(genes[expressed])
            found["cell"].append(batch["rows"][:, None].expand_as(genes)[expressed])
    return {name: torch.cat(parts).numpy() for name, parts in found.items()}


def majority_bins(model: Polygene, task: Task, context: np.ndarray | None = None) -> np.ndarray:
    """Most frequent expressed bin of each gene in the training cells, by context.

    Returns
    -------
    Shape (n_contexts, n_genes); for genes that are never expressed, the most frequent bin overall.
    """
    cells = model._cells(task.train, np.arange(task.train.n_obs)).read_all().cells
    context = np.zeros(task.train.n_obs, dtype=int) if context is None else context
    n_contexts, n_genes, n_bins = context.max() + 1, model.layout.n_genes, model.layout.n_bins
    of_entry = np.repeat(context, cells.lengths)
    flat = (np.maximum(of_entry, 0) * n_genes + cells.genes) * n_bins + cells.bins
    counts = np.bincount(flat[of_entry >= 0], minlength=n_contexts * n_genes * n_bins)
    counts = counts.reshape(n_contexts, n_genes, n_bins) + 1e-3 * np.bincount(cells.bins, minlength=n_bins) / len(flat)
    return counts.argmax(-1)


def gene_half(task: Task, model: Polygene, name: str) -> list[dict]:
    """Accuracy of the model and of majority bins."""
    found = hidden_genes(model, task)
    phenotype = task.phenotypes[0]
    codes = {}
    for side, adata in (("train", task.train), ("test", task.test)):
        table = model._cells(adata, np.arange(adata.n_obs)).read_all()
        codes[side] = table.codes[:, 0]
    known = codes["test"][found["cell"]] >= 0
    per_gene = majority_bins(model, task)[0][found["gene"]]
    in_context = majority_bins(model, task, codes["train"])[codes["test"][found["cell"]], found["gene"]]
    return [
        {
            "data": task.name,
            "method": name,
            "model": float((found["guess"] == found["truth"]).mean()),
            "majority bin of the gene": float((per_gene == found["truth"]).mean()),
            f"majority bin of (gene, {phenotype})": float((in_context == found["truth"])[known].mean()),
            "model, where that is known": float((found["guess"] == found["truth"])[known].mean()),
        }
    ]
