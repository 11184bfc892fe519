"""The scvi-tools face of Polygene."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from anndata import AnnData
from mudata import MuData
from numpy.typing import NDArray
from scvi.model.base import BaseModelClass

from polygene_scverse._compat import field_state, setup_args
from polygene_scverse._constants import N_GENES, PHENOTYPE_FIELD, RANK
from polygene_scverse._layout import TokenLayout
from polygene_scverse._validate import shorten
from polygene_scverse.data._binning import Scale, detect_scale
from polygene_scverse.data._phenotypes import encode_all
from polygene_scverse.data._ranking import genes_by_rank, rank_genes
from polygene_scverse.data._source import expression, iterate_rows, other_places, place
from polygene_scverse.data._table import CellTable
from polygene_scverse.data._tokens import Tokenizer
from polygene_scverse.model._calibration import CalibrationMixin
from polygene_scverse.model._checkpoint import CheckpointMixin
from polygene_scverse.model._conformal import ConformalMixin
from polygene_scverse.model._decision import DecisionMixin
from polygene_scverse.model._evidence import EvidenceMixin
from polygene_scverse.model._gene_decoder import GeneDecoderMixin
from polygene_scverse.model._gene_states import GeneStatesMixin
from polygene_scverse.model._inference import InferenceMixin
from polygene_scverse.model._linear_path import LinearPathMixin
from polygene_scverse.model._novelty import NoveltyMixin
from polygene_scverse.model._ordered import OrderedMixin
from polygene_scverse.model._saving import SavingMixin
from polygene_scverse.model._scoring import ScoringMixin
from polygene_scverse.model._setup import SetupMixin
from polygene_scverse.model._training import TrainingMixin
from polygene_scverse.module import LossConfig, PolygeneModule
from polygene_scverse.module._transformer import resolve_config

KEPT = (
    *("is_trained_", "history_", "edges_", "binning_", "mask_", "masking_", "pairs_", "confounding_"),
    *("calibration_", "conformal_", "novelty_", "first_process"),
)
"""What a model without data takes over."""


class Polygene(
    CheckpointMixin,
    SavingMixin,
    SetupMixin,
    TrainingMixin,
    CalibrationMixin,
    ConformalMixin,
    NoveltyMixin,
    LinearPathMixin,
    GeneDecoderMixin,
    OrderedMixin,
    DecisionMixin,
    EvidenceMixin,
    InferenceMixin,
    ScoringMixin,
    GeneStatesMixin,
    BaseModelClass,
):
    """Masked transformer over binned gene expression and phenotypes.

    Other than scvi-tools' own models it reads raw counts and log1p data alike, matches genes of new data by name,
    takes any number of phenotypes with missing values, and leaves AnnData untouched but for the identifiers that
    ``setup_anndata`` notes in ``uns``.

    Parameters
    ----------
    adata
        Data prepared by :meth:`setup_anndata` or :meth:`setup_mudata`.
    registry
        Registry of a saved model, instead of `adata`.
    genes
        Genes of the model, most variable first. By default the `n_genes` lowest ranks of
        ``var["highly_variable_rank"]``; where that is absent, genes are ranked on all cells.
    n_genes
        Number of genes.
    n_bins
        Number of expression bins, bin 0 ("not expressed") included; 2 for a binary encoding.
    binning
        ``"quantile"`` of the training cells' expressed values, ``"original"`` (0, then 0.1 … 9.0 equally spaced), or
        `n_bins` lower edges, the first of them 0.
    size
        Named size of the network: ``"tiny"``, or ``"512"`` and ``"2432"`` for the original's.
    linear_path
        Whether linear discriminants of the genes, fitted when training has ended, are mixed into the phenotype logits.
    gene_decoder
        Whether the bins of hidden genes are also read out gene by gene, beside BERT's head that all genes share: needed
        wherever the model is asked for genes. Without it the network is that of the original.
    loss
        Values of :class:`~polygene_scverse.module.LossConfig`.
    seed
        Seed of the initial weights.
    layout
        Slots and vocabulary as saved with a model; takes the place of `genes`, `n_genes` and `n_bins`.
    **network
        Values of :class:`~polygene_scverse.module.TransformerConfig` that differ from `size`.

    Examples
    --------
    >>> Polygene.setup_anndata(adata, phenotype_keys=["cell_type", "disease"])
    >>> model = Polygene(adata)
    >>> model.train()
    >>> model.predict_phenotype()["cell_type"]
    """

    _module_cls = PolygeneModule
    _data_free_cls: type[Polygene] | None = None

    def __init__(
        self,
        adata: AnnData | MuData | None = None,
        registry: dict[str, Any] | None = None,
        *,
        genes: Sequence[str] | None = None,
        n_genes: int = N_GENES,
        n_bins: int = 10,
        binning: str | Sequence[float] = "quantile",
        size: str = "tiny",
        linear_path: bool = True,
        gene_decoder: bool = True,
        loss: LossConfig | Mapping[str, Any] | None = None,
        seed: int = 0,
        layout: Mapping[str, Any] | None = None,
        **network: Any,
    ) -> None:
        super().__init__(adata, registry)
        if layout is None:
            genes = self._choose_genes(genes, n_genes)
            layout = TokenLayout.build(self._columns, genes, n_bins).to_dict()
        genes, loss = None, loss if isinstance(loss, LossConfig) else LossConfig(**(loss or {}))
        self.layout = TokenLayout.from_dict(layout)
        self.module = self._module_cls(
            self.layout,
            resolve_config(size, **network),
            loss,
            linear_path=linear_path,
            gene_decoder=gene_decoder,
            ordered={name: entry["values"] for name, entry in self.ordered.items()},
            seed=seed,
        )
        loss = loss.to_dict()
        self.binning_ = binning
        self.edges_ = None
        self.calibration_, self.conformal_, self.novelty_ = {}, {}, {}
        self._model_summary_string = (
            f"Polygene with {self.layout.n_genes} genes in {self.layout.n_bins} bins, phenotypes "
            f"{shorten(self.layout.phenotype_names)}, {self.module.config}"
        )
        self.init_params_ = self._get_init_params(locals())

    @property
    def categories(self) -> dict[str, list[str]]:
        """Categories of each phenotype."""
        return {slot.name: list(slot.categories) for slot in self.layout.phenotypes}

    @property
    def _columns(self) -> dict[str, list[str]]:
        """The obs column of each phenotype, which in a model of the original is not its name, and its categories."""
        return field_state(self.registry, PHENOTYPE_FIELD)["categories"]

    @property
    def genes(self) -> list[str]:
        """Genes of the model, most variable first."""
        return list(self.layout.genes)

    def codes(self, indices: Sequence[int] | NDArray[np.int64] | None = None) -> dict[str, NDArray[np.int64]]:
        """Category codes of each phenotype in the data the model was set up with, -1 where unknown.

        Parameters
        ----------
        indices
            Row numbers; all by default.
        """
        obs = self._anndata(self.adata).obs
        codes, _ = encode_all(obs if indices is None else obs.iloc[np.asarray(indices)], self._columns)
        return dict(zip(self.layout.phenotype_names, codes.T, strict=True))

    def without_data(self) -> Polygene:
        """A model with the same weights that holds no AnnData, so that keeping it keeps no data."""
        params = self.init_params_
        cls = self._data_free_cls or type(self)
        other = cls(None, self.registry_, **params["non_kwargs"], **params["kwargs"].get("network", {}))
        other.module = self.module
        for name in KEPT:
            setattr(other, name, getattr(self, name))
        return other

    def _anndata(self, data: AnnData | MuData) -> AnnData:
        """The AnnData to read: of a MuData the registered modality."""
        if isinstance(data, MuData):
            return data.mod[setup_args(self.registry).get("mod", "rna")]
        return data

    def _expression(self, data: AnnData | MuData) -> tuple[Any, Any, str]:
        args, adata = setup_args(self.registry), self._anndata(data)
        x, var_names = expression(adata, args["layer"], args["use_raw"])
        return x, var_names, place(args["layer"], args["use_raw"])

    def _scale(self, data: AnnData | MuData, rows: NDArray[np.int64]) -> Scale:
        x, _, where = self._expression(data)
        blocks = (block.data for block in iterate_rows(x, rows))
        return detect_scale(blocks, where, other_places(self._anndata(data), where))

    def _choose_genes(self, genes: Sequence[str] | None, n_genes: int) -> list[str]:
        if self.adata is None:
            raise ValueError("`registry`: found one without `layout`. Use Polygene.load to read a saved model.")
        x, var_names, _ = self._expression(self.adata)
        if genes is not None:
            genes = [str(gene) for gene in genes]
            if absent := [gene for gene in genes if gene not in var_names]:
                raise KeyError(f"`genes`: {shorten(absent)} not among adata.var_names. Pass names that are.")
            return genes
        adata = self._anndata(self.adata)
        if RANK in adata.var and len(var_names) == adata.n_vars:
            return genes_by_rank(adata.var[RANK], n_genes)
        rows = np.arange(adata.n_obs)
        return genes_by_rank(rank_genes(x, var_names, rows, self._scale(self.adata, rows)), n_genes)

    def _tokenizer(
        self, data: AnnData | MuData, rows: NDArray[np.int64], edges: NDArray[np.float64] | None = None
    ) -> Tokenizer:
        """Match genes by name and detect the scale; says which genes are unmeasured. Edges: by default its own."""
        _, var_names, _ = self._expression(data)
        scale = self._scale(data, rows)
        edges = np.array(self.edges_) if edges is None else edges
        tokenizer = Tokenizer.match(self.layout.genes, var_names, scale, edges)
        if n_absent := int((~tokenizer.measured).sum()):
            absent = [gene for gene, m in zip(self.layout.genes, tokenizer.measured, strict=True) if not m]
            warnings.warn(
                f"{n_absent} of the model's {self.layout.n_genes} genes are unmeasured in these data: "
                f"{shorten(absent, 5)}. They are left out, which is not the same as not expressed; accuracy may "
                "suffer.",
                UserWarning,
                stacklevel=4,
            )
        return tokenizer

    def _table(self, data: AnnData | MuData, rows: NDArray[np.int64], tokenizer: Tokenizer | None = None) -> CellTable:
        """Tokens and phenotype codes of some rows; codes are read from obs as it is now."""
        tokenizer = tokenizer or self._tokenizer(data, rows)
        cells = tokenizer.read(self._expression(data)[0], rows)
        codes, _ = encode_all(self._anndata(data).obs.iloc[rows], self._columns)
        return CellTable(cells, codes, rows, self.layout, tokenizer.measured)
