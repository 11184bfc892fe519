"""Convert logits to probabilities and likelihoods, and category counts to log shares."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polygene_scverse.module._losses import bin_loss


def probabilities(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """Softmax of logits divided by the temperature, in float32 as in prediction; shape (n_cells, n_categories)."""
    scaled = torch.from_numpy(np.ascontiguousarray(logits, dtype=np.float32)) / temperature
    return scaled.softmax(-1).numpy()


def log_shares(counts: NDArray[np.float32]) -> torch.Tensor:
    """Log of each category's share of the training cells, with counts of at least 1; shape (n_categories,)."""
    return torch.from_numpy(counts).clamp(min=1.0).log().log_softmax(0)


def bin_nll(logits: Tensor, bins: Tensor, zero_offset: Tensor | None = None) -> Tensor:
    """Negative log-likelihood of the true bin, without the smoothing over neighbours used in training; shape (...).

    Parameters
    ----------
    logits
        Logits; shape (..., n_bins).
    bins
        True bin, or -1 for none, where the result is 0; shape (...).
    zero_offset
        Added to the logit of bin 0, as in `bin_loss`; broadcast against `bins`.
    """
    return bin_loss(logits, bins, torch.eye(logits.shape[-1], device=logits.device, dtype=logits.dtype), zero_offset)
