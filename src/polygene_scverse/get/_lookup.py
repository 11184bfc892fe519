"""Look up results in AnnData, with errors for those that are missing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from polygene_scverse._constants import (
    MISSING_WORDS,
    UNASSIGNED,
    UNS,
    confidence_key,
    note_key,
    phenotype_of,
    prediction_key,
    probability_key,
)
from polygene_scverse._validate import check_anndata, check_data, distinct, label_of, notes_of, shorten


def predicted_phenotypes(adata: AnnData) -> list[str]:
    """Phenotypes that have been predicted: obs has their prediction and its confidence."""
    check_anndata(adata)
    names = [phenotype_of(key) for key in adata.obs]
    return [name for name in names if name is not None and confidence_key(name) in adata.obs]


def the_phenotype(adata: AnnData, phenotype: str | None) -> str:
    """The requested phenotype, or the only one that was predicted.

    Raises
    ------
    KeyError
        If no phenotype has been predicted.
    ValueError
        If several phenotypes have been predicted and `phenotype` is None.
    """
    if phenotype is not None:
        return phenotype
    found = predicted_phenotypes(adata)
    if not found:
        raise KeyError("`phenotype`: adata has no predictions. Call pgs.tl.predict_phenotype(adata) first.")
    if len(found) > 1:
        raise ValueError(
            f"`phenotype`: {len(found)} phenotypes have been predicted, {shorten(found)}. Pass one of them."
        )
    return found[0]


def check_predicted(adata: AnnData, phenotype: str, *, where: str = "obs", key_of: Callable = prediction_key) -> None:
    """Check that the result of a phenotype exists.

    Raises
    ------
    KeyError
        If it does not exist.
    """
    key = key_of(phenotype)
    if key in getattr(adata, where):
        return
    found = predicted_phenotypes(adata)
    there = f"Predicted so far: {shorten(found)}. Pass one of them, or call" if found else "Call"
    raise KeyError(
        f"`phenotype`: no prediction of {phenotype!r} found: adata.{where} has no {key!r}. {there} "
        "pgs.tl.predict_phenotype(adata) first."
    )


def model_categories(adata: AnnData, phenotype: str) -> list[str]:
    """Categories of the model, as recorded in uns; AnnData drops unused categories from obs in a subset.

    Raises
    ------
    ValueError
        If cells are predicted to be of other categories, because these were renamed or are those of another model.
    """
    predicted = adata.obs[prediction_key(phenotype)].astype("category").cat.categories
    noted = notes_of(adata).get("predict", {}).get(note_key(phenotype))
    if noted is None:
        return list(predicted)
    found = [str(name) for name in noted]
    if unknown := [name for name in predicted if str(name) not in (*found, UNASSIGNED)]:
        raise ValueError(
            f"`adata`: adata.obs[{prediction_key(phenotype)!r}] has {shorten(unknown)}, but the categories of the "
            f"predictions in adata.uns['polygene']['predict'] are {shorten(found)}. Rename them in both, or call "
            "pgs.tl.predict_phenotype(adata, model=model) again."
        )
    return found


def is_predicted(adata: AnnData, phenotype: str) -> NDArray[np.bool_]:
    """Whether each cell has a prediction; others come from data without predictions, by concatenation."""
    return adata.obs[prediction_key(phenotype)].notna().to_numpy()


def category_table(adata: AnnData, phenotype: str, key_of: Callable, call: str) -> pd.DataFrame:
    """Entry of obsm with a column for each category, as a table (n_obs x n_categories).

    Raises
    ------
    KeyError
        If the entry does not exist.
    ValueError
        If the names of the categories are missing from ``uns`` and those in obs are others or have another order, as
        after concatenation; calling `tl.predict_phenotype` with `call` restores them.
    """
    check_predicted(adata, phenotype, where="obsm", key_of=key_of)
    key, names = key_of(phenotype), model_categories(adata, phenotype)
    values = np.array(adata.obsm[key])
    if len(names) != values.shape[1] or not _in_order(adata, phenotype, names):
        n = len(names)
        known = f"{n} categories are known" if n != values.shape[1] else "the categories in obs have another order"
        raise ValueError(
            f"`adata`: adata.obsm[{key!r}] has {values.shape[1]} columns, but {known}: their names in "
            "adata.uns['polygene']['predict'] are missing, for example after concatenation. Concatenate with "
            f"anndata.concat(..., uns_merge='same'), or call pgs.tl.predict_phenotype({call}) again."
        )
    return pd.DataFrame(values, index=adata.obs_names, columns=names)


def _in_order(adata: AnnData, phenotype: str, names: list[str]) -> bool:
    """Whether categories that are read from obs have the order of the probabilities.

    They have another one after concatenation. If it is the same, each confidence is the probability of its category.
    """
    there = probability_key(phenotype) in adata.obsm and confidence_key(phenotype) in adata.obs
    if note_key(phenotype) in notes_of(adata).get("predict", {}) or not there:
        return True
    codes = codes_among(adata.obs[prediction_key(phenotype)], names)
    rows = np.flatnonzero(codes >= 0)
    probabilities = np.asarray(adata.obsm[probability_key(phenotype)])
    confidence = adata.obs[confidence_key(phenotype)].to_numpy(dtype=float)[rows]
    return bool(np.allclose(probabilities[rows, codes[rows]], confidence, atol=1e-4))


def training_note(adata: AnnData) -> Mapping[str, Any]:
    """Entry of `tl.train` in uns; empty if no model was trained on `adata`."""
    check_data(adata)
    found = notes_of(adata).get("train")
    return found if isinstance(found, Mapping) else {}


def note_of(adata: AnnData, key: str) -> Any:
    """Entry of a function in uns; None if it was not called on `adata`."""
    check_anndata(adata)
    return notes_of(adata).get(key)


def result_of(adata: AnnData, key: str, call: str) -> Mapping[str, Any]:
    """Entry of a function in uns.

    Raises
    ------
    KeyError
        If it does not exist; names the `call` that writes it.
    """
    note = note_of(adata, key)
    if note is None:
        raise KeyError(f"`adata`: no result in adata.uns[{UNS!r}][{key!r}]. Call {call} first.")
    return note


def token_note(adata: AnnData, key: str) -> Mapping[str, Any]:
    """Entry of `tl.score_tokens` in uns.

    Raises
    ------
    KeyError
        If it does not exist.
    """
    note = note_of(adata, key)
    if note is None:
        raise KeyError(
            f"`key`: there are no scores of hidden tokens in adata.uns['polygene'][{key!r}]. Call "
            "pgs.tl.score_tokens(adata) first."
        )
    return note


def recorded_column(adata: AnnData, phenotype: str) -> str | None:
    """Obs column with the recorded labels of a predicted phenotype, None if there is none."""
    column = _column_of(adata, phenotype)
    return column if column in adata.obs else None


def _column_of(adata: AnnData, phenotype: str) -> str:
    """Obs column of a phenotype: of that name, but models of the original read ``age`` from ``development_stage``."""
    return str(notes_of(adata).get("columns", {}).get(note_key(phenotype), phenotype))


def recorded_labels(
    column: pd.Series, categories: Sequence[str] = (), missing: Collection[str] = MISSING_WORDS
) -> pd.Series:
    """Labels of an obs column as the model reads them; missing values are NaN.

    Parameters
    ----------
    column
        The column.
    categories
        Categories of the model, which are never treated as missing.
    missing
        Labels, in lower case, that mean a missing value.
    """
    words = set(missing) - {category.lower() for category in categories}
    positions, values = pd.factorize(column)
    names = np.array([*(label_of(value, words) for value in distinct(values)), None], dtype=object)
    return pd.Series(names[positions], index=column.index, name=column.name, dtype=object)  # -1 selects the last name


def recorded_codes(adata: AnnData, phenotype: str, categories: list[str]) -> NDArray[np.int64]:
    """Codes of the recorded labels among the model's categories, -1 where missing or not known; shape (n_obs,).

    Raises
    ------
    KeyError
        If the phenotype is not recorded.
    """
    column = recorded_column(adata, phenotype)
    if column is None:
        raise not_recorded(adata, phenotype)
    return codes_among(recorded_labels(adata.obs[column], categories), categories)


def not_recorded(adata: AnnData, phenotype: str) -> KeyError:
    """Error for a phenotype that is predicted but not recorded."""
    return KeyError(
        f"`phenotype`: {phenotype!r} is predicted but not recorded: adata.obs has no column "
        f"{_column_of(adata, phenotype)!r}, so there is nothing to compare with. Use "
        "pgs.get.predictions(adata, phenotype) instead."
    )


def codes_among(labels: pd.Series, categories: list[str]) -> NDArray[np.int64]:
    """Position of each label among the categories, -1 where it is missing or not among them; shape (n_obs,)."""
    return pd.Index(categories, dtype=object).get_indexer(pd.Index(labels, dtype=object)).astype(np.int64)


def scored_phenotypes(adata: AnnData, phenotypes: str | Sequence[str] | None) -> list[str]:
    """The requested phenotypes, by default all that are predicted and recorded.

    Raises
    ------
    KeyError
        If there are none.
    """
    if phenotypes is not None:
        return [phenotypes] if isinstance(phenotypes, str) else list(phenotypes)
    predicted = predicted_phenotypes(adata)
    found = [name for name in predicted if recorded_column(adata, name) is not None]
    if not found:
        raise KeyError(
            f"`phenotypes`: none of the predicted phenotypes {shorten(predicted)} is recorded in adata.obs, so there "
            "is nothing to compare with. Call pgs.tl.predict_phenotype(adata) on cells whose phenotypes are recorded."
        )
    return found
