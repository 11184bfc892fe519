"""Ordered phenotypes, and the position of each of their categories."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import pandas as pd

from polygene_scverse._validate import check_names, shorten

Ordered = Sequence[str] | Mapping[str, Any] | None

NUMBER: Final = r"\d+(?:\.\d+)?"
YEARS: Final = {"year": 1.0, "month": 1 / 12, "week": 7 / 365.25, "day": 1 / 365.25}
DECADES: Final = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
STAGE: Final = r"(?: (?:human |mouse )?stage)?"
PATTERNS: Final = {
    "number": re.compile(rf"-?{NUMBER}"),
    "range": re.compile(rf"[\[(]?({NUMBER}) ?(?:-|–|, ) ?({NUMBER})[\])]?"),
    "age": re.compile(rf"({NUMBER})[- ](year|month|week|day)s?(?:[- ]old)?(?: and over)?{STAGE}"),
    "ages": re.compile(rf"({NUMBER}) ?[-–] ?({NUMBER})[- ](year|month|week|day)s?(?:[- ]old)?{STAGE}"),
    "decade": re.compile(rf"({'|'.join(DECADES)}) decade{STAGE}"),
}


def number_of(label: str) -> float | None:
    """Number that a label stands for (age in years, midpoint of a range); None if there is none.

    Recognised are ``"34"``, ``"20-29"``, ``"(20, 30]"``, and the ages of CELLxGENE: ``"34-year-old stage"``,
    ``"2-month-old stage"``, ``"65-79 year-old stage"``, ``"80 year-old and over stage"``, ``"third decade stage"``.

    Parameters
    ----------
    label
        Name of a category.
    """
    text = label.strip().lower()
    found = {kind: match for kind, pattern in PATTERNS.items() if (match := pattern.fullmatch(text))}
    if "number" in found:
        return float(text)
    if "decade" in found:
        return 10.0 * DECADES.index(found["decade"][1]) + 5.0
    if "age" in found:
        return float(found["age"][1]) * YEARS[found["age"][2]]
    if "ages" in found:
        low, high, unit = found["ages"].groups()
        return 0.5 * (float(low) + float(high)) * YEARS[unit]
    if "range" in found:
        return 0.5 * (float(found["range"][1]) + float(found["range"][2]))
    return None


def resolve_ordered(
    categories: Mapping[str, Sequence[str]], ordered: Ordered, obs: pd.DataFrame | None = None
) -> dict[str, dict[str, Any]]:
    """Resolve which phenotypes are ordered, and the value of each of their categories.

    Parameters
    ----------
    categories
        Categories of each phenotype.
    ordered
        Names of the ordered phenotypes; or a mapping from these names to their categories in order; or a result of this
        function. None selects phenotypes whose column is an ordered categorical.
    obs
        Table with the phenotypes.

    Returns
    -------
    For each ordered phenotype ``values``, one per category, and ``numeric``, whether these are the numbers that the
    labels stand for. Otherwise they are 0, 1, … in the order of the ordered categorical or of the mapping.

    Raises
    ------
    ValueError
        If a name is not a phenotype, if the mapping lacks categories, or if the order is unknown.
    """
    given = dict(ordered) if isinstance(ordered, Mapping) else dict.fromkeys(_names(ordered, categories, obs))
    if absent := [name for name in given if name not in categories]:
        raise ValueError(
            f"`ordered`: {absent} are not phenotypes of the model, which has {list(categories)}. Pass some of these."
        )
    return {name: _resolve(name, list(categories[name]), places, obs) for name, places in given.items()}


def _names(ordered: Sequence[str] | None, categories: Mapping[str, Any], obs: pd.DataFrame | None) -> list[str]:
    if ordered is None:
        return [name for name in categories if _is_ordered(obs, name)]
    return check_names(ordered, "ordered")


def _is_ordered(obs: pd.DataFrame | None, name: str) -> bool:
    """Whether a column is an ordered categorical."""
    dtype = obs[name].dtype if obs is not None and name in obs else None
    return isinstance(dtype, pd.CategoricalDtype) and bool(dtype.ordered)


def _resolve(name: str, categories: list[str], places: Any, obs: pd.DataFrame | None) -> dict[str, Any]:
    if isinstance(places, Mapping):
        return {"values": [float(v) for v in places["values"]], "numeric": bool(places["numeric"])}
    order = categories if places is None and _is_ordered(obs, name) else places
    if order is not None:
        order = [str(label) for label in order]
        if absent := [label for label in categories if label not in order]:
            raise ValueError(
                f"`ordered`: the categories {shorten(absent)} of {name!r} are missing from the order that was passed. "
                "Pass all categories."
            )
        order = [label for label in order if label in categories]
    numbers = [number_of(label) for label in categories]
    values = [float(number) for number in numbers if number is not None]
    numeric = len(values) == len(categories)
    if order is not None:
        by_order = [values[categories.index(label)] for label in order] if numeric else []
        if not numeric or by_order != sorted(by_order):  # a given order has priority over the numbers in the labels
            return {"values": [float(order.index(label)) for label in categories], "numeric": False}
    elif not numeric:
        strange = [label for label, number in zip(categories, numbers, strict=True) if number is None]
        raise ValueError(
            f"`ordered`: the order of {name!r} is unknown, because {shorten(strange)} are not numbers. Make the "
            "column an ordered categorical, or pass the categories in order, such as "
            f"ordered={{{name!r}: [...]}}."
        )
    return {"values": values, "numeric": True}
