"""Import and export of checkpoints of the original Polygene (Hugging Face BERT)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scvi.model.base import BaseModelClass

from polygene_scverse._files import replace_folder
from polygene_scverse._layout import TokenLayout
from polygene_scverse._validate import check_choice
from polygene_scverse.data.read._binning import make_edges
from polygene_scverse.fit._state import ORIGINAL_MASK
from polygene_scverse.model._setup import registry_of
from polygene_scverse.model.original._bert import (
    CONFIG_FILE,
    PICKLED_FILE,
    WEIGHTS_FILE,
    check_sizes,
    import_weights,
    make_config,
    network_sizes,
    read_config,
    read_weights,
    write_weights,
)
from polygene_scverse.model.original._files import (
    CATEGORY_FILES,
    GENES_FILE,
    ORIGINAL_COLUMNS,
    VOCABULARY_FILE,
    read_genes,
    read_vocabulary,
    read_words,
    write_lines,
    write_vocabulary,
)
from polygene_scverse.module import PolygeneModule

EDGES_KEY, MASK_KEY, PHENOTYPES_KEY = "bin_edges", "polygene_mask", "polygene_phenotypes"
"""Additional entries of ``config.json``: bin edges, masking used in training, and slots of other phenotypes."""


@dataclass(frozen=True)
class OriginalCheckpoint:
    """Content of a checkpoint of the original.

    Parameters
    ----------
    folder
        Folder with the weights.
    layout
        Slots, vocabulary and genes.
    registry
        The registry that `setup_anndata` would make.
    edges
        Lower edge of each expression bin.
    network
        Sizes of the network.
    mask
        Which genes the weights expect as input.
    """

    folder: Path
    layout: TokenLayout
    registry: dict[str, Any]
    edges: list[float]
    network: dict[str, Any]
    mask: str

    def load_weights(self, module: PolygeneModule) -> None:
        """Load the weights."""
        import_weights(module, read_weights(self.folder))


def read_original(
    model_cls: type[BaseModelClass],
    folder: str | Path,
    vocabulary: str | Path | None,
    genes: str | Path | Sequence[str] | None,
    *,
    n_bins: int | None,
    threshold: float | None,
    columns: Mapping[str, str] | None,
    layer: str | None,
    use_raw: bool,
) -> OriginalCheckpoint:
    """Read a checkpoint of the original except its weights; arguments and errors as in `Polygene.from_original`."""
    folder = Path(folder)
    config = read_config(folder)
    genes = folder / GENES_FILE if genes is None else genes
    layout, usual = _layout(config, vocabulary or folder, genes, n_bins)
    edges = _edges(layout.n_bins, threshold, config.get(EDGES_KEY))
    network = network_sizes(config)
    check_sizes(folder, layout, network)
    registry = _registry(model_cls, layout, {**usual, **_checked(columns, layout)}, layer, use_raw)
    return OriginalCheckpoint(folder, layout, registry, edges, network, config.get(MASK_KEY, ORIGINAL_MASK))


def write_original(
    module: PolygeneModule, edges: Sequence[float], mask: str, columns: Sequence[str], folder: Path, overwrite: bool
) -> None:
    """Write a checkpoint of the original next to `folder`, and move it into place when it is complete.

    Parameters
    ----------
    module
        The network.
    edges
        Lower edge of each expression bin.
    mask
        Which genes the weights expect as input.
    columns
        Obs column of each phenotype.
    folder, overwrite
        As in `Polygene.to_original`.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"`folder`: {folder} is a file. Pass the name of a folder.")
    if folder.exists() and not overwrite:
        raise ValueError(f"`folder`: {folder} exists. Pass overwrite=True, or another folder.")
    layout = module.layout
    config = make_config(layout.n_tokens, layout.length, module.config)
    config |= {EDGES_KEY: list(edges), MASK_KEY: mask}
    if layout.phenotype_names != tuple(ORIGINAL_COLUMNS):
        slots = zip(layout.to_dict()["phenotypes"], columns, strict=True)
        config[PHENOTYPES_KEY] = [{**slot, "column": column} for slot, column in slots]
    own = (CONFIG_FILE, WEIGHTS_FILE, PICKLED_FILE, VOCABULARY_FILE, GENES_FILE, *CATEGORY_FILES.values())
    with replace_folder(folder, own) as part:
        (part / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        write_weights(module, part / WEIGHTS_FILE)
        write_vocabulary(layout, part)
        write_lines(part / GENES_FILE, layout.genes)


def _layout(
    config: Mapping[str, Any], vocabulary: str | Path, genes: str | Path | Sequence[str], n_bins: int | None
) -> tuple[TokenLayout, dict[str, str]]:
    """Token layout, and the obs column of each phenotype: that of the original, or as recorded by `to_original`."""
    slots = config.get(PHENOTYPES_KEY)
    if slots is None:
        words, categories = read_vocabulary(vocabulary)
    else:
        words = read_words(vocabulary)
    n_bins = _number_of_bins(config["vocab_size"], len(words), n_bins)
    n_special = (len(categories) if slots is None else len(slots)) + 3
    genes = read_genes(genes, _number_of_genes(config["max_position_embeddings"], n_special))
    if slots is None:
        return TokenLayout.from_vocabulary(words, categories, genes, n_bins), ORIGINAL_COLUMNS
    bins = {"n_bins": n_bins, "first_bin_id": len(words), "vocabulary": [*words, *map(str, range(n_bins))]}
    try:
        columns = {slot["name"]: slot["column"] for slot in slots}
        return TokenLayout.from_dict({"phenotypes": slots, "genes": genes, **bins}), columns
    except (KeyError, TypeError) as error:
        raise ValueError(f"`folder`: {PHENOTYPES_KEY} in {CONFIG_FILE} is damaged: {error!r}. Export again.") from error


def _number_of_genes(length: int, n_special: int) -> int:
    if length <= n_special:
        raise ValueError(
            f"`folder`: the checkpoint has {length} positions, but {n_special} are not genes. Pass a checkpoint of the "
            "original Polygene."
        )
    return length - n_special


def _number_of_bins(n_tokens: int, n_words: int, n_bins: int | None) -> int:
    left = n_tokens - n_words
    if left < 2:
        raise ValueError(
            f"`vocabulary`: {VOCABULARY_FILE} has {n_words} tokens and the checkpoint {n_tokens}, which leaves "
            f"{left} expression bins, but at least 2 are needed. Pass the vocabulary that belongs to the checkpoint."
        )
    if n_bins is not None and n_bins != left:
        raise ValueError(
            f"`n_bins`: found {n_bins}, but the checkpoint has {n_tokens} tokens and {VOCABULARY_FILE} {n_words} "
            f"words, which leaves {left} bins. Leave it out, or pass the vocabulary that belongs to the checkpoint."
        )
    return left


def _edges(n_bins: int, threshold: float | None, saved: Sequence[float] | None) -> list[float]:
    """Lower bin edges: those in the checkpoint, else those of the original."""
    if n_bins == 2 and threshold is not None:
        return make_edges([0.0, threshold], n_bins, np.zeros(0)).tolist()
    if threshold is not None:
        raise ValueError(f"`threshold`: found {threshold}, but the checkpoint has {n_bins} bins, not 2. Leave it out.")
    if n_bins == 2 and saved is None:
        raise ValueError(
            "`threshold`: the checkpoint has two bins, but not the minimum value of an expressed gene. Pass "
            "the threshold it was trained with."
        )
    if saved is not None and len(saved) == n_bins and saved[0] == 0 and sorted(saved) == list(saved):
        return list(saved)  # quantiles of tied values may be equal
    return make_edges("original" if saved is None else saved, n_bins, np.zeros(0)).tolist()


def _checked(columns: Mapping[str, str] | None, layout: TokenLayout) -> dict[str, str]:
    columns = dict(columns or {})
    for name in columns:
        check_choice(name, layout.phenotype_names, "columns")
    return columns


def _registry(
    cls: type[BaseModelClass], layout: TokenLayout, columns: Mapping[str, str], layer: str | None, use_raw: bool
) -> dict[str, Any]:
    """The registry that `setup_anndata` would make: obs columns in the order of the slots, and their categories."""
    keys = [columns[name] for name in layout.phenotype_names]
    categories = {columns[slot.name]: list(slot.categories) for slot in layout.phenotypes}
    if len(categories) < len(keys):
        raise ValueError(f"`columns`: two phenotypes have the same obs column in {keys}. Pass one for each.")
    return registry_of(cls, 0, layout.genes, categories, layer=layer, use_raw=use_raw)
