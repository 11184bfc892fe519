"""All state that is fitted to a network after training; it is valid for the current weights only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from polygene_scverse.fit._calibration import Calibration
from polygene_scverse.fit._category_counts import Pairs
from polygene_scverse.fit._conformal import ConformalScores
from polygene_scverse.fit._count_model import CountModel
from polygene_scverse.fit._expression_factors import ExpressionFactors
from polygene_scverse.fit._kinds import Kinds
from polygene_scverse.fit._novelty import NoveltyReference, Space
from polygene_scverse.fit._panels import PanelAccuracy, PanelMoments

LEAK_FREE: Final = "leak-free"
ORIGINAL_MASK: Final = "original"
"""Which targets the weights expect as keys, see `FittedState`."""


@dataclass
class FittedState:
    """State fitted after training. A model and its copies without data share one, so that none becomes outdated.

    Parameters
    ----------
    calibration
        Temperature of each phenotype, and the cells it was fitted to.
    conformal
        For each phenotype, the scores from which prediction sets are computed.
    novelty
        Reference for novelty.
    linear_share
        Share of the linear path in each phenotype's logits; shape (n_phenotypes,), or empty for none.
    category_counts
        Number of training cells of each category of each phenotype; empty if not known.
    mask
        Which targets the weights expect as keys: none (`LEAK_FREE`), or the expressed ones as in the original
        (`ORIGINAL_MASK`).
    masking
        Masking rates of the training, see `MaskingRates`.
    pairs
        Pairs of categories of two phenotypes that occurred in the same training cell.
    confounding
        Phenotypes that are determined by the groups of the training cells, see `pp.confounding`.
    shares
        Mean share of each column of the data in the counts of a training cell, by name; empty if not known.
    kinds
        Combinations of categories among the training cells, and their depths; None if not known.
    panels
        Moments from which the linear path is refitted if genes are unmeasured; None if not known.
    panel_accuracy
        For each phenotype, the accuracy on held-out cells with subsets of the genes.
    counts
        Count model from which new cells are drawn; None if expression is not derived from counts.
    factors
        Factor model of expression; None if training cells are too few or not known.
    """

    calibration: dict[str, Calibration] = field(default_factory=dict)
    conformal: dict[str, ConformalScores] = field(default_factory=dict)
    novelty: NoveltyReference | None = None
    linear_share: list[float] = field(default_factory=list)
    category_counts: list[NDArray[np.float32]] = field(default_factory=list)
    mask: str = LEAK_FREE
    masking: dict[str, Any] | None = None
    pairs: Pairs | None = None
    confounding: dict[str, Any] | None = None
    shares: dict[str, float] = field(default_factory=dict)
    kinds: Kinds | None = None
    panels: PanelMoments | None = None
    panel_accuracy: dict[str, PanelAccuracy] = field(default_factory=dict)
    counts: CountModel | None = None
    factors: ExpressionFactors | None = None

    def invalidate(
        self, category_counts: Sequence[NDArray[np.float32]], pairs: Pairs, shares: Mapping[str, float] | None = None
    ) -> None:
        """Reset the state in place when training starts; statistics of the training cells are already known then.

        Parameters
        ----------
        category_counts, pairs, shares
            Statistics of the new training cells.
        """
        fresh = FittedState(category_counts=list(category_counts), pairs=pairs, mask=self.mask)
        fresh.shares = dict(shares or {})
        fresh.confounding = self.confounding  # computed from the data set before training
        for name in fields(self):
            setattr(self, name.name, getattr(fresh, name.name))

    def temperature(self, phenotype: str) -> float:
        """Temperature of the logits of a phenotype; 1 if none was fitted."""
        entry = self.calibration.get(phenotype)
        return 1.0 if entry is None else entry.temperature

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain containers and arrays for saving; `from_dict` reads them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> FittedState:
        """Read the output of `to_dict`; arrays may have been converted to tensors or lists."""
        novelty, conformal, of_kinds = plain["novelty"], plain["conformal"].items(), plain.get("kinds")
        panels = plain.get("panels")
        counts, factors = plain.get("counts"), plain.get("factors")
        kinds: dict[str, Any] = {"codes": np.int32, "probabilities": np.float32, "groups": np.int32}
        return cls(
            calibration={name: Calibration(**entry) for name, entry in plain["calibration"].items()},
            conformal={
                name: ConformalScores(
                    **{key: np.asarray(entry.get(key, ()), dtype=kind) for key, kind in kinds.items()}
                )
                for name, entry in conformal
            },
            novelty=_novelty(novelty),
            linear_share=[float(share) for share in plain["linear_share"]],
            category_counts=[np.asarray(counts, dtype=np.float32) for counts in plain["category_counts"]],
            mask=plain["mask"],
            masking=plain["masking"],
            pairs=plain["pairs"],
            confounding=plain["confounding"],
            shares={str(name): float(share) for name, share in plain.get("shares", {}).items()},
            kinds=None if of_kinds is None else Kinds.from_dict(of_kinds),
            panel_accuracy={name: PanelAccuracy(**entry) for name, entry in plain.get("panel_accuracy", {}).items()},
            panels=None if panels is None else PanelMoments(**{k: np.asarray(v) for k, v in panels.items()}),
            counts=None if counts is None else CountModel.from_dict(counts),
            factors=None if factors is None else ExpressionFactors.from_dict(factors),
        )


def _novelty(plain: Mapping[str, Any] | None) -> NoveltyReference | None:
    """Read the novelty reference; None if there is none, or if a version with another reference saved it."""
    if plain is None or "known" not in plain.get("space", ()):
        return None
    arrays = {name: _arrays(value) for name, value in plain.items()}
    return NoveltyReference(**(arrays | {"space": Space(**arrays["space"])}))


def _arrays(value: Any) -> Any:
    """Convert an array, or the arrays of a mapping, to single precision."""
    if isinstance(value, Mapping):
        return {key: _arrays(item) for key, item in value.items()}
    return np.asarray(value, dtype=np.float32)
