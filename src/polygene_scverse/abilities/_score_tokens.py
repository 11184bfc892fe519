"""Accuracy and likelihood of predicted hidden tokens, accumulated over batches without storing predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from polygene_scverse._constants import BALANCE
from polygene_scverse._layout import TokenLayout
from polygene_scverse.abilities._predict import category_log_shares, unseen_offsets
from polygene_scverse.data.feed._masking import MaskingRates
from polygene_scverse.data.feed._source import CellSource
from polygene_scverse.engine import Batch, Engine, Query, RandomHiding, bin_nll
from polygene_scverse.fit import FittedState
from polygene_scverse.fit._decision import choose_category

Sums = NDArray[np.float64]
COUNTED = ("target_bins", "zero_offset", "phenotypes", "phenotype_hidden")
"""Arrays of a batch that describe the hidden tokens."""


@dataclass(frozen=True)
class TokenLikelihoods:
    """Negative log-likelihood (natural log, no label smoothing) of hidden tokens, summed by true class.

    Parameters
    ----------
    genes
        Sums over hidden genes by true bin; the logit of bin 0 is corrected as in the loss. Shape (n_bins,).
    expressed
        Sums over expressed genes by true bin, given that the bin is at least 1; shape (n_bins - 1,).
    phenotypes
        For each phenotype, sums of shape (n_categories,), from the transformer's probabilities.
    """

    genes: Sums
    expressed: Sums
    phenotypes: dict[str, Sums]


@dataclass(frozen=True)
class TokenCounts:
    """Counts of hidden (rows) and predicted (columns) tokens.

    Parameters
    ----------
    genes
        Expression bins of all hidden genes; shape (n_bins, n_bins).
    expressed
        Bins of expressed genes, predicted among bins 1 and above; shape (n_bins - 1, n_bins - 1).
    phenotypes
        For each phenotype, a table of shape (n_categories, n_categories).
    zero_offset
        Mean correction of the logit of bin 0 over hidden genes.
    hiding
        The masking that was used.
    nll
        Negative log-likelihood of the tokens.
    """

    genes: pd.DataFrame
    expressed: pd.DataFrame
    phenotypes: dict[str, pd.DataFrame]
    zero_offset: float
    hiding: RandomHiding
    nll: TokenLikelihoods

    @property
    def rates(self) -> MaskingRates:
        """Masking rates."""
        return self.hiding.rates

    @classmethod
    def total(cls, parts: Sequence[TokenCounts]) -> TokenCounts:
        """Combine the counts of several sets of cells, which must come from the same model and masking rates."""
        n_hidden = [int(part.genes.to_numpy().sum()) for part in parts]
        offsets = sum(n * part.zero_offset for n, part in zip(n_hidden, parts, strict=True))
        nll = TokenLikelihoods(*_sums([part.nll for part in parts]))
        return cls(*_sums(parts), offsets / max(sum(n_hidden), 1), parts[0].hiding, nll)


def _sums(parts: Sequence[TokenCounts] | Sequence[TokenLikelihoods]) -> tuple[Any, Any, dict[str, Any]]:
    """Sums over several sets of cells for genes, expressed genes and phenotypes."""
    phenotypes = {name: reduce(add, (part.phenotypes[name] for part in parts)) for name in parts[0].phenotypes}
    return reduce(add, (part.genes for part in parts)), reduce(add, (part.expressed for part in parts)), phenotypes


def count_hidden_tokens(
    engine: Engine,
    state: FittedState,
    source: CellSource,
    hiding: RandomHiding,
    *,
    balance: float = BALANCE,
    originals_mask: bool = False,
) -> TokenCounts:
    """Hide random tokens, predict them and count true and predicted classes; memory does not grow with the cells.

    Parameters
    ----------
    engine, state
        The network and its fitted state.
    source
        The cells.
    hiding
        Random masking to use.
    balance
        Exponent of the training shares when a category is chosen.
    originals_mask
        Whether to show the network which hidden genes are expressed, as original checkpoints expect.
    """
    module = engine.module
    offsets, shares = unseen_offsets(engine, state), category_log_shares(engine, state)
    counter = _Counter(module.layout, shares, balance)

    def guess(batch: Batch) -> Sequence[Tensor]:
        seen = with_the_originals_mask(batch) if originals_mask else batch
        outputs = module.generative(**module.inference(**module._get_inference_input(seen)))
        logits = [part + offset for part, offset in zip(outputs["phenotype_logits"], offsets, strict=True)]
        return [outputs["gene_logits"], *logits, *(batch[name] for name in COUNTED)]

    def add_batch(rows: NDArray[np.int64], outputs: Sequence[Tensor]) -> None:
        of_phenotypes, truth = outputs[1 : -len(COUNTED)], outputs[-len(COUNTED) :]
        counter.add(dict(zip(COUNTED, truth, strict=True)), outputs[0], of_phenotypes)

    engine.run(source, Query(hiding=hiding), guess, add_batch)
    return counter.result(hiding)


def with_the_originals_mask(batch: Batch) -> Batch:
    """Show hidden expressed genes as [MASK] tokens that all tokens attend to, as in the original implementation.

    Parameters
    ----------
    batch
        Arrays from `make_batch`, with the columns of hidden genes last.
    """
    n_keys, expressed = batch["key_mask"].shape[1], batch["target_bins"] > 0
    tokens, positions = (
        torch.cat([batch[name], batch[name][:, n_keys:]], dim=1) for name in ("tokens", "positions")
    )  # (B, K + M + M): the second of the three parts is now used as keys
    values = torch.cat([batch["values"], torch.zeros(expressed.shape)], dim=1)
    key_mask = torch.cat([batch["key_mask"], expressed], dim=1)
    return {**batch, "tokens": tokens, "positions": positions, "values": values, "key_mask": key_mask}


class _Counter:
    """Accumulate confusion matrices and likelihoods."""

    def __init__(self, layout: TokenLayout, shares: Sequence[Tensor], balance: float) -> None:
        self.layout, self.shares, self.balance = layout, shares, balance
        self.genes = np.zeros((layout.n_bins, layout.n_bins), dtype=np.int64)
        self.expressed = np.zeros((layout.n_bins - 1, layout.n_bins - 1), dtype=np.int64)
        self.phenotypes = [np.zeros((len(s.ids), len(s.ids)), dtype=np.int64) for s in layout.phenotypes]
        phenotype_sums = {slot.name: np.zeros(len(slot.ids)) for slot in layout.phenotypes}
        self.nll = TokenLikelihoods(np.zeros(layout.n_bins), np.zeros(layout.n_bins - 1), phenotype_sums)
        self.offset = 0.0

    def add(self, batch: Batch, gene_logits: Tensor, phenotype_logits: Sequence[Tensor]) -> None:
        """Add the predictions and log-likelihoods of a batch."""
        bins, logits = batch["target_bins"], gene_logits.float().cpu()
        offset = torch.where(bins >= 0, batch["zero_offset"][:, None], 0.0)  # (B, M)
        self.offset += float(offset.sum(dtype=torch.float64))
        decided = torch.cat([logits[..., :1] + offset[..., None], logits[..., 1:]], dim=-1).argmax(-1)
        count(self.genes, bins, decided)
        count(self.expressed, bins - 1, logits[..., 1:].argmax(-1))
        add_by_class(self.nll.genes, bins, bin_nll(logits, bins, batch["zero_offset"][:, None]))
        add_by_class(self.nll.expressed, bins - 1, bin_nll(logits[..., 1:], bins - 1))
        asked = torch.where(batch["phenotype_hidden"], batch["phenotypes"], -1)
        for i, (matrix, part) in enumerate(zip(self.phenotypes, phenotype_logits, strict=True)):
            count(matrix, asked[:, i], choose_category(part.float(), self.shares[i], self.balance).cpu())
            losses = F.cross_entropy(part.float().cpu(), asked[:, i], ignore_index=-1, reduction="none")
            add_by_class(self.nll.phenotypes[self.layout.phenotype_names[i]], asked[:, i], losses)

    def result(self, hiding: RandomHiding) -> TokenCounts:
        """The counts as tables."""
        bins = [f"bin {b}" for b in range(self.layout.n_bins)]
        categories = [list(slot.categories) for slot in self.layout.phenotypes]
        tables = [_table(matrix, names) for matrix, names in zip(self.phenotypes, categories, strict=True)]
        return TokenCounts(
            genes=_table(self.genes, bins),
            expressed=_table(self.expressed, bins[1:]),
            phenotypes=dict(zip(self.layout.phenotype_names, tables, strict=True)),
            zero_offset=self.offset / max(int(self.genes.sum()), 1),
            hiding=hiding,
            nll=self.nll,
        )


def count(matrix: NDArray[np.int64], true: Tensor, guessed: Tensor) -> None:
    """Add pairs of true and predicted classes to a confusion matrix in place; negative true classes are skipped."""
    n = len(matrix)
    known = true >= 0
    pairs = (true[known] * n + guessed[known]).numpy()
    matrix += np.bincount(pairs, minlength=n * n).reshape(n, n)


def add_by_class(sums: Sums, true: Tensor, values: Tensor) -> None:
    """Add values to the sums of their true classes in place; negative true classes are skipped."""
    known = true >= 0
    sums += np.bincount(true[known].numpy(), weights=values[known].double().numpy(), minlength=len(sums))


def _table(matrix: NDArray[np.int64], names: list[str]) -> pd.DataFrame:
    return pd.DataFrame(matrix, index=pd.Index(names, name="hidden"), columns=pd.Index(names, name="guessed"))
