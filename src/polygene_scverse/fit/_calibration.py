"""Temperatures that make probabilities match how often they are right, and what they were fitted on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from polygene_scverse.fit._temperature import fit_temperature
from polygene_scverse.metrics import ece, nll

MIN_CELLS: Final = 50
"""Known cells that a temperature needs."""


@dataclass(frozen=True)
class Calibration:
    """The temperature of a phenotype, and what it was fitted on.

    Parameters
    ----------
    temperature
        What logits are divided by.
    fitted
        Whether there were cells enough to fit it.
    cells
        Whether the cells were held out in training, or given afterwards.
    n_cells, group_key, n_groups
        Number of these cells, and of the whole groups (donors, samples) that they are of, 0 if of none.
    ece_before, ece_after, nll_before, nll_after
        Errors of these cells' probabilities, with temperature 1 and with this one.
    words
        All that in a sentence.
    """

    temperature: float
    fitted: bool
    cells: Literal["held-out", "given"]
    n_cells: int
    group_key: str
    n_groups: int
    ece_before: float
    nll_before: float
    ece_after: float
    nll_after: float

    @property
    def words(self) -> str:
        """What the calibration was fitted on and what it brought."""
        if not self.fitted:
            return (
                f"temperature 1, not fitted: {self.n_cells} {self.cells} cells have a known category, but {MIN_CELLS} "
                "are needed; Polygene.calibrate takes other ones"
            )
        where = f"{self.n_cells} {self.cells} cells"
        limits = "; cells of the same groups (donors) may be in training: for new ones errors may be larger"
        if self.n_groups:
            where += f" of {self.n_groups} whole group{'s' if self.n_groups > 1 else ''} of {self.group_key!r}"
            limits = "" if self.n_groups > 1 else "; one group says little about others"
        errors = f"expected calibration error {self.ece_before:.3f} before, {self.ece_after:.3f} after"
        return f"temperature {self.temperature:.2f}, fitted on {where}; {errors}{limits}"


def fit_calibration(
    logits: NDArray[np.float32],
    codes: NDArray[np.int64],
    groups: pd.Series | None,
    cells: Literal["held-out", "given"],
    to_probabilities: Callable[[NDArray[np.float32], float], NDArray[np.float32]],
) -> Calibration:
    """Fit the temperature of a phenotype.

    Parameters
    ----------
    logits
        Logits of cells whose category is known; shape (n_cells, n_categories).
    codes
        Their categories; shape (n_cells,).
    groups
        Group of each cell, if whole groups are meant; shape (n_cells,).
    cells
        Where the cells come from.
    to_probabilities
        Softmax of logits over a temperature, as predictions are made.
    """
    fitted = len(codes) >= MIN_CELLS
    temperature = fit_temperature(logits, codes) if fitted else 1.0
    before, after = (to_probabilities(logits, t) for t in (1.0, temperature))
    return Calibration(
        temperature=temperature,
        fitted=fitted,
        cells=cells,
        n_cells=len(codes),
        group_key="" if groups is None else str(groups.name),
        n_groups=0 if groups is None else int(groups.nunique()),
        ece_before=ece(codes, before),
        nll_before=nll(codes, before),
        ece_after=ece(codes, after),
        nll_after=nll(codes, after),
    )
