"""Everything that is fitted to a network after its weights: valid for these weights, and for no others."""

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
"""Which genes weights expect to see, see `FittedState`."""


@dataclass
class FittedState:
    """What is fitted after the weights. A model and its copies without data share one, so that none of them is stale.

    Parameters
    ----------
    calibration
        Temperature of each phenotype, and what it was fitted on.
    conformal
        For each phenotype what prediction sets follow from.
    novelty
        What novel cells are compared with.
    linear_share
        Share of the linear path in each phenotype's logits; shape (n_phenotypes,), or empty for none.
    category_counts
        Training cells of each category of each phenotype; empty if they are not known.
    mask
        Which genes the weights expect to see: no target (`LEAK_FREE`), or, as the original shows them, the expressed
        ones among them (`ORIGINAL_MASK`).
    masking
        How much was hidden in training, see `MaskingRates`.
    pairs
        Which categories of two phenotypes occurred in one training cell.
    confounding
        Which phenotypes the groups of the training cells determine, see `pp.confounding`.
    shares
        Mean share of a training cell's counts that each column of the data had, by name; empty if it is not known.
    kinds
        Which combinations of categories the training cells had, and their depths; None if that is not known.
    panels
        From what the linear path follows for data that lack some genes; None if that is not known.
    panel_accuracy
        For each phenotype how well held-out cells were predicted that lack some genes.
    counts
        What counts of new cells are drawn from; None where expression is not that of counts.
    factors
        What genes do together; None if training cells are too few, or not known.
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
        """Forget all of it, in place, when the weights begin to change; what the training cells say is known by then.

        Parameters
        ----------
        category_counts, pairs, shares
            Of the new training cells.
        """
        fresh = FittedState(category_counts=list(category_counts), pairs=pairs, mask=self.mask)
        fresh.shares = dict(shares or {})
        fresh.confounding = self.confounding  # of the data set, found before the training begins
        for name in fields(self):
            setattr(self, name.name, getattr(fresh, name.name))

    def temperature(self, phenotype: str) -> float:
        """What the logits of a phenotype are divided by; 1 where nothing was fitted."""
        entry = self.calibration.get(phenotype)
        return 1.0 if entry is None else entry.temperature

    def to_dict(self) -> dict[str, Any]:
        """Plain containers and arrays, to be saved; `from_dict` reads them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> FittedState:
        """Read what `to_dict` wrote, whose arrays may have become tensors or lists."""
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
    """None where nothing was kept, or by a version that compared cells with something else."""
    if plain is None or "space" not in plain:
        return None
    arrays = {name: _arrays(value) for name, value in plain.items()}
    return NoveltyReference(**(arrays | {"space": Space(**arrays["space"])}))


def _arrays(value: Any) -> Any:
    """Arrays in single precision, in a mapping or alone."""
    if isinstance(value, Mapping):
        return {key: _arrays(item) for key, item in value.items()}
    return np.asarray(value, dtype=np.float32)
