"""Losses of genes and phenotypes. Each returns one value per target, which the caller sums and normalises."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class LossConfig:
    """Weights and label smoothing of the losses.

    Parameters
    ----------
    phenotype_weight
        Weight of the mean phenotype loss relative to the mean gene loss.
    bin_width
        Standard deviation, in bins, of the label smoothing over neighbouring bins.
    label_smoothing
        Fraction of the target of a phenotype that is spread over all its categories.
    ordinal_weight
        Weight of the ranked probability score relative to the cross-entropy of an ordered phenotype.
    """

    phenotype_weight: float = 10.0
    bin_width: float = 0.5
    label_smoothing: float = 0.0
    ordinal_weight: float = 1.0

    def to_dict(self) -> dict[str, float]:
        """Return the values as a plain dict."""
        return asdict(self)


def ordinal_targets(n_bins: int, width: float) -> Tensor:
    """Target distribution of each bin: a Gaussian over *neighbouring* bins.

    Bin 0 ("not expressed") is not smoothed: smoothing is limited to bins 1 … n_bins - 1, so that the predicted
    frequency of bin 0 is that of the data.

    Parameters
    ----------
    n_bins
        Number of bins.
    width
        Standard deviation, in bins; 0 for no smoothing.

    Returns
    -------
    Target distributions in rows that sum to 1; shape (n_bins, n_bins).
    """
    if width <= 0:
        return torch.eye(n_bins)
    bins = torch.arange(n_bins, dtype=torch.float32)
    weights = torch.exp(-0.5 * ((bins[:, None] - bins[None, :]) / width) ** 2)
    weights[0, 1:] = weights[1:, 0] = 0.0
    return weights / weights.sum(1, keepdim=True)


def bin_loss(logits: Tensor, bins: Tensor, smoothed: Tensor, zero_offset: Tensor | None = None) -> Tensor:
    """Cross-entropy of expression bins against smoothed targets; binary cross-entropy for two bins.

    Parameters
    ----------
    logits
        Logits; shape (..., n_bins).
    bins
        True bin, -1 where there is none (loss 0); shape (...).
    smoothed
        Result of `ordinal_targets`; shape (n_bins, n_bins).
    zero_offset
        Log of how much more often genes that are not expressed were sampled as targets; broadcast against `bins`. With
        it, the logits describe all genes and not the sampled ones (Menon et al., "Long-tail learning via logit
        adjustment", ICLR 2021).
    """
    known = bins >= 0
    if zero_offset is not None:
        shift = torch.zeros_like(logits)
        shift[..., 0] = zero_offset
        logits = logits + shift
    if logits.shape[-1] == 2:
        loss = F.binary_cross_entropy_with_logits(
            logits[..., 1] - logits[..., 0], bins.clamp(min=0).to(logits.dtype), reduction="none"
        )
    else:
        loss = -(smoothed[bins.clamp(min=0)] * F.log_softmax(logits, dim=-1)).sum(-1)
    return loss * known


def phenotype_loss(logits: Tensor, codes: Tensor, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of one phenotype with label smoothing over its categories.

    Parameters
    ----------
    logits
        Logits; shape (n_cells, n_categories).
    codes
        True category, -1 where unknown (loss 0); shape (n_cells,).
    smoothing
        Share of the target that is spread over all categories.
    """
    loss = F.cross_entropy(logits, codes.clamp(min=0), reduction="none", label_smoothing=smoothing)
    return loss * (codes >= 0)
