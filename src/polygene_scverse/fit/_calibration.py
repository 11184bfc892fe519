"""Temperature scaling of probabilities, and a description of the cells it was fitted to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from polygene_scverse.fit._groups import GroupShift
from polygene_scverse.fit._temperature import fit_temperature
from polygene_scverse.metrics import ece, nll

MIN_CELLS: Final = 50
"""Minimum number of cells with a known category to fit a temperature."""
FEW_GROUPS: Final = 5
"""With fewer groups, the estimate for new groups is described as uncertain."""
GROUP_STRENGTH: Final = 3.0
"""Weight, in groups, of the temperature expected without held-out cells."""
SHARPEST_OF_CELLS: Final = 0.5
"""Lower limit of the temperature fitted to held-out cells."""


@dataclass(frozen=True)
class Calibration:
    """Temperature of a phenotype, and the cells it was fitted to.

    Parameters
    ----------
    temperature
        Divisor of the logits.
    fitted
        Whether there were enough cells to fit it.
    cells
        Whether the cells were held out in training, or given afterwards.
    n_cells, group_key, n_groups
        Number of these cells, the obs column of the groups (donors, samples), and the number of groups if whole groups
        were held out, otherwise 0.
    ece_before, ece_after, nll_before, nll_after
        Calibration error and NLL of these cells, with temperature 1 and with the fitted temperature.
    n_training_groups
        Number of groups in training, 0 if not known.
    factor
        Factor by which the temperature is raised because new groups differ from those in training.
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
    n_training_groups: int = 0
    factor: float = 1.0

    @property
    def note(self) -> str:
        """Summarise the calibration in one or two sentences."""
        if not self.fitted:
            found = (
                f"probabilities are not calibrated, because {self.n_cells} {self.cells} cells have a known category "
                f"and {MIN_CELLS} are needed; call Polygene.calibrate with other labelled cells"
            )
            return found + (f". {self._spread}." if self.factor != 1.0 else ".")
        where, limits = f"{self.n_cells} {self.cells} cells", ""
        worse = self.ece_after > self.ece_before
        if self.n_groups:
            where += f" of {_many(self.n_groups, self.group_key, 'new ')}"
            limits = "" if self.n_groups > 1 else ". A single group is little evidence about others"
        elif self.n_training_groups:
            where += f" of {_many(self.n_training_groups, self.group_key)} in training"
            limits = f". {self._spread}"
        else:
            limits = ". The difference may be larger for new donors if cells of the same donors were used in training"
        change = f"{100 * self.ece_before:.1f} before calibration"
        change += ", which did not help these cells" if worse and self.factor == 1.0 else ""
        return (
            f"confidence and accuracy differ by {100 * self.ece_after:.1f} percentage points on average (ECE) in "
            f"{where} ({change}){limits}."
        )

    @property
    def _spread(self) -> str:
        """Describe how probabilities are adjusted for new groups."""
        times = f"Because new groups differ, all probabilities are made less certain (by a factor of {self.factor:.2f}"
        n = self.n_training_groups
        if n < 2:
            return f"{times}, a default); a single group does not show by how much, so check them in another group"
        few = n < FEW_GROUPS
        return f"{times}, {'roughly ' if few else ''}estimated by predicting the {n} training groups from each other)"


def _many(n: int, group_key: str, which: str = "") -> str:
    """Number of groups in words, with the name of their column."""
    return f"one {which}group of {group_key!r}" if n == 1 else f"{n} {which}groups of {group_key!r}"


def fit_calibration(
    logits: NDArray[np.float32],
    codes: NDArray[np.int64],
    groups: pd.Series | None,
    cells: Literal["held-out", "given"],
    to_probabilities: Callable[[NDArray[np.float32], float], NDArray[np.float32]],
    shift: GroupShift | None = None,
) -> Calibration:
    """Fit the temperature of a phenotype.

    If whole groups were held out, their temperature is combined with the one expected from predicting the training
    groups from each other, weighted by the number of groups (`GROUP_STRENGTH`). Held-out cells of the training groups
    are not informative about new groups, so their temperature is multiplied by a factor for new groups, see
    `GroupShift`.

    Parameters
    ----------
    logits
        Logits of cells whose category is known; shape (n_cells, n_categories).
    codes
        Their categories; shape (n_cells,).
    groups
        Group of each cell, if whole groups were held out; shape (n_cells,).
    cells
        Origin of the cells.
    to_probabilities
        Function that computes the softmax of logits divided by a temperature, as in prediction.
    shift
        Estimated effect of new groups; None if groups are not known or the cells were given.
    """
    fitted = len(codes) >= MIN_CELLS
    found = fit_temperature(logits, codes) if fitted else 1.0
    n_groups = 0 if groups is None else int(groups.nunique())
    temperature, factor = found, 1.0
    if shift is not None:
        n = n_groups or shift.n_groups
        share = n / (n + GROUP_STRENGTH)
        factor = shift.factor ** (1.0 - share if n_groups else 1.0)
        temperature = max(found, SHARPEST_OF_CELLS) ** share * factor
    elif cells == "held-out":
        temperature = max(found, SHARPEST_OF_CELLS)
    before, after = (to_probabilities(logits, t) for t in (1.0, temperature))
    return Calibration(
        temperature=temperature,
        fitted=fitted,
        cells=cells,
        n_cells=len(codes),
        group_key=str(groups.name) if groups is not None else "" if shift is None else shift.name,
        n_groups=n_groups,
        ece_before=ece(codes, before),
        nll_before=nll(codes, before),
        ece_after=ece(codes, after),
        nll_after=nll(codes, after),
        n_training_groups=0 if shift is None else shift.n_groups,
        factor=factor,
    )
