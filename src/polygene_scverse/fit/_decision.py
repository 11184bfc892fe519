"""Decision rule that chooses a category from probabilities."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polygene_scverse._constants import BALANCE


def check_balance(balance: float) -> None:
    """Check that `balance` is between 0 and 1."""
    if not (isinstance(balance, Real) and 0.0 <= balance <= 1.0):
        raise ValueError(f"`balance`: found {balance!r}, but it must be between 0 (most probable) and 1 (balanced).")


def choose_category(logits: Any, log_shares: Any, balance: float = BALANCE, temperature: float = 1.0) -> Any:
    """Code of the category with the highest ratio of probability to (share of the training cells) ** `balance`.

    Parameters
    ----------
    logits
        Logits or log probabilities, as a numpy array or tensor; shape (n_cells, n_categories).
    log_shares
        Log of each category's share of the training cells, of the same type; shape (n_categories,).
    balance
        0 chooses the most probable category, 1 the one that would be most probable if all were equally frequent in the
        training cells.
    temperature
        Divisor of the logits. If it is above 1, the log shares are divided by it as well; otherwise they would dominate
        the choice for uncertain cells, and the rarest category would be chosen.

    Returns
    -------
    Category codes; shape (n_cells,).

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
    """As `choose_category`, for probabilities, which may be 0."""
    with np.errstate(divide="ignore"):
        logs = np.log(probabilities.astype(np.float64))
    codes: NDArray[np.int64] = choose_category(logs, log_shares, balance, temperature)
    return codes
