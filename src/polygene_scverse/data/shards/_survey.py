"""The one pass over all cells before training: their scale, and which genes vary most."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from polygene_scverse._validate import shorten
from polygene_scverse.data.read._binning import Scale, detect_scale
from polygene_scverse.data.read._dispersions import DispersionSums
from polygene_scverse.data.read._ranking import genes_by_rank
from polygene_scverse.data.read._source import BLOCK
from polygene_scverse.data.read._tokens import Tokenizer
from polygene_scverse.data.shards._files import ShardFile
from polygene_scverse.data.shards._shard_set import ShardSet


def survey(
    shards: ShardSet, rows: NDArray[np.int64], n_genes: int, genes: Sequence[str] | None = None
) -> tuple[list[str], Scale]:
    """Read every cell once: check expression, tell its scale, and rank genes on the training cells.

    Parameters
    ----------
    shards
        The files.
    rows
        Ascending numbers of the training cells.
    n_genes
        Number of genes to choose. ``var["highly_variable_rank"]`` decides if every file has it and they agree.
    genes
        Genes, where they are chosen already.

    Returns
    -------
    The genes, most variable first, and the scale.

    Raises
    ------
    ValueError
        If values are neither raw counts nor log1p of counts per 10,000, or files differ in that; the file is named.
    KeyError
        If one of `genes` is in no file.
    """
    if genes is not None and (absent := [gene for gene in genes if gene not in shards.var_names]):
        raise KeyError(f"`genes`: {shorten(absent)} not among the genes of the files. Pass names that are.")
    ranks = common_ranks(shards.files) if genes is None else None
    wanted = genes is None and ranks is None
    moments = DispersionSums(len(shards.var_names)) if wanted else None
    training = dict(shards.by_file(rows))
    scales: dict[Scale, Path] = {}
    for k, file in enumerate(shards.files):
        scale = _survey_file(file, training.get(k, np.zeros(0, dtype=np.int64)), shards.var_names, moments)
        scales.setdefault(scale, file.path)
        if len(scales) > 1:
            (a, in_a), (b, in_b) = scales.items()
            raise ValueError(
                f"`adata`: found {a} in {in_a}, but {b} in {in_b}. Pass files that hold raw counts in all, or log1p of "
                "counts per 10,000 in all."
            )
    if moments is not None:
        ranks = moments.rank(shards.var_names)
    chosen = genes_by_rank(ranks, n_genes) if ranks is not None else list(genes or [])
    return chosen, next(iter(scales))


def _survey_file(
    file: ShardFile, training: NDArray[np.int64], var_names: pd.Index, moments: DispersionSums | None
) -> Scale:
    """Scale of a file; adds its training cells to the moments."""
    where = f"{file.place} of {file.path}"
    every = np.arange(file.n_obs)
    first = next(file.iterate(every[:BLOCK])).data
    guess: Scale = "log1p"
    if np.isfinite(first).all():
        guess = "counts" if np.array_equal(first, np.rint(first)) else "log1p"
    columns = var_names.get_indexer(file.var_names)

    def values(scale: Scale, of_file: DispersionSums | None) -> Iterator[NDArray[np.floating]]:
        for start, block in zip(range(0, file.n_obs, BLOCK), file.iterate(every), strict=True):
            yield block.data  # checked before it is added
            if of_file is not None:
                part = training[slice(*np.searchsorted(training, [start, start + BLOCK]))] - start
                of_file.add(block if len(part) == block.shape[0] else block[part], columns, scale)

    of_file = None if moments is None else DispersionSums(len(var_names))
    scale = detect_scale(values(guess, of_file), where)
    if of_file is not None and scale != guess:  # whole numbers in the first block only
        of_file = DispersionSums(len(var_names))
        detect_scale(values(scale, of_file), where)
    if moments is not None and of_file is not None:
        moments += of_file
    return scale


def common_ranks(files: Sequence[ShardFile]) -> pd.Series | None:
    """``var["highly_variable_rank"]`` if every file has it and they agree; else None, and a warning if some have it."""
    ranks = [file.ranks for file in files if file.ranks is not None]
    if not ranks:
        return None
    joined = pd.concat(ranks)
    first = joined[~joined.index.duplicated()]
    if len(ranks) == len(files) and first.reindex(joined.index).equals(joined):
        return first
    reason = "differs between the files" if len(ranks) == len(files) else f"is in {len(ranks)} of {len(files)} files"
    warnings.warn(
        f"var['highly_variable_rank'] {reason}, so that it is not used: genes are ranked on the training cells of all.",
        UserWarning,
        stacklevel=4,
    )
    return None


def tokenizers_of(shards: ShardSet, genes: Sequence[str], scale: Scale, edges: NDArray[np.float64]) -> list[Tokenizer]:
    """A tokenizer for each file; genes are matched by name.

    Raises
    ------
    ValueError
        If a file has none of the genes.
    """
    of_names: dict[int, Tokenizer] = {}
    for file in shards.files:
        key = id(file.var_names)  # files with the same genes share the object
        if key not in of_names:
            try:
                of_names[key] = Tokenizer.match(genes, file.var_names, scale, edges)
            except ValueError as error:
                raise ValueError(f"{error} This is said of {file.path}.") from error
    return [of_names[id(file.var_names)] for file in shards.files]


def warn_unmeasured(shards: ShardSet, genes: Sequence[str], tokenizers: Sequence[Tokenizer]) -> None:
    """Say once which files lack genes of the model."""
    absent = {
        file.path.name: int((~t.measured).sum())
        for file, t in zip(shards.files, tokenizers, strict=True)
        if not t.measured.all()
    }
    if absent:
        said = [f"{name} lacks {n}" for name, n in absent.items()]
        warnings.warn(
            f"Some of the {len(genes)} genes are unmeasured in {len(absent)} of {len(shards.files)} files: "
            f"{shorten(said, 4)}. They are left out there, which is not the same as not expressed.",
            UserWarning,
            stacklevel=4,
        )
