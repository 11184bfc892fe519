"""From probabilities to one category per cell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from polygene_scverse._constants import BALANCE


class DecisionMixin:
    """`decide` of the model."""

    def decide(self, probabilities: Mapping[str, pd.DataFrame], *, balance: float = BALANCE) -> pd.DataFrame:
        """Choose a category for each cell.

        The most probable category is right most often, but seldom a rare one. Dividing each probability by the
        category's share of the training cells to the power `balance` finds more of the rare ones; what it costs in
        accuracy is little at 0.5. The probabilities stay as they are (logit adjustment after training: Menon et al.,
        "Long-tail learning via logit adjustment", ICLR 2021).

        Parameters
        ----------
        probabilities
            For each phenotype a table of shape (n_cells, n_categories), as `predict_phenotype` returns it.
        balance
            0 takes the most probable category; 1 the one that would be if all were equally frequent in the training
            cells.

        Returns
        -------
        The chosen category of each phenotype, as categorical columns; shape (n_cells, n_phenotypes).

        Raises
        ------
        ValueError
            If `balance` is not between 0 and 1, or if a table has other columns than the phenotype's categories.
        """
        if not 0.0 <= balance <= 1.0:
            raise ValueError(f"`balance`: found {balance}, but it must be between 0 (most probable) and 1 (balanced).")
        shares = dict(zip(self.layout.phenotype_names, self.module.log_shares(), strict=True))
        chosen = {}
        for name, table in probabilities.items():
            categories = self._check_columns(name, table)
            weights = np.exp(-balance * shares[name].numpy(force=True).astype(np.float64))
            codes = (table.to_numpy() * weights).argmax(axis=1)
            chosen[name] = pd.Series(pd.Categorical.from_codes(codes, categories=categories), index=table.index)
        return pd.DataFrame(chosen)

    def _check_columns(self, name: str, table: pd.DataFrame) -> Any:
        """Categories of a phenotype, which must be the columns of its probabilities."""
        categories = self.categories.get(name)
        if list(table.columns) != categories:
            raise ValueError(
                f"`probabilities`: the columns of {name!r} are {list(table.columns)}, but the model's categories "
                f"are {categories}. Pass what predict_phenotype returns."
            )
        return categories
