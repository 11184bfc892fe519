"""How well a finished model predicts the cells that were held out."""

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
    """Scores of the categories that prediction chooses by default; no number where no category is known.

    Parameters
    ----------
    probabilities
        As they are predicted, calibrated; shape (n_cells, n_categories).
    codes
        True categories, -1 where unknown; shape (n_cells,).
    log_shares
        Log of each category's share of the training cells; shape (n_categories,).
    temperature
        What the logits were divided by.

    Returns
    -------
    ``accuracy`` and ``macro_f1``.
    """
    known = np.asarray(codes) >= 0
    if not known.any():
        return {"accuracy": float("nan"), "macro_f1": float("nan")}
    decided = decide(probabilities[known], log_shares, temperature=temperature)
    return {"accuracy": accuracy(codes[known], decided), "macro_f1": macro_f1(codes[known], decided)}


def final_accuracy(
    probabilities: NDArray[np.float32],
    codes: NDArray[np.integer],
    log_shares: NDArray[np.floating],
    temperature: float = 1.0,
) -> float:
    """The accuracy of `final_scores` alone, which takes much less time; same arguments."""
    return accuracy(codes, decide(probabilities, log_shares, temperature=temperature))
