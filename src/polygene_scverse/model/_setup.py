"""Registration of data: which expression and which phenotypes are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from anndata import AnnData
from mudata import MuData
from scvi.data import AnnDataManager
from scvi.model.base import BaseModelClass

from polygene_scverse._compat import field_state
from polygene_scverse._constants import PHENOTYPE_FIELD
from polygene_scverse._validate import check_not_empty
from polygene_scverse.data.read._fields import ExpressionField, PhenotypeField
from polygene_scverse.data.read._ordered import Ordered
from polygene_scverse.data.read._phenotypes import resolve_phenotypes


class SetupMixin(BaseModelClass):
    """`setup_anndata` and `setup_mudata` of the model."""

    @classmethod
    def setup_anndata(
        cls,
        adata: AnnData,
        phenotype_keys: str | Sequence[str] | None = None,
        layer: str | None = None,
        use_raw: bool = False,
        ordered: Ordered = None,
        missing: str | Sequence[str] | None = None,
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
        ordered
            Phenotypes whose categories have an order, such as ages: being wrong by much then costs more than being
            wrong by little. A list of names, if the categories stand for numbers ("34", "20-29", "34-year-old stage"),
            or a mapping from each name to its categories in order. By default those that are ordered categoricals.
        missing
            Labels that mean "no value", besides NaN, None, empty text and, whatever their case, "unknown",
            "unassigned", "nan", "n/a" and "<NA>"; an empty list keeps every label. "none" and "NA" are labels unless
            they are named here.
        **kwargs
            ``source_registry``, the registry of a saved model, which ``load`` passes. Nothing else is swallowed.

        Raises
        ------
        TypeError
            If an argument is not known, such as ``batch_key`` of other models.
        KeyError
            If a column or layer does not exist.
        ValueError
            If a phenotype has fewer than two categories, if none is found, if nothing tells the order of an ordered
            one, if the data are empty or a view, or if gene names are not unique.
        """
        _check_known(kwargs, ("phenotype_keys", "layer", "use_raw", "ordered", "missing"))
        if adata.is_view:
            raise ValueError("`adata`: found a view of another AnnData, which cannot be registered. Pass adata.copy().")
        check_not_empty(*adata.shape)
        known = _known_phenotypes(kwargs.get("source_registry"))
        phenotype_keys = known or resolve_phenotypes(adata.obs, phenotype_keys)  # stored, and asked for again at load
        cls._register(
            adata,
            cls._get_setup_method_args(
                cls=cls,
                adata=adata,
                phenotype_keys=phenotype_keys,
                layer=layer,
                use_raw=use_raw,
                ordered=ordered,
                missing=missing,
            ),
            [ExpressionField(layer, use_raw), PhenotypeField(phenotype_keys, ordered=ordered, missing=missing)],
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
        ordered: Ordered = None,
        missing: str | Sequence[str] | None = None,
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
        ordered, missing
            As in `setup_anndata`.
        **kwargs
            As in `setup_anndata`.

        Raises
        ------
        TypeError
            As in `setup_anndata`.
        KeyError
            If there is no such modality, or as in `setup_anndata`.
        ValueError
            As in `setup_anndata`.
        """
        _check_known(kwargs, ("phenotype_keys", "layer", "use_raw", "mod", "ordered", "missing"))
        if mod not in mdata.mod:
            raise KeyError(f"`mod`: {mod!r} is not among the modalities {list(mdata.mod)}. Pass one of them.")
        known = _known_phenotypes(kwargs.get("source_registry"))
        phenotype_keys = known or resolve_phenotypes(mdata.mod[mod].obs, phenotype_keys)
        cls._register(
            mdata,
            cls._get_setup_method_args(
                cls=cls,
                mdata=mdata,
                phenotype_keys=phenotype_keys,
                layer=layer,
                use_raw=use_raw,
                mod=mod,
                ordered=ordered,
                missing=missing,
            ),
            [ExpressionField(layer, use_raw, mod_key=mod), PhenotypeField(phenotype_keys, mod, ordered, missing)],
            **kwargs,
        )

    @classmethod
    def _register(cls, data: AnnData | MuData, method_args: dict, fields: list, **kwargs: Any) -> None:
        manager = AnnDataManager(fields=fields, setup_method_args=method_args)
        manager.register_fields(data, **kwargs)
        cls.register_manager(manager)


REMEDIES = {
    "labels_key": "Pass the column in phenotype_keys=.",
    "batch_key": "Batches are not modelled: pass the column to train(group_key=...) to hold whole batches out, or in "
    "phenotype_keys= to predict it.",
}


def _check_known(kwargs: Mapping[str, Any], known: Sequence[str]) -> None:
    """Refuse arguments that would do nothing."""
    unknown = [name for name in kwargs if name != "source_registry"]
    if unknown:
        remedy = REMEDIES.get(unknown[0], "Leave it out.")
        raise TypeError(f"`{unknown[0]}`: there is no such argument, there are {list(known)}. {remedy}")


def _known_phenotypes(registry: dict[str, Any] | None) -> list[str] | None:
    """Phenotypes of a saved model: data that lack some of them are welcome."""
    return None if registry is None else list(field_state(registry, PHENOTYPE_FIELD)["categories"])
