"""Linear path: a linear function of the expressed genes in addition to the transformer.

Shapes: B cells, K shown genes, G genes, C categories of all phenotypes.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from polygene_scverse._constants import LINEAR_SUM, TARGET_SUM

OPTIONAL: Final = ("ranks", "share_read", "prior", "usual", "slopes")
"""Buffers that models saved by earlier versions do not have."""
FEWEST: Final = 32
"""Minimum number of genes of a cell that the transformer reads, if the cell expresses that many."""


def clipped_sums(genes: Tensor, values: Tensor, cap: Tensor, weights: Tensor) -> Tensor:
    """Weighted sums of rescaled and clipped expression, with the dtype of the weights; shape (B, n_sums).

    Parameters
    ----------
    genes
        Index of each shown gene; shape (B, K).
    values
        Expression of these genes, log1p of counts per 10,000; 0 on padding. Shape (B, K).
    cap
        Upper limit of log1p of counts per 1,000 of each gene; shape (G,).
    weights
        Weights of each gene; shape (G, n_sums).
    """
    if not values.shape[1]:  # no visible genes, which embedding_bag does not support
        return weights.new_zeros(len(values), weights.shape[1])
    values = torch.log1p(torch.expm1(values) * (LINEAR_SUM / TARGET_SUM))
    values = torch.minimum(values, cap[genes]).to(weights.dtype)
    return F.embedding_bag(genes, weights, per_sample_weights=values, mode="sum")


class LinearPath(nn.Module):
    """Linear logits of the categories of all phenotypes from the shown genes; the weights are fitted elsewhere.

    Unmeasured genes are treated as having mean expression, unlike genes that are not expressed.

    Because it uses all genes, the transformer may read fewer. To predict phenotypes, it reads the share `share_read` of
    the expressed genes of a cell, but at least `FEWEST` genes: those with the highest `ranks`.

    Cells that express fewer genes than nearly all training cells are predicted with less certainty, see `certainty`.

    Parameters
    ----------
    n_genes
        Number of genes.
    n_categories
        Number of categories of all phenotypes.
    """

    weights: Tensor
    bias: Tensor
    cap: Tensor
    centre: Tensor
    prior: Tensor
    usual: Tensor
    slopes: Tensor
    ranks: Tensor
    share_read: Tensor

    def __init__(self, n_genes: int, n_categories: int) -> None:
        super().__init__()
        self.register_buffer("weights", torch.zeros(n_genes, n_categories))
        self.register_buffer("bias", torch.zeros(n_categories))
        self.register_buffer("cap", torch.ones(n_genes))  # larger values are clipped to this
        self.register_buffer("centre", torch.zeros(n_genes))  # mean of the clipped values of the training cells
        self.register_buffer("prior", torch.zeros(n_categories))  # part of the bias from the categories' shares
        self.register_buffer("usual", torch.zeros(n_genes))
        self.register_buffer("slopes", torch.zeros(n_categories))
        self.register_buffer("ranks", torch.arange(n_genes).flip(0))
        self.register_buffer("share_read", torch.tensor(1.0))

    def load(
        self,
        weights: NDArray[np.floating],
        bias: NDArray[np.floating],
        cap: NDArray[np.floating],
        centre: NDArray[np.floating],
        prior: NDArray[np.floating] | None = None,
    ) -> None:
        """Set the fitted weights of all genes or of the first ones; the weights of other genes are set to 0.

        Parameters
        ----------
        weights, bias
            Weights and bias for log1p of counts per 1,000, clipped and centred; shapes (n_fitted, C) and (C,).
        cap, centre
            Upper limit and mean of each gene's values; shape (n_fitted,).
        prior
            Part of the bias that comes from the categories' shares of the training cells; shape (C,). Default: 0.
        """
        self.bias.copy_(torch.from_numpy(bias))
        self.prior.copy_(torch.from_numpy(np.zeros(len(bias)) if prior is None else prior))
        for name, values in (("weights", weights), ("cap", cap), ("centre", centre)):
            buffer = getattr(self, name)
            buffer.zero_()
            buffer[: len(values)] = torch.from_numpy(values)

    def set_depth(self, usual: NDArray[np.floating], slopes: NDArray[np.floating]) -> None:
        """Set how certainty decreases with the number of expressed genes; see `certainty`.

        Parameters
        ----------
        usual
            Contribution of each gene to the number of expressed genes below which a cell is shallow; shape (G,).
        slopes
            Exponent for each category, 0 for no effect; shape (C,).
        """
        self.usual.copy_(torch.from_numpy(usual))
        self.slopes.copy_(torch.from_numpy(slopes))

    def forget_depth(self) -> None:
        """Predict cells of every depth with the same certainty."""
        self.usual.zero_()
        self.slopes.zero_()

    def relative_depth(self, values: Tensor, measured: Tensor) -> Tensor:
        """Number of expressed genes relative to that below which a cell is shallow, at most 1; shape (B,).

        Parameters
        ----------
        values
            As for `clipped_sums`.
        measured
            As for `forward`.
        """
        shallow_below = (measured * self.usual).sum(-1).clamp(min=1e-8)  # () or (B,)
        return ((values > 0).sum(1) / shallow_below).clamp(max=1.0)

    def certainty(self, values: Tensor, measured: Tensor) -> Tensor:
        """Factor of the logits without their prior, a power of `relative_depth`; shape (B, C)."""
        return self.relative_depth(values, measured)[:, None] ** self.slopes

    def limit(self, share: float, importance: NDArray[np.floating] | None = None) -> None:
        """Set how many genes the transformer reads of each cell.

        Parameters
        ----------
        share
            Share of the expressed genes of a cell; 1 for all.
        importance
            Importance of all genes or of the first ones, by which genes are chosen; other genes come last. By default
            the ranks stay as they are.
        """
        self.share_read.fill_(share)
        if importance is not None:
            order = np.argsort(-importance, kind="stable")
            order = np.concatenate([order, np.arange(len(order), len(self.ranks))])
            self.ranks[torch.from_numpy(order)] = torch.arange(len(order)).flip(0).to(self.ranks.device)

    def n_read(self, lengths: Tensor) -> Tensor:
        """Number of genes that the transformer reads from cells with `lengths` expressed genes; same shape."""
        return torch.minimum((lengths * float(self.share_read)).ceil().long().clamp(min=FEWEST), lengths)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Models that were saved before there was a limit, or an effect of depth, have none."""
        state_dict.setdefault(prefix + "ranks", self.ranks)
        state_dict.setdefault(prefix + "share_read", torch.ones_like(self.share_read))
        for name in ("prior", "usual", "slopes"):
            state_dict.setdefault(prefix + name, torch.zeros_like(getattr(self, name)))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def forward(self, genes: Tensor, values: Tensor, measured: Tensor) -> Tensor:
        """Logits; shape (B, C).

        Parameters
        ----------
        genes, values
            As for `clipped_sums`.
        measured
            Whether each gene is measured; shape (G,), or (B, G) if it differs between cells.
        """
        average_logits = self.bias - (self.centre * measured) @ self.weights  # (C,) or (B, C)
        logits = clipped_sums(genes, values, self.cap, self.weights) + average_logits
        if not self.slopes.any():
            return logits
        return self.prior + self.certainty(values, measured) * (logits - self.prior)
