"""How well hidden words are guessed: counted batch by batch, nothing kept but the counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from mudata import MuData
from numpy.typing import NDArray
from torch import Tensor

from polygene_scverse._constants import BALANCE
from polygene_scverse._layout import TokenLayout
from polygene_scverse.data._dataloader import BatchDataset, LengthSampler
from polygene_scverse.data._masking import MaskingRates
from polygene_scverse.data._rates import resolve_rates
from polygene_scverse.model._inference import Batch, evaluating
from polygene_scverse.model._training import ORIGINAL_MASK


@dataclass(frozen=True)
class TokenCounts:
    """Hidden words in rows against guessed ones in columns.

    Parameters
    ----------
    genes
        Expression bins of all hidden genes; shape (n_bins, n_bins).
    expressed
        Bins of the expressed ones, guessed among bins 1 and up; shape (n_bins - 1, n_bins - 1).
    phenotypes
        For each phenotype a table of shape (n_categories, n_categories).
    zero_offset
        Mean over hidden genes of what was added to the logit of bin 0.
    rates
        How much was hidden.
    """

    genes: pd.DataFrame
    expressed: pd.DataFrame
    phenotypes: dict[str, pd.DataFrame]
    zero_offset: float
    rates: MaskingRates

    @classmethod
    def total(cls, parts: Sequence[TokenCounts]) -> TokenCounts:
        """Counts of several sets of cells together; they must be of one model, at the same rates."""
        n_hidden = [int(part.genes.to_numpy().sum()) for part in parts]
        return cls(
            genes=reduce(add, (part.genes for part in parts)),
            expressed=reduce(add, (part.expressed for part in parts)),
            phenotypes={name: reduce(add, (part.phenotypes[name] for part in parts)) for name in parts[0].phenotypes},
            zero_offset=sum(n * part.zero_offset for n, part in zip(n_hidden, parts, strict=True))
            / max(sum(n_hidden), 1),
            rates=parts[0].rates,
        )


class ScoringMixin:
    """`count_hidden_tokens` of the model."""

    masking_: Mapping[str, Any] | None = None

    def count_hidden_tokens(
        self,
        adata: AnnData | MuData | None = None,
        *,
        indices: Sequence[int] | None = None,
        masking: MaskingRates | Mapping[str, Any] | str | None = None,
        balance: float = BALANCE,
        seed: int = 0,
        batch_size: int = 64,
    ) -> TokenCounts:
        """Hide words of cells whose words are known, guess them, and count what is taken for what.

        A guess is one of the words of its slot. The network's logits of bins are those of all genes; where
        not-expressed genes are hidden at another rate than expressed ones, the logit of bin 0 is corrected by the log
        of the ratio of the two rates, so that guesses are made for the mix of genes that was hidden. Weights of the
        original see the mask that they were trained with, which tells of a hidden gene whether it is expressed.

        Memory does not grow with the number of hidden words.

        Parameters
        ----------
        adata
            Cells; by default those the model was set up with. Genes are matched by name.
        indices
            Row numbers; all by default.
        masking
            How much is hidden. By default as in the validation of the training: genes at the rates of the training,
            every phenotype. ``"original"`` hides 15 % of all genes, and each phenotype with probability 0.5, the
            others being shown; values of :class:`~polygene_scverse.data._masking.MaskingRates` are taken as they are.
        balance
            How a category is chosen, as in `decide`, by the transformer's own probabilities; 0 takes the most probable
            one.
        seed
            Seed of what is hidden: a cell has the same words hidden in any batch.
        batch_size
            Cells per step.

        Returns
        -------
        Counts. Missing phenotypes, and those that are shown, are not counted.

        Raises
        ------
        ValueError
            If the model is not trained or has no data, if no gene matches, or if expression has the wrong scale.
        """
        adata = self._data(adata)
        rates = self._validation_rates() if masking is None else resolve_rates(masking)
        handicaps = [balance * share for share in self.module.log_shares()]
        counter = _Counter(self.layout, handicaps)
        with evaluating(self.module):
            for _, table in self._blocks(adata, self._rows(adata, indices)):
                dataset = BatchDataset(table, rates, seed=seed, fixed_epoch=0)
                for key in LengthSampler(table.cells.lengths, batch_size):
                    batch = dataset[key]
                    counter.add(batch, *self._guess(batch))
        return counter.result(rates)

    def _validation_rates(self) -> MaskingRates:
        return replace(resolve_rates(self.masking_), gene_dropout=0.0, hide_all=1.0)

    @torch.inference_mode()
    def _guess(self, batch: Batch) -> tuple[Tensor, list[Tensor]]:
        """Logits of the hidden genes' bins, (B, M, n_bins), and of each phenotype, P times (B, categories)."""
        seen = with_the_originals_mask(batch) if self.mask_ == ORIGINAL_MASK else batch
        outputs = self.module.generative(**self.module.inference(**self.module._get_inference_input(seen)))
        return outputs["gene_logits"], outputs["phenotype_logits"]


def with_the_originals_mask(batch: Batch) -> Batch:
    """The same batch as the original shows it: hidden genes that are expressed are seen, as [MASK], by all.

    Parameters
    ----------
    batch
        Arrays of `make_batch`; the hidden genes' columns come last.
    """
    n_keys, expressed = batch["key_mask"].shape[1], batch["target_bins"] > 0
    tokens, positions = (
        torch.cat([batch[name], batch[name][:, n_keys:]], dim=1) for name in ("tokens", "positions")
    )  # (B, K + M + M): the second of three parts now counts as keys
    values = torch.cat([batch["values"], torch.zeros(expressed.shape)], dim=1)
    key_mask = torch.cat([batch["key_mask"], expressed], dim=1)
    return {**batch, "tokens": tokens, "positions": positions, "values": values, "key_mask": key_mask}


class _Counter:
    """Adds up confusion matrices."""

    def __init__(self, layout: TokenLayout, handicaps: Sequence[Tensor]) -> None:
        self.layout, self.handicaps = layout, handicaps
        self.genes = np.zeros((layout.n_bins, layout.n_bins), dtype=np.int64)
        self.expressed = np.zeros((layout.n_bins - 1, layout.n_bins - 1), dtype=np.int64)
        self.phenotypes = [np.zeros((len(s.ids), len(s.ids)), dtype=np.int64) for s in layout.phenotypes]
        self.offset = 0.0

    def add(self, batch: Batch, gene_logits: Tensor, phenotype_logits: Sequence[Tensor]) -> None:
        """Count the guesses of a batch."""
        bins, logits = batch["target_bins"], gene_logits.float().cpu()
        offset = torch.where(bins >= 0, batch["zero_offset"][:, None], 0.0)  # (B, M)
        self.offset += float(offset.sum(dtype=torch.float64))
        decided = torch.cat([logits[..., :1] + offset[..., None], logits[..., 1:]], dim=-1).argmax(-1)
        count(self.genes, bins, decided)
        count(self.expressed, bins - 1, logits[..., 1:].argmax(-1))
        asked = torch.where(batch["phenotype_hidden"], batch["phenotypes"], -1)
        for i, (matrix, of_cells) in enumerate(zip(self.phenotypes, phenotype_logits, strict=True)):
            count(matrix, asked[:, i], (of_cells.float() - self.handicaps[i]).argmax(-1).cpu())

    def result(self, rates: MaskingRates) -> TokenCounts:
        """The counts as tables."""
        bins = [f"bin {b}" for b in range(self.layout.n_bins)]
        categories = [list(slot.categories) for slot in self.layout.phenotypes]
        tables = [_table(matrix, names) for matrix, names in zip(self.phenotypes, categories, strict=True)]
        return TokenCounts(
            genes=_table(self.genes, bins),
            expressed=_table(self.expressed, bins[1:]),
            phenotypes=dict(zip(self.layout.phenotype_names, tables, strict=True)),
            zero_offset=self.offset / max(int(self.genes.sum()), 1),
            rates=rates,
        )


def count(matrix: NDArray[np.int64], true: Tensor, guessed: Tensor) -> None:
    """Add pairs to a confusion matrix in place; those whose true class is negative are left out."""
    n = len(matrix)
    known = true >= 0
    pairs = (true[known] * n + guessed[known]).numpy()
    matrix += np.bincount(pairs, minlength=n * n).reshape(n, n)


def _table(matrix: NDArray[np.int64], names: list[str]) -> pd.DataFrame:
    return pd.DataFrame(matrix, index=pd.Index(names, name="hidden"), columns=pd.Index(names, name="guessed"))
