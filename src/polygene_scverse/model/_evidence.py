"""Several phenotypes at once: each is shown as evidence for the others."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from anndata import AnnData
from mudata import MuData
from numpy.typing import NDArray
from torch import Tensor

from polygene_scverse._validate import check_choice
from polygene_scverse.model._inference import INPUTS, Batch

MOST_COMBINATIONS = 5000
"""Combinations of categories up to which a joint distribution is computed."""
MOST_VALUES = 250_000_000
"""Probabilities that are returned at a time: a gigabyte."""

Pairs = dict[str, list[list[int]]]
"""For each two phenotypes, ``"i,j"``, the pairs of categories that occurred in one cell."""


def seen_pairs(codes: NDArray[np.integer], known: Mapping[str, list[list[int]]] | None = None) -> Pairs:
    """Which categories of each two phenotypes occur together in a cell.

    Parameters
    ----------
    codes
        Category codes of the training cells, -1 where unknown; shape (n_cells, n_phenotypes).
    known
        Pairs of an earlier training, which are kept.
    """
    pairs: Pairs = {}
    for i, j in itertools.combinations(range(codes.shape[1]), 2):
        both = codes[:, [i, j]]
        earlier = np.array((known or {}).get(f"{i},{j}", []), dtype=np.int64).reshape(-1, 2)
        found = np.concatenate([both[(both >= 0).all(axis=1)], earlier])
        pairs[f"{i},{j}"] = np.unique(found, axis=0).tolist()
    return pairs


class EvidenceMixin:
    """`joint_phenotype` and `seen_together` of the model."""

    pairs_: Pairs | None = None
    confounding_: dict[str, Any] | None = None

    def joint_phenotype(
        self,
        adata: AnnData | MuData | None = None,
        *,
        phenotypes: Sequence[str],
        indices: Sequence[int] | NDArray[np.int64] | None = None,
        given: str | Sequence[str] | None = None,
        batch_size: int = 64,
    ) -> NDArray[np.float32]:
        """Joint probability of the categories of several phenotypes.

        A chain: the probability of a category of the first phenotype, times that of the second when the first is shown,
        and so on; the mean over all orders of the phenotypes.

        Parameters
        ----------
        adata
            Cells to predict; by default those the model was set up with. Genes are matched by name.
        phenotypes
            Two or more phenotypes of the model.
        indices
            Row numbers; all by default.
        given
            Other phenotypes whose recorded value is shown where it is known.
        batch_size
            Cells per step. A step takes one pass through the network for each combination of categories of all but one
            of the phenotypes, of all but two, and so on: with two phenotypes as many as they have categories, and two.

        Returns
        -------
        Probabilities, shape (n_cells, n_categories of the first, of the second, …); they sum to 1 in each cell.

        Raises
        ------
        ValueError
            If there are fewer than two phenotypes, if one is not the model's, named twice or also `given`, if there are
            more than 5,000 combinations or 250 million probabilities, if no gene matches, or if expression has the
            wrong scale.
        KeyError
            If a phenotype that is `given` is not an obs column.
        """
        names = self._joint_names(phenotypes, given)
        shown = self._shown(given)
        sizes = [len(self.layout.slot(name).categories) for name in names]
        data = self.adata if adata is None else adata
        n_cells = len(indices) if indices is not None else 0 if data is None else self._anndata(data).n_obs
        self._check_size(names, sizes, n_cells)

        def joint(batch: Batch) -> list[Tensor]:
            return [self._chain(batch, names, sizes).flatten(1)]

        _, rows, (values,) = self._infer(data, indices, joint, batch_size, shown)
        return values.reshape(len(rows), *sizes)

    def seen_together(self, phenotypes: Sequence[str]) -> NDArray[np.bool_]:
        """Which combinations of categories the training cells do not speak against.

        Parameters
        ----------
        phenotypes
            Two or more phenotypes of the model.

        Returns
        -------
        Whether each two categories of a combination occurred in one training cell, shape (n_categories of the first, of
        the second, …). True throughout for weights of the original, whose training cells are not known.

        Raises
        ------
        ValueError
            As for `joint_phenotype`.
        """
        names = self._joint_names(phenotypes, None)
        sizes = [len(self.layout.slot(name).categories) for name in names]
        self._check_size(names, sizes, 1)
        seen = np.ones(sizes, dtype=bool)
        if not self.pairs_:
            return seen
        slots = [self.layout.phenotype_names.index(name) for name in names]
        for a, b in itertools.combinations(range(len(names)), 2):
            i, j = sorted((slots[a], slots[b]))
            n_rows, n_columns = (len(self.layout.phenotypes[slot].categories) for slot in (i, j))
            table = np.zeros((n_rows, n_columns), dtype=np.bool_)
            pairs = np.array(self.pairs_[f"{i},{j}"], dtype=np.int64).reshape(-1, 2)
            table[pairs[:, 0], pairs[:, 1]] = True
            shape = [size if axis in (a, b) else 1 for axis, size in enumerate(sizes)]
            seen &= (table if slots[a] == i else table.T).reshape(shape)
        return seen

    def _joint_names(self, phenotypes: Sequence[str], given: str | Sequence[str] | None) -> list[str]:
        names = [phenotypes] if isinstance(phenotypes, str) else list(phenotypes)
        if len(names) < 2:
            raise ValueError(
                f"`phenotypes`: found {names}, but a joint distribution is of two or more. Pass several, or call "
                "predict_phenotype."
            )
        for name in names:
            check_choice(name, self.layout.phenotype_names, "phenotypes")
        shown = [given] if isinstance(given, str) else list(given or [])
        if len(set(names)) != len(names) or set(names) & set(shown):
            raise ValueError(
                f"`phenotypes`: found {names} with given={shown}, but each phenotype is predicted once and not given "
                "at the same time. Name each once."
            )
        return names

    def _check_size(self, names: Sequence[str], sizes: Sequence[int], n_cells: int) -> None:
        if prod(sizes) > MOST_COMBINATIONS:
            raise ValueError(
                f"`phenotypes`: {names} have {' x '.join(map(str, sizes))} = {prod(sizes):,} combinations of "
                f"categories, but at most {MOST_COMBINATIONS:,} are computed. Pass fewer phenotypes, with fewer "
                "categories."
            )
        if prod(sizes) * n_cells > MOST_VALUES:
            raise ValueError(
                f"`indices`: {n_cells:,} cells with {prod(sizes):,} combinations of categories would take "
                f"{4 * prod(sizes) * n_cells / 1e9:.1f} GB. Pass at most {MOST_VALUES // prod(sizes):,} at a time."
            )

    def _chain(self, batch: Batch, names: Sequence[str], sizes: Sequence[int]) -> Tensor:
        """Mean over orders of the products of conditionals; shape (n_cells, *sizes)."""
        axes = range(len(names))
        linear = self.module.linear_part(*(batch[name] for name in INPUTS))
        conditionals = {
            shown: self._conditionals(batch, linear, names, sizes, shown)
            for n in axes
            for shown in itertools.combinations(axes, n)
        }
        orders = list(itertools.permutations(axes))
        joints = []
        for order in orders:
            factors = (conditionals[tuple(sorted(order[:n]))][axis] for n, axis in enumerate(order))
            joints.append(functools.reduce(torch.mul, factors))
        return functools.reduce(torch.add, joints) / len(orders)

    def _conditionals(
        self,
        batch: Batch,
        linear: Sequence[Tensor],
        names: Sequence[str],
        sizes: Sequence[int],
        shown: tuple[int, ...],
    ) -> dict[int, Tensor]:
        """Of each axis that is not shown its probabilities, for every combination of categories of those that are.

        Parameters
        ----------
        batch
            The cells.
        linear
            What the linear path adds to the logits of each phenotype, see the module's ``linear_part``.
        names, sizes
            Phenotype and number of categories of each axis.
        shown
            Axes whose phenotype is shown.

        Returns
        -------
        For each such axis shape (n_cells, *sizes), 1 in place of the size of other axes that are not shown.
        """
        slots = [self.layout.phenotype_names.index(name) for name in names]
        asked = [axis for axis in range(len(names)) if axis not in shown]
        parts: dict[int, list[Tensor]] = {axis: [] for axis in asked}
        for categories in itertools.product(*(range(sizes[axis]) for axis in shown)):
            tokens = self._tokens_with(batch["tokens"], [slots[axis] for axis in shown], categories)
            logits = self.module.transformer_logits(tokens, *(batch[name] for name in INPUTS[1:3]))
            for axis in asked:
                mixed = (logits[slots[axis]] + linear[slots[axis]]).float()
                parts[axis].append((mixed / self.temperature(names[axis])).softmax(-1))
        n_cells = len(batch["tokens"])
        results = {}
        for axis, tables in parts.items():
            stacked = torch.stack(tables, dim=1)  # (n_cells, combinations of the shown, categories of the asked)
            sizes_shown = [sizes[s] for s in shown]
            stacked = stacked.reshape(n_cells, *sizes_shown, sizes[axis])
            order = [*shown, axis]
            stacked = stacked.permute(0, *(1 + order.index(a) for a in sorted(order)))
            results[axis] = stacked.reshape(n_cells, *(sizes[a] if a in order else 1 for a in range(len(names))))
        return results

    def _tokens_with(self, tokens: Tensor, slots: Iterable[int], categories: Iterable[int]) -> Tensor:
        """Sentences that show one category of some phenotypes in every cell."""
        tokens = tokens.clone()
        for slot, category in zip(slots, categories, strict=True):
            tokens[:, 1 + slot] = self.layout.phenotypes[slot].ids[category]
        return tokens
