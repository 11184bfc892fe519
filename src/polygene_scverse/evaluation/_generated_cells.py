"""Read the cells for a comparison with generated cells: shared classes and genes, and equal numbers of cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from numpy.typing import NDArray

from polygene_scverse._validate import check_labels, shorten
from polygene_scverse.data.read._expression import Expression
from polygene_scverse.data.read._phenotypes import labels as numbered
from polygene_scverse.evaluation._check_generated import (
    MIN_CELLS,
    CellSet,
    class_names,
    draw_alike,
    halves,
    usable_classes,
)
from polygene_scverse.evaluation._likeness import Codes, normalized

MOST_REAL: Final = 2
"""Number of cells for simple generators, as a multiple of the number of generated and held-out cells."""
COUNTS: Final = "counts"
"""Layer of generated cells that is read if it exists."""


@dataclass(frozen=True)
class GeneratedSets:
    """Sets of cells to compare.

    Parameters
    ----------
    generated, reference
        Cells with the same number of each class, ordered by class.
    real
        Cells to which simple generators are fitted.
    labels
        Categories of each class; shape (n_classes, n_columns).
    genes
        Names of the genes.
    left_out
        Classes with too few cells.
    needed
        Number of cells of a class that the held-out data need.
    """

    generated: CellSet
    reference: CellSet
    real: CellSet
    labels: pd.DataFrame
    genes: list[str]
    left_out: list[str]
    needed: int


def read_sets(
    adata: AnnData,
    reference: AnnData,
    training: AnnData | None,
    columns: Sequence[str],
    *,
    n_genes: int,
    max_cells: int,
    layer: str | None,
    seed: int,
    use_raw: bool = False,
) -> GeneratedSets:
    """Check, draw and read the cells; see :func:`~polygene_scverse.tl.check_generated` for arguments and errors."""
    if n_genes < 2 or max_cells < 2 * MIN_CELLS:
        raise ValueError(
            f"`n_genes`, `max_cells`: found {n_genes} and {max_cells}, but at least 2 genes and {2 * MIN_CELLS} cells "
            "are needed. Pass larger numbers."
        )
    data = {"adata": adata, "reference": reference} | ({} if training is None else {"training": training})
    for name, part in data.items():
        if not isinstance(part, AnnData):
            raise TypeError(f"`{name}`: found {type(part).__name__}, but AnnData is needed.")
    if not columns:
        raise ValueError("`groupby`: found no column. Pass the obs columns that define the classes.")
    tables = {name: _labels(part, columns, name) for name, part in data.items()}
    kinds = tables["reference"].dropna().drop_duplicates().sort_values(list(columns)).reset_index(drop=True)
    codes = {name: _codes(table, kinds) for name, table in tables.items()}
    random = np.random.default_rng([seed, 0])
    rows = {name: np.arange(part.n_obs) for name, part in data.items()}
    if training is None:
        known = np.flatnonzero(codes["reference"] >= 0)
        real, held_out = (known[half] for half in halves(codes["reference"][known], random))
        rows |= {"real": real, "reference": held_out}
    else:
        rows["real"] = rows.pop("training")
    source = {"adata": "adata", "reference": "reference", "real": "reference" if training is None else "training"}
    of = {name: codes[source[name]][rows[name]] for name in source}
    usable = usable_classes([of[name] for name in source], len(kinds))
    needed = 2 * MIN_CELLS if training is None else MIN_CELLS
    if usable.sum() < 2:
        raise _too_few(codes, class_names(kinds), int(usable.sum()), needed)
    chosen = np.flatnonzero(usable)
    drawn = dict(zip(("adata", "reference"), draw_alike([of["adata"], of["reference"]], chosen, max_cells, random),
                     strict=True))  # fmt: skip
    (drawn["real"],) = draw_alike([of["real"]], chosen, MOST_REAL * max_cells, random)
    places = {"adata": (layer_of_generated(adata), False)} | dict.fromkeys(("reference", "real"), (layer, use_raw))
    expressions = {name: Expression.of(data[source[name]], *places[name]) for name in source}
    names = expressions["adata"].var_names
    expressions = {
        name: e if name == "adata" else e.matched(list(names.astype(str))) for name, e in expressions.items()
    }
    genes = _shared_genes(names, {name: expressions[name].var_names for name in ("reference", "real")})
    number = np.full(len(kinds), -1)
    number[chosen] = np.arange(len(chosen))
    sets = {
        name: CellSet(_counts(e, rows[name][drawn[name]], genes), number[of[name][drawn[name]]])
        for name, e in expressions.items()
    }
    counts = sets["real"].counts
    x = normalized(counts, float(np.median(counts.sum(axis=1))))
    variable = np.argsort(-x.var(axis=0), kind="stable")[:n_genes]
    generated, held, real_cells = (CellSet(sets[n].counts[:, variable], sets[n].classes) for n in source)
    left_out = [name for name, used in zip(class_names(kinds), usable, strict=True) if not used]
    of_chosen = kinds.iloc[chosen].reset_index(drop=True)
    return GeneratedSets(generated, held, real_cells, of_chosen, list(genes[variable]), left_out, needed)


def layer_of_generated(adata: AnnData) -> str | None:
    """Layer of generated cells to read."""
    return COUNTS if COUNTS in adata.layers else None


def _labels(adata: AnnData, columns: Sequence[str], name: str) -> pd.DataFrame:
    """Labels of the cells, None where missing."""
    absent = [column for column in columns if column not in adata.obs]
    if absent:
        raise KeyError(
            f"`groupby`: {shorten(absent)} are not columns of {name}.obs, which has {shorten(adata.obs.columns)}. Pass "
            "columns that all data have."
        )
    found = {}
    for column in columns:
        positions, names, _ = numbered(check_labels(adata.obs, column, "groupby"))
        found[column] = np.array(names, dtype=object)[positions]
    return pd.DataFrame(found)


def _too_few(codes: dict[str, Codes], names: list[str], n_usable: int, needed: int) -> ValueError:
    """Error for fewer than two classes with enough cells."""
    counts = {source: np.bincount(c[c >= 0], minlength=len(names)).tolist() for source, c in codes.items()}
    return ValueError(
        f"`groupby`: two classes with {MIN_CELLS} cells or more on each side are needed ({needed} of `reference`), but "
        f"{n_usable} of {shorten(names)} have that many; cells of each: "
        f"{', '.join(f'{source} {n}' for source, n in counts.items())}. Pass more cells, fewer columns, or data whose "
        "labels are spelled the same way."
    )


def _codes(table: pd.DataFrame, kinds: pd.DataFrame) -> Codes:
    """Number of each cell's class, -1 for none; shape (n_cells,)."""
    found = pd.MultiIndex.from_frame(kinds).get_indexer(pd.MultiIndex.from_frame(table))
    return np.where(table.isna().any(axis=1), -1, found)


def _shared_genes(names: pd.Index, others: dict[str, pd.Index]) -> pd.Index:
    """Genes that all data have, in the order of the generated cells."""
    shared = names[np.logical_and.reduce([names.isin(other) for other in others.values()])]
    if len(shared) < max(2, len(names) / 2):
        raise ValueError(
            f"`reference`: {len(shared)} of the {len(names)} genes of adata, e.g. {shorten(names, 3)}, are in all "
            f"data, whose genes are e.g. {shorten(others['reference'], 3)}. At least half are needed: pass cells whose "
            "genes have names of the same kind."
        )
    return shared


def _counts(expression: Expression, rows: NDArray[np.integer], genes: pd.Index) -> NDArray[np.float64]:
    """Counts, or values proportional to them within each cell; shape (n_rows, n_genes)."""
    x = expression.rows(rows)
    values = expression.scale.counts(x)[0]
    counts = sp.csr_matrix((values, x.indices, x.indptr), x.shape)
    return np.asarray(counts[:, expression.var_names.get_indexer(genes)].toarray(), dtype=np.float64)
