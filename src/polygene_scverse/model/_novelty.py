"""How unlike the training cells a cell is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from mudata import MuData
from numpy.typing import NDArray
from scipy.special import log_softmax
from sklearn.decomposition import PCA

from polygene_scverse._constants import PHENOTYPE_ALIASES
from polygene_scverse._validate import check_choice
from polygene_scverse.data.feed._table import CellTable, draw_part
from polygene_scverse.data.read._tokens import Cells

N_PCS: Final = 30
MOST_CELLS: Final = 5_000
"""Training cells that principal components are fitted on."""
LEAST_VARIANCE: Final = 0.01
"""Added to the variance of a gene's residual: silent genes are not blown up without bound."""


class NoveltyMixin:
    """`novelty` of the model, and what it is measured against."""

    novelty_: dict[str, Any]
    """Principal components of the training cells and the variance that each gene has beside them; both signs of the
    held-out cells."""

    def novelty(
        self,
        adata: AnnData | MuData | None = None,
        *,
        phenotype: str | None = None,
        indices: Sequence[int] | None = None,
        batch_size: int = 64,
    ) -> pd.DataFrame:
        """How unlike the training cells each cell is.

        Two signs are looked at. The network is unsure (entropy of its probabilities before calibration). And genes are
        expressed, or silent, that 30 principal components of the training cells do not explain: the mean square of what
        is left of each gene, in units of what is left of it in the training cells. Each sign is a rank among the cells
        that were held out in training, and the higher of the two counts. In trials with left-out categories this found
        more than the highest probability, the free energy of the logits, and distances to training cells or categories,
        in the network's states or in principal components. Kinds that look much like a known one are found by none.

        Parameters
        ----------
        adata
            Cells; by default those the model was set up with. Genes are matched by name.
        phenotype
            Whose logits are looked at. By default the cell type, if a phenotype has one of the usual names of it, else
            the first phenotype.
        indices
            Row numbers; all by default.
        batch_size
            Cells per step.

        Returns
        -------
        Table with a row per cell (n_cells x 3), all from 0 to 1: ``novelty``, the share of the held-out cells that look
        less novel, so that 0.95 is reached by 5 % of cells like those; ``unsure`` and ``unexplained``, the same share
        for each of the two signs alone.

        Raises
        ------
        ValueError
            As for `predict_phenotype`, and if the model holds nothing to compare with: it was trained on very few cells
            or comes from the original.
        """
        name = self.reference_phenotype if phenotype is None else phenotype
        check_choice(name, self.layout.phenotype_names, "phenotype")
        data = self._data(adata)
        if name not in self.novelty_.get("phenotypes", {}):
            raise ValueError(
                "`model`: it holds no training cells to compare with, because it was trained on very few or comes from "
                "the original. Train it with pgs.tl.train."
            )
        rows = self._rows(data, indices)
        i = self.layout.phenotype_names.index(name)
        signs = np.zeros((len(rows), 2))
        for start, table in self._blocks(data, rows):
            part = slice(start, start + len(table))
            signs[part, 0] = entropy(self._logits_of(table, batch_size)[i])
            signs[part, 1] = unexplained(table.cells, self.novelty_, table.measured)
        known = self.novelty_["phenotypes"][name]
        ranks = [rank(signs[:, 0], known["entropies"]), rank(signs[:, 1], self.novelty_["unexplained"])]
        columns = {"novelty": rank(np.maximum(*ranks), known["higher"]), "unsure": ranks[0], "unexplained": ranks[1]}
        return pd.DataFrame(columns, index=self._anndata(data).obs_names[rows])

    @property
    def reference_phenotype(self) -> str:
        """The cell type, by one of its usual names, else the first phenotype."""
        names = self.layout.phenotype_names
        return next((name for name in names if name in PHENOTYPE_ALIASES["cell_type"]), names[0])

    def _fit_novelty(self, train: Any, held_out: CellTable | None, seed: int) -> None:
        """Note what novelty is measured against; without held-out cells these are the training cells themselves.

        Parameters
        ----------
        train
            The training cells.
        held_out
            Held-out cells.
        seed
            Seed of the draw of training cells.
        """
        table = draw_part(train, MOST_CELLS, seed)
        n_pcs = min(N_PCS, self.layout.n_genes - 1, len(table) // 3)
        self.novelty_ = {}
        if n_pcs < 1:
            return
        x = table.cells.matrix(self.layout.n_genes)
        pca = PCA(n_pcs, svd_solver="arpack", random_state=0).fit(x)
        shares = pca.singular_values_**2 / len(table)  # variance along each component
        explained = shares @ pca.components_**2  # (n_genes,)
        variance = np.bincount(table.cells.genes, table.cells.values.astype(float) ** 2, len(pca.mean_)) / len(table)
        left = np.maximum(variance - pca.mean_**2 - explained, 0.0)
        arrays = {"mean": pca.mean_, "components": pca.components_, "weights": 1.0 / (left + LEAST_VARIANCE)}
        self.novelty_ = {key: _tensor(value) for key, value in arrays.items()}
        others = table if held_out is None else held_out
        surprise = unexplained(others.cells, self.novelty_)
        self.novelty_["unexplained"] = _tensor(np.sort(surprise))
        self.novelty_["phenotypes"] = {}
        for name, logits in zip(self.layout.phenotype_names, self._logits_of(others), strict=True):
            entropies = entropy(logits)
            higher = np.maximum(rank(entropies, entropies), rank(surprise, surprise))
            notes = {"entropies": _tensor(np.sort(entropies)), "higher": _tensor(np.sort(higher))}
            self.novelty_["phenotypes"][name] = notes


def unexplained(
    cells: Cells, known: dict[str, torch.Tensor], measured: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """Mean square over measured genes of what principal components do not explain of a cell; shape (n_cells,).

    Parameters
    ----------
    cells
        The cells.
    known
        ``mean`` and ``weights`` of the genes, shape (n_genes,), and ``components``, shape (n_pcs, n_genes).
    measured
        Whether each gene is measured; those that are not count as average and are not in the mean. Shape (n_genes,).
    """
    mean, weights, components = (known[key].numpy().astype(np.float64) for key in ("mean", "weights", "components"))
    measured = np.ones(len(mean), dtype=np.bool_) if measured is None else measured
    weights, centre = weights * measured, mean * measured
    x = cells.matrix(len(mean))
    scores = x @ components.T - components @ centre  # (n_cells, n_pcs)
    weighted = components * weights  # (n_pcs, n_genes)
    # the square of x - (mean + scores @ components), written out, so that nothing of the shape of x is made dense
    of_x = x.multiply(x) @ weights - 2 * (x @ (weights * mean)) - 2 * ((x @ weighted.T) * scores).sum(axis=1)
    of_fit = weights @ mean**2 + 2 * scores @ (weighted @ mean) + ((scores @ (weighted @ components.T)) * scores).sum(1)
    return (of_x + of_fit) / max(int(measured.sum()), 1)


def entropy(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Entropy of the probabilities, in nats; unlike an energy it sees no constant in the logits. Shape (n_cells,)."""
    log_p = log_softmax(logits.astype(np.float64), axis=1)
    return -(np.exp(log_p) * log_p).sum(axis=1)


def rank(values: NDArray[np.floating], known: torch.Tensor | NDArray[np.floating]) -> NDArray[np.float64]:
    """Share of known values that are lower, equal ones counted half, as if there were one more above and below."""
    known = np.sort(np.asarray(known, dtype=np.float32))
    values = values.astype(np.float32)
    lower, not_higher = np.searchsorted(known, values), np.searchsorted(known, values, side="right")
    return (0.5 * (lower + not_higher) + 0.5) / (len(known) + 1)


def _tensor(values: NDArray[np.floating]) -> torch.Tensor:
    """In single precision, as it is saved."""
    return torch.from_numpy(np.array(values, dtype=np.float32, order="C"))
