"""Loss for ordered categories, which penalises large errors more than small ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class RankedScore(nn.Module):
    """Ranked probability score of categories with numeric values.

    The score is the squared difference between the predicted cumulative distribution and that of the true category,
    integrated over the values. Like cross-entropy it is proper: the expected sum of both is lowest for the true
    probabilities. Smoothing the labels over neighbouring categories would instead make the probabilities too wide. The
    score is scaled such that uniform predictions have the same loss as in cross-entropy, log C.

    Parameters
    ----------
    values
        Value of each category, in any order; shape (n_categories,).

    References
    ----------
    Gneiting, Raftery: Strictly proper scoring rules, prediction, and estimation. JASA 2007.
    """

    order: Tensor
    ranks: Tensor
    gaps: Tensor

    def __init__(self, values: Sequence[float]) -> None:
        super().__init__()
        ordered, order = torch.tensor(list(values), dtype=torch.float64).sort(stable=True)
        n = len(ordered)
        gaps = ordered.diff()  # (C - 1,)
        shares = torch.arange(1, n, dtype=torch.float64) / n  # cumulative distribution of equal probabilities
        mean_score = (shares * (1 - shares) * gaps).sum()  # mean score over all categories
        if not mean_score > 0:
            raise ValueError("`values`: all categories stand at the same value. Pass two values or more.")
        scale = torch.log(torch.tensor(float(n))) / mean_score
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("ranks", order.argsort(), persistent=False)
        self.register_buffer("gaps", (gaps * scale).to(torch.float32), persistent=False)

    def forward(self, logits: Tensor, codes: Tensor) -> Tensor:
        """Score of each cell, 0 where its category is unknown.

        Parameters
        ----------
        logits
            Logits; shape (n_cells, n_categories).
        codes
            True category, -1 where unknown; shape (n_cells,).
        """
        predicted = logits.softmax(-1)[:, self.order].cumsum(-1)[:, :-1]  # (n_cells, C - 1)
        steps = torch.arange(len(self.gaps), device=logits.device)
        reached = (self.ranks[codes.clamp(min=0)][:, None] <= steps).to(logits.dtype)  # (n_cells, C - 1)
        return ((predicted - reached) ** 2 * self.gaps).sum(-1) * (codes >= 0)
