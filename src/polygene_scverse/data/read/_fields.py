"""Registered AnnData fields: expression matched by gene name, and phenotypes with missing values.

Both state registries have plain containers only, so that a saved model can be read without unpickling code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import rich.table
from anndata import AnnData
from mudata import MuData
from numpy.typing import NDArray
from rich.markup import escape
from scvi.data.fields import BaseAnnDataField

from polygene_scverse._constants import PHENOTYPE_FIELD, X_FIELD
from polygene_scverse._validate import modality, shorten, warn
from polygene_scverse.data.read._expression import Expression
from polygene_scverse.data.read._ordered import Ordered, resolve_ordered
from polygene_scverse.data.read._phenotypes import (
    categories_of,
    encode_all,
    missing_words,
    resolve_phenotypes,
    warn_of_words,
)


class ExpressionField(BaseAnnDataField):
    """Expression in ``X``, a layer or ``raw``. Query data may have other genes, which are matched by name later.

    Parameters
    ----------
    layer
        Layer to read instead of ``X``.
    use_raw
        Whether to read ``adata.raw`` instead.
    mod_key
        Modality to read, for MuData.
    """

    is_empty = False
    registry_key = X_FIELD

    def __init__(self, layer: str | None = None, use_raw: bool = False, mod_key: str | None = None) -> None:
        super().__init__()
        self.layer, self.use_raw, self._mod_key = layer, use_raw, mod_key

    @property
    def attr_name(self) -> str:
        return "raw" if self.use_raw else "X" if self.layer is None else "layers"

    @property
    def attr_key(self) -> str | None:
        return "X" if self.use_raw else self.layer

    @property
    def mod_key(self) -> str | None:
        return self._mod_key

    def _expression(self, adata: AnnData | MuData) -> Expression:
        return Expression.of(_modality(adata, self.mod_key), self.layer, self.use_raw)

    def get_field_data(self, adata: AnnData | MuData) -> Any:
        return self._expression(adata).matrix

    def validate_field(self, adata: AnnData | MuData) -> None:
        self.get_field_data(adata)

    def register_field(self, adata: AnnData | MuData) -> dict[str, Any]:
        found = self._expression(adata)
        names = [str(name) for name in found.var_names]
        return {"n_obs": found.n_obs, "n_vars": len(names), "column_names": names}

    def transfer_field(self, state_registry: dict, adata_target: AnnData | MuData, **_: Any) -> dict[str, Any]:
        return self.register_field(adata_target)

    def get_summary_stats(self, state_registry: dict) -> dict[str, int]:
        return {"n_vars": state_registry["n_vars"], "n_cells": state_registry["n_obs"]}

    def view_state_registry(self, state_registry: dict) -> None:
        return None


class PhenotypeField(BaseAnnDataField):
    """Any number of obs columns as phenotypes. Missing and unseen values are encoded as -1; obs is not changed.

    Parameters
    ----------
    keys
        The obs columns.
    mod_key
        Modality whose obs is read, for MuData; None reads the obs of the MuData itself.
    ordered
        Which phenotypes are ordered, see :func:`~polygene_scverse.data.read._ordered.resolve_ordered`.
    missing
        Labels that mean "no value", see :func:`~polygene_scverse.data.read._phenotypes.missing_words`.
    """

    is_empty = False
    registry_key = PHENOTYPE_FIELD
    attr_name = "obs"
    attr_key = None

    def __init__(
        self,
        keys: list[str],
        mod_key: str | None = None,
        ordered: Ordered = None,
        missing: str | Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.keys, self._mod_key, self.ordered, self.missing = list(keys), mod_key, ordered, missing

    @property
    def mod_key(self) -> str | None:
        return self._mod_key

    def get_field_data(self, adata: AnnData | MuData) -> NDArray[np.int64]:
        return encode_all(_modality(adata, self.mod_key).obs, self._categories(adata))[0]

    def _categories(self, adata: AnnData | MuData) -> dict[str, list[str]]:
        obs, words = _modality(adata, self.mod_key).obs, missing_words(self.missing)
        return {key: categories_of(obs[key], words) for key in self.keys}

    def validate_field(self, adata: AnnData | MuData) -> None:
        resolve_phenotypes(_modality(adata, self.mod_key).obs, self.keys)

    def register_field(self, adata: AnnData | MuData) -> dict[str, Any]:
        self.validate_field(adata)
        obs = _modality(adata, self.mod_key).obs
        categories = self._categories(adata)
        warn_of_words({key: obs[key] for key in self.keys}, self.missing)
        return {"categories": categories, "unseen": {}, "ordered": resolve_ordered(categories, self.ordered, obs)}

    def transfer_field(self, state_registry: dict, adata_target: AnnData | MuData, **_: Any) -> dict[str, Any]:
        categories = state_registry["categories"]
        known = {name: [*found, *state_registry.get("added", {}).get(name, [])] for name, found in categories.items()}
        unseen = encode_all(_modality(adata_target, self.mod_key).obs, known, missing_words(self.missing))[1]
        warn_unseen(unseen)
        return {**state_registry, "ordered": state_registry.get("ordered", {}), "unseen": unseen}

    def get_summary_stats(self, state_registry: dict) -> dict[str, int]:
        return {"n_phenotypes": len(state_registry["categories"])}

    def view_state_registry(self, state_registry: dict) -> rich.table.Table:
        table = rich.table.Table("phenotype", "categories", title="phenotypes")
        for name, categories in state_registry["categories"].items():
            table.add_row(escape(str(name)), escape(shorten(categories)))
        return table


def warn_unseen(unseen: dict[str, list[str]]) -> None:
    """Warn once about the labels that the model does not know."""
    for name, found in unseen.items():
        warn(
            f"adata.obs[{name!r}]: the model was not trained on {shorten(found)}; these labels are treated as missing."
        )


def _modality(data: AnnData | MuData, mod_key: str | None) -> AnnData:
    return data if mod_key is None else modality(data, mod_key)
