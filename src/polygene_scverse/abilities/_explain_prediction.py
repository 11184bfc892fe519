"""Which genes made the prediction of a cell: what each adds to the log-odds of the category against the likely others.

Shapes: B cells, V visible genes, G genes, C categories of the phenotype.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from torch import Tensor

from polygene_scverse.abilities._gene_contributions import linear_weights, occlude, visible_genes
from polygene_scverse.abilities._predict import category_log_shares, linear_share, unseen_offsets
from polygene_scverse.data.feed._source import CellSource
from polygene_scverse.engine import INPUTS, Batch, Engine, Query, probabilities
from polygene_scverse.fit import FittedState
from polygene_scverse.fit._decision import choose_category
from polygene_scverse.fit._gene_scaler import rescale


@dataclass(frozen=True)
class Explanation:
    """What the genes of each cell say of its category.

    Parameters
    ----------
    contributions
        What each gene adds to the log-odds, in natural logarithms; 0 where it is not expressed. Shape (n_cells, G).
    codes
        Category that is explained; shape (n_cells,).
    probabilities
        Calibrated, of all categories; shape (n_cells, C).
    """

    contributions: sp.csr_matrix
    codes: NDArray[np.int64]
    probabilities: NDArray[np.float32]


def explain_prediction(
    engine: Engine, state: FittedState, source: CellSource, slot: int, category: int | None = None
) -> Explanation:
    """What each expressed gene adds to the log-odds of a category, against the others that the cell might be.

    The log-odds are the calibrated logit of the category minus the mean of the others', weighted by their probabilities
    in the cell. What a gene adds is what is lost where it is not expressed: for the linear path weight times
    expression, for the transformer the difference of two answers, as in `gene_contributions`; there the others are
    weighted by their shares of the training cells.

    Parameters
    ----------
    engine, state
        The network, and what was fitted to it.
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
    logits, codes = np.zeros((n, module.n_categories[slot]), dtype=np.float32), np.zeros(n, dtype=np.int64)
    parts: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]] = []  # cells, genes, contributions

    def ask(batch: Batch) -> list[Tensor]:
        found = module.predict(*(batch[name] for name in INPUTS), shares)[slot] + offset
        of_genes = [occlude(engine, batch, slot)] if share < 1.0 else []
        return [found, batch["values"], *visible_genes(engine, batch), *of_genes]

    def add(rows: NDArray[np.int64], outputs: Sequence[Tensor]) -> None:
        found, values, genes, mask, *occluded = (output.numpy(force=True) for output in outputs)
        logits[rows] = found
        log_p = torch.from_numpy(found / temperature).double().log_softmax(-1)
        chosen = choose_category(log_p, log_shares, temperature=temperature).numpy()
        codes[rows] = chosen if category is None else category
        contrast = contrast_to_likely(log_p.numpy(), codes[rows]) / temperature  # (B, C)
        of_cell, column = np.nonzero(mask)
        gene = genes[of_cell, column]
        added = np.zeros(len(gene))
        if module.linear is not None:
            seen = np.minimum(rescale(values[of_cell, column].astype(np.float64)), cap[gene])
            added += share * seen * np.einsum("vc,vc->v", weights[gene], contrast[of_cell])
        for of_gene in occluded:
            added += (1.0 - share) * np.einsum("vc,vc->v", of_gene[of_cell, column], contrast[of_cell])
        parts.append((rows[of_cell], gene, added))

    if module.linear is not None:
        weights, cap = linear_weights(engine, slot), module.linear.cap.double().cpu().numpy()
    engine.run(source, Query(), ask, add)
    cells, genes, values = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    contributions = sp.csr_matrix((values, (cells, genes)), shape=(n, layout.n_genes), dtype=np.float32)
    return Explanation(contributions, codes, probabilities(logits, temperature))


def contrast_to_likely(log_p: NDArray[np.floating], codes: NDArray[np.int64]) -> NDArray[np.float64]:
    """What logits are multiplied by: 1 for the category, less the others' probabilities if it is not that; (B, C).

    Parameters
    ----------
    log_p
        Log probabilities; shape (B, C).
    codes
        The category of each cell; shape (B,).
    """
    own = np.eye(log_p.shape[1], dtype=bool)[codes]
    contrast: NDArray[np.float64] = own - softmax(np.where(own, -np.inf, log_p), axis=1)
    return contrast
