"""The Polygene model, with the interface of scvi-tools.

Public methods check arguments and delegate to plain functions of `abilities`; loops over cells are in `engine`. This
module may import `abilities`, `engine`, `fit`, `module`, `data` and its own package, but not `tl`, `get` or `pl`: see
"Modules" in `docs/design.md`, enforced by `tests/test_layers.py`.
"""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from mudata import MuData
from numpy.typing import NDArray
from rich.markup import escape
from scvi.train import TrainRunner

from polygene_scverse._compat import field_state, forget_manager, setup_args
from polygene_scverse._constants import (
    BALANCE,
    KEEP,
    N_GENES,
    N_RESPONSES,
    N_ROUNDS,
    PHENOTYPE_ALIASES,
    PHENOTYPE_FIELD,
    RANK,
)
from polygene_scverse._layout import TokenLayout
from polygene_scverse._quiet import quiet
from polygene_scverse._validate import (
    check_choice,
    check_columns,
    check_fraction,
    check_labels,
    check_names,
    check_rows,
    check_seed,
    check_some,
    check_whole,
    label_of,
    modality,
    shorten,
    warn,
)
from polygene_scverse.abilities._biomarkers import ContextMarkers, biomarkers
from polygene_scverse.abilities._calibrate import calibrate
from polygene_scverse.abilities._depth import shallow_cells
from polygene_scverse.abilities._embed import POOLINGS, embed
from polygene_scverse.abilities._expected_expression import check_size as check_values
from polygene_scverse.abilities._expected_expression import denoised_expression, expected_expression
from polygene_scverse.abilities._explain_prediction import Explanation, explain_prediction
from polygene_scverse.abilities._gene_contributions import GeneContributions, gene_contributions
from polygene_scverse.abilities._gene_roles import gene_roles
from polygene_scverse.abilities._gene_states import GeneStates, find_contexts, find_pairs, gene_states
from polygene_scverse.abilities._generate import LARGEST_DEPTH, draw_depths, draw_phenotypes, generate, generate_counts
from polygene_scverse.abilities._generate import check_size as check_entries
from polygene_scverse.abilities._joint import check_size, joint, seen_together
from polygene_scverse.abilities._novelty import novelty
from polygene_scverse.abilities._panel import ENOUGH_GENES, LEAST_OVERLAP, enough_genes, expected_accuracy, for_panel
from polygene_scverse.abilities._perturb import MOST_CELLS, matched_genes, mean_expression, perturb
from polygene_scverse.abilities._polyfunctionality import Polyfunctionality, polyfunctionality
from polygene_scverse.abilities._predict import category_log_shares, phenotype_logits, predict
from polygene_scverse.abilities._score_tokens import TokenCounts, count_hidden_tokens
from polygene_scverse.data.feed._adata_cells import AnnDataCells
from polygene_scverse.data.feed._masking import MaskingRates
from polygene_scverse.data.feed._rates import resolve_rates
from polygene_scverse.data.feed._source import draw_cells
from polygene_scverse.data.read._expression import Expression
from polygene_scverse.data.read._fields import warn_unseen
from polygene_scverse.data.read._gene_names import GeneNames
from polygene_scverse.data.read._phenotypes import candidates, encode, encode_all, missing_words, ordered_labels
from polygene_scverse.data.read._ranking import choose_genes
from polygene_scverse.data.read._split import Split, resolve_split
from polygene_scverse.engine import Engine, Query, RandomHiding
from polygene_scverse.fit import FittedState
from polygene_scverse.fit._conformal import ConformalScores
from polygene_scverse.fit._decision import check_balance, decide
from polygene_scverse.fit._panels import KNOWN_SHARE
from polygene_scverse.fit._state import ORIGINAL_MASK
from polygene_scverse.model._growth import Added, grown_order, grown_registry, with_added
from polygene_scverse.model._hub import hub_modules, model_card, pull_folder, push_folder
from polygene_scverse.model._saving import SavingMixin
from polygene_scverse.model._setup import GENE_NAMES, SetupMixin
from polygene_scverse.model.original._checkpoint import read_original, write_original
from polygene_scverse.model.training._arguments import resolve_seed, split_of, validation_share
from polygene_scverse.model.training._checkpoints import Checkpoints
from polygene_scverse.model.training._plan import PolygeneTrainingPlan
from polygene_scverse.model.training._training import (
    TrainingCells,
    read_training_cells,
    train_model,
)
from polygene_scverse.module import LossConfig, PolygeneModule
from polygene_scverse.module._growth import grow_module
from polygene_scverse.module._transformer import resolve_config

NO_SCORES: Final = ConformalScores(np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.float32))


class Polygene(SavingMixin, SetupMixin):
    """Masked transformer over binned gene expression and phenotypes.

    Unlike other scvi-tools models, it accepts raw counts as well as log-normalised data, matches genes of new data by
    name, takes any number of phenotypes with missing values, and changes nothing in AnnData except for the identifiers
    that ``setup_anndata`` writes to ``uns``.

    Parameters
    ----------
    adata
        Data prepared by :meth:`setup_anndata` or :meth:`setup_mudata`.
    registry
        Registry of a saved model, instead of `adata`.
    genes
        Genes of the model, most variable first. By default the first `n_genes` genes by
        ``var["highly_variable_rank"]``; if that column is absent, genes are ranked on all cells.
    n_genes
        Number of genes.
    n_bins
        Number of expression bins, including bin 0 ("not expressed"); 2 for a binary encoding.
    binning
        ``"quantile"`` for quantiles of the expressed values in training cells, ``"original"`` for 0 and equally spaced
        edges from 0.1 to 9.0, or a list of `n_bins` lower edges starting with 0.
    size
        Named size of the network: ``"tiny"``, or ``"512"`` and ``"2432"`` for the sizes of the original.
    linear_path
        Whether to combine the phenotype logits with linear discriminants of gene expression, which are fitted after
        training. The discriminants use all genes. To predict phenotypes faster, the transformer then reads half of the
        genes that a cell expresses, with `group_key` a quarter, but at least 32: those with the largest weights in the
        discriminants. If held-out cells are predicted worse than with all genes, it reads more of them or all.
    gene_decoder
        Whether to add a gene-specific decoder to BERT's shared head. It is needed to predict expression (imputation,
        counterfactuals, generation). Without it, the network is that of the original.
    loss
        Settings of the loss, see :class:`~polygene_scverse.module.LossConfig`.
    seed
        Random seed for the initial weights; by default ``scvi.settings.seed``, or 0.
    layout
        Slots and vocabulary of a saved model, instead of `genes`, `n_genes` and `n_bins`.
    **network
        Values of :class:`~polygene_scverse.module.TransformerConfig`, instead of those of `size`.

    Examples
    --------
    >>> Polygene.setup_anndata(adata, phenotype_keys=["cell_type", "disease"])
    >>> model = Polygene(adata)
    >>> model.train()
    >>> model.predict_phenotype()["cell_type"]
    """

    _module_cls = PolygeneModule
    _training_plan_cls = PolygeneTrainingPlan
    _train_runner_cls = TrainRunner

    module: PolygeneModule
    fitted_: FittedState
    edges_: list[float] | None
    added_: Added
    registry_: dict[str, Any]
    _adata: AnnData | MuData | None
    _adata_manager: Any

    def __init__(
        self,
        adata: AnnData | MuData | None = None,
        registry: dict[str, Any] | None = None,
        *,
        genes: Sequence[str] | None = None,
        n_genes: int = N_GENES,
        n_bins: int = 10,
        binning: str | Sequence[float] = "quantile",
        size: str = "tiny",
        linear_path: bool = True,
        gene_decoder: bool = True,
        loss: LossConfig | Mapping[str, Any] | None = None,
        seed: int | None = None,
        layout: Mapping[str, Any] | None = None,
        **network: Any,
    ) -> None:
        super().__init__(adata, registry)
        seed = resolve_seed(seed)
        if layout is None:
            genes = self._choose_genes(genes, n_genes)
            layout = TokenLayout.build(self._columns, genes, check_whole(n_bins, "n_bins", 2)).to_dict()
        genes, loss = None, loss if isinstance(loss, LossConfig) else LossConfig(**(loss or {}))
        self.layout = TokenLayout.from_dict(layout)
        self.module = self._module_cls(
            self.layout,
            resolve_config(size, **network),
            loss,
            linear_path=linear_path,
            gene_decoder=gene_decoder,
            ordered={name: entry["values"] for name, entry in self.ordered.items()},
            seed=seed,
        )
        loss = loss.to_dict()
        self.binning_, self.edges_ = binning, None
        self.fitted_, self.added_ = FittedState(), {}
        self._model_summary_string = self._summary()
        self.init_params_ = self._get_init_params(locals())

    def _summary(self) -> str:
        """First line of what is printed for the model."""
        return (
            f"Polygene with {self.layout.n_genes} genes in {self.layout.n_bins} bins, phenotypes "
            f"{escape(shorten(self.layout.phenotype_names))}, {self.module.config}"
        )

    # properties and codes

    @property
    def categories(self) -> dict[str, list[str]]:
        """Categories of each phenotype."""
        return {slot.name: list(slot.categories) for slot in self.layout.phenotypes}

    @property
    def genes(self) -> list[str]:
        """Genes of the model, most variable first."""
        return list(self.layout.genes)

    @property
    def columns(self) -> dict[str, str]:
        """Obs column of each phenotype."""
        return dict(zip(self.layout.phenotype_names, self._columns, strict=True))

    @property
    def missing(self) -> frozenset[str]:
        """Labels, in lower case, that mean "no value", in addition to NaN, None and empty text."""
        return missing_words(setup_args(self.registry).get("missing"))

    @property
    def modality(self) -> str:
        """Modality of MuData that the model reads, ``"rna"`` if it was trained on AnnData."""
        return str(setup_args(self.registry).get("mod", "rna"))

    @property
    def ordered(self) -> dict[str, dict[str, Any]]:
        """For each ordered phenotype, the ``values`` of its categories and whether they are ``numeric``."""
        columns = field_state(self.registry, PHENOTYPE_FIELD).get("ordered", {})
        names = dict(zip(self._columns, self.layout.phenotype_names, strict=True))
        return {names[column]: dict(entry) for column, entry in columns.items()}

    @property
    def calibration_(self) -> dict[str, dict[str, Any]]:
        """For each phenotype, the ``temperature``, a description of the calibration (``note``) and its statistics.

        Errors before and after calibration are those of the calibration cells.
        """
        return {name: {**vars(entry), "note": entry.note} for name, entry in self.fitted_.calibration.items()}

    @property
    def mask_(self) -> str:
        """Attention mask of the weights: ``"leak-free"``, or ``"original"`` for weights of the original."""
        return self.fitted_.mask

    @property
    def log_shares(self) -> dict[str, NDArray[np.float64]]:
        """Log frequencies of categories in the training cells, uniform if unknown; (n_categories,) each."""
        shares = category_log_shares(Engine(self.module), self.fitted_)
        found = [share.numpy(force=True).astype(np.float64) for share in shares]
        return dict(zip(self.layout.phenotype_names, found, strict=True))

    def codes(self, indices: Sequence[int] | NDArray[np.int64] | None = None) -> dict[str, NDArray[np.int64]]:
        """Return the category codes of each phenotype in the data the model was set up with, -1 where unknown.

        Parameters
        ----------
        indices
            Row numbers; all by default.
        """
        obs = self._anndata(self.adata).obs
        return self.encode(obs if indices is None else obs.iloc[np.asarray(indices)])

    def encode(self, obs: pd.DataFrame) -> dict[str, NDArray[np.int64]]:
        """Return the category codes of each phenotype in a table of cells, -1 where unknown; shape (n_cells,) each.

        Parameters
        ----------
        obs
            Table of cells. Phenotypes that are not among its columns are unknown.
        """
        return dict(zip(self.layout.phenotype_names, encode_all(obs, self._columns)[0].T, strict=True))

    def without_data(self) -> Polygene:
        """Return a model with the same weights that does not hold AnnData."""
        other = copy.copy(self)
        other._adata = other._adata_manager = None
        other.__dict__.pop("trainer", None)  # it refers to the model, and so to its data
        return other

    # training and original checkpoints

    def train(
        self,
        max_epochs: int | None = None,
        *,
        batch_size: int = 16,
        group_key: str | None = None,
        validation_size: float | None = None,
        train_size: float | None = None,
        split: Split | None = None,
        masking: MaskingRates | Mapping[str, Any] | str | None = None,
        seed: int | None = None,
        plan_kwargs: Mapping[str, Any] | None = None,
        loader_kwargs: Mapping[str, Any] | None = None,
        checkpoints: Checkpoints | Mapping[str, Any] | str | Path | None = None,
        **trainer_kwargs: Any,
    ) -> None:
        """Train the model.

        Parameters
        ----------
        max_epochs
            Number of passes over the training cells. By default, enough to process about 25,000 cells or 2.5 million
            expressed genes.
        batch_size
            Number of cells per batch, over all processes. If a GPU runs out of memory, batches are halved and twice as
            many are accumulated in a step.
        group_key
            Obs column of the groups (donors, samples) that cells come from. Whole groups are held out if
            `validation_size` amounts to at least one group, and probabilities are calibrated for new groups.
        validation_size
            Fraction of the cells, or groups, to hold out, 0.1 by default; 0 for none. The model is calibrated on them
            after training, see ``calibration_``. Pass `group_key` for predictions on new donors.
        train_size
            Fraction of the cells to train on, as in scvi-tools: 0.9 holds out a tenth.
        split
            Row numbers of the training and the validation cells, instead of a random split.
            ``datasplitter_kwargs={"external_indexing": [...]}`` of scvi-tools is accepted as well.
        masking
            Masking rates, see `MaskingRates`; ``"original"`` for the rates of the original.
        seed
            Random seed for split, order of cells, targets and dropout; by default ``scvi.settings.seed``, or 0.
        plan_kwargs
            Passed to the training plan, e.g. ``lr``, ``weight_decay``, ``warmup``, ``schedule``,
            ``phenotype_rise``.
        loader_kwargs
            Passed to :class:`torch.utils.data.DataLoader`, e.g. ``num_workers``.
        checkpoints
            Folder in which a checkpoint is saved after each epoch, or :class:`~polygene_scverse.model.Checkpoints` for
            other intervals and for resuming. By default no checkpoints are saved.
        **trainer_kwargs
            Passed to the Trainer of scvi-tools, e.g. ``early_stopping`` (by validation loss), ``accelerator``,
            ``devices``, ``precision``, ``callbacks``, ``accumulate_grad_batches``.

        Raises
        ------
        ValueError
            If the model has no data, if expression is neither raw counts nor log-normalised, or if a side of the split
            is empty.
        KeyError
            If `group_key` is not an obs column.
        OSError
            If the folder of `checkpoints` cannot be written to, or has too little space.
        """
        if self.adata is None:
            raise ValueError("`adata`: the model has no data to train on. Set model.adata = adata first.")
        rates, seed = resolve_rates(masking), resolve_seed(seed)
        split = split_of(split, trainer_kwargs.pop("datasplitter_kwargs", None))
        validation_size = validation_share(train_size, validation_size)
        with self._growing(seed=seed):
            data = self._anndata(self.adata)
            rows = resolve_split(data, group_key, validation_size, split, seed, list(self._columns))
            train_model(
                self,
                self._training_cells(self._expression(data).matched(self._known_genes), rows, group_key),
                rates,
                max_epochs=max_epochs,
                batch_size=batch_size,
                seed=seed,
                plan_kwargs=plan_kwargs,
                loader_kwargs=loader_kwargs,
                checkpoints=checkpoints,
                **trainer_kwargs,
            )

    def add_categories(self, phenotype: str, categories: str | Sequence[object]) -> Polygene:
        """Return a model with additional categories of a phenotype, to be learned in its next training.

        Until then, predictions are identical to those of this model, and the new categories are never predicted.
        Prediction sets of the phenotype contain every category, with a warning, because their coverage does not hold
        for cells of a new category. :func:`pgs.tl.train(adata, model=...) <polygene_scverse.tl.train>` adds new
        categories automatically and limits the forgetting of old ones, which :meth:`train` does not.

        Parameters
        ----------
        phenotype
            A phenotype of the model.
        categories
            The new categories. For ordered phenotypes they are placed by their numeric values; if the categories are
            not numeric, the new ones are placed last.

        Returns
        -------
        A new model without data; this model is not changed. Its attribute ``added_`` lists what it has yet to learn.

        Raises
        ------
        ValueError
            If the model does not have the phenotype, or already has a category.

        Examples
        --------
        >>> grown = model.add_categories("cell_type", ["MAIT cell"])
        """
        waiting = [name for name in self.added_ if name not in self.layout.phenotype_names]
        check_choice(phenotype, [*self.layout.phenotype_names, *waiting], "phenotype")
        known, ordered = self.categories.get(phenotype, []), self.added_.get(phenotype, {}).get("ordered", False)
        return self._with_added(with_added(self.added_, phenotype, categories, known, ordered))

    def add_phenotype(self, name: str, categories: Sequence[object], *, ordered: bool = False) -> Polygene:
        """Return a model with an additional phenotype, to be learned in its next training.

        Until then, predictions do not change, see `add_categories`.

        Parameters
        ----------
        name
            Obs column of the phenotype.
        categories
            Its categories, at least two.
        ordered
            Whether the categories have an order, as ages do.

        Returns
        -------
        As in `add_categories`.

        Raises
        ------
        ValueError
            If the model already has the phenotype, or if there are fewer than two categories.
        """
        if name in self.layout.phenotype_names or name in self._columns or name in self.added_:
            raise ValueError(f"`name`: the model already has a phenotype {name!r}. Call add_categories to extend it.")
        if isinstance(categories, str) or len(categories) < 2:
            raise ValueError(
                f"`categories`: found {categories!r} for {name!r}, but two or more are needed. Pass a list."
            )
        return self._with_added(with_added(self.added_, name, categories, [], ordered))

    def _with_added(self, added: Added) -> Polygene:
        """A copy of the model that will learn these categories and phenotypes."""
        for name, entry in added.items():  # raises errors before anything is trained
            if name in self.ordered:
                grown_order(self.ordered[name], entry["categories"])
        other = copy.deepcopy(self.without_data())
        other.added_, other.registry_ = added, copy.deepcopy(other.registry_)
        columns = {name: self.columns.get(name, name) for name in added}
        waiting = {columns[name]: entry["categories"] for name, entry in added.items()}
        field_state(other.registry_, PHENOTYPE_FIELD)["added"] = waiting
        for name in added:
            other.fitted_.conformal.pop(name, None)
        return other

    def _attach(self, data: AnnData | MuData) -> None:
        """Set the model up with data, without the messages of scvi-tools."""
        with quiet("scvi.model.base._base_model"):
            self.adata = data

    @contextmanager
    def _growing(self, genes: Sequence[str] = (), seed: int = 0) -> Iterator[None]:
        """Apply the recorded additions for a training, and undo them if none of its steps completes.

        Copies of the model keep the previous network and fitted state.

        Parameters
        ----------
        genes
            Genes to add.
        seed
            Seed of the new weights.
        """
        if not self.added_ and not genes:
            yield
            return
        before = dict(vars(self))
        new_names = [name for name in self.added_ if name not in self.layout.phenotype_names]
        layout = self.layout.grown({name: entry["categories"] for name, entry in self.added_.items()}, genes)
        registry = grown_registry(self.registry_, layout, self.added_, [*self._columns, *new_names])
        self.layout, self.registry_, self.added_ = layout, registry, {}
        values = {name: entry["values"] for name, entry in self.ordered.items()}
        self.module = grow_module(self.module, layout, ordered=values, seed=seed)
        self._model_summary_string = self._summary()
        self.fitted_ = copy.deepcopy(self.fitted_)
        self.init_params_ = copy.deepcopy(self.init_params_)
        self.init_params_["non_kwargs"]["layout"] = layout.to_dict()
        counts = self.fitted_.category_counts
        try:
            if (data := self._adata) is not None:
                forget_manager(self, self._adata_manager)
                self._adata = self._adata_manager = None
                self._attach(data)
            yield
        except BaseException:
            if self.fitted_.category_counts is counts:  # training replaces the counts, so no step was done
                if self._adata_manager is not None:
                    forget_manager(self, self._adata_manager)
                self.__dict__.update(before)
                if self._adata_manager is not None:
                    self._register_manager_for_instance(self._adata_manager)
            raise

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
    ) -> Polygene:
        """Load a checkpoint of the original Polygene (``GeneBertForMaskedLM``), of any size.

        The result is an ordinary model without data. To fine-tune it, set ``model.adata = adata`` (and use a small
        learning rate for large networks, such as ``plan_kwargs={"lr": 5e-5}``). It has no linear path. Its weights were
        trained with the attention mask of the original, which reveals whether a hidden gene is expressed; see
        ``mask_``.

        Parameters
        ----------
        folder
            Folder with ``config.json`` and ``model.safetensors`` (or ``pytorch_model.bin``, which is read without
            unpickling code).
        vocabulary
            Folder with ``vocab.txt`` and the five lists of categories; by default `folder`. Checkpoints that
            `to_original` wrote for other phenotypes only need ``vocab.txt``.
        genes
            The genes, most variable first, at least as many as the checkpoint has: a list, a text file with a name on
            each line, or an h5ad file with ``var["highly_variable_rank"]``. By default ``genes.txt`` in `folder`, as
            written by `to_original`.
        n_bins
            Expected number of expression bins, as a check; it follows from the size of the vocabulary.
        threshold
            For checkpoints with two bins, the minimum value (log1p of counts per 10,000) of an expressed gene.
        columns
            Obs columns of phenotypes that differ from the defaults (sex, tissue, cell_type, development_stage for age,
            and disease).
        layer, use_raw
            Source of expression, as in `setup_anndata`.

        Returns
        -------
        The model, on the CPU. Phenotypes of the original are called sex, tissue, cell_type, age and disease.

        Raises
        ------
        FileNotFoundError
            If a file does not exist.
        ValueError
            If the architecture differs, if weights are missing, unknown or have the wrong shape, if vocabulary, genes
            or bins do not fit the checkpoint, or if a file cannot be read safely.

        Examples
        --------
        >>> model = Polygene.from_original("polygene_512", vocabulary="phenotypic_vocab", genes="shard_0.h5ad")
        >>> model.predict_phenotype(adata)["cell_type"]
        """
        checkpoint = read_original(
            cls, folder, vocabulary, genes, n_bins=n_bins, threshold=threshold, columns=columns, layer=layer,
            use_raw=use_raw,
        )  # fmt: skip
        model = cls(
            None,
            checkpoint.registry,
            layout=checkpoint.layout.to_dict(),
            binning=checkpoint.edges,
            linear_path=False,
            gene_decoder=False,
            **checkpoint.network,
        )
        checkpoint.load_weights(model.module)
        model.module.eval()
        model.edges_, model.is_trained_, model.fitted_.mask = checkpoint.edges, True, checkpoint.mask
        return model

    def to_original(self, folder: str | Path, *, overwrite: bool = False, drop_linear_path: bool = False) -> None:
        """Export a checkpoint for the original and for ``BertForMaskedLM`` of Hugging Face, with identical logits.

        Writes ``config.json`` (with the bin edges), ``model.safetensors``, ``vocab.txt``, ``genes.txt`` and, if the
        phenotypes are those of the original, the five lists of categories. Load it with ``from_original(folder)``.
        Calibration and the order of categories are not exported; use ``save`` to keep them.

        Parameters
        ----------
        folder
            The folder.
        overwrite
            Whether to write to an existing folder.
        drop_linear_path
            Whether to drop the linear path, which does not exist in BERT. This changes phenotype logits.

        Raises
        ------
        RuntimeError
            If the model is not trained.
        ValueError
            If the folder exists and `overwrite` is False, if the model has a linear path and `drop_linear_path` is
            False, or if it has a gene decoder.
        """
        self._check_if_trained(warn=False, message="The model is not trained. Call train() first.")
        if self.module.linear is not None and not drop_linear_path:
            raise ValueError(
                "`drop_linear_path`: the model has a linear path (`linear_path=True`), which cannot be stored in a "
                "BERT checkpoint. Pass drop_linear_path=True to leave it out, or train with linear_path=False."
            )
        if self.module.gene_decoder is not None:
            raise ValueError(
                "`gene_decoder`: the model has a gene decoder, which cannot be stored in a BERT checkpoint. Train "
                "with gene_decoder=False to export a model."
            )
        write_original(self.module, self.edges_ or [], self.mask_, list(self._columns), Path(folder), overwrite)

    # Hugging Face hub

    def push_to_hub(
        self,
        repo_name: str,
        *,
        license: str = "unknown",
        description: str = "",
        evaluation: pd.DataFrame | None = None,
        token: str | None = None,
        private: bool = False,
    ) -> None:
        """Upload the model, without data, and a model card to the Hugging Face hub.

        Parameters
        ----------
        repo_name
            ``"user/name"``; created if it does not exist.
        license
            Licence of the model, spelled as on the hub, e.g. ``"cc-by-4.0"``.
        description
            Description of the training cells and their source.
        evaluation
            Table to show on the card, such as ``pgs.get.evaluation(adata)``. The card also has the scores on held-out
            cells, the calibration, and the categories with their number of training cells.
        token
            Token with write access; by default that of ``huggingface-cli login``.
        private
            Whether to create a private repository.

        Raises
        ------
        RuntimeError
            If the model is not trained.
        ImportError
            If ``huggingface_hub`` is not installed.

        Examples
        --------
        >>> model.push_to_hub("me/blood", license="cc-by-4.0", description="Blood cells of 40 donors")
        """
        self._check_if_trained(warn=False, message="The model is not trained. Call train() first.")
        made_with = str(self.registry["scvi_version"])
        facts: dict[str, Any] = {"license_name": license, "description": description, "evaluation": evaluation}
        card = model_card(self, repo_name=repo_name, scvi=made_with, **facts)
        hub_modules()  # raises an error before anything is written
        with tempfile.TemporaryDirectory(prefix="polygene_") as folder:
            path = Path(folder) / "model"
            self.save(path)
            push_folder(path, repo_name, card, type(self).__name__, made_with, token, private)

    @classmethod
    def from_hub(
        cls,
        repo_name: str,
        *,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        token: str | None = None,
    ) -> Polygene:
        """Download a model that was uploaded with `push_to_hub`.

        As with `load`, no code in it is executed.

        Parameters
        ----------
        repo_name
            ``"user/name"``.
        revision
            Branch, tag or commit; by default the newest.
        cache_dir
            Download folder; by default that of ``huggingface_hub``.
        token
            Token with read access, for a private repository.

        Returns
        -------
        The model, without data.

        Raises
        ------
        ImportError
            If ``huggingface_hub`` is not installed.
        ValueError
            If the repository was not created by `push_to_hub`, or as for `load`.

        Examples
        --------
        >>> model = Polygene.from_hub("me/blood")
        """
        where = None if cache_dir is None else Path(cache_dir)
        return cls.load(pull_folder(repo_name, cls, revision, where, token), adata=False)

    # prediction and interpretation

    def gene_names(
        self, adata: AnnData | MuData, *, gene_symbols: str | None = None, gene_ids: str | None = None
    ) -> GeneNames:
        """Match the genes of new data to those of the model.

        Genes are matched by identical names, then by common columns of ``var`` (``gene_ids``, ``feature_name`` …), then
        by names that differ only in case or in the version of an Ensembl id, and then from symbols to Ensembl ids of
        human and mouse genes, with a GENCODE table that is installed with the package. Ambiguous genes are not matched.

        Parameters
        ----------
        adata
            The cells.
        gene_symbols, gene_ids
            Columns of ``var`` with gene symbols or Ensembl ids, tried before ``var_names``.

        Returns
        -------
        Object with ``names`` and ``matched`` (n_vars,), ``how`` (number of columns matched in each way) and
        ``ambiguous``.

        Raises
        ------
        KeyError
            If such a column does not exist.
        """
        expression = self._query_expression(self._anndata(adata), gene_symbols, gene_ids)
        return cast(GeneNames, expression.match)

    def predict_phenotype(
        self,
        adata: AnnData | MuData | None = None,
        *,
        phenotypes: str | Sequence[str] | None = None,
        indices: Sequence[int] | NDArray[np.int64] | None = None,
        given: str | Sequence[str] | None = None,
        gene_symbols: str | None = None,
        gene_ids: str | None = None,
        batch_size: int = 128,
    ) -> dict[str, pd.DataFrame]:
        """Predict the probability of each category of each phenotype.

        Parameters
        ----------
        adata
            Cells to predict; by default those the model was set up with. Genes are matched by name.
        phenotypes
            Phenotypes to predict; all by default.
        indices
            Row numbers; all by default.
        given
            Phenotypes to show to the model as evidence, in cells where they are known; by default none.
        gene_symbols, gene_ids
            Columns of ``var`` with gene symbols or Ensembl ids, tried before ``var_names``. By default, genes are
            matched by name, then by common columns such as ``var["gene_ids"]``, then from symbols to Ensembl ids, see
            `gene_names`.
        batch_size
            Number of cells per step.

        Returns
        -------
        Dictionary with a table for each phenotype, of shape (n_cells, n_categories); rows sum to 1. Probabilities are
        calibrated by temperature scaling, see ``calibration_``.

        Raises
        ------
        ValueError
            If the model does not have a phenotype, if no gene matches, or if expression has the wrong scale.
        KeyError
            If a phenotype in `given` is not an obs column.
        """
        names, query = self._names(phenotypes, "phenotypes"), self._query(given)
        cells = self._cells(adata, indices, gene_symbols, gene_ids, query)
        found = predict(*self._for(cells, batch_size), cells, query, names)
        index = self._index(adata, cells)
        return {name: pd.DataFrame(p, index=index, columns=self.categories[name]) for name, p in found.items()}

    def expected_accuracy(
        self, adata: AnnData | MuData, *, gene_symbols: str | None = None, gene_ids: str | None = None
    ) -> dict[str, float]:
        """Estimate the accuracy of predictions for data that lack some of the genes.

        After training, the held-out cells are predicted with decreasing numbers of genes. The estimate is therefore the
        accuracy on cells like those held out; pass `group_key` in training if it should hold for new donors.

        Parameters
        ----------
        adata
            The cells; only their genes are used.
        gene_symbols, gene_ids
            As in `predict_phenotype`.

        Returns
        -------
        Dictionary with the accuracy of each phenotype, from 0 to 1; empty if no cells were held out, or if the model
        has no linear path.

        Raises
        ------
        RuntimeError
            If the model is not trained.
        KeyError
            If such a column of ``var`` does not exist.
        """
        self._data(adata)
        return expected_accuracy(Engine(self.module), self.fitted_, self._measured(adata, gene_symbols, gene_ids))

    def _measured(self, adata: AnnData | MuData, gene_symbols: str | None, gene_ids: str | None) -> NDArray[np.bool_]:
        """Whether each gene of the model is in these data; shape (n_genes,)."""
        return np.isin(self.genes, self.gene_names(adata, gene_symbols=gene_symbols, gene_ids=gene_ids).names)

    def get_latent_representation(
        self,
        adata: AnnData | MuData | None = None,
        *,
        pooling: str = "decision",
        indices: Sequence[int] | NDArray[np.int64] | None = None,
        given: str | Sequence[str] | None = None,
        gene_symbols: str | None = None,
        gene_ids: str | None = None,
        batch_size: int = 128,
    ) -> NDArray[np.float32]:
        """Compute an embedding of each cell.

        Parameters
        ----------
        adata
            Cells to embed; by default those the model was set up with.
        pooling
            Which states to use: ``"decision"``, the mean over phenotypes of the states that they are predicted from,
            including the linear path (the best separation of cell types in our benchmarks); ``"phenotypes"``, the mean
            of the phenotype tokens; ``"genes"``, the mean over expressed genes; ``"cls"``, the CLS token; or the name
            of a phenotype, for its token alone.
        indices
            Row numbers; all by default.
        given
            Phenotypes whose recorded values are shown; by default none, so that no label leaks into the embedding.
        gene_symbols, gene_ids
            As in `predict_phenotype`.
        batch_size
            Number of cells per step.

        Returns
        -------
        Array of shape (n_cells, n_hidden).

        Raises
        ------
        ValueError
            As for `predict_phenotype`, and if `pooling` is unknown.
        KeyError
            As for `predict_phenotype`.
        """
        check_choice(pooling, (*POOLINGS, *self.layout.phenotype_names), "pooling")
        query = self._query(given)
        cells = self._cells(adata, indices, gene_symbols, gene_ids, query)
        return embed(*self._for(cells, batch_size), cells, query, pooling)

    def joint_phenotype(
        self,
        adata: AnnData | MuData | None = None,
        *,
        phenotypes: Sequence[str],
        indices: Sequence[int] | NDArray[np.int64] | None = None,
        given: str | Sequence[str] | None = None,
        gene_symbols: str | None = None,
        gene_ids: str | None = None,
        batch_size: int = 128,
    ) -> NDArray[np.float32]:
        """Compute the joint probability of the categories of several phenotypes.

        The joint probability is the probability of the first phenotype times that of the second given the first, and so
        on, averaged over all orders of the phenotypes.

        Parameters
        ----------
        adata
            Cells to predict; by default those the model was set up with. Genes are matched by name.
        phenotypes
            Two or more phenotypes of the model.
        indices
            Row numbers; all by default.
        given
            Other phenotypes to show to the model as evidence, in cells where they are known.
        gene_symbols, gene_ids
            As in `predict_phenotype`.
        batch_size
            Number of cells per step. The number of passes through the network grows with the number of combinations.

        Returns
        -------
        Array of probabilities of shape (n_cells, n_categories of the first, of the second, …) that sum to 1 in each
        cell.

        Raises
        ------
        ValueError
            If there are fewer than two phenotypes, if the model does not have one of them, if one is named twice or
            also in `given`, if there are more than 5,000 combinations or 250 million probabilities, if no gene matches,
            or if expression has the wrong scale.
        KeyError
            If a phenotype in `given` is not an obs column.
        """
        names, query = self._joint_names(phenotypes, given), self._query(given)
        data = self._data(adata)
        check_size(names, [len(self.categories[name]) for name in names], len(self._rows(data, indices)))
        cells = self._cells(data, indices, gene_symbols, gene_ids, query)
        return joint(*self._for(cells, batch_size), cells, query, names)

    def seen_together(self, phenotypes: Sequence[str]) -> NDArray[np.bool_]:
        """Return which combinations of categories are consistent with the training cells.

        Parameters
        ----------
        phenotypes
            Two or more phenotypes of the model.

        Returns
        -------
        Boolean array of shape (n_categories of the first, of the second, …): True if every pair of categories of a
        combination occurred together in some training cell. Always True for weights of the original, whose training
        cells are unknown.

        Raises
        ------
        ValueError
            As for `joint_phenotype`.
        """
        names = self._joint_names(phenotypes, None)
        check_size(names, [len(self.categories[name]) for name in names], 1)
        return seen_together(self.layout, names, self.fitted_.pairs)

    def novelty(
        self,
        adata: AnnData | MuData | None = None,
        *,
        phenotype: str | None = None,
        indices: Sequence[int] | NDArray[np.int64] | None = None,
        gene_symbols: str | None = None,
        gene_ids: str | None = None,
        batch_size: int = 128,
    ) -> pd.DataFrame:
        """Score how novel each cell is compared with the training cells.

        The score is based on the Mahalanobis distance of a cell to its category, averaged over the predicted
        probabilities of the categories, in 20 principal components of the standardised expression of the training
        cells, with one covariance for all categories that accounts for unmeasured genes. It is ranked among cells of
        known categories: held-out cells or, if groups are known and none was held out, training cells that are compared
        with the other groups. Cells that are farther than all of these are ordered by distance, with scores that
        approach 1 without ties. In benchmarks with left-out categories, novelty detected more of the new cells than the
        entropy or the maximum of the probabilities and than distances to single cells (``docs/trust.md``). New types
        that are similar to a known type are not detected.

        Parameters
        ----------
        adata
            Cells; by default those the model was set up with. Genes are matched by name.
        phenotype
            Phenotype whose categories are the known types. By default the cell type, if a phenotype has one of its
            common names, otherwise the first phenotype.
        indices
            Row numbers; all by default.
        gene_symbols, gene_ids
            As in `predict_phenotype`.
        batch_size
            Number of cells per step.

        Returns
        -------
        Table with a row per cell (n_cells x 2) and two columns from 0 to 1: ``novelty``, the fraction of cells of known
        categories with a smaller distance, so that about 5 % of such cells have a value above 0.95; and ``unsure``, the
        fraction of held-out cells with a lower entropy of the probabilities.

        Raises
        ------
        ValueError
            As for `predict_phenotype`, and if the model was trained on very few cells or imported from the original.
        """
        name = self.reference_phenotype if phenotype is None else phenotype
        check_choice(name, self.layout.phenotype_names, "phenotype")
        data, reference = self._data(adata), self.fitted_.novelty
        if reference is None:
            raise ValueError(
                "`model`: it stores no training cells to compare with, because it was trained on very few cells or by "
                "an earlier version, or imported from the original. Train it with pgs.tl.train."
            )
        cells = self._cells(data, indices, gene_symbols, gene_ids)
        found = novelty(*self._for(cells, batch_size), reference, cells, name)
        return pd.DataFrame(found, index=self._index(data, cells), columns=["novelty", "unsure"])

    @property
    def reference_phenotype(self) -> str:
        """The cell type, if a phenotype has one of its common names, otherwise the first phenotype."""
        names = self.layout.phenotype_names
        return next((name for name in names if name in PHENOTYPE_ALIASES["cell_type"]), names[0])

    def get_gene_states(
        self,
        adata: AnnData | MuData | None = None,
        *,
        groupby: str | None = None,
        group_key: str | None = None,
        indices: Sequence[int] | NDArray[np.int64] | None = None,
        given: str | Sequence[str] | None = None,
        gene_symbols: str | None = None,
        gene_ids: str | None = None,
        batch_size: int = 128,
    ) -> GeneStates:
        """Compute the hidden states of genes after the last block, averaged over the cells that express them.

        Memory grows with contexts x genes x hidden units, not with the number of cells.

        Parameters
        ----------
        adata
            Cells; by default those the model was set up with. Genes are matched by name.
        groupby
            Obs column of contexts; cells without a value are excluded. By default all cells form one context,
            ``"all"``.
        group_key
            Obs column of groups (donors, samples). States are then averaged for each pair of context and group. By
            default they are averaged over all cells of a context.
        indices
            Row numbers; all by default.
        given
            Phenotypes whose recorded values are shown to the model; by default none.
        gene_symbols, gene_ids
            As in `predict_phenotype`.
        batch_size
            Number of cells per step.

        Returns
        -------
        Means of shape (n_contexts, n_genes, n_hidden) and numbers of cells of shape (n_contexts, n_genes).

        Raises
        ------
        ValueError
            If `groupby` has no value or too many, if the states would take more than 4 GB, if the model does not have a
            phenotype, if no gene matches, or if expression has the wrong scale.
        KeyError
            If `groupby`, `group_key` or a phenotype in `given` is not an obs column.
        """
        data, query = self._data(adata), self._query(given)
        rows = self._rows(data, indices)
        contexts, groups, codes = self._contexts(data, groupby, group_key, rows)
        cells = self._cells(data, rows[codes >= 0], gene_symbols, gene_ids, query)
        found = gene_states(Engine(self.module, batch_size), cells, query, contexts, codes[codes >= 0])
        return replace(found, groups=groups)

    def polyfunctionality(
        self,
        adata: AnnData | MuData | None = None,
        *,
        groupby: str,
        group_key: str | None = None,
        indices: Sequence[int] | NDArray[np.int64] | None = None,
        min_cells: int = 10,
        n_permutations: int = 100,
        seed: int = 0,
        gene_symbols: str | None = None,
        gene_ids: str | None = None,
        batch_size: int = 128,
    ) -> Polyfunctionality:
        """Compute how much the role of each gene differs between contexts.

        See :func:`~polygene_scverse.tl.polyfunctionality`.

        Parameters
        ----------
        adata
            Cells; by default those the model was set up with. Genes are matched by name.
        groupby
            Obs column of contexts.
        group_key
            Obs column of groups (donors, samples). Cells without a context or group are left out. By default all cells
            are one group.
        indices
            Row numbers; all by default.
        min_cells
            Minimum number of cells of a context and group that express a gene.
        n_permutations
            Number of permutations of the contexts within groups.
        seed
            Random seed for the permutations.
        gene_symbols, gene_ids
            As in `predict_phenotype`.
        batch_size
            Number of cells per step.

        Returns
        -------
        Shift and p-value of each gene of the model.

        Raises
        ------
        ValueError
            If there are cells of fewer than two contexts, if `min_cells` or `n_permutations` is below 1, or as for
            `get_gene_states`.
        KeyError
            If `groupby` or `group_key` is not an obs column.
        """
        check_whole(min_cells, "min_cells", 1)
        check_whole(n_permutations, "n_permutations", 1)
        check_seed(seed)
        data = self._data(adata)
        rows = self._rows(data, indices)
        contexts, groups, codes = self._contexts(data, groupby, group_key, rows)
        if len(set(contexts)) < 2:
            raise ValueError(
                f"`groupby`: adata.obs[{groupby!r}] has only one context, {contexts[0]!r}, but at least two are "
                "needed. Pass cells of several contexts, or another column."
            )
        known = codes >= 0
        slots = [i for i, column in enumerate(self._columns) if column != groupby]
        cells = self._cells(data, rows[known], gene_symbols, gene_ids)
        engine, state = self._for(cells, batch_size)
        pairs = contexts, groups or ["all"] * len(contexts)
        found = gene_roles(engine, state, cells, pairs, codes[known], slots or [0])
        return polyfunctionality(found, min_cells=min_cells, n_permutations=n_permutations, seed=seed)

    def _contexts(
        self, data: AnnData | MuData, groupby: str | None, group_key: str | None, rows: NDArray[np.int64]
    ) -> tuple[list[str], list[str] | None, NDArray[np.int64]]:
        """Context of each entry, its group if groups are given, and the entry of each cell, -1 for none."""
        if group_key is None:
            contexts, codes = find_contexts(self._anndata(data), groupby, rows)
            return contexts, None, codes
        return find_pairs(self._anndata(data), groupby, group_key, rows)

    def gene_contributions(
        self,
        adata: AnnData | MuData | None = None,
        *,
        phenotype: str,
        groupby: str,
        indices: Sequence[int] | NDArray[np.int64] | None = None,
        n_cells: int = 10,
        seed: int = 0,
        gene_symbols: str | None = None,
        gene_ids: str | None = None,
        batch_size: int = 128,
    ) -> GeneContributions:
        """Compute the contribution of each gene to the prediction of each category of a phenotype.

        See :func:`~polygene_scverse.tl.rank_genes`.

        Parameters
        ----------
        adata
            Cells; by default those the model was set up with. Genes are matched by name.
        phenotype
            A phenotype of the model.
        groupby
            Obs column with the category of each cell; cells without a category are left out.
        indices
            Row numbers; all by default.
        n_cells
            Maximum number of cells of each category in which genes are removed from the transformer's input one by one.
        seed
            Random seed for the choice of these cells.
        gene_symbols, gene_ids
            As in `predict_phenotype`.
        batch_size
            Number of cells per step.

        Returns
        -------
        Scores and log fold changes of shape (n_categories, n_genes), for categories with cells and measured genes.

        Raises
        ------
        ValueError
            If the model does not have the phenotype, if there are cells of fewer than two of its categories, if
            `n_cells` is below 1, if no gene matches, or if expression has the wrong scale.
        KeyError
            If `groupby` is not an obs column.
        """
        check_choice(phenotype, self.layout.phenotype_names, "phenotype")
        check_whole(n_cells, "n_cells", 1)
        check_seed(seed)
        data = self._data(adata)
        obs, known = self._anndata(data).obs, self.categories[phenotype]
        check_columns([groupby], obs, "groupby", candidates)
        rows = self._rows(data, indices)
        codes = encode(obs[groupby].iloc[rows], known)[0]
        if len(present := np.unique(codes[codes >= 0])) < 2:
            raise ValueError(
                f"`groupby`: adata.obs[{groupby!r}] has {len(present)} of the categories of {phenotype!r}, "
                f"{shorten(known)}, but at least two are needed. Pass cells of two or more categories."
            )
        cells = self._cells(data, rows[codes >= 0], gene_symbols, gene_ids)
        slot = self.layout.phenotype_names.index(phenotype)
        return gene_contributions(*self._for(cells, batch_size), cells, slot, codes[codes >= 0], n_cells, seed)

    def explain_prediction(
        self,
        adata: AnnData | MuData | None = None,
        *,
        phenotype: str | None = None,
        category: str | None = None,
        indices: Sequence[int] | NDArray[np.int64] | None = None,
        gene_symbols: str | None = None,
        gene_ids: str | None = None,
        batch_size: int = 128,
    ) -> Explanation:
        """Compute the contribution of each gene to the prediction of each cell.

        See :func:`~polygene_scverse.tl.explain_prediction`.

        Parameters
        ----------
        adata
            Cells; by default those the model was set up with. Genes are matched by name.
        phenotype
            A phenotype of the model. By default the cell type, if a phenotype has one of its common names, otherwise
            the first phenotype.
        category
            Category to explain. By default the one that is predicted for each cell.
        indices
            Row numbers; all by default.
        gene_symbols, gene_ids
            As in `predict_phenotype`.
        batch_size
            Number of cells per step.

        Returns
        -------
        Contributions to the log-odds, a sparse matrix of shape (n_cells, n_genes) in the order of ``genes``; codes of
        the explained categories and of those that they are compared with, shape (n_cells,) each; and probabilities of
        all categories, shape (n_cells, n_categories).

        Raises
        ------
        ValueError
            If the model does not have the phenotype or category, if there is no other category, if no gene matches, or
            if expression has the wrong scale.
        """
        name = self.reference_phenotype if phenotype is None else phenotype
        check_choice(name, self.layout.phenotype_names, "phenotype")
        known = self.categories[name]
        code = None if category is None else self._code(name, category, "category")
        if len(known) < 2:
            raise ValueError(
                f"`phenotype`: {name!r} has one category, {known[0]!r}, so there is no other to compare with. Pass a "
                "phenotype with two or more categories."
            )
        cells = self._cells(adata, indices, gene_symbols, gene_ids)
        slot = self.layout.phenotype_names.index(name)
        return explain_prediction(*self._for(cells, batch_size), cells, slot, code)

    def biomarkers(
        self,
        adata: AnnData | MuData | None = None,
        *,
        phenotype: str,
        contexts: str,
        groupby: str,
        group_key: str | None = None,
        indices: Sequence[int] | NDArray[np.int64] | None = None,
        n_cells: int = 5,
        min_cells: int = 5,
        n_permutations: int = 100,
        seed: int = 0,
        gene_symbols: str | None = None,
        gene_ids: str | None = None,
        batch_size: int = 128,
    ) -> dict[str, ContextMarkers]:
        """Compute the contribution of genes to a phenotype in each context, with a test over groups.

        See :func:`~polygene_scverse.tl.biomarkers`.

        Parameters
        ----------
        adata
            Cells; by default those the model was set up with. Genes are matched by name.
        phenotype
            A phenotype of the model.
        contexts
            Obs column of contexts.
        groupby
            Obs column with the category of each cell.
        group_key
            Obs column of groups (donors, samples).
        indices
            Row numbers; all by default.
        n_cells
            As in `gene_contributions`, in each context.
        min_cells
            Minimum number of cells on each side that a group must have in a context to be included in the test.
        n_permutations
            Number of permutations.
        seed
            Random seed for the choice of cells and the permutations.
        gene_symbols, gene_ids
            As in `predict_phenotype`.
        batch_size
            Number of cells per step.

        Returns
        -------
        Contributions and p-values of each context that has two categories of the phenotype.

        Raises
        ------
        ValueError
            As for `gene_contributions`, and if no context has two categories of the phenotype.
        KeyError
            If a column is not an obs column.
        """
        check_choice(phenotype, self.layout.phenotype_names, "phenotype")
        check_whole(n_cells, "n_cells", 1)
        check_whole(min_cells, "min_cells", 1)
        check_whole(n_permutations, "n_permutations", 1)
        check_seed(seed)
        data = self._data(adata)
        obs, rows = self._anndata(data).obs, self._rows(data, indices)
        check_columns([contexts], obs, "contexts", candidates)
        levels, of_context = find_contexts(self._anndata(data), contexts, rows, "contexts")
        check_columns([groupby], obs, "groupby", candidates)
        codes = encode(obs[groupby].iloc[rows], self.categories[phenotype])[0]
        groups = np.full(len(rows), -1)
        if group_key is not None:
            check_columns([group_key], obs, "group_key", candidates)
            groups = encode(obs[group_key].iloc[rows], ordered_labels(obs[group_key]))[0]
        kept = (of_context >= 0) & (codes >= 0)
        usable = [i for i in range(len(levels)) if len(np.unique(codes[kept & (of_context == i)])) > 1]
        if not usable:
            raise ValueError(
                f"`contexts`: no level of adata.obs[{contexts!r}] has cells of two categories of {phenotype!r}, so "
                "there is nothing to compare within a context. Pass another column."
            )
        kept &= np.isin(of_context, usable)
        cells = self._cells(data, rows[kept], gene_symbols, gene_ids)
        found = biomarkers(
            *self._for(cells, batch_size),
            cells,
            self.layout.phenotype_names.index(phenotype),
            *(values[kept].astype(np.int64) for values in (of_context, codes, groups)),
            n_cells=n_cells,
            min_cells=min_cells,
            n_permutations=n_permutations,
            seed=seed,
        )
        return {levels[i]: part for i, part in found.items()}

    def count_hidden_tokens(
        self,
        adata: AnnData | MuData | None = None,
        *,
        indices: Sequence[int] | NDArray[np.int64] | None = None,
        masking: MaskingRates | Mapping[str, Any] | str | None = None,
        given: str | Sequence[str] | None = None,
        hidden_share: float | None = None,
        balance: float = BALANCE,
        seed: int = 0,
        gene_symbols: str | None = None,
        gene_ids: str | None = None,
        batch_size: int = 128,
    ) -> TokenCounts:
        """Hide tokens, predict them, and count true against predicted tokens.

        Each prediction is one of the tokens of its slot. If not-expressed genes are hidden at another rate than
        expressed ones, the logit of bin 0 is corrected by the log of the ratio of the two rates. Models imported from
        the original use the attention mask that they were trained with, which reveals whether a hidden gene is
        expressed.

        Memory does not grow with the number of hidden tokens.

        Parameters
        ----------
        adata
            Cells; by default those the model was set up with. Genes are matched by name.
        indices
            Row numbers; all by default.
        masking
            Which tokens are hidden. By default as in validation: genes at the training rates, and every phenotype.
            ``"original"`` hides 15 % of all genes, and each phenotype with probability 0.5. Pass `MaskingRates`, or a
            mapping of its values, for other rates.
        given
            Phenotypes to show as recorded in cells where they are known, regardless of `masking`. By default none.
        hidden_share
            Fraction of the remaining genes, from 0 to 1, that are hidden as well without being scored. The scored genes
            do not depend on it. By default none, unless `masking` has ``gene_dropout``.
        balance
            How a category is chosen from the probabilities of the transformer, as in `decide`.
        seed
            Random seed for the choice of hidden tokens, which does not depend on the batch.
        gene_symbols, gene_ids
            As in `predict_phenotype`.
        batch_size
            Number of cells per step.

        Returns
        -------
        Counts, and negative log-likelihoods. Missing phenotypes, and those that are shown, are not counted.

        Raises
        ------
        ValueError
            If the model is not trained or has no data, if the model does not have a phenotype, if `masking` or
            `hidden_share` is out of range, if no gene matches, or if expression has the wrong scale.
        KeyError
            If a phenotype in `given` is not an obs column.
        """
        check_balance(balance)
        check_seed(seed)
        trained, query = self.fitted_.masking, self._query(given)
        validation = replace(resolve_rates(trained), gene_dropout=0.0, hide_all=1.0) if masking is None else None
        if hidden_share is not None:
            check_fraction(hidden_share, "hidden_share")
        return count_hidden_tokens(
            Engine(self.module, batch_size),
            self.fitted_,
            self._cells(adata, indices, gene_symbols, gene_ids, query),
            RandomHiding(validation or resolve_rates(masking), seed, query.shown, hidden_share),
            balance=balance,
            originals_mask=self.fitted_.mask == ORIGINAL_MASK,
        )

    # expression: imputation, counterfactuals, generation, perturbation

    def expected_expression(
        self,
        adata: AnnData | MuData | None = None,
        *,
        genes: Sequence[str] | None = None,
        settings: Sequence[Mapping[str, Any]] = ({},),
        keep: float = KEEP,
        given: str | Sequence[str] | None = None,
        indices: Sequence[int] | NDArray[np.int64] | None = None,
        seed: int = 0,
        log: bool = True,
        gene_symbols: str | None = None,
        gene_ids: str | None = None,
        batch_size: int = 128,
    ) -> list[NDArray[np.float32]]:
        """Predict the expression of hidden genes, with phenotypes as recorded or set to given categories.

        A gene is never shown when it is predicted. Results are associations learned from observational data.

        Parameters
        ----------
        adata
            Cells; by default those the model was set up with. Genes are matched by name.
        genes
            Genes of the model; by default all, in the order of ``genes``.
        settings
            Categories to set phenotypes to in every cell; there is one result for each mapping.
        keep
            Fraction of the cell's own genes that are shown when others are predicted; 0 shows none. Each pass through
            the network predicts a fraction of ``1 - keep`` of the genes. With 1, all `genes` are predicted at once from
            all others.
        given
            Phenotypes to show as recorded, where they are known and not set.
        indices
            Row numbers; all by default.
        seed
            Random seed for the choice of genes that are predicted together.
        log
            Whether to return the mean of log1p of counts per 10,000, instead of counts per 10,000.
        gene_symbols, gene_ids
            As in `predict_phenotype`.
        batch_size
            Number of cells per step; reduced if many genes are predicted at once.

        Returns
        -------
        List with an array for each setting: the mean of log1p of counts per 10,000, shape (n_cells, n_genes).

        Raises
        ------
        ValueError
            If the model has no gene decoder, if the model does not have a phenotype, category or gene, if `keep` is out
            of range, if the result is too large, or as for `predict_phenotype`.
        KeyError
            If a phenotype in `given` is not an obs column.
        """
        self._check_gene_decoder()
        check_fraction(keep, "keep")
        check_seed(seed)
        slots = self._gene_slots(genes)
        pairs = [tuple(self._setting(name, category) for name, category in s.items()) for s in settings]
        query = self._query(given)
        data = self._data(adata)
        check_values(len(self._rows(data, indices)), len(slots), len(pairs))
        cells = self._cells(data, indices, gene_symbols, gene_ids, query)
        engine = Engine(self.module, batch_size)
        arguments: dict[str, Any] = {"shown": query.shown, "keep": keep, "seed": seed, "log": log}
        return expected_expression(engine, cells, slots, settings=pairs, **arguments)

    def denoised_expression(
        self,
        adata: AnnData | MuData | None = None,
        *,
        genes: Sequence[str] | None = None,
        indices: Sequence[int] | NDArray[np.int64] | None = None,
        log: bool = True,
        gene_symbols: str | None = None,
        gene_ids: str | None = None,
    ) -> NDArray[np.float32] | None:
        """Denoise the expression of measured genes with factors fitted to the training cells.

        Parameters
        ----------
        adata
            Cells; by default those the model was set up with. Genes are matched by name.
        genes
            Genes of the model; by default all, in the order of ``genes``.
        indices
            Row numbers; all by default.
        log
            Whether to return the mean of log1p of counts per 10,000, instead of counts per 10,000.
        gene_symbols, gene_ids
            As in `predict_phenotype`.

        Returns
        -------
        Array of shape (n_cells, n_genes); None if the model was trained on too few cells to have factors.

        Raises
        ------
        ValueError
            If the model does not have a gene, if the result is too large, or as for `predict_phenotype`.
        """
        slots, data = self._gene_slots(genes), self._data(adata)
        rows = self._rows(data, indices)
        check_values(len(rows), len(slots), 1)
        if self.fitted_.factors is None:
            return None
        cells = self._cells(data, rows, gene_symbols, gene_ids)
        return denoised_expression(self.fitted_.factors, cells, slots, log=log)

    def measured_expression(
        self,
        adata: AnnData | MuData | None = None,
        *,
        genes: Sequence[str] | None = None,
        indices: Sequence[int] | NDArray[np.int64] | None = None,
        gene_symbols: str | None = None,
        gene_ids: str | None = None,
    ) -> sp.csr_matrix:
        """Return the expression of cells for the genes of the model, on the model's scale.

        Parameters
        ----------
        adata
            Cells; by default those the model was set up with. Genes are matched by name.
        genes
            Genes of the model; by default all, in the order of ``genes``.
        indices
            Row numbers; all by default.
        gene_symbols, gene_ids
            As in `predict_phenotype`.

        Returns
        -------
        log1p of counts per 10,000, shape (n_cells, n_genes); 0 also where a gene is unmeasured.

        Raises
        ------
        ValueError
            If the model does not have a gene, or as for `predict_phenotype`.
        """
        slots = self._gene_slots(genes)
        data = self._data(adata)
        cells = self._cells(data, self._rows(data, indices), gene_symbols, gene_ids)
        return cells.read_all().cells.matrix(len(self.genes))[:, slots]

    def generate(
        self,
        given: pd.DataFrame,
        *,
        seed: int = 0,
        n_rounds: int | None = None,
        temperature: float = 1.0,
        depth: float | None = None,
        allow_unseen: bool = False,
        batch_size: int = 128,
    ) -> AnnData:
        """Generate new cells with given phenotypes, see :func:`~polygene_scverse.tl.generate`.

        Parameters
        ----------
        given
            Table with a row for each cell and a column for each given phenotype; missing values are sampled.
        seed
            Seed of the random draws.
        n_rounds
            Number of rounds in which the network draws the genes of a cell; by default the network is not used.
        temperature
            Divides the logits.
        depth
            Total counts of each cell; by default drawn from those of the training cells.
        allow_unseen
            Whether to allow combinations of phenotypes that no training cell had.
        batch_size
            Number of cells per step.

        Returns
        -------
        The cells, as described in :func:`~polygene_scverse.tl.generate`.

        Raises
        ------
        ValueError
            As for :func:`~polygene_scverse.tl.generate`.
        """
        self._check_if_trained(warn=False, message="The model is not trained. Call train() first.")
        self._check_gene_decoder()
        check_seed(seed)
        if n_rounds is not None and not (isinstance(n_rounds, Integral) and int(n_rounds) >= 1):
            raise ValueError(f"`n_rounds`: found {n_rounds!r}, but at least one round is needed. Pass a whole number.")
        if not (isinstance(temperature, Real) and 0 < temperature < np.inf):
            raise ValueError(f"`temperature`: found {temperature!r}, but a temperature above 0 is needed. Pass 1.0.")
        if depth is not None and not (isinstance(depth, Real) and 1 <= depth <= LARGEST_DEPTH):
            raise ValueError(
                f"`depth`: found {depth!r}, but a depth of at least 1 and at most {LARGEST_DEPTH:,} is needed. Pass "
                "the total counts that each cell should have."
            )
        engine, names = Engine(self.module, batch_size), self.layout.phenotype_names
        if not len(given):
            raise ValueError("`n_obs`: found 0, but at least one cell is needed. Pass 1 or more.")
        check_entries(engine, len(given))
        wanted = np.full((len(given), len(names)), -1, dtype=np.int64)
        for name in given.columns:
            check_choice(str(name), names, "given")
            check_labels(given, name, "given", "given")
            positions, values = pd.factorize(given[name])
            words = self.missing - {category.lower() for category in self.categories[str(name)]}
            known = [-1 if label_of(v, words) is None else self._code(str(name), v, "given") for v in values]
            wanted[:, names.index(str(name))] = np.array([*known, -1])[positions]
        codes, seen = draw_phenotypes(self.fitted_, wanted, seed)
        if not seen.all() and not allow_unseen:
            row = {str(name): str(given[name].iloc[int(np.argmin(seen))]) for name in given.columns}
            raise ValueError(
                f"`given`: no training cell had the phenotypes {row} ({int((~seen).sum())} of {len(seen)} cells have "
                "such a combination). Pass another combination, or allow_unseen=True: the model then extrapolates "
                "from other combinations, and obs['unseen'] marks the cells."
            )
        of_all: dict[str, Any] = {"temperature": temperature, "seed": seed}
        if n_rounds is None and self.fitted_.counts is not None:
            depths = draw_depths(engine, self.fitted_, codes, seed)
            of_all["wanted"] = None if depth is None else int(depth)
            x, counts, totals = generate_counts(engine, self.fitted_.counts, codes, depths, **of_all)
        else:
            depths = np.full(len(codes), int(depth or 0), dtype=np.int64)
            depths = draw_depths(engine, self.fitted_, codes, seed) if depth is None else depths
            x, counts, totals = generate(engine, codes, depths, n_rounds=n_rounds or N_ROUNDS, **of_all)
        obs = pd.DataFrame({"total_counts": totals, "unseen": ~seen}, index=given.index.astype(str))
        for i, (name, categories) in enumerate(self.categories.items()):
            column = pd.Categorical.from_codes(codes[:, i], categories=pd.Index(categories))
            obs.insert(i, name, pd.Series(column, index=obs.index))
        return AnnData(x, obs=obs, var=pd.DataFrame(index=pd.Index(self.genes)), layers={"counts": counts})

    def perturb(
        self,
        adata: AnnData | MuData | None = None,
        genes: Sequence[str | Sequence[str]] = (),
        *,
        kind: str = "knockout",
        responses: Sequence[str] | None = None,
        indices: Sequence[int] | NDArray[np.int64] | None = None,
        n_null: int = 200,
        seed: int = 0,
        gene_symbols: str | None = None,
        gene_ids: str | None = None,
        batch_size: int = 128,
    ) -> dict[str, Any]:
        """Predict the effect of perturbing genes, see :func:`~polygene_scverse.tl.perturb`.

        Parameters
        ----------
        adata
            Cells; by default those the model was set up with. Genes are matched by name.
        genes
            Genes to perturb, or tuples of them.
        kind
            ``"knockout"`` or ``"overexpress"``.
        responses
            Genes whose expression is predicted.
        indices
            Row numbers; all by default.
        n_null
            Number of random genes of similar expression.
        seed
            Seed of the random draws.
        gene_symbols, gene_ids
            As in `predict_phenotype`.
        batch_size
            Number of cells per step.

        Returns
        -------
        Dictionary with the ``names`` of the perturbations (the first ``n_perturbations`` are the requested ones),
        ``n_genes`` and ``expression_of_genes`` of each, ``responses``, and the arrays of
        :class:`~polygene_scverse.abilities._perturb.Shifts`.

        Raises
        ------
        ValueError
            As for :func:`~polygene_scverse.tl.perturb`.
        """
        self._check_gene_decoder()
        check_choice(kind, ["knockout", "overexpress"], "kind")
        check_whole(n_null, "n_null")
        check_seed(seed)
        if isinstance(genes, str) or not check_names(genes, "genes"):
            raise ValueError(f"`genes`: found {genes!r}, but a list of genes is needed. Pass genes from model.genes.")
        wanted = [tuple(self._gene_slots(check_names(g, "genes")).tolist()) for g in genes]
        if len(set(map(frozenset, wanted))) < len(wanted):
            raise ValueError(f"`genes`: found {shorten(genes)}, some of which occur twice. Pass each once.")
        asked = None if responses is None else self._gene_slots(responses, "responses")
        cells = draw_cells(self._cells(adata, indices, gene_symbols, gene_ids), MOST_CELLS, seed)
        measured = cells.measured_in(np.arange(len(cells)))
        own = np.unique(np.concatenate([np.array(w) for w in wanted]))
        if absent := [self.genes[g] for g in own if not measured[g]]:
            raise ValueError(
                f"`genes`: {shorten(absent)} are not measured in adata, so there is nothing to change. Pass genes in "
                "adata.var_names."
            )
        usable, expression = measured.copy(), mean_expression(cells)
        usable[own] = False
        usable &= expression > 0
        if asked is None:  # leave half of the genes for responses
            n_null = min(n_null, int(usable.sum()) // (2 * sum({len(w) for w in wanted})))
        null = matched_genes(wanted, expression, usable, n_null, seed)
        every = [*wanted, *null]
        if asked is None:
            taken = np.unique(np.concatenate([np.array(w) for w in every]))
            asked = np.setdiff1d(np.arange(len(self.genes)), taken)[:N_RESPONSES]
        decoder, last = self.module.gene_decoder, self.layout.n_bins - 1
        high = decoder.values[:, last].numpy(force=True)
        set_to = [tuple((g, 0, 0.0) if kind == "knockout" else (g, last, float(high[g])) for g in w) for w in every]
        shifts = perturb(Engine(self.module, batch_size), self.fitted_, cells, set_to, asked, seed=seed)
        return {
            "names": ["+".join(self.genes[g] for g in w) for w in every],
            "n_perturbations": len(wanted),
            "n_genes": np.array([len(w) for w in every]),
            "expression_of_genes": np.array([expression[list(w)].sum() for w in every]),
            "responses": [self.genes[g] for g in asked],
            **vars(shifts),
        }

    def check_expected(self, n_obs: int, genes: Sequence[str], n_more: int = 0) -> None:
        """Check the arguments of a prediction of expression before data are read.

        Parameters
        ----------
        n_obs
            Number of cells.
        genes
            Genes, which must be genes of the model.
        n_more
            Further columns that will be dense.

        Raises
        ------
        ValueError
            As for `expected_expression`.
        """
        self._check_gene_decoder()
        check_values(n_obs, len(self._gene_slots(genes)) + n_more, 1)

    def check_n_obs(self, n_obs: int) -> None:
        """Check that a number of cells can be generated at once.

        Parameters
        ----------
        n_obs
            Number of cells.

        Raises
        ------
        ValueError
            As for `generate`.
        """
        self._check_gene_decoder()
        check_entries(Engine(self.module), n_obs)

    # decisions from probabilities

    def decide(self, probabilities: Mapping[str, pd.DataFrame], *, balance: float = BALANCE) -> pd.DataFrame:
        """Choose a category for each cell.

        Choosing the most probable category maximises accuracy, but misses cells of rare categories. Dividing each
        probability by the frequency of the category in training to the power `balance` finds more of them, at little
        cost in accuracy with 0.5. The probabilities are not changed. This is post-hoc logit adjustment (Menon et al.,
        "Long-tail learning via logit adjustment", ICLR 2021).

        Parameters
        ----------
        probabilities
            For each phenotype a table of shape (n_cells, n_categories), as `predict_phenotype` returns it.
        balance
            With 0, the most probable category is chosen; with 1, the one that would be most probable if all categories
            were equally frequent in training.

        Returns
        -------
        Table with the chosen category of each phenotype as categorical columns; shape (n_cells, n_phenotypes).

        Raises
        ------
        ValueError
            If `balance` is not between 0 and 1, or if the columns of a table are not the categories of the phenotype.
        """
        check_balance(balance)
        chosen, shares = {}, self.log_shares
        for name, table in probabilities.items():
            categories = self._check_categories(name, table)
            codes = decide(table.to_numpy(), shares[name], balance, self.temperature(name))
            chosen[name] = pd.Series(
                pd.Categorical.from_codes(codes, categories=pd.Index(categories)), index=table.index
            )
        return pd.DataFrame(chosen)

    def prediction_sets(
        self,
        probabilities: Mapping[str, pd.DataFrame],
        *,
        coverage: float = 0.9,
        by_category: bool = False,
        adata: AnnData | MuData | None = None,
        gene_symbols: str | None = None,
        gene_ids: str | None = None,
    ) -> dict[str, pd.DataFrame]:
        """Compute the prediction set of each cell: categories that contain the true one with a given coverage.

        A set contains the categories whose probability is above a threshold, which is determined by split conformal
        prediction on the calibration cells (see ``calibration_``). For exchangeable new cells, at least a fraction
        `coverage` of the sets contain the true category on average. For cells of new donors this only holds if
        `group_key` was passed in training. The donors are then predicted from each other and have equal weight, and the
        coverage holds for new donors if there are enough donors, nine for a coverage of 0.9. With fewer donors there is
        a warning with the observed coverage of each donor, and sets always include the most probable categories that
        add up to `coverage`.

        True categories are less probable if many genes are unmeasured, or if cells have much fewer counts than those of
        the training, so pass `adata` then. If the cells have less than 70 % of the model's genes, there is a warning.
        Their sets, and those of single cells that express fewer genes than nearly all training cells, include the most
        probable categories that add up to `coverage`, unless `calibrate` was called.

        Otherwise sets can be empty. This means that no category is as probable as true categories usually are, and the
        cell may belong to none of them.

        Parameters
        ----------
        probabilities
            For each phenotype a table of shape (n_cells, n_categories), as `predict_phenotype` returns it.
        coverage
            Fraction of the cells whose true category should be in their set.
        by_category
            Whether the coverage should hold within each category; sets are then larger. Categories with too few
            calibration cells use the threshold of all cells, with a warning.
        adata
            The cells that were predicted. By default they have all genes of the model, and as many counts as the
            training cells.
        gene_symbols, gene_ids
            As in `predict_phenotype`.

        Returns
        -------
        Dictionary with a boolean table for each phenotype, True for categories in the set.

        Raises
        ------
        ValueError
            If `coverage` is not between 0 and 1, or if the columns of a table are not the categories of the phenotype.
        """
        if not (isinstance(coverage, Real) and 0.0 < coverage < 1.0):
            raise ValueError(f"`coverage`: found {coverage!r}, but it must be above 0 and below 1, such as 0.9.")
        sets: dict[str, pd.DataFrame] = {}
        wider = {} if adata is None else self._uncertain(adata, probabilities, coverage, gene_symbols, gene_ids)
        for name, table in probabilities.items():
            categories = self._check_categories(name, table)
            scores, cells = self.fitted_.conformal.get(name, NO_SCORES), wider.get(name, False)
            found = scores.sets(name, categories, table.to_numpy(), coverage, by_category, uncertain=cells)
            sets[name] = pd.DataFrame(found, index=table.index, columns=table.columns)
        return sets

    def _uncertain(
        self,
        adata: AnnData | MuData,
        probabilities: Mapping[str, pd.DataFrame],
        coverage: float,
        gene_symbols: str | None,
        gene_ids: str | None,
    ) -> dict[str, NDArray[np.bool_] | bool]:
        """Whether cells have much fewer genes or counts than the held-out cells from which sets are computed.

        Depth is only compared if the tables have the rows of `adata`. Phenotypes that were calibrated on given cells
        are left out.
        """
        calibration = self.fitted_.calibration
        names = sorted(name for name in probabilities if name in calibration and calibration[name].cells == "held-out")
        measured = self._measured(adata, gene_symbols, gene_ids)
        if names and measured.mean() < KNOWN_SHARE:
            warn(
                f"`coverage`: {coverage:g} is not guaranteed for {shorten(names)}, because {measured.sum()} of the "
                f"model's {len(measured)} genes are in `adata`; held-out cells had all. Sets include the most probable "
                "categories that add up to it. Call model.calibrate with labelled cells that have the same genes for a "
                "guarantee."
            )
            return dict.fromkeys(names, True)
        obs_names = self._anndata(self._data(adata)).obs_names
        names = [name for name in names if probabilities[name].index.equals(obs_names)]
        linear = self.module.linear
        if not names or linear is None or not linear.usual.any():
            return {}
        with warnings.catch_warnings():  # of the genes, which the prediction has given
            warnings.simplefilter("ignore")
            cells = self._cells(adata, None, gene_symbols, gene_ids)
        return dict.fromkeys(names, shallow_cells(Engine(self.module), cells))

    def expected_value(self, probabilities: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
        """Compute the expected value of ordered phenotypes with numeric categories, such as age.

        Parameters
        ----------
        probabilities
            For each phenotype a table of shape (n_cells, n_categories), as `predict_phenotype` returns it.

        Returns
        -------
        Table with a column for each ordered phenotype with numeric categories.
        """
        numeric = {name: entry["values"] for name, entry in self.ordered.items() if entry["numeric"]}
        columns = {
            name: pd.Series(table.to_numpy(dtype=np.float64) @ np.array(numeric[name]), index=table.index)
            for name, table in probabilities.items()
            if name in numeric
        }
        return pd.DataFrame(columns)

    # calibration

    def calibrate(
        self,
        adata: AnnData | MuData | None = None,
        *,
        phenotypes: str | Sequence[str] | None = None,
        indices: Sequence[int] | NDArray[np.int64] | None = None,
        group_key: str | None = None,
        gene_symbols: str | None = None,
        gene_ids: str | None = None,
        batch_size: int = 128,
    ) -> pd.DataFrame:
        """Calibrate probabilities and prediction sets on labelled cells that were not used in training.

        Use cells of donors that were not in training, so that calibration and coverage hold for new donors.

        Parameters
        ----------
        adata
            Cells with recorded phenotypes; by default those the model was set up with, which is useful with `indices`.
        phenotypes
            Phenotypes to calibrate; by default all. Phenotypes without known cells are not changed.
        indices
            Row numbers; all by default.
        group_key
            Obs column of groups (donors, samples) that were not in training; it is only recorded.
        gene_symbols, gene_ids
            As in `predict_phenotype`.
        batch_size
            Number of cells per step.

        Returns
        -------
        The new ``calibration_`` as a table, one row per phenotype.

        Raises
        ------
        ValueError
            As for `predict_phenotype`, and if no cell has a known phenotype.
        KeyError
            If `group_key` is not an obs column.

        Examples
        --------
        >>> model.calibrate(new_donors, group_key="donor")
        """
        names, data = self._names(phenotypes, "phenotypes"), self._data(adata)
        obs = self._anndata(data).obs
        if group_key is not None:
            check_columns([group_key], obs, "group_key", candidates)
        cells = self._cells(data, indices, gene_symbols, gene_ids)
        self._warn_of_training_cells(data, cells.ids)
        warn_unseen(encode_all(obs.iloc[cells.ids], self._columns, self.missing)[1])
        codes = dict(zip(self.categories, cells.codes.T, strict=True))
        known = [name for name in names if (codes[name] >= 0).any()]
        if not known:
            raise ValueError(
                f"`adata`: none of the {len(cells)} cells has a known category of {names}. Pass cells whose phenotypes "
                "are recorded in obs, under the names and labels of the model."
            )
        groups = None if group_key is None else obs[group_key].iloc[cells.ids]
        slots = [self.layout.phenotype_names.index(name) for name in known]
        found = phenotype_logits(*self._for(cells, batch_size), cells, slots=slots)
        for name, logits in zip(known, found, strict=True):
            calibrate(self.fitted_, name, logits, codes[name], groups, "given")
        return pd.DataFrame.from_dict(self.calibration_, orient="index").rename_axis("phenotype")

    def temperature(self, phenotype: str) -> float:
        """Return the temperature that logits are divided by in prediction; 1 if nothing was fitted.

        Parameters
        ----------
        phenotype
            A phenotype of the model.
        """
        return self.fitted_.temperature(phenotype)

    # data and arguments

    @property
    def _columns(self) -> dict[str, list[str]]:
        """Obs column of each phenotype, which differs from its name in a model of the original, and its categories."""
        return field_state(self.registry, PHENOTYPE_FIELD)["categories"]

    def _anndata(self, data: AnnData | MuData) -> AnnData:
        """The AnnData to read: for a MuData, the registered modality."""
        return modality(data, self.modality)

    def _expression(self, data: AnnData) -> Expression:
        args = setup_args(self.registry)
        return Expression.of(data, args["layer"], args["use_raw"]).named_by(*self._name_columns(data))

    def _name_columns(self, data: AnnData) -> tuple[str | None, str | None]:
        """Columns of ``var`` with the gene names that the model uses, if these data have them."""
        args, raw = setup_args(self.registry), setup_args(self.registry)["use_raw"] and data.raw is not None
        columns = (data.raw if raw else data).var.columns
        symbols, ids = (args.get(name) if args.get(name) in columns else None for name in GENE_NAMES)
        return symbols, ids

    def _query_expression(
        self, data: AnnData, gene_symbols: str | None = None, gene_ids: str | None = None
    ) -> Expression:
        """Expression of query cells, with genes named as in the model."""
        args = setup_args(self.registry)
        expression = Expression.of_query(data, args["layer"], args["use_raw"])
        if gene_symbols is None and gene_ids is None:
            expression = expression.named_by(*self._name_columns(data))
        return expression.matched(self._known_genes, gene_symbols=gene_symbols, gene_ids=gene_ids)

    @property
    def _known_genes(self) -> list[str]:
        """Genes of the model, and the other genes of its training cells."""
        return list(dict.fromkeys([*self.genes, *self.fitted_.shares]))

    def _choose_genes(self, genes: Sequence[str] | None, n_genes: int) -> list[str]:
        if self.adata is None:
            if genes is None:
                raise ValueError("`registry`: found one without `layout`. Use Polygene.load to read a saved model.")
            return [str(gene) for gene in genes]
        data = self._anndata(self.adata)
        expression, rows = self._expression(data), np.arange(data.n_obs)
        there = RANK in data.var and len(expression.var_names) == data.n_vars
        ranks = pd.Series(data.var[RANK].to_numpy(), index=expression.var_names) if there else None
        return choose_genes(expression, rows, n_genes, genes=genes, ranks=ranks)

    def _training_cells(
        self, expression: Expression, rows: tuple[NDArray[np.int64], NDArray[np.int64]], group_key: str | None
    ) -> TrainingCells:
        """Training and held-out cells of the data the model was set up with."""
        obs = self._anndata(self.adata).obs
        if absent := [column for column in self._columns if column not in obs.columns]:
            words = f"{shorten(absent)}, which the model learns, are not columns of adata.obs"
            if len(absent) == len(self._columns):
                raise KeyError(f"`adata`: {words}. Add the column, or set up a new model with other phenotypes.")
            warn(f"`adata`: {words}: it is unknown in all cells.")
        warn_unseen(encode_all(obs.iloc[rows[0]], self._columns, self.missing)[1])
        groups = None if group_key is None else obs[group_key]
        binning = self.binning_ if self.edges_ is None else np.array(self.edges_)
        return read_training_cells(expression, obs, rows, self.layout, self._columns, binning, groups)

    def _data(self, adata: AnnData | MuData | None) -> AnnData | MuData:
        """Return the given data, or those of the model; the model must be trained."""
        self._check_if_trained(
            warn=False, message="The model is not trained. Call train() first, or load a trained one."
        )
        adata = self.adata if adata is None else adata
        if adata is None:
            raise ValueError("`adata`: the model was loaded without data. Pass the cells.")
        return adata

    def _rows(self, adata: AnnData | MuData, indices: Sequence[int] | NDArray[np.int64] | None) -> NDArray[np.int64]:
        rows = np.arange(self._anndata(adata).n_obs)
        if indices is None:
            return rows
        if isinstance(indices, slice):
            indices = rows[indices]
        if not len(indices):
            raise ValueError(
                "`indices`: found none, but at least one cell is needed. Pass row numbers, or None for all."
            )
        return check_rows(indices, len(rows), "indices")

    def _cells(
        self,
        adata: AnnData | MuData | None,
        indices: Sequence[int] | NDArray[np.int64] | None = None,
        gene_symbols: str | None = None,
        gene_ids: str | None = None,
        query: Query | None = None,
    ) -> AnnDataCells:
        """Query cells. The columns of given phenotypes must exist; warns about labels that the model does not know."""
        data = self._anndata(self._data(adata))
        rows = self._rows(data, indices)
        shown = [list(self._columns)[slot] for slot in query.shown] if query is not None else []
        check_columns(shown, data.obs, "given", candidates)
        if shown:
            known = {column: self._columns[column] for column in shown}
            warn_unseen(encode_all(data.obs[shown].iloc[rows], known, self.missing)[1])
        edges = np.array(self.edges_)
        expression = self._query_expression(data, gene_symbols, gene_ids)
        shares = self.fitted_.shares
        cells = AnnDataCells.of(expression, data.obs, rows, self.layout, self._columns, edges, shares)
        measured = cells.tokenizer.measured
        if not enough_genes(measured):
            raise ValueError(
                f"`adata`: {measured.sum()} of the model's {len(measured)} genes are in these data, which is too few: "
                f"at least {LEAST_OVERLAP:.0%}, or {ENOUGH_GENES}, are needed. {expression.match_note} Look at "
                "model.gene_names(adata), or train a model on the genes of these data."
            )
        cells.warn_unmeasured(outlook=self._outlook(measured))
        return cells

    def _outlook(self, measured: NDArray[np.bool_]) -> str:
        """Expected accuracy if many genes are unmeasured; empty if unknown."""
        if measured.mean() >= KNOWN_SHARE:
            return ""
        found = expected_accuracy(Engine(self.module), self.fitted_, measured)
        values = [f"{value:.2f} for {name}" for name, value in found.items()]
        listed = " and ".join([", ".join(values[:-1]), values[-1]] if len(values) > 1 else values)
        return f"the expected accuracy on cells like those held out in training is {listed}." if values else ""

    def _for(self, cells: AnnDataCells, batch_size: int) -> tuple[Engine, FittedState]:
        """The network for cells with these measured genes, and the state fitted to it."""
        return for_panel(Engine(self.module, batch_size), self.fitted_, cells.tokenizer.measured)

    def _index(self, adata: AnnData | MuData | None, cells: AnnDataCells) -> pd.Index:
        """Names of the selected cells."""
        return self._anndata(self._data(adata)).obs_names[cells.ids]

    def _names(self, names: str | Sequence[str] | None, argument: str) -> list[str]:
        if names is None:
            return list(self.layout.phenotype_names)
        names = check_names(names, argument) if argument == "given" else check_some(names, argument)
        for name in names:
            check_choice(name, self.layout.phenotype_names, argument)
        return names

    def _check_gene_decoder(self) -> None:
        """Raise an error for questions about genes that require the gene decoder."""
        if self.module.gene_decoder is None:
            raise ValueError(
                "`model`: it has no gene decoder, because it was created with gene_decoder=False or imported from the "
                "original, so it cannot predict expression. Train a model with the default gene_decoder=True."
            )

    def _gene_slots(self, genes: Sequence[str] | None, argument: str = "genes") -> NDArray[np.int64]:
        """Slots of some genes of the model, each given once."""
        names = self.genes if genes is None else [str(gene) for gene in check_some(genes, argument)]
        found = pd.Index(self.genes).get_indexer(pd.Index(names))
        if absent := [name for name, at in zip(names, found, strict=True) if at < 0]:
            raise ValueError(
                f"`{argument}`: found {shorten(names, 3)}, of which {shorten(absent, 3)} are not among the "
                f"{len(self.genes)} genes of the model. Pass genes from model.genes, each once, or None for all."
            )
        if twice := sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []:
            raise ValueError(f"`{argument}`: {shorten(twice, 3)} occur more than once. Pass each gene once.")
        return found.astype(np.int64)

    def _code(self, name: str, category: object, argument: str) -> int:
        """Code of a category of a phenotype."""
        check_choice(name, self.layout.phenotype_names, argument)
        label, known = label_of(category, ()), self.categories[name]
        if label not in known:
            raise ValueError(
                f"`{argument}`: found {category!r}, but the categories of {name!r} are {shorten(known)}. Pass one of "
                "them."
            )
        return known.index(label)

    def _setting(self, name: str, category: object) -> tuple[int, int]:
        """Slot and code of a phenotype that is set."""
        code = self._code(name, category, "phenotypes")
        return self.layout.phenotype_names.index(name), code

    def _query(self, given: str | Sequence[str] | None) -> Query:
        """Query that shows every expressed gene, and the given phenotypes."""
        names = [] if given is None else self._names(given, "given")
        return Query(shown=tuple(i for i, name in enumerate(self.layout.phenotype_names) if name in names))

    def _joint_names(self, phenotypes: Sequence[str], given: str | Sequence[str] | None) -> list[str]:
        names = check_names(phenotypes, "phenotypes")
        if len(names) < 2:
            raise ValueError(
                f"`phenotypes`: found {names}, but a joint prediction needs at least two. Pass several, or call "
                "predict_phenotype."
            )
        names = self._names(names, "phenotypes")
        shown = [] if given is None else check_names(given, "given")
        if len(set(names)) != len(names) or set(names) & set(shown):
            raise ValueError(
                f"`phenotypes`: found {names} with given={shown}, but a phenotype cannot be repeated, or predicted "
                "and given at the same time. Pass each once."
            )
        return names

    def _check_categories(self, name: str, table: pd.DataFrame) -> list[str]:
        """Categories of a phenotype, which must equal the columns of its probabilities."""
        categories = self.categories.get(name)
        if categories is None or list(table.columns) != categories:
            raise ValueError(
                f"`probabilities`: the columns of {name!r} are {list(table.columns)}, but the model's categories "
                f"are {categories}. Pass what predict_phenotype returns."
            )
        return categories

    def _warn_of_training_cells(self, data: AnnData | MuData, rows: NDArray[np.int64]) -> None:
        """Warn about training cells, for which the model is more confident than for others."""
        trained = getattr(self, "train_indices_", None) if data is self.adata else None
        n = 0 if trained is None else int(np.isin(rows, trained).sum())
        if n:
            warn(
                f"`adata`: {n} of the {len(rows)} cells were used in training, and the model is overconfident on "
                "these, so the calibration would be too optimistic. Pass indices= of other cells, e.g. "
                "model.validation_indices."
            )
