"""From logits to probabilities, and what a decision weighs them by."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray


def probabilities(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """Softmax of logits over a temperature, as it is predicted, to the last digit; shape (n_cells, n_categories)."""
    scaled = torch.from_numpy(np.ascontiguousarray(logits, dtype=np.float32)) / temperature
    found: NDArray[np.float32] = scaled.softmax(-1).numpy()
    return found


def log_shares(counts: NDArray[np.float32]) -> torch.Tensor:
    """Log of each category's share of the training cells, of which it has one at least; shape (n_categories,)."""
    return torch.from_numpy(counts).clamp(min=1.0).log().log_softmax(0)
