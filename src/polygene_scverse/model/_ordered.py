"""Numbers that ordered categories stand for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from polygene_scverse._compat import field_state
from polygene_scverse._constants import PHENOTYPE_FIELD


class OrderedMixin:
    """`ordered` and `expected_value` of the model."""

    @property
    def ordered(self) -> dict[str, dict[str, Any]]:
        """For each ordered phenotype the ``values`` of its categories, and whether they are ``numeric``."""
        of_columns = field_state(self.registry, PHENOTYPE_FIELD).get("ordered", {})
        names = dict(zip(self._columns, self.layout.phenotype_names, strict=True))
        return {names[column]: dict(entry) for column, entry in of_columns.items()}

    def expected_value(self, probabilities: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
        """Mean of the numbers that categories stand for, such as years, weighted by their probabilities.

        Parameters
        ----------
        probabilities
            For each phenotype a table of shape (n_cells, n_categories), as `predict_phenotype` returns it.

        Returns
        -------
        A column for each phenotype that is ordered and whose categories are numbers; shape (n_cells, n_such).
        """
        numeric = {name: entry["values"] for name, entry in self.ordered.items() if entry["numeric"]}
        columns = {
            name: pd.Series(table.to_numpy(dtype=np.float64) @ np.array(numeric[name]), index=table.index)
            for name, table in probabilities.items()
            if name in numeric
        }
        return pd.DataFrame(columns)
