"""Temperatures that make probabilities match how often they are right."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData
from numpy.typing import NDArray
from torch import Tensor

from polygene_scverse._validate import check_columns
from polygene_scverse.data.feed._table import CellTable, draw_part
from polygene_scverse.data.read._fields import warn_unseen
from polygene_scverse.data.read._phenotypes import candidates, encode_all
from polygene_scverse.fit._temperature import fit_temperature
from polygene_scverse.metrics import ece, nll
from polygene_scverse.model._conformal import of_true_category, softmax
from polygene_scverse.model._inference import INPUTS, Batch

LEAST_CELLS: Final = 50
"""Known cells that a temperature needs."""
MOST_CELLS: Final = 10_000
"""Held-out cells that are looked at after training; more would not change the second decimal."""


class CalibrationMixin:
    """`calibrate` of the model, and its calibration at the end of training."""

    calibration_: dict[str, dict[str, Any]]
    """For each phenotype its ``temperature`` and what that was fitted on, in ``words`` and in figures; errors before
    and after are those of the cells it was fitted on."""

    def calibrate(
        self,
        adata: AnnData | MuData | None = None,
        *,
        phenotypes: str | Sequence[str] | None = None,
        indices: Sequence[int] | None = None,
        group_key: str | None = None,
        batch_size: int = 64,
    ) -> pd.DataFrame:
        """Fit temperatures and prediction sets on other labelled cells than those held out in training.

        Best are cells of donors that are not in training: then calibration and coverage hold for new donors too.

        Parameters
        ----------
        adata
            Cells with recorded phenotypes; by default those the model was set up with, which is useful with `indices`.
        phenotypes
            Phenotypes to calibrate; all by default. Those without a known cell are left as they are.
        indices
            Row numbers; all by default.
        group_key
            Obs column of the groups (donors, samples) that the cells belong to and that had no part in training; it is
            noted only.
        batch_size
            Cells per step.

        Returns
        -------
        What is now in ``calibration_``, one row per phenotype.

        Raises
        ------
        ValueError
            As for `predict_phenotype`, and if no cell has a known phenotype.
        KeyError
            If `group_key` is not an obs column.

        Examples
        --------
        >>> model.calibrate(new_donors, group_key="donor")
        """
        names = self._phenotypes(phenotypes, "phenotypes")
        data = self.adata if adata is None else adata
        if group_key is not None and data is not None:
            obs = self._anndata(data).obs
            check_columns([group_key], self._anndata(data), "group_key", candidates(obs))
        data, rows, parts = self._phenotype_logits(data, names, indices, self._shown(None), batch_size)
        self._warn_of_training_cells(data, rows)
        obs = self._anndata(data).obs.iloc[rows]
        encoded, unseen = encode_all(obs, self._columns)
        warn_unseen(unseen)
        codes = dict(zip(self.layout.phenotype_names, encoded.T, strict=True))
        known = [name for name in names if (codes[name] >= 0).any()]
        if not known:
            raise ValueError(
                f"`adata`: none of the {len(rows)} cells has a known category of {names}. Pass cells whose phenotypes "
                "are recorded in obs, under the names and labels of the model."
            )
        groups = None if group_key is None else obs[group_key]
        for name, logits in zip(names, parts, strict=True):
            if name in known:
                self._set_calibration(name, logits, codes[name], groups, "given")
        return pd.DataFrame.from_dict(self.calibration_, orient="index").rename_axis("phenotype")

    def _warn_of_training_cells(self, data: AnnData | MuData, rows: NDArray[np.int64]) -> None:
        """The model is surer of the cells it was trained on than of others."""
        trained = getattr(self, "train_indices_", None) if data is self.adata else None
        n = 0 if trained is None else int(np.isin(rows, trained).sum())
        if n:
            warnings.warn(
                f"`adata`: {n} of the {len(rows)} cells were trained on, and the model is surer of these than of "
                "others: it will seem better calibrated than it is. Pass indices= of other cells, e.g. "
                "model.validation_indices.",
                UserWarning,
                stacklevel=3,
            )

    def _calibrate_on_validation(
        self, table: CellTable | None, groups: pd.Series | None, seed: int
    ) -> CellTable | None:
        """Calibrate on the validation cells of a training: the weights no longer change.

        Parameters
        ----------
        table
            The cells, None if there are none.
        groups
            Group of each cell of the data set, if whole groups were held out.
        seed
            Seed of the draw, where there are more cells than are needed.

        Returns
        -------
        The cells that were used.
        """
        if table is None:
            for name, n in zip(self.layout.phenotype_names, self.module.n_categories, strict=True):
                self._set_calibration(name, np.empty((0, n), np.float32), np.empty(0, np.int64), None, "held-out")
            return None
        table = draw_part(table, MOST_CELLS, seed)
        self._fit_mix(table)
        parts = self._logits_of(table)
        held_out = None if groups is None else groups.iloc[table.ids]
        for i, name in enumerate(self.layout.phenotype_names):
            self._set_calibration(name, parts[i], table.codes[:, i], held_out, "held-out")
        return table

    def _logits_of(self, table: CellTable, batch_size: int = 64) -> list[NDArray[np.float32]]:
        """Logits of each phenotype with every phenotype hidden; P times (n_cells, categories)."""

        def logits(batch: Batch) -> list[Tensor]:
            return self.module.predict(*(batch[name] for name in INPUTS))

        return self._outputs([(0, table)], len(table), logits, batch_size, self._shown(None))

    def _set_calibration(
        self, name: str, logits: NDArray[np.float32], codes: NDArray[np.int64], groups: pd.Series | None, kind: str
    ) -> None:
        """Fit one phenotype. Entries are replaced in place, so that copies without data follow."""
        known = codes >= 0
        logits, codes = logits[known], codes[known]
        fitted = len(codes) >= LEAST_CELLS
        temperature = fit_temperature(logits, codes) if fitted else 1.0
        entry: dict[str, Any] = {
            "temperature": temperature,
            "fitted": fitted,
            "cells": kind,
            "n_cells": len(codes),
            "group_key": "" if groups is None else str(groups.name),
            "n_groups": 0 if groups is None else int(groups[known].nunique()),
        }
        for when, t in (("before", 1.0), ("after", temperature)):
            probabilities = softmax(logits, t)
            entry |= {f"ece_{when}": ece(codes, probabilities), f"nll_{when}": nll(codes, probabilities)}
        self.calibration_[name] = entry | {"words": in_words(entry)}
        self.conformal_[name] = of_true_category(logits, codes, temperature)

    def temperature(self, phenotype: str) -> float:
        """What logits are divided by in prediction; 1 where nothing was fitted.

        Parameters
        ----------
        phenotype
            A phenotype of the model.
        """
        return float(self.calibration_.get(phenotype, {}).get("temperature", 1.0))


def in_words(entry: Mapping[str, Any]) -> str:
    """What a calibration was fitted on and what it brought."""
    n_cells, kind = entry["n_cells"], entry["cells"]
    if not entry["fitted"]:
        return (
            f"temperature 1, not fitted: {n_cells} {kind} cells have a known category, but {LEAST_CELLS} are needed; "
            "Polygene.calibrate takes other ones"
        )
    n_groups = entry["n_groups"]
    where = f"{n_cells} {kind} cells"
    limits = "; cells of the same groups (donors) may be in training: for new ones errors may be larger"
    if n_groups:
        where += f" of {n_groups} whole group{'s' if n_groups > 1 else ''} of {entry['group_key']!r}"
        limits = "" if n_groups > 1 else "; one group says little about others"
    errors = f"expected calibration error {entry['ece_before']:.3f} before, {entry['ece_after']:.3f} after"
    return f"temperature {entry['temperature']:.2f}, fitted on {where}; {errors}{limits}"
