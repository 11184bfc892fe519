"""The pass over all cells before training, which detects their scale and ranks genes by variability."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from polygene_scverse._validate import shorten, warn
from polygene_scverse.data.read._dispersions import DispersionSums
from polygene_scverse.data.read._expression import SAMPLE_ROWS
from polygene_scverse.data.read._ranking import genes_by_rank
from polygene_scverse.data.read._scale import Scale, detect_scale
from polygene_scverse.data.read._source import BLOCK, spread_rows
from polygene_scverse.data.read._tokens import Tokenizer
from polygene_scverse.data.read._totals import column_shares
from polygene_scverse.data.shards._files import ShardFile
from polygene_scverse.data.shards._shard_set import ShardSet


def survey(shards: ShardSet, rows: NDArray[np.int64], n_genes: int) -> tuple[list[str], list[Scale]]:
    """Read every cell once: check expression, detect its scale, and rank genes on the training cells.

    Parameters
    ----------
    shards
        The files.
    rows
        Ascending numbers of the training cells.
    n_genes
        Number of genes to choose. ``var["highly_variable_rank"]`` is used if every file has it and all agree.

    Returns
    -------
    The genes, most variable first, and the scale of each file.

    Raises
    ------
    ValueError
        If the scale of a file is unclear, or some files have counts and others logarithms; the error names the file.
    """
    noted, moments = common_ranks(shards.files), DispersionSums(len(shards.var_names))
    wanted, training = moments if noted is None else None, dict(shards.by_file(rows))
    found: list[tuple[Scale, Path]] = []
    for k, file in enumerate(shards.files):
        scale = _survey_file(file, training.get(k, np.zeros(0, dtype=np.int64)), shards.var_names, wanted)
        found.append((scale, file.path))
        first, in_first = found[0]
        if first.kind != scale.kind:
            raise ValueError(
                f"`adata`: found {first} in {in_first}, but {scale} in {file.path}. Pass files that all hold raw "
                "counts, or all hold log1p of normalised counts."
            )
    ranks = moments.rank(shards.var_names) if noted is None else noted
    return genes_by_rank(ranks, n_genes), [scale for scale, _ in found]


def scale_of_file(file: ShardFile) -> Scale:
    """Scale of a file, detected from some of its rows.

    Raises
    ------
    ValueError
        As for `detect_scale`; the error names the file.
    """
    rows = spread_rows(file.n_obs, SAMPLE_ROWS)
    sample = sp.vstack(list(file.iterate(rows)), format="csr")
    if not sample.nnz:  # empty cells do not reveal the scale
        every = file.iterate(np.arange(file.n_obs))
        sample = next((block for block in every if block.nnz), sample)
        sample = sample[np.flatnonzero(np.diff(sample.indptr))[:SAMPLE_ROWS]]
    return detect_scale(sample, f"{file.key} of {file.path}", noted=file.noted)


def _survey_file(
    file: ShardFile, training: NDArray[np.int64], var_names: pd.Index, moments: DispersionSums | None
) -> Scale:
    """Detect the scale of a file and check its values; adds its training cells to the moments."""
    scale, columns = scale_of_file(file), var_names.get_indexer(file.var_names)
    sums = DispersionSums(len(var_names))
    for start, block in zip(range(0, file.n_obs, BLOCK), file.iterate(np.arange(file.n_obs)), strict=True):
        scale.check(block.data, f"{file.key} of {file.path}")  # before the block is added
        if moments is not None:
            part = training[slice(*np.searchsorted(training, [start, start + BLOCK]))] - start
            sums.add(block if len(part) == block.shape[0] else block[part], columns, scale, file.footing)
    if moments is not None:
        moments += sums
    return scale


def common_ranks(files: Sequence[ShardFile]) -> pd.Series | None:
    """``var["highly_variable_rank"]`` if all files have it and agree; else None, with a warning if some have it."""
    ranks = [file.ranks for file in files if file.ranks is not None]
    if not ranks:
        return None
    joined = pd.concat(ranks)
    first = joined[~joined.index.duplicated()]
    if len(ranks) == len(files) and first.reindex(joined.index).equals(joined):
        return first
    reason = "differs between the files" if len(ranks) == len(files) else f"is in {len(ranks)} of {len(files)} files"
    warn(f"var['highly_variable_rank'] {reason}, so it is not used: genes are ranked on the training cells of all.")
    return None


def shares_of(shards: ShardSet, rows: NDArray[np.int64], scales: Sequence[Scale]) -> dict[str, float]:
    """Mean share of each gene in the counts of a cell, over the files that have it, see `column_shares`.

    Parameters
    ----------
    shards
        The files.
    rows
        Ascending numbers of some training cells.
    scales
        Scale of each file.
    """
    sums = pd.Series(0.0, index=shards.var_names)
    n_cells = sums.copy()
    for k, file_rows in shards.by_file(rows):
        file = shards.files[k]
        shares = column_shares(file.iterate(file_rows), file.var_names, scales[k], file.footing)
        sums[list(shares)] += len(file_rows) * np.array(list(shares.values()))
        n_cells[list(shares)] += len(file_rows)
    there = sums[n_cells > 0] / n_cells[n_cells > 0]
    return {str(name): float(share) for name, share in (there / max(1.0, there.sum())).items()}


def tokenizers_of(
    shards: ShardSet, genes: Sequence[str], scales: Sequence[Scale], edges: NDArray[np.float64]
) -> list[Tokenizer]:
    """Create a tokenizer for each file; genes are matched by name.

    Raises
    ------
    ValueError
        If a file has none of the genes.
    """
    matched: dict[int, Tokenizer] = {}
    found = []
    for file, scale in zip(shards.files, scales, strict=True):
        key = id(file.var_names)  # files with the same genes share the object
        if key not in matched:
            try:
                matched[key] = Tokenizer.match(genes, file.var_names, scale, edges)
            except ValueError as error:
                raise ValueError(f"{error} (In {file.path}.)") from error
        found.append(replace(matched[key], scale=scale, footing=file.footing))
    return found


def warn_unmeasured(shards: ShardSet, genes: Sequence[str], tokenizers: Sequence[Tokenizer]) -> None:
    """Warn once about files that lack genes of the model."""
    absent = {
        file.path.name: int((~t.measured).sum())
        for file, t in zip(shards.files, tokenizers, strict=True)
        if not t.measured.all()
    }
    if absent:
        lacking = [f"{name} lacks {n}" for name, n in absent.items()]
        warn(
            f"Some of the {len(genes)} genes are unmeasured in {len(absent)} of {len(shards.files)} files: "
            f"{shorten(lacking, 4)}. They are left out there, which is not the same as not expressed."
        )
