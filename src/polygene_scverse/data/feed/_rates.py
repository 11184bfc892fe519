"""Named masking rates, and parsing of the masking argument."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from polygene_scverse._validate import check_choice
from polygene_scverse.data.feed._masking import MaskingRates

ORIGINAL_RATES: Final = MaskingRates(
    expressed=0.15, not_expressed=0.15, gene_dropout=0.0, max_genes=1_000_000, hide_all=0.0, hide_each=0.5
)
"""Rates of the original: 15 % of all genes, and each phenotype with probability 0.5."""


def resolve_rates(masking: MaskingRates | Mapping[str, Any] | str | None) -> MaskingRates:
    """Resolve the masking argument to rates.

    Parameters
    ----------
    masking
        Rates, a mapping of some rates, ``"original"`` for the rates of the original, or None for the defaults.

    Raises
    ------
    ValueError
        If a name or a value is unknown or out of range.
    """
    if isinstance(masking, MaskingRates):
        return masking
    if isinstance(masking, str):
        check_choice(masking, ("original",), "masking")
        return ORIGINAL_RATES
    if masking is not None and not isinstance(masking, Mapping):
        raise TypeError(
            f"`masking`: found {type(masking).__name__}. Pass a mapping of rates, such as {{'expressed': 0.15}}, "
            "'original', or None."
        )
    values = dict(masking or {})
    for name in values:
        check_choice(name, tuple(MaskingRates.__dataclass_fields__), "masking")
    return MaskingRates(**values)
