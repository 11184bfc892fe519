"""Matching of gene names in new data to those of a model: by name, spelling, or Ensembl id and symbol.

Ambiguous genes stay unmatched and are reported. The table of ids and symbols is that of GENCODE, see `genes/`.
"""

from __future__ import annotations

import gzip
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from polygene_scverse._validate import check_unique_names, shorten

TABLE: Final = Path(__file__).parent / "genes" / "genes.tsv.gz"
ENSEMBL: Final = re.compile(r"(ENS(?:MUS)?G\d{11})(?:\.\d+)?", re.IGNORECASE)
"""Ensembl id of a human or mouse gene, with or without a version."""
BOTH: Final = re.compile(rf"(?P<symbol>.+)[_|:;]{ENSEMBL.pattern}|{ENSEMBL.pattern}[_|:;](?P<second>.+)", re.IGNORECASE)
"""Symbol and id in one name, such as ``CD79A_ENSG00000105369``."""
SPECIES: Final = {"ENSG": "human", "ENSM": "mouse"}
FEWEST_OF_SPECIES: Final = 3
"""Minimum number of names known of a species to assign it, and the factor by which they must exceed other species."""
USUAL_COLUMNS: Final = (
    *("gene_ids", "gene_id", "ensembl_id", "ensembl_ids", "ensembl", "feature_id", "feature_ids"),
    *("gene_symbols", "gene_symbol", "gene_names", "gene_name", "symbol", "symbols", "feature_name", "feature_names"),
)
"""Usual columns of ``var`` with ids and symbols."""
BY_NAME, BY_SPELLING, BY_TABLE = "name", "version or case", "Ensembl id and symbol"
NOT_MATCHED: Final = " (not matched)"
"""Suffix for an unmatched column whose name equals that of a gene of the model."""
BY_PART: Final = "part of the name"


@dataclass(frozen=True)
class GeneNames:
    """Column names of some data, translated to the gene names of the model.

    Parameters
    ----------
    names
        Name of each column: that of the model if matched, else its own; shape (n_vars,).
    matched
        Whether each column is matched; shape (n_vars,).
    how
        Number of columns matched in each way.
    ambiguous
        Names of columns that match several genes, or share a gene with another column, and therefore stay unmatched.
    species
        Species of these names and of those of the model, if known.
    asked
        Ways of matching that were asked for.
    """

    names: pd.Index
    matched: NDArray[np.bool_]
    how: dict[str, int] = field(default_factory=dict)
    ambiguous: tuple[str, ...] = ()
    species: tuple[str | None, str | None] = (None, None)
    asked: tuple[str, ...] = ()

    @property
    def note(self) -> str:
        """Summary of the matching; empty if genes were only matched by name or as asked for."""
        parts = []
        if set(self.how) - {BY_NAME, *self.asked}:
            counts = ", ".join(f"{n:,} by {way}" for way, n in self.how.items())
            parts.append(f"Genes of these data were matched to those of the model: {counts}.")
        if self.ambiguous:
            parts.append(
                f"{len(self.ambiguous)} names are ambiguous and left out, because they match several genes or share "
                f"one: {shorten(self.ambiguous, 5)}."
            )
        parts.append(self.of_species)
        return " ".join(part for part in parts if part)

    @property
    def of_species(self) -> str:
        """Warning about names of another species; empty if there are none."""
        own, known = self.species
        if None in self.species or own == known:
            return ""
        return (
            f"These data have {own} gene names and the model has {known} gene names, so genes are only matched if "
            f"their names are identical. Map them to {known} orthologues first."
        )


def match_names(
    var_names: pd.Index,
    known: Sequence[str],
    var: pd.DataFrame | None = None,
    *,
    gene_symbols: str | None = None,
    gene_ids: str | None = None,
) -> GeneNames:
    """Match the columns of some data to the gene names of a model.

    In order of precedence: equal names; names in the usual columns of ``var``; names that differ only in version or
    case; ids and symbols that GENCODE assigns to one gene only. A gene is never matched twice.

    Parameters
    ----------
    var_names
        Names of the columns; shape (n_vars,).
    known
        Gene names of the model, each once.
    var
        Table of the columns.
    gene_symbols, gene_ids
        Columns of `var` whose names take precedence over `var_names`.

    Raises
    ------
    KeyError
        If such a column does not exist.
    """
    sources = dict(_sources(var_names, var, gene_symbols, gene_ids))
    if next(iter(sources)) == BY_NAME and var_names.isin(pd.Index(known)).all():  # the usual case
        return GeneNames(var_names, np.ones(len(var_names), dtype=bool), {BY_NAME: len(var_names)})
    matcher = _Matcher(len(var_names), known, tuple(takewhile(lambda way: way != BY_NAME, sources)))
    for way, names in sources.items():
        matcher.match(way, names, str)
    if matcher.complete:
        return matcher.result(var_names, (None, None))
    own, of_model = next(filter(None, map(species_of, sources.values())), None), species_of(known)
    if own is None or of_model is None or own == of_model:
        for names in sources.values():
            matcher.match(BY_SPELLING, names, spelling)
        if any(BOTH.fullmatch(name) for names in (known, *sources.values()) for name in names):
            for part in (id_of, symbol_of):
                for names in sources.values():
                    matcher.match(BY_PART, names, part)
        species = own or of_model
        for names in sources.values():
            matcher.match(BY_TABLE, names, lambda name: gene_id(name, species))
    return matcher.result(var_names, (own, of_model))


def _sources(
    var_names: pd.Index, var: pd.DataFrame | None, gene_symbols: str | None, gene_ids: str | None
) -> Iterator[tuple[str, list[str]]]:
    """Candidate names of the columns, in order of precedence."""
    columns = [] if var is None else [str(name) for name in var.columns]
    for argument, name in (("gene_symbols", gene_symbols), ("gene_ids", gene_ids)):
        if name is None:
            continue
        if name not in columns:
            raise KeyError(
                f"`{argument}`: {name!r} is not a column of adata.var, which has {shorten(columns)}. Pass one of them."
            )
        yield f"var[{name!r}]", _names(var[name])  # type: ignore[index]
    yield BY_NAME, [str(name) for name in var_names]
    for name in USUAL_COLUMNS:
        if columns.count(name) == 1 and name not in (gene_symbols, gene_ids):
            yield f"var[{name!r}]", _names(var[name])  # type: ignore[index]


def _names(column: pd.Series) -> list[str]:
    """Values of a column as text, empty where missing."""
    return ["" if missing else str(value) for value, missing in zip(column, column.isna(), strict=True)]


def named_by(var_names: pd.Index, var: pd.DataFrame | None, gene_symbols: str | None, gene_ids: str | None) -> pd.Index:
    """Names of the columns from a column of `var`, falling back to their own names where it is missing or repeated.

    Parameters
    ----------
    var_names
        Own names; shape (n_vars,).
    var
        Table of the columns.
    gene_symbols, gene_ids
        Columns of `var`, at least one; if both are given, the ids are used.

    Raises
    ------
    KeyError
        If `var` has no such column.
    ValueError
        If the names are not unique even so.
    """
    column = gene_symbols if gene_ids is None else gene_ids
    asked = next(_sources(var_names, var, gene_symbols if gene_ids is None else None, gene_ids))[1]
    times = Counter(asked)
    names = pd.Index([a if a and times[a] == 1 else str(own) for a, own in zip(asked, var_names, strict=True)])
    check_unique_names(names, f"adata.var[{column!r}]")
    return names


class _Matcher:
    """Columns and genes of the model that are still unmatched."""

    def __init__(self, n_vars: int, known: Sequence[str], asked: tuple[str, ...]) -> None:
        self.known, self.asked = list(known), asked
        self.gene: list[int] = [-1] * n_vars
        self.taken = [False] * len(self.known)
        self.how: dict[str, int] = {}
        self.doubtful: set[int] = set()

    @property
    def complete(self) -> bool:
        return all(self.taken) or min(self.gene, default=0) >= 0

    def match(self, way: str, names: Sequence[str], key: Callable[[str], str | None]) -> None:
        """Match columns and genes that share a key which no other column or gene has."""
        if self.complete:
            return
        of_genes: dict[str, list[int]] = {}
        for at, name in enumerate(self.known):
            if (found := key(name)) is not None:
                of_genes.setdefault(found, []).append(at)
        keys = [key(name) if name else None for name in names]
        n_columns = Counter(keys)
        for column, found in enumerate(keys):
            genes = of_genes.get(found, []) if found is not None else []
            free = [gene for gene in genes if not self.taken[gene]]
            if self.gene[column] >= 0 or not free:
                continue
            if len(genes) > 1 or n_columns[found] > 1:
                self.doubtful.add(column)
                continue
            self.gene[column], self.taken[free[0]] = free[0], True
            self.how[way] = self.how.get(way, 0) + 1
        if way == BY_TABLE:  # symbols with several ids
            free_ids = {spelling(gene) for gene, taken in zip(self.known, self.taken, strict=True) if not taken}
            for column, name in enumerate(names):
                if self.gene[column] < 0 and len(ids := ids_of(name)) > 1 and free_ids & ids:
                    self.doubtful.add(column)

    def result(self, var_names: pd.Index, species: tuple[str | None, str | None]) -> GeneNames:
        """Result of the matching."""
        matched = np.array(self.gene) >= 0
        known = set(self.known)
        names = [
            self.known[gene] if gene >= 0 else f"{own}{NOT_MATCHED}" if own in known else str(own)
            for gene, own in zip(self.gene, var_names, strict=True)
        ]
        doubtful = tuple(str(var_names[at]) for at in sorted(self.doubtful) if self.gene[at] < 0)
        return GeneNames(pd.Index(names), matched, self.how, doubtful, species, self.asked)


@cache
def gene_table() -> Mapping[str, Mapping[str, tuple[str, ...]]]:
    """Ids of each symbol, for human and mouse."""
    found: dict[str, dict[str, tuple[str, ...]]] = {species: {} for species in SPECIES.values()}
    with gzip.open(TABLE, "rt", encoding="utf-8") as file:
        for line in file:
            symbol, gene = line.rstrip("\n").split("\t")
            table = found[SPECIES[gene[:4]]]
            table[symbol] = (*table.get(symbol, ()), gene)
    return found


@cache
def _upper_table(species: str) -> Mapping[str, tuple[str, ...]]:
    """Ids of each symbol in upper case."""
    found: dict[str, tuple[str, ...]] = {}
    for symbol, ids in gene_table()[species].items():
        found[symbol.upper()] = (*found.get(symbol.upper(), ()), *ids)
    return found


def spelling(name: str) -> str:
    """Name in upper case and with dashes, as R writes dots and Seurat dashes; ids without their version."""
    name = name.strip()
    match = ENSEMBL.fullmatch(name)
    return (match[1] if match else name.replace(".", "-").replace("_", "-")).upper()


def id_of(name: str) -> str | None:
    """Ensembl id that a name is or contains, without version; None if there is none."""
    if match := ENSEMBL.fullmatch(name):
        return match[1].upper()
    match = BOTH.fullmatch(name)
    return None if match is None else (match[2] or match[3]).upper()


def symbol_of(name: str) -> str | None:
    """Name in upper case, without an id that it contains; None if the name is only an id."""
    if ENSEMBL.fullmatch(name):
        return None
    match = BOTH.fullmatch(name)
    return (name if match is None else match["symbol"] or match["second"]).upper()


def gene_id(name: str, species: str | None) -> str | None:
    """The unique id of a name, without version; None if it is unknown or ambiguous.

    Parameters
    ----------
    name
        An id or a symbol.
    species
        ``"human"`` or ``"mouse"``; if None, only ids are recognised.
    """
    if (own := id_of(name)) is not None:
        return own
    if species is None:
        return None
    ids = gene_table()[species].get(name) or _upper_table(species).get(name.upper(), ())
    return ids[0] if len(ids) == 1 else None


def ids_of(name: str) -> set[str]:
    """All ids of a symbol."""
    return {found for table in gene_table().values() for found in table.get(name, ())}


def species_of(names: Sequence[str]) -> str | None:
    """Species of most of the names, None if it is unclear."""
    of_ids = Counter(SPECIES[found[:4]] for name in names if (found := id_of(name)) is not None)
    tables = gene_table()
    counts = {species: of_ids[species] + sum(name in table for name in names) for species, table in tables.items()}
    first, second = sorted(counts, key=lambda name: -counts[name])
    return first if counts[first] >= max(FEWEST_OF_SPECIES, 2 * counts[second]) else None
