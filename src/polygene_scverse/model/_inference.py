"""Prediction and embedding: data of any kind in, arrays out; the data are not touched."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from mudata import MuData
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import Module

from polygene_scverse._validate import check_choice, check_columns
from polygene_scverse.data.feed._loader import BatchDataset, LengthSampler
from polygene_scverse.data.feed._table import CellTable
from polygene_scverse.data.read._fields import warn_unseen
from polygene_scverse.data.read._phenotypes import candidates, encode_all
from polygene_scverse.data.read._source import BLOCK
from polygene_scverse.model._conformal import softmax

Batch = dict[str, Tensor]
INPUTS = ("tokens", "positions", "key_mask", "values", "measured")


class InferenceMixin:
    """`predict_phenotype` and `get_latent_representation` of the model."""

    def predict_phenotype(
        self,
        adata: AnnData | MuData | None = None,
        *,
        phenotypes: str | Sequence[str] | None = None,
        indices: Sequence[int] | None = None,
        given: str | Sequence[str] | None = None,
        batch_size: int = 64,
    ) -> dict[str, pd.DataFrame]:
        """Probability of each category of each phenotype.

        Parameters
        ----------
        adata
            Cells to predict; by default those the model was set up with. Genes are matched by name.
        phenotypes
            Phenotypes to predict; all by default.
        indices
            Row numbers; all by default.
        given
            Phenotypes whose recorded value is shown to the model where it is known. By default none is: a prediction
            cannot copy its own label.
        batch_size
            Cells per step.

        Returns
        -------
        For each phenotype a table of shape (n_cells, n_categories), in the order of the cells; rows sum to 1. Logits
        are divided by the temperature of the phenotype first, see ``calibration_``.

        Raises
        ------
        ValueError
            If a phenotype is not the model's, if no gene matches, or if expression has the wrong scale.
        KeyError
            If a phenotype that is `given` is not an obs column.
        """
        names = self._phenotypes(phenotypes, "phenotypes")
        shown = self._shown(given)
        adata, rows, parts = self._phenotype_logits(adata, names, indices, shown, batch_size)
        index = self._anndata(adata).obs_names[rows]
        return {
            name: pd.DataFrame(softmax(part, self.temperature(name)), index=index, columns=self.categories[name])
            for name, part in zip(names, parts, strict=True)
        }

    def _phenotype_logits(
        self,
        adata: AnnData | MuData | None,
        names: list[str],
        indices: Sequence[int] | None,
        shown: NDArray[np.bool_],
        batch_size: int,
    ) -> tuple[AnnData | MuData, NDArray[np.int64], list[NDArray[np.float32]]]:
        """The data, the rows, and for each of `names` the logits before calibration; (n_cells, n_categories) each."""
        columns = [self.layout.phenotype_names.index(name) for name in names]

        def logits(batch: Batch) -> list[Tensor]:
            of_all = self.module.predict(*(batch[name] for name in INPUTS))
            return [of_all[i] for i in columns]

        return self._infer(adata, indices, logits, batch_size, shown)

    def get_latent_representation(
        self,
        adata: AnnData | MuData | None = None,
        *,
        pooling: str = "decision",
        indices: Sequence[int] | None = None,
        given: str | Sequence[str] | None = None,
        batch_size: int = 64,
    ) -> NDArray[np.float32]:
        """Embedding of each cell.

        Parameters
        ----------
        adata
            Cells to embed; by default those the model was set up with.
        pooling
            ``"decision"`` is the mean over phenotypes of the state that each is predicted from, the linear path's part
            mixed in: the training shapes it most, and in our benchmark cells of a kind lie closest in it.
            ``"phenotypes"`` is the mean over phenotype slots without the linear path, ``"genes"`` the mean over
            expressed genes, ``"cls"`` the first slot; the name of a phenotype takes its slot alone.
        indices
            Row numbers; all by default.
        given
            Phenotypes whose recorded value is shown; by default none, so that no label leaks into the embedding.
        batch_size
            Cells per step.

        Returns
        -------
        Shape (n_cells, n_hidden).

        Raises
        ------
        ValueError
            As for `predict_phenotype`, and if `pooling` is unknown.
        KeyError
            As for `predict_phenotype`.
        """
        check_choice(pooling, ("decision", "phenotypes", "genes", "cls", *self.layout.phenotype_names), "pooling")
        shown = self._shown(given)
        rows_of = {"cls": [0], "phenotypes": range(1, 1 + self.layout.n_phenotypes)}
        s = self.layout.n_special

        def pooled(batch: Batch) -> list[Tensor]:
            if pooling == "decision":
                return [self.module.decision_states(*(batch[name] for name in INPUTS)).mean(1)]
            arrays = [batch[name] for name in INPUTS[:3]]
            if pooling != "genes":
                slots = rows_of.get(pooling)
                asked = [1 + self.layout.phenotype_names.index(pooling)] if slots is None else list(slots)
                return [self.module.states(*arrays, asked).mean(1)]
            mask = batch["key_mask"][:, s:, None].to(self.module.device)
            states = self.module.states(*arrays)[:, s:] * mask
            return [states.sum(1) / mask.sum(1).clamp(min=1)]

        return self._infer(adata, indices, pooled, batch_size, shown)[2][0]

    def _phenotypes(self, names: str | Sequence[str] | None, argument: str) -> list[str]:
        if names is None:
            return list(self.layout.phenotype_names)
        names = [names] if isinstance(names, str) else list(names)
        for name in names:
            check_choice(name, self.layout.phenotype_names, argument)
        return names

    def _shown(self, given: str | Sequence[str] | None) -> NDArray[np.bool_]:
        """Which phenotypes are shown; shape (n_phenotypes,)."""
        return np.isin(self.layout.phenotype_names, [] if given is None else self._phenotypes(given, "given"))

    def _infer(
        self,
        adata: AnnData | MuData | None,
        indices: Sequence[int] | None,
        function: Callable[[Batch], list[Tensor]],
        batch_size: int,
        shown: NDArray[np.bool_],
    ) -> tuple[AnnData | MuData, NDArray[np.int64], list[NDArray[np.float32]]]:
        """Run `function` over batches of like length; results in the order of the rows."""
        adata = self._data(adata)
        rows = self._rows(adata, indices)
        self._check_evidence(adata, rows, shown)
        return adata, rows, self._outputs(self._blocks(adata, rows), len(rows), function, batch_size, shown)

    def _outputs(
        self,
        blocks: Iterable[tuple[int, CellTable]],
        n_cells: int,
        function: Callable[[Batch], list[Tensor]],
        batch_size: int,
        shown: NDArray[np.bool_],
    ) -> list[NDArray[np.float32]]:
        """Results of `function` for blocks of cells and the row that each begins at; (n_cells, any) each."""
        results: list[NDArray[np.float32]] = []
        with evaluating(self.module):
            for start, table in blocks:
                for at, outputs in _run(table, function, batch_size, shown):
                    if not results:
                        results = [np.zeros((n_cells, o.shape[1]), dtype=np.float32) for o in outputs]
                    for result, output in zip(results, outputs, strict=True):
                        result[start + at] = output.float().cpu().numpy()
        return results

    def _data(self, adata: AnnData | MuData | None) -> AnnData | MuData:
        """The cells that are meant; the model must be trained."""
        self._check_if_trained(
            warn=False, message="The model is not trained. Call train() first, or load a trained one."
        )
        adata = self.adata if adata is None else adata
        if adata is None:
            raise ValueError("`adata`: the model was loaded without data. Pass the cells.")
        return adata

    def _rows(self, adata: AnnData | MuData, indices: Sequence[int] | None) -> NDArray[np.int64]:
        rows = np.arange(self._anndata(adata).n_obs)
        if indices is None:
            return rows
        if not len(indices):
            raise ValueError(
                "`indices`: found none, but at least one cell is needed. Pass row numbers, or None for all."
            )
        return rows[np.asarray(indices)]

    def _check_evidence(self, adata: AnnData | MuData, rows: NDArray[np.int64], shown: NDArray[np.bool_]) -> None:
        """The columns that are shown must be there; says which of their labels the model does not know."""
        columns = {column: known for (column, known), s in zip(self._columns.items(), shown, strict=True) if s}
        data = self._anndata(adata)
        check_columns(list(columns), data, "given", candidates(data.obs))
        warn_unseen(encode_all(data.obs.iloc[rows], columns)[1])

    def _blocks(self, adata: Any, rows: NDArray[np.int64]) -> Iterator[tuple[int, CellTable]]:
        tokenizer = self._tokenizer(adata, rows)
        for start in range(0, len(rows), BLOCK):
            yield start, self._table(adata, rows[start : start + BLOCK], tokenizer)


@contextmanager
def evaluating(module: Module) -> Iterator[None]:
    """Without dropout; afterwards the mode is as it was."""
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)


def _run(
    table: CellTable, function: Callable[[Batch], list[Tensor]], batch_size: int, shown: NDArray[np.bool_]
) -> Iterator[tuple[NDArray[np.int64], list[Tensor]]]:
    dataset = BatchDataset(table, shown=shown)
    with torch.inference_mode():
        for key in LengthSampler(table.cells.lengths, batch_size):
            yield key[1], function(dataset[key])
