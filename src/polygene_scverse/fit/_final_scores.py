"""Scores of a finished model on held-out cells."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from polygene_scverse.fit._decision import decide
from polygene_scverse.metrics import accuracy, macro_f1


def final_scores(
    probabilities: NDArray[np.float32],
    codes: NDArray[np.integer],
    log_shares: NDArray[np.floating],
    temperature: float = 1.0,
) -> dict[str, float]:
    """Scores of the categories that prediction chooses by default; NaN if no category is known.

    Parameters
    ----------
    probabilities
        Calibrated probabilities as predicted; shape (n_cells, n_categories).
    codes
        True categories, -1 where unknown; shape (n_cells,).
    log_shares
        Log of each category's share of the training cells; shape (n_categories,).
    temperature
        Divisor of the logits.

    Returns
    -------
    ``accuracy`` and ``macro_f1``.
    """
    decided = decide(probabilities, log_shares, temperature=temperature)
    return {"accuracy": accuracy(codes, decided), "macro_f1": macro_f1(codes, decided)}
