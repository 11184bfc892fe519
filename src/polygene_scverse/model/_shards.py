"""Training on files that need not fit into memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scvi.data import AnnDataManager

from polygene_scverse._compat import registry_without_data
from polygene_scverse.data.feed._masking import MaskingRates
from polygene_scverse.data.read._binning import EVERY_VALUE, Scale, make_edges
from polygene_scverse.data.read._fields import ExpressionField, PhenotypeField
from polygene_scverse.data.read._ordered import Ordered, resolve_ordered
from polygene_scverse.data.read._phenotypes import categories_of
from polygene_scverse.data.shards._feed import BUFFER_CELLS, ShardCells, ShardFeed
from polygene_scverse.data.shards._loader import ShardSplitter
from polygene_scverse.data.shards._shard_set import ShardSet
from polygene_scverse.data.shards._survey import tokenizers_of, warn_unmeasured
from polygene_scverse.model._polygene import Polygene


class ShardPolygene(Polygene):
    """A model while it is trained on files; `without_data` makes an ordinary one of it.

    Other than its parent it reads the training cells in buffers, in each epoch anew, and takes bin edges
    from one buffer of cells of all files. Where a buffer holds every cell, all is as in memory.
    """

    _data_splitter_cls = ShardSplitter
    _data_free_cls = Polygene
    scale: Scale
    buffer_cells: int

    @classmethod
    def of_files(
        cls,
        shards: ShardSet,
        phenotypes: Sequence[str],
        genes: Sequence[str],
        scale: Scale,
        buffer_cells: int = BUFFER_CELLS,
        ordered: Ordered = None,
        **model_kwargs: Any,
    ) -> ShardPolygene:
        """A model to be trained.

        Parameters
        ----------
        shards
            The files.
        phenotypes
            Obs columns to learn.
        genes
            Genes of the model, most variable first.
        scale
            Scale of expression.
        buffer_cells
            Cells that are in memory and shuffled together.
        ordered
            Phenotypes whose categories have an order, as in `setup_anndata`.
        **model_kwargs
            Of :class:`~polygene_scverse.model.Polygene`.

        Raises
        ------
        ValueError
            If a phenotype has fewer than two categories, or a file has none of the genes.
        """
        model = cls(None, _registry(shards, phenotypes, ordered), genes=genes, **model_kwargs)
        model._adata, model.scale, model.buffer_cells = shards, scale, buffer_cells
        return model

    def _choose_genes(self, genes: Sequence[str] | None, n_genes: int) -> list[str]:
        return [str(gene) for gene in genes or []]

    def _feed(self, rows: NDArray[np.int64], edges: NDArray[np.float64]) -> ShardFeed:
        tokenizers = tokenizers_of(self.adata, self.layout.genes, self.scale, edges)
        return ShardFeed(self.adata, rows, self.layout, self._columns, tokenizers, self.buffer_cells)

    def _table(self, data: ShardSet, rows: NDArray[np.int64], tokenizer: None = None) -> ShardCells:  # type: ignore[override]
        return self._feed(rows, np.array(self.edges_)).read(np.arange(len(rows)))

    def _training_table(self, rows: NDArray[np.int64], rates: MaskingRates) -> ShardFeed:  # type: ignore[override]
        """The training cells; one buffer of them decides bin edges and the usual length."""
        first = self.edges_ is None
        feed = self._feed(rows, EVERY_VALUE if first else np.array(self.edges_))
        warn_unmeasured(self.adata, self.layout.genes, feed.tokenizers)
        sample = feed.read(feed.buffers(self.buffer_cells, np.random.default_rng(0))[0])
        cells = sample.cells
        if first:
            edges = make_edges(self.binning_, self.layout.n_bins, cells.values)
            cells = cells.rebin(edges)
            self.edges_ = edges.tolist()
            feed = self._feed(rows, edges)
        feed.lengths = np.resize(cells.lengths, len(rows))
        return feed


def _registry(shards: ShardSet, phenotypes: Sequence[str], ordered: Ordered) -> dict[str, Any]:
    """What ``setup_anndata`` would have noted of all cells together."""
    where: dict[str, Any] = {"layer": shards.layer, "use_raw": shards.use_raw}
    args = {"phenotype_keys": list(phenotypes), **where, "ordered": ordered}
    categories = {key: categories_of(shards.obs[key]) for key in phenotypes}
    order = resolve_ordered(categories, ordered, shards.obs)
    names = list(shards.var_names)
    expression: Mapping[str, Any] = {"n_obs": shards.n_obs, "n_vars": len(names), "column_names": names}
    method_args = Polygene._get_setup_method_args(cls=Polygene, adata=None, **args)
    return registry_without_data(
        AnnDataManager(setup_method_args=method_args).registry,
        [
            (ExpressionField(shards.layer, shards.use_raw), dict(expression)),
            (PhenotypeField(list(phenotypes)), {"categories": categories, "unseen": {}, "ordered": order}),
        ],
    )
