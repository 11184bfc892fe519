"""Contribution of each gene to the prediction of a cell: its log-odds against the closest alternative category.

Shapes: B cells, V visible genes, G genes, C categories of the phenotype.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from polygene_scverse.abilities._gene_contributions import linear_weights, occlude, visible_genes
from polygene_scverse.abilities._predict import category_log_shares, linear_share, unseen_offsets
from polygene_scverse.data.feed._source import CellSource
from polygene_scverse.engine import INPUTS, Batch, Engine, Query, probabilities
from polygene_scverse.fit import FittedState
from polygene_scverse.fit._decision import choose_category
from polygene_scverse.fit._gene_scaler import capped

FIRST: Final = 20
"""Number of top genes that are removed to find the category that the cell would be closest to."""


@dataclass(frozen=True)
class Explanation:
    """Contributions of genes to the predicted category of each cell.

    Parameters
    ----------
    contributions
        Contribution of each gene to the log-odds (natural log); 0 where it is not expressed. Shape (n_cells, G).
    codes
        Category that is explained; shape (n_cells,).
    against
        Category it is compared with; shape (n_cells,).
    probabilities
        Calibrated probabilities of all categories; shape (n_cells, C).
    """

    contributions: sp.csr_matrix
    codes: NDArray[np.int64]
    against: NDArray[np.int64]
    probabilities: NDArray[np.float32]


def explain_prediction(
    engine: Engine, state: FittedState, source: CellSource, slot: int, category: int | None = None
) -> Explanation:
    """Contribution of each expressed gene to the log-odds of a category against the closest alternative.

    The log-odds are the difference of the two calibrated logits. The contribution of a gene is the change compared with
    not expressing it. For the linear path this is weight times expression; for the transformer it is the difference
    between the logits with and without the gene, among the genes it reads. `gene_contributions` does the same, but
    compares a category with all others.

    Parameters
    ----------
    engine, state
        The network and its fitted state.
    source
        The cells.
    slot
        Slot of the phenotype.
    category
        Code of the category; by default the predicted one of each cell.
    """
    module, layout, n = engine.module, engine.module.layout, len(source)
    shares, offset = linear_share(engine, state), unseen_offsets(engine, state)[slot]
    log_shares = category_log_shares(engine, state)[slot].cpu()
    temperature = state.temperature(layout.phenotype_names[slot])
    share = 0.0 if module.linear is None else float(shares[slot])
    logits = np.zeros((n, module.n_categories[slot]), dtype=np.float32)
    codes, against = np.zeros((2, n), dtype=np.int64)
    parts: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]] = []  # cells, genes, contributions

    def ask(batch: Batch) -> list[Tensor]:
        found = module.predict(*(batch[name] for name in INPUTS), shares)[slot] + offset
        certainty = [] if module.linear is None else [module.linear_certainty(batch["values"], batch["measured"])[slot]]
        occluded = [occlude(engine, batch, slot)] if share < 1.0 else []
        return [found, batch["values"], *visible_genes(engine, batch), *certainty, *occluded]

    def add(rows: NDArray[np.int64], outputs: Sequence[Tensor]) -> None:
        found, values, genes, mask, *others = (output.numpy(force=True) for output in outputs)
        logits[rows] = found
        log_p = torch.from_numpy(found / temperature).double().log_softmax(-1)
        chosen = choose_category(log_p, log_shares, temperature=temperature).numpy()
        codes[rows] = chosen if category is None else category
        added = np.zeros((*mask.shape, found.shape[1]))  # (B, V, C)
        if module.linear is not None:
            seen = capped(values, cap[genes]) * mask
            certainty = others.pop(0)  # (B, C)
            added += share * seen[..., None] * weights[genes * mask] * certainty[:, None]
        for of_transformer in others:
            added += (1.0 - share) * of_transformer
        added = (np.take_along_axis(added, codes[rows][:, None, None], axis=2) - added) / temperature
        against[rows] = soonest(added, log_p.numpy(), codes[rows])
        of_cell, column = np.nonzero(mask)
        parts.append((rows[of_cell], genes[of_cell, column], added[of_cell, column, against[rows][of_cell]]))

    if module.linear is not None:
        weights, cap = linear_weights(engine, slot), module.linear.cap.double().cpu().numpy()
    engine.run(source, Query(), ask, add)
    cells, genes, values = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    contributions = sp.csr_matrix((values, (cells, genes)), shape=(n, layout.n_genes), dtype=np.float32)
    return Explanation(contributions, codes, against, probabilities(logits, temperature))


def soonest(added: NDArray[np.floating], log_p: NDArray[np.floating], codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Closest alternative category once the genes with the strongest evidence against it are removed; shape (B,).

    This is not always the second most probable category, because few genes may distinguish two subtypes.

    Parameters
    ----------
    added
        Contribution of each gene to the log-odds of the cell's category against each other one, 0 on padding; shape
        (B, V, C).
    log_p
        Log probabilities; shape (B, C).
    codes
        Category of each cell; shape (B,).
    """
    cells, n = np.arange(len(codes)), max(added.shape[1] - FIRST, 0)
    first = np.partition(added, n, axis=1)[:, n:] if n else added
    left = log_p[cells, codes][:, None] - log_p - first.clip(min=0.0).sum(axis=1)  # (B, C)
    left[cells, codes] = np.inf
    found: NDArray[np.int64] = left.argmin(axis=1)
    return found
