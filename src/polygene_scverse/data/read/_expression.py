"""Expression matrix of a data set: its location, genes and scale (detected once)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final, TypeVar

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from anndata.utils import make_index_unique
from numpy.typing import NDArray

from polygene_scverse._validate import check_not_empty, check_numbers, check_unique_names, warn
from polygene_scverse.data.read._gene_names import GeneNames, match_names, named_by
from polygene_scverse.data.read._scale import Scale, detect_scale, unlike_cells
from polygene_scverse.data.read._source import BLOCK, by_row, read_rows, spread_rows
from polygene_scverse.data.read._totals import Footing, genes_only

Result = TypeVar("Result")
SAMPLE_ROWS = 64
"""Number of rows, spread over the data set, from which the scale is detected."""
DEPTHS: Final = ("total_counts", "n_counts", "nCount_RNA", "n_umi", "nUMI", "n_umis", "total_umis", "total_UMIs")
"""Usual obs columns with the total count of each cell."""
NAME_OF_SCALE: Final = re.compile(r"count|raw|umi|log|norm|cpm|cp10k", re.IGNORECASE)
"""Layer names that indicate a scale."""
LOADED_ENTRIES = 2**27
"""Number of stored values up to which a matrix is loaded into memory for training: about 1 GB."""


@dataclass(frozen=True, eq=False)
class Expression:
    """Expression of a data set, in memory or on disk, sparse or dense.

    Parameters
    ----------
    matrix
        The matrix as it is stored; shape (n_obs, n_vars).
    var_names
        Gene names; shape (n_vars,).
    where
        Name of the matrix in messages, e.g. ``"adata.X"``.
    adata
        The data set, for the scale that scanpy records in it, and for naming its other matrices in messages.
    var
        ``var`` table; shape (n_vars, n_columns).
    has_arguments
        Whether the calling function has ``layer=`` and ``use_raw=``, for messages.
    checked
        Whether the matrix has been read and checked, see `loaded`.
    match
        How the gene names were matched to those of a model; None if they are its own.
    """

    matrix: Any
    var_names: pd.Index
    where: str
    adata: AnnData | None = field(default=None, repr=False)
    var: pd.DataFrame | None = field(default=None, repr=False)
    has_arguments: bool = True
    checked: bool = False
    match: GeneNames | None = None

    @classmethod
    def of(cls, adata: AnnData, layer: str | None = None, use_raw: bool = False) -> Expression:
        """Find the expression matrix of an AnnData.

        Parameters
        ----------
        adata
            Annotated data matrix.
        layer
            Layer to read instead of ``X``.
        use_raw
            Whether to read ``adata.raw`` instead.

        Raises
        ------
        ValueError
            If both are requested, if there is no ``raw`` or ``X``, if the data are empty, or if gene names are not
            unique.
        KeyError
            If the layer does not exist.
        """
        if use_raw and layer is not None:
            raise ValueError(
                f"`use_raw`: found True together with layer={layer!r}, but they are mutually exclusive. Pass one of "
                "them."
            )
        if use_raw and adata.raw is None:
            raise ValueError("`use_raw`: found True, but adata.raw is empty. Pass use_raw=False, or set adata.raw.")
        if layer is not None and layer not in list(adata.layers):
            raise KeyError(
                f"`layer`: {layer!r} is not one of the layers {list(adata.layers)}. Pass one of them, or None."
            )
        source = adata.raw if use_raw else adata
        x = adata.layers[layer] if layer is not None else x_of(source)
        if x is None:
            raise ValueError(
                f"`adata`: adata.X is empty. Pass layer= with one of {list(adata.layers)}, or use_raw=True."
            )
        check_not_empty(*x.shape)
        check_numbers(x, place_name(layer, use_raw))
        names = _raw_names(adata) if use_raw else adata.var_names
        check_unique_names(names, "adata.raw.var_names" if use_raw else "adata.var_names")
        return cls(x, names, place_name(layer, use_raw), adata, source.var)

    def named_by(self, gene_symbols: str | None, gene_ids: str | None) -> Expression:
        """The same expression, with genes named by columns of ``var``; see :func:`named_by`."""
        if gene_symbols is None and gene_ids is None:
            return self
        return self._kept(replace(self, var_names=named_by(self.var_names, self.var, gene_symbols, gene_ids)))

    @classmethod
    def of_query(cls, adata: AnnData, layer: str | None = None, use_raw: bool = False) -> Expression:
        """Expression of query cells: from the same place as in training, else from ``X``, whose scale is detected.

        Parameters
        ----------
        adata
            Annotated data matrix of the query cells.
        layer, use_raw
            Place of the expression in training.

        Raises
        ------
        ValueError
            If ``X`` is empty too, or as for `of`.
        """
        absent = (use_raw and adata.raw is None) or (layer is not None and layer not in adata.layers)
        if x_of(adata) is None and (absent or (layer is None and not use_raw)):
            place = place_name(layer, use_raw)
            absence = "it does not exist" if place == "adata.X" else "neither it nor adata.X exists"
            raise ValueError(
                f"`adata`: the model uses {place}, but {absence}. The layers are {list(adata.layers)}. Set adata.X to "
                "measured expression, such as one of them."
            )
        found = cls.of(adata, *((None, False) if absent else (layer, use_raw)))
        found = replace(found, has_arguments=False)
        if absent and not use_raw and not NAME_OF_SCALE.search(str(layer)):
            warn(
                f"The model was trained on adata.layers[{layer!r}], which these data do not have, so adata.X is used "
                f"instead, read as {found.scale}. Set adata.layers[{layer!r}] if this is wrong."
            )
        return found

    def matched(
        self, known: Sequence[str], *, gene_symbols: str | None = None, gene_ids: str | None = None
    ) -> Expression:
        """The same expression, with gene names matched to those of a model; see `match_names`.

        Parameters
        ----------
        known
            Gene names of the model.
        gene_symbols, gene_ids
            Columns of ``var`` whose names take precedence over ``var_names``.

        Raises
        ------
        KeyError
            If such a column does not exist.
        """
        found = match_names(self.var_names, known, self.var, gene_symbols=gene_symbols, gene_ids=gene_ids)
        return self._kept(replace(self, var_names=found.names, match=found))

    @property
    def match_note(self) -> str:
        """Message about how genes were matched; empty if there is nothing to report."""
        return "" if self.match is None else self.match.note

    @property
    def n_vars(self) -> int:
        """Number of columns."""
        return int(self.matrix.shape[1])

    @property
    def n_obs(self) -> int:
        """Number of cells."""
        return int(self.matrix.shape[0])

    @cached_property
    def scale(self) -> Scale:
        """Scale of the data set, detected from a fixed sample of its rows.

        Raises
        ------
        ValueError
            As for `detect_scale`.
        """
        found = self._checked(self._detect)
        if not found.told:
            warn(
                f"{self.where} contains log-normalised values of a subset of the genes, and the target sum of "
                f"the normalisation is unknown. It is read as {found}. If this is wrong, pass the raw counts, or all "
                "genes that were normalised."
            )
        if words := unlike_cells(self.sample):
            warn(
                f"{self.where} {words}. The model expects single cells, so results may be wrong. Pass measured counts."
            )
        return found

    def _detect(self, remedy: str) -> Scale:
        """Detect the scale from the sample and check the sample's values."""
        found = detect_scale(self.sample, self.where, remedy, noted=self._noted, depths=self._depths)
        found.check(self.sample.data, self.where, remedy)
        return found

    @cached_property
    def footing(self) -> Footing | None:
        """Columns that add up to the total count of a cell: genes only, if ``var`` has feature types."""
        return genes_only(self.var)

    @property
    def sample_rows(self) -> NDArray[np.int64]:
        """Row numbers spread over the data set; the first row with a value if all of these are empty."""
        return self._sampled[0]

    @property
    def sample(self) -> sp.csr_matrix:
        """Expression of `sample_rows`; shape (n_rows, n_vars)."""
        return self._sampled[1]

    @cached_property
    def _sampled(self) -> tuple[NDArray[np.int64], sp.csr_matrix]:
        """`sample_rows` and `sample`, read once."""
        rows = spread_rows(self.n_obs, SAMPLE_ROWS)
        sample = read_rows(self._by_row, rows)
        for start in range(0, 0 if sample.nnz else self.n_obs, BLOCK):  # empty cells do not reveal the scale
            block = read_rows(self._by_row, np.arange(start, min(start + BLOCK, self.n_obs)))
            if block.nnz:
                filled = np.flatnonzero(np.diff(block.indptr))[:SAMPLE_ROWS]
                return start + filled, block[filled]
        return rows, sample

    @property
    def _noted(self) -> Mapping[str, Any] | None:
        """What scanpy records about a log transformation; None if nothing."""
        noted = None if self.adata is None else self.adata.uns.get("log1p")
        return noted if noted is None or isinstance(noted, Mapping) else {}

    @property
    def _depths(self) -> dict[str, NDArray[np.floating]]:
        """Total counts of `sample_rows` found in obs."""
        obs = pd.DataFrame() if self.adata is None else self.adata.obs
        there = [name for name in DEPTHS if name in obs.columns and pd.api.types.is_numeric_dtype(obs[name])]
        return {name: obs[name].iloc[self.sample_rows].to_numpy(dtype=np.float64) for name in there}

    @cached_property
    def _by_row(self) -> Any:
        """The matrix with efficient access to rows; one stored by column is converted once."""
        return by_row(self.matrix)

    def rows(self, rows: NDArray[np.integer]) -> sp.csr_matrix:
        """Some rows as CSR with sorted indices and without stored zeros, as float32; shape (n_rows, n_vars).

        Raises
        ------
        ValueError
            If a value is NaN, infinite or negative, or too large for the scale of the data set.
        """
        if self.checked:
            return self.matrix[rows]
        block = read_rows(self._by_row, rows)
        self._checked(lambda remedy: self.scale.check(block.data, self.where, remedy))
        return block

    def blocks(self, rows: NDArray[np.integer], size: int | None = None) -> Iterator[sp.csr_matrix]:
        """As `rows`, in blocks, so that memory use is bounded."""
        size = BLOCK if size is None else size
        for start in range(0, len(rows), size):
            yield self.rows(rows[start : start + size])

    def loaded(self) -> Expression:
        """The same expression, read and checked once and kept in memory if it fits, for repeated access."""
        if sp.issparse(self.matrix) and self.matrix.nnz > LOADED_ENTRIES:
            return self
        parts: list[sp.csr_matrix] = []
        for block in self.blocks(np.arange(self.n_obs)):
            parts.append(block)
            if sum(part.nnz for part in parts) > LOADED_ENTRIES:
                return self
        return self._kept(replace(self, matrix=sp.vstack(parts, format="csr"), checked=True))

    def _kept(self, other: Expression) -> Expression:
        """Copy the results of the checks to another expression with the same values."""
        other.__dict__.update({name: vars(self)[name] for name in ("scale", "_sampled") if name in vars(self)})
        return other

    def _checked(self, check: Callable[[str], Result]) -> Result:
        """Run a check; an error lists the other matrices that could be read."""
        try:
            return check("")
        except ValueError:
            if self.adata is not None and (remedy := self._other_places()):
                check(remedy)
            raise

    def _other_places(self) -> str:
        """Other matrices of the data set that could be read, for errors about invalid data; begins with a comma."""
        adata, usable = self.adata, []
        if adata is None:
            return ""
        layers = [name for name in adata.layers if name is not None]
        places: dict[str, tuple[str, Any]] = {
            place_name(name, False): (f"layer={name!r}", adata.layers[name]) for name in layers
        }
        if adata.raw is not None:
            places[place_name(None, True)] = ("use_raw=True", adata.raw.X)
        if (x := x_of(adata)) is not None:
            places[place_name(None, False)] = ("layer=None, use_raw=False (adata.X)", x)
        for where, (argument, x) in places.items():
            if where == self.where or not self._is_usable(x):
                continue
            change = "adata = adata.raw.to_adata()" if where == "adata.raw.X" else f"{self.where} = {where}"
            usable.append(argument if self.has_arguments else change)
        return f", here for example by {' or '.join(usable)}" if usable else ""

    def _is_usable(self, x: Any) -> bool:
        """Whether a matrix has valid values for the same cells and is a different one."""
        try:
            sample = read_rows(by_row(x), self.sample_rows)
            detect_scale(sample).check(sample.data)
        except (ValueError, TypeError):
            return False
        return sample.shape != self.sample.shape or bool((sample != self.sample).nnz)


def _raw_names(adata: AnnData) -> pd.Index:
    """Gene names of raw, made unique if they repeat and ``adata.var_names_make_unique()`` was called.

    That call does not change the names of raw.
    """
    names = adata.raw.var_names
    if names.is_unique:
        return names
    unique = make_index_unique(names)
    made = unique.difference(names)
    return unique if len(made.intersection(adata.var_names)) else names


def x_of(data: Any) -> Any:
    """``X`` of AnnData or of its ``raw``; None if there is none, which a backed file reports with an error."""
    try:
        return data.X
    except KeyError:
        return None


def place_name(layer: str | None, use_raw: bool) -> str:
    """Name of an expression matrix in messages."""
    return "adata.raw.X" if use_raw else "adata.X" if layer is None else f"adata.layers[{layer!r}]"
