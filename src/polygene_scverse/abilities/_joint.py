"""Joint prediction of several phenotypes: each is shown as evidence for the others."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polygene_scverse._layout import TokenLayout
from polygene_scverse.abilities._predict import linear_share, unseen_offsets
from polygene_scverse.data.feed._source import CellSource
from polygene_scverse.engine import INPUTS, Batch, Engine, Query
from polygene_scverse.fit import FittedState
from polygene_scverse.fit._category_counts import Pairs

MAX_COMBINATIONS = 5000
"""Maximum number of combinations of categories in a joint distribution."""
MAX_VALUES = 250_000_000
"""Maximum number of probabilities returned at a time: one gigabyte."""


def check_size(names: Sequence[str], sizes: Sequence[int], n_cells: int) -> None:
    """Raise an error if there are too many combinations of categories or probabilities.

    Parameters
    ----------
    names, sizes
        Names of the phenotypes and their numbers of categories.
    n_cells
        Number of cells.
    """
    if prod(sizes) > MAX_COMBINATIONS:
        raise ValueError(
            f"`phenotypes`: {list(names)} have {' x '.join(map(str, sizes))} = {prod(sizes):,} combinations of "
            f"categories, but at most {MAX_COMBINATIONS:,} are computed. Pass fewer phenotypes, with fewer categories."
        )
    if prod(sizes) * n_cells > MAX_VALUES:
        raise ValueError(
            f"`indices`: {n_cells:,} cells with {prod(sizes):,} combinations of categories would take "
            f"{4 * prod(sizes) * n_cells / 1e9:.1f} GB. Pass at most {MAX_VALUES // prod(sizes):,} at a time."
        )


def joint(
    engine: Engine, state: FittedState, source: CellSource, query: Query, names: Sequence[str]
) -> NDArray[np.float32]:
    """Joint probability of the categories of several phenotypes; shape (n_cells, categories of the first, …).

    The probability is a product of conditionals: the first phenotype, the second given the first, and so on. The result
    is the mean over all orders of the phenotypes.

    Parameters
    ----------
    engine, state
        The network and its fitted state.
    source
        The cells.
    query
        What is shown to the network.
    names
        Names of the phenotypes.
    """
    chain = _Chain(engine, state, names)
    engine = replace(engine, for_phenotypes=True)
    (values,) = engine.gather(source, query, lambda batch: [chain(batch).flatten(1)])
    return values.reshape(len(source), *chain.sizes)


def seen_together(layout: TokenLayout, names: Sequence[str], pairs: Pairs | None) -> NDArray[np.bool_]:
    """Whether each pair of categories in a combination occurred together in a training cell; True if not known.

    Parameters
    ----------
    layout
        Layout with the phenotypes and their categories.
    names
        Names of the phenotypes in the combination.
    pairs
        As in `FittedState`.

    Returns
    -------
    Shape (categories of the first, of the second, …).
    """
    slots = [layout.phenotype_names.index(name) for name in names]
    sizes = [len(layout.phenotypes[slot].categories) for slot in slots]
    seen = np.ones(sizes, dtype=bool)
    for a, b in itertools.combinations(range(len(names)), 2) if pairs else ():
        i, j = sorted((slots[a], slots[b]))
        table = np.zeros([len(layout.phenotypes[slot].categories) for slot in (i, j)], dtype=np.bool_)
        found = np.array((pairs or {})[f"{i},{j}"], dtype=np.int64).reshape(-1, 2)
        table[found[:, 0], found[:, 1]] = True
        shape = [size if axis in (a, b) else 1 for axis, size in enumerate(sizes)]
        seen &= (table if slots[a] == i else table.T).reshape(shape)
    return seen


class _Chain:
    """Mean over orders of the products of conditionals, computed for each batch; each axis is a phenotype."""

    def __init__(self, engine: Engine, state: FittedState, names: Sequence[str]) -> None:
        self.module, self.share = engine.module, linear_share(engine, state)
        self.offsets = unseen_offsets(engine, state)
        self.slots = [self.module.layout.phenotype_names.index(name) for name in names]
        self.sizes = [self.module.n_categories[slot] for slot in self.slots]
        self.temperatures = [state.temperature(name) for name in names]

    def __call__(self, batch: Batch) -> Tensor:
        """Joint probabilities; shape (n_cells, *sizes)."""
        axes = range(len(self.slots))
        linear = self.module.linear_part(*(batch[name] for name in INPUTS), self.share)
        conditionals = {
            shown: self._conditionals(batch, linear, shown) for n in axes for shown in itertools.combinations(axes, n)
        }
        orders = list(itertools.permutations(axes))
        joints = []
        for order in orders:
            factors = (conditionals[tuple(sorted(order[:n]))][axis] for n, axis in enumerate(order))
            joints.append(functools.reduce(torch.mul, factors))
        return functools.reduce(torch.add, joints) / len(orders)

    def _conditionals(self, batch: Batch, linear: Sequence[Tensor], shown: tuple[int, ...]) -> dict[int, Tensor]:
        """Probabilities of each axis that is not shown, for every combination of categories of the shown axes.

        Parameters
        ----------
        batch
            The cells.
        linear
            Contribution of the linear path to the logits of each phenotype, see the module's ``linear_part``.
        shown
            Axes of the phenotypes that are shown.

        Returns
        -------
        For each such axis an array of shape (n_cells, *sizes), with size 1 for other axes that are not shown.
        """
        axes = range(len(self.slots))
        asked = [axis for axis in axes if axis not in shown]
        tables: dict[int, list[Tensor]] = {axis: [] for axis in asked}
        for categories in itertools.product(*(range(self.sizes[axis]) for axis in shown)):
            tokens = self._tokens_with(batch["tokens"], [self.slots[axis] for axis in shown], categories)
            logits = self.module.transformer_logits(tokens, *(batch[name] for name in INPUTS[1:3]))
            for axis in asked:
                slot = self.slots[axis]
                both = (logits[slot] + linear[slot] + self.offsets[slot]).float()
                tables[axis].append((both / self.temperatures[axis]).softmax(-1))
        n_cells = len(batch["tokens"])
        results = {}
        for axis, found in tables.items():
            stacked = torch.stack(found, dim=1)  # (n_cells, combinations of the shown, categories of the asked)
            stacked = stacked.reshape(n_cells, *(self.sizes[s] for s in shown), self.sizes[axis])
            order = [*shown, axis]
            stacked = stacked.permute(0, *(1 + order.index(a) for a in sorted(order)))
            results[axis] = stacked.reshape(n_cells, *(self.sizes[a] if a in order else 1 for a in axes))
        return results

    def _tokens_with(self, tokens: Tensor, slots: Iterable[int], categories: Iterable[int]) -> Tensor:
        """Tokens that show the given category of each given phenotype in every cell."""
        tokens = tokens.clone()
        for slot, category in zip(slots, categories, strict=True):
            tokens[:, 1 + slot] = self.module.layout.phenotypes[slot].ids[category]
        return tokens
