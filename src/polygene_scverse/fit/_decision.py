"""The rule that chooses a category."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from polygene_scverse._constants import BALANCE


def check_balance(balance: float) -> None:
    """Refuse a `balance` outside of 0 … 1."""
    if not 0.0 <= balance <= 1.0:
        raise ValueError(f"`balance`: found {balance}, but it must be between 0 (most probable) and 1 (balanced).")


def choose_category(logits: Any, log_shares: Any, balance: float = BALANCE, temperature: float = 1.0) -> Any:
    """Code of the category with the highest probability over its share of the training cells to the power `balance`.

    Parameters
    ----------
    logits
        Logits or log probabilities, an array of numpy or torch; shape (n_cells, n_categories).
    log_shares
        Log of each category's share of the training cells, of the same kind; shape (n_categories,).
    balance
        0 takes the most probable category; 1 the one that would be if all were equally frequent in the training cells.
    temperature
        What the logits were divided by. Above 1 the shares are divided by it as well: the less is known of a cell, the
        more would they decide alone, and choose the rarest.

    Returns
    -------
    Shape (n_cells,).

    References
    ----------
    Menon et al.: Long-tail learning via logit adjustment. ICLR 2021.
    """
    return (logits - balance / max(temperature, 1.0) * log_shares).argmax(-1)


def decide(
    probabilities: NDArray[np.floating],
    log_shares: NDArray[np.floating],
    balance: float = BALANCE,
    temperature: float = 1.0,
) -> NDArray[np.int64]:
    """As `choose_category`, of probabilities, which may be 0."""
    with np.errstate(divide="ignore"):
        logs = np.log(probabilities.astype(np.float64))
    codes: NDArray[np.int64] = choose_category(logs, log_shares, balance, temperature)
    return codes
