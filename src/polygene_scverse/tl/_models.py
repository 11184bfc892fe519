"""Find the model of an AnnData: the one passed, the one last trained on it, or the folder it was saved to."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData
from numpy.typing import NDArray

from polygene_scverse._validate import check_data, check_some, check_writable, modality, shorten
from polygene_scverse.get._lookup import training_note
from polygene_scverse.model import Polygene

_TRAINED: dict[int, tuple[weakref.ref, Polygene]] = {}


def remember(data: AnnData | MuData, model: Polygene) -> None:
    """Record the model that was last trained on an object, for the lifetime of the object."""
    key = id(data)
    _TRAINED[key] = (weakref.ref(data, lambda _: _TRAINED.pop(key, None)), model.without_data())


def find(data: AnnData | MuData, model: Polygene | str | Path | None) -> Polygene:
    """Find the model.

    Parameters
    ----------
    data
        Annotated data matrix to predict.
    model
        A model, the folder it was saved to, or None for the model last trained on `data`.

    Raises
    ------
    ValueError
        If no model is known.
    FileNotFoundError
        If there is no such folder.
    TypeError
        If `model` has another type.
    """
    if isinstance(model, Polygene):
        return model
    if isinstance(model, (str, Path)):
        return _loaded(model)
    if model is not None:
        raise TypeError(f"`model`: found {type(model).__name__}. Pass a Polygene model or the folder it was saved to.")
    known = _TRAINED.get(id(data))
    if known is not None and known[0]() is data:
        return known[1]
    folder = training_note(data).get("folder")
    if folder and Path(folder).is_dir():
        return Polygene.load(folder, adata=False)
    raise ValueError(
        "`model`: none was passed, none was trained on this object in this session, and no folder is recorded in it. "
        "Call pgs.tl.train(adata) first, or pass model= with a model or the folder it was saved to."
    )


def _loaded(folder: str | Path) -> Polygene:
    """The model in a folder; errors call it `model`, the argument of the caller."""
    if str(folder) == "":
        raise ValueError("`model`: found '', but a folder is needed. Pass the folder that the model was saved to.")
    try:
        return Polygene.load(folder, adata=False)
    except (FileNotFoundError, ValueError) as error:
        text = str(error)
        if not text.startswith("`dir_path`:"):
            raise
        raise type(error)(text.replace("`dir_path`", "`model`", 1)) from error


def check_unused(**values: Any) -> None:
    """Raise an error for arguments of a cross-validation if a model is passed; `values` are false if not passed.

    Raises
    ------
    ValueError
        If one is given.
    """
    if given := [name for name, value in values.items() if value is not None and value is not False and value != 0]:
        raise ValueError(
            f"`model`: passed together with {given}, which have no effect because nothing is trained. Leave them "
            "out, or leave out model= for cross-validation."
        )


def gene_names(
    data: AnnData, model: Polygene, gene_symbols: str | None = None, gene_ids: str | None = None
) -> pd.Index:
    """The model's names for the columns of ``X``; their own names if expression is read from ``raw``.

    Parameters
    ----------
    data
        Annotated data matrix.
    model
        The model.
    gene_symbols, gene_ids
        As in :meth:`~polygene_scverse.model.Polygene.gene_names`.
    """
    names = model.gene_names(data, gene_symbols=gene_symbols, gene_ids=gene_ids).names
    return names if len(names) == data.n_vars else data.var_names


def requested_genes(model: Polygene, genes: Sequence[str] | None) -> list[str]:
    """The requested genes of a model, by default all.

    Raises
    ------
    KeyError
        If a gene is not in the model.
    ValueError
        If the list is empty.
    """
    names = model.genes if genes is None else [str(gene) for gene in check_some(genes, "genes")]
    if absent := sorted(set(names) - set(model.genes)):
        raise KeyError(f"`genes`: {shorten(absent)} are not genes of the model. Pass genes from model.genes.")
    return list(names)


def genes_in_var(
    data: AnnData,
    model: Polygene,
    genes: Sequence[str],
    gene_symbols: str | None = None,
    gene_ids: str | None = None,
) -> tuple[NDArray[np.int64], pd.Index]:
    """Find genes of a model among the columns of ``X``: their positions in `genes`, and their ``var_names``.

    Parameters
    ----------
    data
        Annotated data matrix.
    model
        The model.
    genes
        Some of its genes; both results are in this order.
    gene_symbols, gene_ids
        As in `gene_names`.
    """
    at = pd.Index(genes).get_indexer(gene_names(data, model, gene_symbols, gene_ids))
    columns = np.argsort(at, kind="stable")
    columns = columns[at[columns] >= 0]
    return at[columns].astype(np.int64), data.var_names[columns]


def name_of_modality(data: AnnData | MuData, mod: str | None, model: Polygene | None = None) -> str:
    """Name of the modality to work on: `mod`, that of the model, that of the last training on `data`, or ``"rna"``."""
    if mod is not None:
        return mod
    return str(training_note(data).get("mod", "rna")) if model is None else model.modality


def anndata_of(data: AnnData | MuData, mod: str | None, model: Polygene | None = None) -> AnnData:
    """The AnnData to work on; for a MuData, the modality with the name given by `name_of_modality`.

    Raises
    ------
    KeyError
        If the modality does not exist.
    TypeError
        If `data` has another type.
    ValueError
        If it is a view of a backed file.
    """
    check_data(data)
    data = modality(data, name_of_modality(data, mod, model))
    check_writable(data)
    return data


def cells_and_model(
    data: AnnData | MuData, model: Polygene | str | Path | None, mod: str | None
) -> tuple[AnnData, Polygene]:
    """The AnnData to work on, as from `anndata_of`, and the model, as from `find`."""
    check_data(data)
    trained = find(data, model)
    return anndata_of(data, mod, trained), trained
