"""Addition of categories, phenotypes and genes to a model: validation, bookkeeping and the grown layout."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from polygene_scverse._compat import SUMMARY_STATS, field_registry, field_state, setup_args
from polygene_scverse._constants import PHENOTYPE_FIELD
from polygene_scverse._layout import TokenLayout
from polygene_scverse._validate import label_of, shorten
from polygene_scverse.data.feed._table import CellTable
from polygene_scverse.data.read._ordered import number_of, resolve_ordered
from polygene_scverse.fit._earlier_cells import EarlierCells
from polygene_scverse.model.training._training import TrainingCells

Added = dict[str, dict[str, Any]]
"""New ``categories`` of each phenotype, and whether it is ``ordered``, which applies to new phenotypes only."""


def with_added(added: Added, name: str, categories: Sequence[object], known: Sequence[str], ordered: bool) -> Added:
    """Record new categories in addition to those recorded before.

    Parameters
    ----------
    added
        Additions recorded so far.
    name
        The phenotype.
    categories
        Its new categories.
    known
        Its existing categories.
    ordered
        Whether the categories are ordered.

    Raises
    ------
    ValueError
        If there are no categories, if one is not a valid label, or if one exists already or is named twice.
    """
    labels = [label_of(category, ()) for category in ([categories] if isinstance(categories, str) else categories)]
    there = [*known, *added.get(name, {}).get("categories", [])]
    wrong = [label for i, label in enumerate(labels) if label is None or label in there or label in labels[:i]]
    if wrong or not labels:
        raise ValueError(
            f"`categories`: found {shorten(labels)} for {name!r}, which has {shorten(there)}. Pass new labels, each "
            "once."
        )
    return {**added, name: {"categories": [*added.get(name, {}).get("categories", []), *labels], "ordered": ordered}}


def grown_registry(
    registry: dict[str, Any], layout: TokenLayout, added: Added, columns: Sequence[str]
) -> dict[str, Any]:
    """The registry as if data with all categories had been registered; the argument is not changed.

    Parameters
    ----------
    registry
        Registry of the model.
    layout
        The grown layout.
    added
        Additions in this layout.
    columns
        Obs column of each of its phenotypes.
    """
    found = copy.deepcopy(registry)
    state = field_state(found, PHENOTYPE_FIELD)
    state["categories"] = {c: list(slot.categories) for c, slot in zip(columns, layout.phenotypes, strict=True)}
    state["unseen"] = {}
    state.pop("added", None)
    order = dict(state.get("ordered", {}))
    for column, slot in zip(columns, layout.phenotypes, strict=True):
        new = added.get(slot.name)
        if new is not None and column in order:
            order[column] = grown_order(order[column], new["categories"])
        elif new is not None and new["ordered"]:
            order |= resolve_ordered({column: list(slot.categories)}, {column: list(slot.categories)})
    state["ordered"] = order
    setup_args(found)["phenotype_keys"] = list(columns)
    field_registry(found, PHENOTYPE_FIELD)[SUMMARY_STATS] = {"n_phenotypes": len(columns)}
    return found


def grown_order(order: Mapping[str, Any], categories: Sequence[str]) -> dict[str, Any]:
    """Values of the old and new categories of an ordered phenotype; new ones follow the old ones unless numeric.

    Parameters
    ----------
    order
        ``values`` of the old categories, and whether these are ``numeric``.
    categories
        New categories.
    """
    numbers = [number_of(label) for label in categories]
    values = [float(v) for v in order["values"]]
    if order["numeric"]:
        strange = [label for label, number in zip(categories, numbers, strict=True) if number is None]
        if strange:
            raise ValueError(
                f"`categories`: {shorten(strange)} are not numeric, but the other categories of this ordered "
                "phenotype are. Pass labels that are numbers, such as '34'."
            )
        return {"values": [*values, *(float(n) for n in numbers if n is not None)], "numeric": True}
    return {"values": [*values, *(max(values) + 1.0 + i for i in range(len(categories)))], "numeric": False}


def with_rehearsal(
    cells: TrainingCells, rehearsed: CellTable, n_obs: int, *, seed: int, earlier: EarlierCells | None = None
) -> TrainingCells:
    """Add cells drawn from a model to the training cells; if single cells are held out, so is the same share of these.

    Parameters
    ----------
    cells
        Cells of the data set, in memory.
    rehearsed
        Drawn cells, in the layout before growth; they lack its new genes, and new phenotypes are unknown.
    n_obs
        Number of cells in the data set; row numbers of the drawn cells start there.
    seed
        Seed of the choice of held-out cells.
    earlier
        What the model stores about the training cells that the drawn ones represent.
    """
    train, held_out, groups = cells.train, cells.validation, cells.groups
    if not isinstance(train, CellTable):
        raise TypeError(f"`cells`: found {type(train).__name__}, but they must be in memory.")
    layout, n = train.layout, len(rehearsed)
    codes = np.full((n, layout.n_phenotypes), -1, dtype=np.int64)
    codes[:, : rehearsed.codes.shape[1]] = rehearsed.codes
    measured = np.arange(layout.n_genes) < rehearsed.layout.n_genes
    ids = n_obs + np.arange(n)
    drawn = replace(rehearsed, codes=codes, ids=ids, layout=layout, measured=measured)
    n_held_out = 0
    if groups is not None:
        groups = pd.concat([groups.astype(object), pd.Series([np.nan] * n, name=groups.name, dtype=object)])
    elif held_out is not None:
        n_held_out = round(n * len(held_out) / (len(train) + len(held_out)))
    order = np.random.default_rng(seed).permutation(n)
    own, others = np.sort(order[n_held_out:]), np.sort(order[:n_held_out])
    train = CellTable.concatenate([train, drawn.read(own)])
    if held_out is not None and n_held_out:
        held_out = CellTable.concatenate([held_out, drawn.read(others)])
    return replace(cells, train=train, validation=held_out, groups=groups, earlier=earlier)


def lost_by(
    old_counts: Sequence[NDArray[np.floating]], codes: NDArray[np.integer], categories: Mapping[str, Sequence[str]]
) -> dict[str, list[str]]:
    """Categories of each phenotype that had, or may have had, training cells, and that no new cell has.

    Parameters
    ----------
    old_counts
        Number of training cells of each category of each phenotype; empty if unknown.
    codes
        Category codes of the new cells, -1 where unknown; shape (n_cells, n_phenotypes).
    categories
        Categories of each phenotype.
    """
    lost = {}
    for i, (name, labels) in enumerate(categories.items()):
        there = np.bincount(codes[codes[:, i] >= 0, i], minlength=len(labels)) > 0
        before = old_counts[i] > 0 if len(old_counts) else np.ones(len(labels), dtype=bool)
        if found := [label for label, had, has in zip(labels, before, there, strict=True) if had and not has]:
            lost[name] = found
    return lost
