"""Checkpoints of the original Polygene: its Hugging Face BERT in and out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from scvi.data import AnnDataManager

from polygene_scverse._compat import registry_without_data
from polygene_scverse._layout import TokenLayout
from polygene_scverse._validate import check_choice
from polygene_scverse.data._binning import make_edges
from polygene_scverse.data._fields import ExpressionField, PhenotypeField
from polygene_scverse.data._original import (
    GENES_FILE,
    ORIGINAL_COLUMNS,
    VOCABULARY_FILE,
    read_genes,
    read_vocabulary,
    read_words,
    write_lines,
    write_vocabulary,
)
from polygene_scverse.model._bert import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    import_weights,
    make_config,
    network_sizes,
    read_config,
    read_weights,
    write_weights,
)
from polygene_scverse.model._training import ORIGINAL_MASK

EDGES_KEY, MASK_KEY, PHENOTYPES_KEY = "bin_edges", "polygene_mask", "polygene_phenotypes"
"""Entries of ``config.json`` that only ours has: bin edges, the mask of the training, slots of other phenotypes."""


class CheckpointMixin:
    """`from_original` and `to_original` of the model."""

    @classmethod
    def from_original(
        cls,
        folder: str | Path,
        *,
        vocabulary: str | Path | None = None,
        genes: str | Path | Sequence[str] | None = None,
        n_bins: int | None = None,
        threshold: float | None = None,
        columns: Mapping[str, str] | None = None,
        layer: str | None = None,
        use_raw: bool = False,
    ) -> Self:
        """Read a checkpoint of the original Polygene (``GeneBertForMaskedLM``), of any size.

        The result is an ordinary model without data: it predicts and embeds the cells it is given, saves, and is
        fine-tuned after ``model.adata = adata`` (large networks want a small ``plan_kwargs={"lr": 5e-5}``). It has no
        linear path. Its weights were trained with the original's mask, which tells of a hidden gene whether it is
        expressed; ``mask_`` says so.

        Parameters
        ----------
        folder
            Folder with ``config.json`` and ``model.safetensors`` (or ``pytorch_model.bin``, which is read without
            unpickling code).
        vocabulary
            Folder with ``vocab.txt`` and the five lists of categories; by default `folder`, where `to_original` writes
            them. A checkpoint that it wrote for other phenotypes needs ``vocab.txt`` alone.
        genes
            The genes, most variable first, as many as the checkpoint has or more: a list, a text file with a name on
            each line, or an h5ad file whose ``var["highly_variable_rank"]`` orders them. By default the ``genes.txt``
            that `to_original` writes into `folder`.
        n_bins
            Number of expression bins, to be checked; it follows from the size of the vocabulary.
        threshold
            With two bins, the value (log1p of counts per 10,000) from which on a gene is expressed.
        columns
            Obs columns of phenotypes that are not read from the usual ones: for the original sex, tissue, cell_type,
            development_stage (as age) and disease.
        layer, use_raw
            Where expression is read from, as in `setup_anndata`.

        Returns
        -------
        The model, on the CPU. Phenotypes of the original are called sex, tissue, cell_type, age and disease.

        Raises
        ------
        FileNotFoundError
            If a file is not there.
        ValueError
            If the network is of another kind, if weights are missing, not known or misshaped, if vocabulary, genes or
            bins do not fit the checkpoint, or if a file cannot be read safely.

        Examples
        --------
        >>> model = Polygene.from_original("polygene_512", vocabulary="phenotypic_vocab", genes="shard_0.h5ad")
        >>> model.predict_phenotype(adata)["cell_type"]
        """
        folder = Path(folder)
        config = read_config(folder)
        genes = folder / GENES_FILE if genes is None else genes
        layout, usual = _layout(config, vocabulary or folder, genes, n_bins)
        edges = _edges(layout.n_bins, threshold, config.get(EDGES_KEY))
        registry = _registry(cls, layout, {**usual, **_checked(columns, layout)}, layer, use_raw)
        network = network_sizes(config)
        network |= {"linear_path": False, "gene_decoder": False}
        model = cls(None, registry, layout=layout.to_dict(), binning=edges, **network)  # type: ignore[call-arg]
        import_weights(model.module, read_weights(folder))
        model.module.eval()
        model.edges_, model.is_trained_, model.mask_ = edges, True, config.get(MASK_KEY, ORIGINAL_MASK)
        return model

    def to_original(self, folder: str | Path, *, overwrite: bool = False, drop_linear_path: bool = False) -> None:
        """Write a checkpoint that the original and Hugging Face's ``BertForMaskedLM`` load, with equal logits.

        Written are ``config.json`` (with the bin edges), ``model.safetensors``, ``vocab.txt``, ``genes.txt`` and, where
        the phenotypes are the original's, the five lists of categories. Such a folder is read back by
        ``from_original(folder)``. Calibration, and which phenotypes are ordered, are left out: ``save`` keeps them.

        Parameters
        ----------
        folder
            The folder.
        overwrite
            Whether to write into a folder that exists.
        drop_linear_path
            Whether to leave out the linear path, which BERT has not. Phenotype logits then change.

        Raises
        ------
        RuntimeError
            If the model is not trained.
        ValueError
            If the folder exists and `overwrite` is False, if the model has a linear path that is not to be dropped, or
            if it has a gene decoder.
        """
        self._check_if_trained(warn=False, message="The model is not trained. Call train() first.")
        if self.module.linear is not None and not drop_linear_path:
            raise ValueError(
                "`drop_linear_path`: the model has a linear path (`linear_path=True`), which adds to the phenotype "
                "logits and has no place in a BERT checkpoint. Pass drop_linear_path=True to leave it out, or train "
                "with linear_path=False."
            )
        if self.module.gene_decoder is not None:
            raise ValueError(
                "`gene_decoder`: the model has one, which the logits of hidden genes rest on: a bias of each gene and "
                "bin, what each category does to it, and a readout of the cell. A BERT checkpoint has no place for it. "
                "Train with gene_decoder=False to export a model."
            )
        folder = Path(folder)
        if folder.exists() and not overwrite:
            raise ValueError(f"`folder`: {folder} exists. Pass overwrite=True, or another folder.")
        folder.mkdir(parents=True, exist_ok=True)
        config = make_config(self.layout.n_tokens, self.layout.length, self.module.config)
        config |= {EDGES_KEY: list(self.edges_), MASK_KEY: self.mask_}
        if self.layout.phenotype_names != tuple(ORIGINAL_COLUMNS):
            slots = zip(self.layout.to_dict()["phenotypes"], self._columns, strict=True)
            config[PHENOTYPES_KEY] = [{**slot, "column": column} for slot, column in slots]
        (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        write_weights(self.module, folder / WEIGHTS_FILE)
        write_vocabulary(self.layout, folder)
        write_lines(folder / GENES_FILE, self.genes)


def _layout(
    config: Mapping[str, Any], vocabulary: str | Path, genes: str | Path | Sequence[str], n_bins: int | None
) -> tuple[TokenLayout, dict[str, str]]:
    """The sentence, and the obs column of each phenotype: the original's, or as `to_original` noted them."""
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
        raise ValueError(f"`folder`: {PHENOTYPES_KEY} in {CONFIG_FILE} is damaged: {error!r}. Export anew.") from error


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
            f"`vocabulary`: {VOCABULARY_FILE} has {n_words} words and the checkpoint {n_tokens} tokens, which leaves "
            f"{left} expression bins, but at least 2 are needed. Pass the vocabulary that belongs to the checkpoint."
        )
    if n_bins is not None and n_bins != left:
        raise ValueError(
            f"`n_bins`: found {n_bins}, but the checkpoint has {n_tokens} tokens and {VOCABULARY_FILE} {n_words} "
            f"words, which leaves {left} bins. Leave it out, or pass the vocabulary that belongs to the checkpoint."
        )
    return left


def _edges(n_bins: int, threshold: float | None, saved: Sequence[float] | None) -> list[float]:
    """Lower edges: those in the checkpoint, else the original's."""
    if n_bins == 2 and threshold is not None:
        return make_edges([0.0, threshold], n_bins, np.zeros(0)).tolist()
    if threshold is not None:
        raise ValueError(f"`threshold`: found {threshold}, but the checkpoint has {n_bins} bins, not 2. Leave it out.")
    if n_bins == 2 and saved is None:
        raise ValueError(
            "`threshold`: the checkpoint has two bins and does not say from which value on a gene is expressed. Pass "
            "the threshold it was trained with."
        )
    if saved is not None and len(saved) == n_bins and saved[0] == 0 and sorted(saved) == list(saved):
        return list(saved)  # quantiles of data with ties may be equal
    return make_edges("original" if saved is None else saved, n_bins, np.zeros(0)).tolist()


def _checked(columns: Mapping[str, str] | None, layout: TokenLayout) -> dict[str, str]:
    columns = dict(columns or {})
    for name in columns:
        check_choice(name, layout.phenotype_names, "columns")
    return columns


def _registry(
    cls: type, layout: TokenLayout, columns: Mapping[str, str], layer: str | None, use_raw: bool
) -> dict[str, Any]:
    """What `setup_anndata` would have noted: obs columns in the order of the slots, and their categories."""
    genes = list(layout.genes)
    keys = [columns[name] for name in layout.phenotype_names]
    categories = {columns[slot.name]: list(slot.categories) for slot in layout.phenotypes}
    if len(categories) < len(keys):
        raise ValueError(f"`columns`: two phenotypes have the same obs column in {keys}. Pass one for each.")
    said = {"phenotype_keys": keys, "layer": layer, "use_raw": use_raw, "ordered": None}
    args = cls._get_setup_method_args(cls=cls, adata=None, **said)
    return registry_without_data(
        AnnDataManager(setup_method_args=args).registry,
        [
            (ExpressionField(layer, use_raw), {"n_obs": 0, "n_vars": len(genes), "column_names": genes}),
            (PhenotypeField(keys), {"categories": categories, "unseen": {}, "ordered": {}}),
        ],
    )
