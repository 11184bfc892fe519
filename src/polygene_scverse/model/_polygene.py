"""The scvi-tools face of Polygene."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from anndata import AnnData
from mudata import MuData
from numpy.typing import NDArray
from scvi.data import AnnDataManager
from scvi.model.base import BaseModelClass

from polygene_scverse._compat import field_state, setup_args
from polygene_scverse._constants import PHENOTYPE_FIELD, RANK
from polygene_scverse._layout import TokenLayout
from polygene_scverse._validate import check_not_empty, shorten
from polygene_scverse.data._binning import Scale, detect_scale
from polygene_scverse.data._dataloader import CellTable
from polygene_scverse.data._fields import ExpressionField, PhenotypeField
from polygene_scverse.data._phenotypes import encode_all, resolve_phenotypes
from polygene_scverse.data._ranking import genes_by_rank, rank_genes
from polygene_scverse.data._source import expression, iterate_rows, other_places, place
from polygene_scverse.data._tokens import Tokenizer
from polygene_scverse.model._checkpoint import CheckpointMixin
from polygene_scverse.model._decision import DecisionMixin
from polygene_scverse.model._inference import InferenceMixin
from polygene_scverse.model._saving import SavingMixin
from polygene_scverse.model._training import TrainingMixin
from polygene_scverse.module import LossConfig, PolygeneModule
from polygene_scverse.module._transformer import resolve_config


class Polygene(CheckpointMixin, SavingMixin, TrainingMixin, DecisionMixin, InferenceMixin, BaseModelClass):
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
        Whether a linear bag of genes adds to the phenotype logits.
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

    def __init__(
        self,
        adata: AnnData | MuData | None = None,
        registry: dict[str, Any] | None = None,
        *,
        genes: Sequence[str] | None = None,
        n_genes: int = 2000,
        n_bins: int = 10,
        binning: str | Sequence[float] = "quantile",
        size: str = "tiny",
        linear_path: bool = True,
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
            self.layout, resolve_config(size, **network), loss, linear_path=linear_path, seed=seed
        )
        loss = loss.to_dict()
        self.binning_ = binning
        self.edges_ = None
        self._model_summary_string = (
            f"Polygene with {self.layout.n_genes} genes in {self.layout.n_bins} bins, phenotypes "
            f"{shorten(self.layout.phenotype_names)}, {self.module.config}"
        )
        self.init_params_ = self._get_init_params(locals())

    @classmethod
    def setup_anndata(
        cls,
        adata: AnnData,
        phenotype_keys: str | Sequence[str] | None = None,
        layer: str | None = None,
        use_raw: bool = False,
        **kwargs: Any,
    ) -> None:
        """Register expression and phenotypes.

        Parameters
        ----------
        adata
            Annotated data matrix; only two identifiers of scvi-tools are written, into ``uns``.
        phenotype_keys
            Obs columns to learn. By default those with a usual name, such as ``cell_type`` or ``disease``.
        layer
            Layer that holds raw counts or log1p of counts per 10,000; by default ``X``.
        use_raw
            Whether to read ``adata.raw`` instead.
        **kwargs
            Passed to scvi-tools' data manager; ``load`` uses it.

        Raises
        ------
        KeyError
            If a column or layer does not exist.
        ValueError
            If a phenotype has fewer than two categories, if none is found, if the data are empty or a view, or if gene
            names are not unique.
        """
        if adata.is_view:
            raise ValueError("`adata`: found a view of another AnnData, which cannot be registered. Pass adata.copy().")
        check_not_empty(*adata.shape)
        known = _known_phenotypes(kwargs.get("source_registry"))
        phenotype_keys = known or resolve_phenotypes(adata.obs, phenotype_keys)  # stored, and asked for again at load
        cls._register(
            adata,
            cls._get_setup_method_args(
                cls=cls, adata=adata, phenotype_keys=phenotype_keys, layer=layer, use_raw=use_raw
            ),
            [ExpressionField(layer, use_raw), PhenotypeField(phenotype_keys)],
            **kwargs,
        )

    @classmethod
    def setup_mudata(
        cls,
        mdata: MuData,
        phenotype_keys: str | Sequence[str] | None = None,
        layer: str | None = None,
        use_raw: bool = False,
        mod: str = "rna",
        **kwargs: Any,
    ) -> None:
        """Register expression and phenotypes of one modality of a MuData.

        Parameters
        ----------
        mdata
            Multimodal data; only identifiers of scvi-tools are written, into ``uns``.
        phenotype_keys
            Columns of the modality's obs. By default those with a usual name.
        layer, use_raw
            As in `setup_anndata`.
        mod
            The modality that holds gene expression.
        **kwargs
            As in `setup_anndata`.

        Raises
        ------
        KeyError
            If there is no such modality, or as in `setup_anndata`.
        ValueError
            As in `setup_anndata`.
        """
        if mod not in mdata.mod:
            raise KeyError(f"`mod`: {mod!r} is not among the modalities {list(mdata.mod)}. Pass one of them.")
        known = _known_phenotypes(kwargs.get("source_registry"))
        phenotype_keys = known or resolve_phenotypes(mdata.mod[mod].obs, phenotype_keys)
        cls._register(
            mdata,
            cls._get_setup_method_args(
                cls=cls, mdata=mdata, phenotype_keys=phenotype_keys, layer=layer, use_raw=use_raw, mod=mod
            ),
            [ExpressionField(layer, use_raw, mod_key=mod), PhenotypeField(phenotype_keys, mod_key=mod)],
            **kwargs,
        )

    @classmethod
    def _register(cls, data: AnnData | MuData, method_args: dict, fields: list, **kwargs: Any) -> None:
        manager = AnnDataManager(fields=fields, setup_method_args=method_args)
        manager.register_fields(data, **kwargs)
        cls.register_manager(manager)

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
        other = type(self)(None, self.registry_, **params["non_kwargs"], **params["kwargs"].get("network", {}))
        other.module = self.module
        for name in ("is_trained_", "history_", "edges_", "binning_", "mask_"):
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


def _known_phenotypes(registry: dict[str, Any] | None) -> list[str] | None:
    """Phenotypes of a saved model: data that lack some of them are welcome."""
    return None if registry is None else list(field_state(registry, PHENOTYPE_FIELD)["categories"])
