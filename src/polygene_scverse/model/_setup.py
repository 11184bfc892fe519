"""Registration of expression and phenotypes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from anndata import AnnData
from mudata import MuData
from scvi.data import AnnDataManager
from scvi.model.base import BaseModelClass

from polygene_scverse._compat import field_state, registry_without_data
from polygene_scverse._constants import PHENOTYPE_FIELD
from polygene_scverse._validate import check_anndata, check_not_empty, modality
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
        gene_symbols: str | None = None,
        gene_ids: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Register expression and phenotypes.

        Parameters
        ----------
        adata
            Annotated data matrix. Only two identifiers of scvi-tools are written to ``uns``.
        phenotype_keys
            Obs columns to learn. By default, columns with a common name such as ``cell_type`` or ``disease``.
        layer
            Layer with raw counts or log-normalised values; by default ``X``.
        use_raw
            Whether to use ``adata.raw`` instead of ``X``.
        ordered
            Phenotypes whose categories have an order, such as ages; large errors are then penalised more than small
            ones. A list of names, if the categories are numeric ("34", "20-29", "34-year-old stage"), or a mapping from
            names to categories in order. By default, ordered categoricals.
        missing
            Labels that are read as missing, in addition to NaN, None, empty strings, and "unknown", "unassigned",
            "nan", "n/a" and "<NA>" in any case; an empty list keeps every label. "none" and "NA" are labels unless they
            are listed here.
        gene_symbols, gene_ids
            Column of ``var`` with the gene names to use instead of ``var_names``. Where it is empty or not unique,
            ``var_names`` is kept. New data are matched by the same column, if they have it.
        **kwargs
            ``source_registry``, the registry of a saved model, passed by ``load``. Other arguments are an error.

        Raises
        ------
        TypeError
            If an argument is unknown, such as ``batch_key`` of other models.
        KeyError
            If a column or layer does not exist.
        ValueError
            If a phenotype has fewer than two categories, if no phenotype is found, if the order of an ordered phenotype
            is unknown, if the data are empty or a view, or if gene names are not unique.
        """
        _check_known(kwargs, ("phenotype_keys", "layer", "use_raw", "ordered", "missing", *GENE_NAMES))
        check_anndata(adata)
        check_not_empty(*adata.shape)
        arguments = {"layer": layer, "use_raw": use_raw, "ordered": ordered, "missing": missing}
        arguments |= {"gene_symbols": gene_symbols, "gene_ids": gene_ids}
        cls._register({"adata": adata}, adata, phenotype_keys, arguments, **kwargs)

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
        gene_symbols: str | None = None,
        gene_ids: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Register expression and phenotypes of one modality of a MuData.

        Parameters
        ----------
        mdata
            Multimodal data. Only identifiers of scvi-tools are written to ``uns``.
        phenotype_keys
            Obs columns of the modality to learn. By default, columns with a common name.
        layer, use_raw
            As in `setup_anndata`.
        mod
            Modality with gene expression.
        ordered, missing, gene_symbols, gene_ids
            As in `setup_anndata`.
        **kwargs
            As in `setup_anndata`.

        Raises
        ------
        TypeError
            As in `setup_anndata`.
        KeyError
            If the modality does not exist, or as in `setup_anndata`.
        ValueError
            As in `setup_anndata`.
        """
        _check_known(kwargs, ("phenotype_keys", "layer", "use_raw", "mod", "ordered", "missing", *GENE_NAMES))
        if not isinstance(mdata, MuData):
            raise TypeError(
                f"`mdata`: found {type(mdata).__name__}, but MuData is needed. Pass MuData({{{mod!r}: adata}})."
            )
        if fewer := [name for name, part in mdata.mod.items() if part.n_obs < mdata.n_obs]:
            raise ValueError(
                f"`mdata`: {fewer} lack some of the {mdata.n_obs:,} cells, but each modality must have all. Pass "
                f"mdata[{mod!r}] alone, or keep the cells that all have, with muon.pp.intersect_obs(mdata)."
            )
        arguments = {"layer": layer, "use_raw": use_raw, "mod": mod, "ordered": ordered, "missing": missing}
        arguments |= {"gene_symbols": gene_symbols, "gene_ids": gene_ids}
        cls._register({"mdata": mdata}, modality(mdata, mod), phenotype_keys, arguments, **kwargs)

    def get_anndata_manager(self, adata: AnnData | MuData, required: bool = False) -> AnnDataManager | None:
        """Return scvi-tools' record of some data; also that of the model's own data if scvi-tools no longer has it.

        Parameters
        ----------
        adata
            The data.
        required
            Whether it is an error if there is none.
        """
        manager = self._adata_manager
        return manager if manager and manager.adata is adata else super().get_anndata_manager(adata, required)

    def view_anndata_setup(self, adata: AnnData | MuData | None = None, hide_state_registries: bool = False) -> None:
        """Print how data were set up.

        Parameters
        ----------
        adata
            Data that were set up for this model; by default its own.
        hide_state_registries
            Whether to leave out the phenotypes and their categories.

        Raises
        ------
        ValueError
            If the model holds no data, or if `adata` were not set up for it.
        """
        manager = self._adata_manager if adata is None else self.get_anndata_manager(adata)
        if manager is None:
            found = "the model holds no data" if adata is None else "these data were not set up for this model"
            raise ValueError(f"`adata`: {found}. Pass the data that model.adata is set to.")
        manager.view_registry(hide_state_registries=hide_state_registries)

    @classmethod
    def _register(
        cls,
        data: dict[str, AnnData | MuData],
        modality: AnnData,
        phenotype_keys: str | Sequence[str] | None,
        arguments: dict[str, Any],
        **kwargs: Any,
    ) -> None:
        """Register data, keyed by the name of their argument; `modality` is the AnnData that is read."""
        for name, given in data.items():
            if given.is_view:
                raise ValueError(
                    f"`{name}`: found a view of another {type(given).__name__}, which cannot be registered. Pass "
                    f"{name}.copy()."
                )
        known = _known_phenotypes(kwargs.get("source_registry"))
        keys = known or resolve_phenotypes(modality.obs, phenotype_keys)  # stored, because `load` passes them again
        args = cls._get_setup_method_args(cls=cls, **data, phenotype_keys=keys, **arguments)
        mod = arguments.get("mod")
        expression = ExpressionField(arguments["layer"], arguments["use_raw"], mod_key=mod)
        phenotypes = PhenotypeField(keys, mod, arguments["ordered"], arguments["missing"])
        manager = AnnDataManager(fields=[expression, phenotypes], setup_method_args=args)
        manager.register_fields(*data.values(), **kwargs)
        cls.register_manager(manager)


GENE_NAMES = ("gene_symbols", "gene_ids")
"""Arguments with names of columns of ``var``."""
REMEDIES = {
    "labels_key": "Pass the column in phenotype_keys=.",
    "batch_key": "Batches are not modelled: pass the column to train(group_key=...) to hold whole batches out, or in "
    "phenotype_keys= to predict it.",
}


def _check_known(kwargs: Mapping[str, Any], known: Sequence[str]) -> None:
    """Raise an error for arguments that would have no effect."""
    unknown = [name for name in kwargs if name != "source_registry"]
    if unknown:
        remedy = REMEDIES.get(unknown[0], "Leave it out.")
        raise TypeError(f"`{unknown[0]}`: unknown argument; the arguments are {list(known)}. {remedy}")


def _known_phenotypes(registry: dict[str, Any] | None) -> list[str] | None:
    """Phenotypes of a saved model; new data may lack some of them."""
    return None if registry is None else list(field_state(registry, PHENOTYPE_FIELD)["categories"])


def registry_of(
    model_cls: type[BaseModelClass],
    n_obs: int,
    genes: Sequence[str],
    categories: Mapping[str, Sequence[str]],
    *,
    order: Mapping[str, Any] | None = None,
    **arguments: Any,
) -> dict[str, Any]:
    """The registry that `setup_anndata` would make of data that are not in memory.

    Parameters
    ----------
    model_cls
        Class of the model.
    n_obs, genes
        Number of cells, and gene names.
    categories
        Categories of each obs column, in the order of the slots.
    order
        Values of the categories of ordered phenotypes, see `resolve_ordered`.
    **arguments
        Arguments of `setup_anndata`.
    """
    args = {
        "phenotype_keys": list(categories),
        "ordered": None,
        "missing": None,
        **dict.fromkeys(GENE_NAMES),
        **arguments,
    }
    method_args = model_cls._get_setup_method_args(cls=model_cls, adata=None, **args)
    expression = {"n_obs": n_obs, "n_vars": len(genes), "column_names": list(genes)}
    phenotypes = {"categories": dict(categories), "unseen": {}, "ordered": dict(order or {})}
    return registry_without_data(
        AnnDataManager(setup_method_args=method_args).registry,
        [
            (ExpressionField(args["layer"], args["use_raw"]), expression),
            (PhenotypeField(args["phenotype_keys"]), phenotypes),
        ],
    )
