"""The scvi-tools face of Polygene.

Public methods check arguments and hand on to plain functions of `abilities`; no loop over cells stands here. It may
import `abilities`, `engine`, `fit`, `module`, `data` and its own room, nothing of `tl`, `get` or `pl`: see "Rooms" in
`docs/design.md`, held by `tests/test_layers.py`.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from mudata import MuData
from numpy.typing import NDArray
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
from polygene_scverse._validate import check_choice, check_columns, check_fraction, label_of, shorten, warn
from polygene_scverse.abilities._biomarkers import ContextMarkers, differences, group_means
from polygene_scverse.abilities._calibrate import calibrate
from polygene_scverse.abilities._embed import POOLINGS, embed
from polygene_scverse.abilities._expected_expression import check_size as check_values
from polygene_scverse.abilities._expected_expression import denoised_expression, expected_expression
from polygene_scverse.abilities._gene_contributions import GeneContributions, draw, gene_contributions
from polygene_scverse.abilities._gene_roles import gene_roles
from polygene_scverse.abilities._gene_states import GeneStates, find_contexts, find_pairs, gene_states
from polygene_scverse.abilities._generate import check_size as check_entries
from polygene_scverse.abilities._generate import draw_depths, draw_phenotypes, generate, generate_counts
from polygene_scverse.abilities._joint import check_size, joint, seen_together
from polygene_scverse.abilities._novelty import novelty
from polygene_scverse.abilities._panel import expected_accuracy, for_panel
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


LEAST_OVERLAP, ENOUGH_GENES = 0.02, 30
"""Share of the model's genes, or number of them, that cells must have to be asked about."""


class Polygene(SavingMixin, SetupMixin):
    """Masked transformer over binned gene expression and phenotypes.

    Other than scvi-tools' own models it reads raw counts and log1p data alike, matches genes of new data by name,
    takes any number of phenotypes with missing values, and leaves AnnData untouched but for the identifiers that
    ``setup_anndata`` notes in ``uns``.

    Parameters
    ----------
    adata
        Data prepared by :meth:`setup_anndata` or :meth:`setup_mudata`.
    registry
        Registry of a saved model, instead of `adata`.
    genes
        Genes of the model, most variable first. By default the `n_genes` lowest ranks of
        ``var["highly_variable_rank"]``; where that is absent, genes are ranked on all cells.
    n_genes
        Number of genes.
    n_bins
        Number of expression bins, bin 0 ("not expressed") included; 2 for a binary encoding.
    binning
        ``"quantile"`` of the training cells' expressed values, ``"original"`` (0, then 0.1 … 9.0 equally spaced), or
        `n_bins` lower edges, the first of them 0.
    size
        Named size of the network: ``"tiny"``, or ``"512"`` and ``"2432"`` for the original's.
    linear_path
        Whether linear discriminants of the genes, fitted when training has ended, are mixed into the phenotype logits.
    gene_decoder
        Whether the bins of hidden genes are also read out gene by gene, beside BERT's head that all genes share: needed
        wherever the model is asked for genes. Without it the network is that of the original.
    loss
        Values of :class:`~polygene_scverse.module.LossConfig`.
    seed
        Seed of the initial weights; by default ``scvi.settings.seed``, or 0.
    layout
        Slots and vocabulary as saved with a model; takes the place of `genes`, `n_genes` and `n_bins`.
    **network
        Values of :class:`~polygene_scverse.module.TransformerConfig` that differ from `size`.

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
            layout = TokenLayout.build(self._columns, genes, n_bins).to_dict()
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
        self._model_summary_string = (
            f"Polygene with {self.layout.n_genes} genes in {self.layout.n_bins} bins, phenotypes "
            f"{shorten(self.layout.phenotype_names)}, {self.module.config}"
        )
        self.init_params_ = self._get_init_params(locals())

    # what the model is of

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
    def ordered(self) -> dict[str, dict[str, Any]]:
        """For each ordered phenotype the ``values`` of its categories, and whether they are ``numeric``."""
        columns = field_state(self.registry, PHENOTYPE_FIELD).get("ordered", {})
        names = dict(zip(self._columns, self.layout.phenotype_names, strict=True))
        return {names[column]: dict(entry) for column, entry in columns.items()}

    @property
    def calibration_(self) -> dict[str, dict[str, Any]]:
        """For each phenotype its ``temperature`` and what that was fitted on, in ``words`` and in figures.

        Errors before and after are those of the cells it was fitted on.
        """
        return {name: {**vars(entry), "words": entry.words} for name, entry in self.fitted_.calibration.items()}

    @property
    def mask_(self) -> str:
        """Which genes the weights expect to see: ``"leak-free"``, or ``"original"`` for weights of the original."""
        return self.fitted_.mask

    @property
    def log_shares(self) -> dict[str, NDArray[np.float64]]:
        """Log of each category's share of the training cells, all equal if not known; (n_categories,) each."""
        shares = category_log_shares(Engine(self.module), self.fitted_)
        found = [share.numpy(force=True).astype(np.float64) for share in shares]
        return dict(zip(self.layout.phenotype_names, found, strict=True))

    def codes(self, indices: Sequence[int] | NDArray[np.int64] | None = None) -> dict[str, NDArray[np.int64]]:
        """Category codes of each phenotype in the data the model was set up with, -1 where unknown.

        Parameters
        ----------
        indices
            Row numbers; all by default.
        """
        obs = self._anndata(self.adata).obs
        return self.encode(obs if indices is None else obs.iloc[np.asarray(indices)])

    def encode(self, obs: pd.DataFrame) -> dict[str, NDArray[np.int64]]:
        """Category codes of each phenotype in some cells, -1 where unknown; shape (n_cells,) each.

        Parameters
        ----------
        obs
            The cells; a phenotype that is not among the columns is unknown.
        """
        return dict(zip(self.layout.phenotype_names, encode_all(obs, self._columns)[0].T, strict=True))

    def without_data(self) -> Polygene:
        """A model with the same weights that holds no AnnData, so that keeping it keeps no data."""
        other = copy.copy(self)
        other._adata = other._adata_manager = None
        other.__dict__.pop("trainer", None)  # it holds the model, and so its data
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
            Number of passes over the training cells. By default so many that about 50,000 cells, or 5 million of
            their expressed genes, are seen.
        batch_size
            Cells per batch, over all processes. Where a GPU has too little memory it is halved, and twice as many
            batches make a step.
        group_key
            Obs column of the groups (donors, samples) that cells come from: whole ones are held out where
            `validation_size` is one group or more, and probabilities say how sure the model may be of new ones.
        validation_size
            Share of the cells, or groups, to hold out, 0.1 by default; 0 for none. The model is calibrated on them in
            the end: give `group_key` if predictions for new donors shall be well calibrated, and see ``calibration_``.
        train_size
            The rest, as scvi-tools calls it: 0.9 holds out a tenth.
        split
            Row numbers of the training and the validation cells, instead of a draw; scvi-tools'
            ``datasplitter_kwargs={"external_indexing": [...]}`` is understood as well.
        masking
            How much is hidden, see `MaskingRates`; ``"original"`` for the rates
            of the original.
        seed
            Seed of split, order, targets and dropout; by default ``scvi.settings.seed``, or 0.
        plan_kwargs
            Passed to the training plan, e.g. ``lr``, ``weight_decay``, ``warmup``, ``schedule``,
            ``phenotype_rise``.
        loader_kwargs
            Passed to :class:`torch.utils.data.DataLoader`, e.g. ``num_workers``.
        checkpoints
            Folder in which the training is noted after each epoch, or
            :class:`~polygene_scverse.model.Checkpoints`, which says how often, and whether to go on from a note. By
            default nothing is noted.
        **trainer_kwargs
            Passed to scvi-tools' Trainer, e.g. ``early_stopping`` (of the validation loss), ``accelerator``,
            ``devices``, ``precision``, ``callbacks``. With ``accumulate_grad_batches`` so many batches make a step.

        Raises
        ------
        ValueError
            If the model has no data, if expression is neither raw counts nor log1p of counts per 10,000, or if a side
            of the split is empty.
        KeyError
            If `group_key` is not an obs column.
        OSError
            If the folder of `checkpoints` cannot be written to, or is too full.
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
        """A model whose next training learns more categories of a phenotype.

        Until that training nothing changes: predictions of the old categories are those of this model to the last bit,
        the new ones are never predicted. Only prediction sets of the phenotype, whose promise says nothing of cells of
        a new category, hold every category, with a warning.
        :func:`pgs.tl.train(adata, model=...) <polygene_scverse.tl.train>` calls this for categories that it finds in
        the data, and keeps the old ones from being forgotten, which `train` does not.

        Parameters
        ----------
        phenotype
            A phenotype of the model.
        categories
            The new categories. Of an ordered phenotype they are placed by the numbers they stand for; if the others
            are no numbers, the new ones follow the last.

        Returns
        -------
        A new model without data; this one stays as it is. ``added_`` of it says what waits to be learned.

        Raises
        ------
        ValueError
            If the phenotype is not the model's, or if a category is there already.

        Examples
        --------
        >>> grown = model.add_categories("cell_type", ["MAIT cell"])
        """
        waiting = [name for name in self.added_ if name not in self.layout.phenotype_names]
        check_choice(phenotype, [*self.layout.phenotype_names, *waiting], "phenotype")
        known, ordered = self.categories.get(phenotype, []), self.added_.get(phenotype, {}).get("ordered", False)
        return self._with_added(with_added(self.added_, phenotype, categories, known, ordered))

    def add_phenotype(self, name: str, categories: Sequence[object], *, ordered: bool = False) -> Polygene:
        """A model whose next training learns one more phenotype; until then nothing changes, see `add_categories`.

        Parameters
        ----------
        name
            Obs column of it.
        categories
            Its categories, at least two.
        ordered
            Whether they stand in order, as ages do.

        Returns
        -------
        As of `add_categories`.

        Raises
        ------
        ValueError
            If the model has the phenotype, or if there are fewer than two categories.
        """
        if name in self.layout.phenotype_names or name in self._columns or name in self.added_:
            raise ValueError(f"`name`: the model has a phenotype {name!r} already. Call add_categories to extend it.")
        if isinstance(categories, str) or len(categories) < 2:
            raise ValueError(
                f"`categories`: found {categories!r} for {name!r}, but two or more are needed. Pass a list."
            )
        return self._with_added(with_added(self.added_, name, categories, [], ordered))

    def _with_added(self, added: Added) -> Polygene:
        """A model of its own that will learn these."""
        for name, entry in added.items():  # refuses what cannot be placed before anything is trained
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
        """Set the model up with data, without scvi-tools' remarks."""
        with quiet("scvi.model.base._base_model"):
            self.adata = data

    @contextmanager
    def _growing(self, genes: Sequence[str] = (), seed: int = 0) -> Iterator[None]:
        """Lay out what was added, for a training; taken back if no step of it is done.

        Copies of the model keep the network and the fitted state of before.

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
            if self.fitted_.category_counts is counts:  # no step was done: a training that begins counts anew
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
        write_original(self.module, self.edges_ or [], self.mask_, list(self._columns), Path(folder), overwrite)

    # the hub

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
        """Upload the model, without data, to the Hugging Face hub, with a card that says what it is.

        Parameters
        ----------
        repo_name
            ``"user/name"``; made if it is not there.
        license
            Licence of the model, as the hub spells it, e.g. ``"cc-by-4.0"``.
        description
            What the cells are, and where they come from.
        evaluation
            Table to show on the card, such as ``pgs.get.evaluation(adata)``. The card also has the scores on cells held
            out in training, calibration, categories and their training cells.
        token
            Token with the right to write; by default that of ``huggingface-cli login``.
        private
            Whether a repository that is made is private.

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
        hub_modules()  # before anything is written
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
        """Download a model that `push_to_hub` uploaded. As in `load`, nothing in it can run code.

        Parameters
        ----------
        repo_name
            ``"user/name"``.
        revision
            Branch, tag or commit; by default the newest.
        cache_dir
            Folder for what is downloaded; by default that of ``huggingface_hub``.
        token
            Token with the right to read, for a private repository.

        Returns
        -------
        The model, without data.

        Raises
        ------
        ImportError
            If ``huggingface_hub`` is not installed.
        ValueError
            If the repository is none that `push_to_hub` wrote, or as for `load`.

        Examples
        --------
        >>> model = Polygene.from_hub("me/blood")
        """
        where = None if cache_dir is None else Path(cache_dir)
        return cls.load(pull_folder(repo_name, cls, revision, where, token), adata=False)

    # questions about cells

    def gene_names(
        self, adata: AnnData | MuData, *, gene_symbols: str | None = None, gene_ids: str | None = None
    ) -> GeneNames:
        """What the model calls the genes of some cells.

        Equal names go before all else, then usual columns of ``var`` (``gene_ids``, ``feature_name`` …), then names
        that differ only in case or in the version of an Ensembl id, then symbols and Ensembl ids of one human or mouse
        gene by GENCODE, from a table that comes with the package. What could be two genes is left unmatched.

        Parameters
        ----------
        adata
            The cells.
        gene_symbols, gene_ids
            Columns of ``var`` with symbols or ids, which go before ``var_names``.

        Returns
        -------
        An object with ``names`` and ``matched`` (n_vars,), ``how`` (columns matched in each way) and ``ambiguous``.

        Raises
        ------
        KeyError
            If there is no such column.
        """
        expression = self._query_expression(self._anndata(adata), gene_symbols, gene_ids)
        return cast(GeneNames, expression.match)

    def predict_phenotype(
        self,
        adata: AnnData | MuData | None = None,
        *,
        phenotypes: str | Sequence[str] | None = None,
        indices: Sequence[int] | None = None,
        given: str | Sequence[str] | None = None,
        gene_symbols: str | None = None,
        gene_ids: str | None = None,
        batch_size: int = 64,
    ) -> dict[str, pd.DataFrame]:
        """Probability of each category of each phenotype.

        Parameters
        ----------
        adata
            Cells to predict; by default those the model was set up with. Genes are matched by name.
        phenotypes
            Phenotypes to predict; all by default.
        indices
            Row numbers; all by default.
        given
            Phenotypes whose recorded value is shown to the model where it is known. By default none is: a prediction
            cannot copy its own label.
        gene_symbols, gene_ids
            Columns of ``var`` with symbols or ids of the genes, which go before ``var_names``. By default names are
            matched, then usual columns such as ``var["gene_ids"]``, then symbols to Ensembl ids, see `gene_names`.
        batch_size
            Cells per step.

        Returns
        -------
        For each phenotype a table of shape (n_cells, n_categories), in the order of the cells; rows sum to 1. Logits
        are divided by the temperature of the phenotype first, see ``calibration_``.

        Raises
        ------
        ValueError
            If a phenotype is not the model's, if no gene matches, or if expression has the wrong scale.
        KeyError
            If a phenotype that is `given` is not an obs column.
        """
        names, query = self._names(phenotypes, "phenotypes"), self._query(given)
        cells = self._cells(adata, indices, query, names={"gene_symbols": gene_symbols, "gene_ids": gene_ids})
        found = predict(*self._for(cells, batch_size), cells, query, names)
        index = self._index(adata, cells)
        return {name: pd.DataFrame(p, index=index, columns=self.categories[name]) for name, p in found.items()}

    def expected_accuracy(
        self, adata: AnnData | MuData, *, gene_symbols: str | None = None, gene_ids: str | None = None
    ) -> dict[str, float]:
        """Accuracy to expect of the prediction of each phenotype, given the genes that some cells have.

        When a training has ended, its held-out cells are predicted with fewer and fewer of their genes. How much a set
        of genes tells is known from the training cells. So this is the accuracy on cells like those held out: give
        `group_key` in training, if it is to hold for new donors.

        Parameters
        ----------
        adata
            The cells; only their genes are looked at.
        gene_symbols, gene_ids
            As in `predict_phenotype`.

        Returns
        -------
        By phenotype, from 0 to 1; empty if no cells were held out, or if the model has no linear path.

        Raises
        ------
        RuntimeError
            If the model is not trained.
        KeyError
            If there is no such column of ``var``.
        """
        self._data(adata)
        names = self.gene_names(adata, gene_symbols=gene_symbols, gene_ids=gene_ids).names
        return expected_accuracy(Engine(self.module), self.fitted_, np.isin(self.genes, names))

    def get_latent_representation(
        self,
        adata: AnnData | MuData | None = None,
        *,
        pooling: str = "decision",
        indices: Sequence[int] | None = None,
        given: str | Sequence[str] | None = None,
        gene_symbols: str | None = None,
        gene_ids: str | None = None,
        batch_size: int = 64,
    ) -> NDArray[np.float32]:
        """Embedding of each cell.

        Parameters
        ----------
        adata
            Cells to embed; by default those the model was set up with.
        pooling
            ``"decision"`` is the mean over phenotypes of the state that each is predicted from, the linear path's part
            mixed in: the training shapes it most, and in our benchmark cells of a kind lie closest in it.
            ``"phenotypes"`` is the mean over phenotype slots without the linear path, ``"genes"`` the mean over
            expressed genes, ``"cls"`` the first slot; the name of a phenotype takes its slot alone.
        indices
            Row numbers; all by default.
        given
            Phenotypes whose recorded value is shown; by default none, so that no label leaks into the embedding.
        gene_symbols, gene_ids
            Columns of ``var`` with symbols or ids of the genes, which go before ``var_names``. By default names are
            matched, then usual columns such as ``var["gene_ids"]``, then symbols to Ensembl ids, see `gene_names`.
        batch_size
            Cells per step.

        Returns
        -------
        Shape (n_cells, n_hidden).

        Raises
        ------
        ValueError
            As for `predict_phenotype`, and if `pooling` is unknown.
        KeyError
            As for `predict_phenotype`.
        """
        check_choice(pooling, (*POOLINGS, *self.layout.phenotype_names), "pooling")
        query = self._query(given)
        cells = self._cells(adata, indices, query, names={"gene_symbols": gene_symbols, "gene_ids": gene_ids})
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
        batch_size: int = 64,
    ) -> NDArray[np.float32]:
        """Joint probability of the categories of several phenotypes.

        A chain: the probability of a category of the first phenotype, times that of the second when the first is shown,
        and so on; the mean over all orders of the phenotypes.

        Parameters
        ----------
        adata
            Cells to predict; by default those the model was set up with. Genes are matched by name.
        phenotypes
            Two or more phenotypes of the model.
        indices
            Row numbers; all by default.
        given
            Other phenotypes whose recorded value is shown where it is known.
        gene_symbols, gene_ids
            As of `predict_phenotype`.
        batch_size
            Cells per step. A step takes one pass through the network for each combination of categories of all but one
            of the phenotypes, of all but two, and so on: with two phenotypes as many as they have categories, and two.

        Returns
        -------
        Probabilities, shape (n_cells, n_categories of the first, of the second, …); they sum to 1 in each cell.

        Raises
        ------
        ValueError
            If there are fewer than two phenotypes, if one is not the model's, named twice or also `given`, if there are
            more than 5,000 combinations or 250 million probabilities, if no gene matches, or if expression has the
            wrong scale.
        KeyError
            If a phenotype that is `given` is not an obs column.
        """
        names, query = self._joint_names(phenotypes, given), self._query(given)
        data = self._data(adata)
        check_size(names, [len(self.categories[name]) for name in names], len(self._rows(data, indices)))
        cells = self._cells(data, indices, query, names={"gene_symbols": gene_symbols, "gene_ids": gene_ids})
        return joint(*self._for(cells, batch_size), cells, query, names)

    def seen_together(self, phenotypes: Sequence[str]) -> NDArray[np.bool_]:
        """Which combinations of categories the training cells do not speak against.

        Parameters
        ----------
        phenotypes
            Two or more phenotypes of the model.

        Returns
        -------
        Whether each two categories of a combination occurred in one training cell, shape (n_categories of the first, of
        the second, …). True throughout for weights of the original, whose training cells are not known.

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
        indices: Sequence[int] | None = None,
        gene_symbols: str | None = None,
        gene_ids: str | None = None,
        batch_size: int = 64,
    ) -> pd.DataFrame:
        """How unlike the training cells each cell is.

        The distance of a cell to the nearest category is measured along 20 principal components of the training cells'
        standardised expression (Mahalanobis distance, one covariance for all categories; genes that are not measured
        widen it), and ranked among cells of known categories: held-out ones or, where groups are known and none was
        held out, training cells each compared with the other groups. With left-out categories this found more than the
        entropy or the highest of the probabilities, what principal components leave unexplained, and distances to
        single cells (``docs/trust.md``). A new kind that looks much like a known one is found by none.

        Parameters
        ----------
        adata
            Cells; by default those the model was set up with. Genes are matched by name.
        phenotype
            Whose categories are the known ones. By default the cell type, if a phenotype has one of the usual names of
            it, else the first phenotype.
        indices
            Row numbers; all by default.
        gene_symbols, gene_ids
            Columns of ``var`` with symbols or ids of the genes, which go before ``var_names``. By default names are
            matched, then usual columns such as ``var["gene_ids"]``, then symbols to Ensembl ids, see `gene_names`.
        batch_size
            Cells per step.

        Returns
        -------
        Table with a row per cell (n_cells x 2), both from 0 to 1: ``novelty``, the share of cells of known categories
        that are nearer to one, so that 0.95 is reached by 5 % of cells like those; and ``unsure``, the share of the
        held-out cells of which the model is less unsure (entropy of the probabilities).

        Raises
        ------
        ValueError
            As for `predict_phenotype`, and if the model holds nothing to compare with: it was trained on very few cells
            or comes from the original.
        """
        name = self.reference_phenotype if phenotype is None else phenotype
        check_choice(name, self.layout.phenotype_names, "phenotype")
        data, reference = self._data(adata), self.fitted_.novelty
        if reference is None:
            raise ValueError(
                "`model`: it holds no training cells to compare with, because it was trained on very few, by an "
                "earlier version, or comes from the original. Train it with pgs.tl.train."
            )
        cells = self._cells(data, indices, names={"gene_symbols": gene_symbols, "gene_ids": gene_ids})
        found = novelty(*self._for(cells, batch_size), reference, cells, name)
        return pd.DataFrame(found, index=self._index(data, cells), columns=["novelty", "unsure"])

    @property
    def reference_phenotype(self) -> str:
        """The cell type, by one of its usual names, else the first phenotype."""
        names = self.layout.phenotype_names
        return next((name for name in names if name in PHENOTYPE_ALIASES["cell_type"]), names[0])

    def get_gene_states(
        self,
        adata: AnnData | MuData | None = None,
        *,
        groupby: str | None = None,
        group_key: str | None = None,
        indices: Sequence[int] | None = None,
        given: str | Sequence[str] | None = None,
        batch_size: int = 64,
    ) -> GeneStates:
        """Contextual states of genes: what the last block makes of them, averaged over cells that express them.

        States are summed up batch by batch: memory grows with contexts x genes x hidden units, not with cells.

        Parameters
        ----------
        adata
            Cells; by default those the model was set up with. Genes are matched by name.
        groupby
            Obs column whose levels are the contexts; cells without a value are left out. By default all cells are one
            context, called ``"all"``.
        group_key
            Obs column of groups (donors, samples) within which states are averaged as well: the result has an entry for
            each pair of context and group that occurs. By default cells of a context are averaged whatever their group.
        indices
            Row numbers; all by default.
        given
            Phenotypes whose recorded value is shown to the model; by default none.
        batch_size
            Cells per step.

        Returns
        -------
        Means of shape (n_contexts, n_genes, n_hidden) and numbers of cells of shape (n_contexts, n_genes).

        Raises
        ------
        ValueError
            If `groupby` has no value or too many, if the states would take more than 4 GB, if a phenotype is not the
            model's, if no gene matches, or if expression has the wrong scale.
        KeyError
            If `groupby`, `group_key` or a phenotype that is `given` is not an obs column.
        """
        data, query = self._data(adata), self._query(given)
        rows = self._rows(data, indices)
        contexts, groups, codes = self._contexts(data, groupby, group_key, rows)
        cells = self._cells(data, rows[codes >= 0], query)
        found = gene_states(Engine(self.module, batch_size), cells, query, contexts, codes[codes >= 0])
        return replace(found, groups=groups)

    def polyfunctionality(
        self,
        adata: AnnData | MuData | None = None,
        *,
        groupby: str,
        group_key: str | None = None,
        min_cells: int = 10,
        n_permutations: int = 100,
        seed: int = 0,
        batch_size: int = 64,
    ) -> Polyfunctionality:
        """How far the role of each gene moves between contexts, see :func:`~polygene_scverse.tl.polyfunctionality`.

        Parameters
        ----------
        adata
            Cells; by default those the model was set up with. Genes are matched by name.
        groupby
            Obs column whose levels are the contexts.
        group_key
            Obs column of groups (donors, samples); cells without a value of either are left out. By default all cells
            are one group.
        min_cells
            Cells of a context and group that must express a gene.
        n_permutations
            Permutations of the contexts within groups.
        seed
            Seed of these.
        batch_size
            Cells per step.

        Returns
        -------
        Shift and p-value of each gene of the model.

        Raises
        ------
        ValueError
            If the cells are of fewer than two contexts, if `min_cells` or `n_permutations` is below 1, or as for
            `get_gene_states`.
        KeyError
            If `groupby` or `group_key` is not an obs column.
        """
        if min_cells < 1 or n_permutations < 1:
            raise ValueError(
                f"`min_cells`, `n_permutations`: found {min_cells} and {n_permutations}. Pass 1 or more of each."
            )
        data = self._data(adata)
        rows = self._rows(data, None)
        contexts, groups, codes = self._contexts(data, groupby, group_key, rows)
        if len(set(contexts)) < 2:
            raise ValueError(
                f"`groupby`: adata.obs[{groupby!r}] holds one context, {contexts[0]!r}, but roles of genes are "
                "compared between two or more. Pass cells of several contexts, or another column."
            )
        known = codes >= 0
        slots = [i for i, column in enumerate(self._columns) if column != groupby]
        engine, state = self._for(cells := self._cells(data, rows[known]), batch_size)
        pairs = contexts, groups or ["all"] * len(contexts)
        found = gene_roles(engine, state, cells, pairs, codes[known], slots or [0])
        return polyfunctionality(found, min_cells=min_cells, n_permutations=n_permutations, seed=seed)

    def _contexts(
        self, data: AnnData | MuData, groupby: str | None, group_key: str | None, rows: NDArray[np.int64]
    ) -> tuple[list[str], list[str] | None, NDArray[np.int64]]:
        """Context of each entry, its group if groups are named, and the entry of each cell, -1 for none."""
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
        batch_size: int = 64,
    ) -> GeneContributions:
        """How much each gene carries each category of a phenotype, see :func:`~polygene_scverse.tl.rank_genes`.

        Parameters
        ----------
        adata
            Cells; by default those the model was set up with. Genes are matched by name.
        phenotype
            A phenotype of the model.
        groupby
            Obs column that says which category each cell is of; cells of none are left out.
        indices
            Row numbers; all by default.
        n_cells
            Cells of each category, at most, in which genes are taken away from the transformer one by one.
        seed
            Seed of their draw.
        batch_size
            Cells per step.

        Returns
        -------
        Scores and log fold changes of shape (n_categories, n_genes), for the categories that some cells have and the
        genes that are measured.

        Raises
        ------
        ValueError
            If a phenotype is not the model's, if the cells are of fewer than two of its categories, if `n_cells` is
            below 1, if no gene matches, or if expression has the wrong scale.
        KeyError
            If `groupby` is not an obs column.
        """
        check_choice(phenotype, self.layout.phenotype_names, "phenotype")
        if n_cells < 1:
            raise ValueError(f"`n_cells`: found {n_cells}, but at least one cell of each category is needed. Pass 10.")
        data = self._data(adata)
        obs, known = self._anndata(data).obs, self.categories[phenotype]
        check_columns([groupby], obs, "groupby", candidates)
        rows = self._rows(data, indices)
        codes = encode(obs[groupby].iloc[rows], known)[0]
        if len(present := np.unique(codes[codes >= 0])) < 2:
            raise ValueError(
                f"`groupby`: adata.obs[{groupby!r}] holds {len(present)} of the categories of {phenotype!r}, "
                f"{shorten(known)}, but genes carry a category against others. Pass cells of two categories or more."
            )
        cells = self._cells(data, rows[codes >= 0])
        codes = codes[codes >= 0]
        drawn = draw(codes, n_cells, seed)
        some = replace(cells, ids=cells.ids[drawn], codes=cells.codes[drawn])
        slot = self.layout.phenotype_names.index(phenotype)
        return gene_contributions(Engine(self.module, batch_size), self.fitted_, cells, slot, codes, drawn, some)

    def biomarkers(
        self,
        adata: AnnData | MuData | None = None,
        *,
        phenotype: str,
        contexts: str,
        groupby: str,
        group_key: str | None = None,
        n_cells: int = 5,
        min_cells: int = 5,
        n_permutations: int = 100,
        seed: int = 0,
        batch_size: int = 64,
    ) -> dict[str, ContextMarkers]:
        """Which genes carry a phenotype in each context, see :func:`~polygene_scverse.tl.biomarkers`.

        Parameters
        ----------
        adata
            Cells; by default those the model was set up with. Genes are matched by name.
        phenotype
            A phenotype of the model.
        contexts
            Obs column whose levels are the contexts.
        groupby
            Obs column that says which category each cell is of.
        group_key
            Obs column of groups (donors, samples).
        n_cells
            As of `gene_contributions`, in each context.
        min_cells
            Cells of a group and category of a context that must be there, else they are left out of the null.
        n_permutations
            Permutations of the null.
        seed
            Seed of the draw of cells and of the permutations.
        batch_size
            Cells per step.

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
        data = self._data(adata)
        obs, rows = self._anndata(data).obs, self._rows(data, None)
        levels, of_context = find_contexts(self._anndata(data), contexts, rows)
        check_columns([groupby, *([] if group_key is None else [group_key])], obs, "groupby", candidates)
        codes = encode(obs[groupby], self.categories[phenotype])[0]
        of_group = np.zeros(len(rows), dtype=np.int64)
        if group_key is not None:
            of_group = encode(obs[group_key], ordered_labels(obs[group_key]))[0]
        found = {}
        for number, level in enumerate(levels):
            part = rows[(of_context == number) & (codes >= 0)]
            if len(np.unique(codes[part])) < 2:
                continue
            arguments: dict[str, Any] = {"n_cells": n_cells, "seed": seed, "batch_size": batch_size}
            scores = self.gene_contributions(data, phenotype=phenotype, groupby=groupby, indices=part, **arguments)
            grouped = part[of_group[part] >= 0] if group_key is not None else part[:0]
            p_value, n_groups = np.full(scores.scores.shape, np.nan), np.zeros(len(scores.categories), dtype=np.int64)
            if len(grouped):
                cells, engine = self._cells(data, grouped), Engine(self.module, batch_size)
                kinds = np.array([self.categories[phenotype].index(name) for name in scores.categories])
                means, n = group_means(
                    engine, cells, of_group[grouped], codes[grouped], len(self.categories[phenotype])
                )
                at = [self.genes.index(gene) for gene in scores.genes]
                p_value, n_groups = differences(means[:, :, at], n, kinds, min_cells, n_permutations, seed)
            found[level] = ContextMarkers(scores, p_value, n_groups)
        if not found:
            raise ValueError(
                f"`contexts`: no level of adata.obs[{contexts!r}] has cells of two categories of {phenotype!r}, so "
                "that there is nothing to tell apart within a context. Pass another column."
            )
        return found

    def count_hidden_tokens(
        self,
        adata: AnnData | MuData | None = None,
        *,
        indices: Sequence[int] | None = None,
        masking: MaskingRates | Mapping[str, Any] | str | None = None,
        given: str | Sequence[str] | None = None,
        hidden_share: float | None = None,
        balance: float = BALANCE,
        seed: int = 0,
        batch_size: int = 64,
    ) -> TokenCounts:
        """Hide tokens of cells whose tokens are known, guess them, and count what is taken for what.

        A guess is one of the tokens of its slot. The network's logits of bins are those of all genes; where
        not-expressed genes are hidden at another rate than expressed ones, the logit of bin 0 is corrected by the log
        of the ratio of the two rates, so that guesses are made for the mix of genes that was hidden. Weights of the
        original see the mask that they were trained with, which tells of a hidden gene whether it is expressed.

        Memory does not grow with the number of hidden tokens.

        Parameters
        ----------
        adata
            Cells; by default those the model was set up with. Genes are matched by name.
        indices
            Row numbers; all by default.
        masking
            How much is hidden. By default as in the validation of the training: genes at the rates of the training,
            every phenotype. ``"original"`` hides 15 % of all genes, and each phenotype with probability 0.5, the
            others being shown; values of `MaskingRates` are taken as they are.
        given
            Phenotypes that are shown as recorded in the cells where they are known, whatever `masking` says. By default
            none.
        hidden_share
            This share of the genes that are not asked for is hidden too, from 0 to 1. The same genes are asked for at
            every share. By default as in `masking`: none is hidden unless it names a ``gene_dropout``.
        balance
            How a category is chosen, as in `decide`, by the transformer's own probabilities; 0 takes the most probable
            one.
        seed
            Seed of what is hidden: a cell has the same tokens hidden in any batch.
        batch_size
            Cells per step.

        Returns
        -------
        Counts, and negative log-likelihoods. Missing phenotypes, and those that are shown, are not counted.

        Raises
        ------
        ValueError
            If the model is not trained or has no data, if a phenotype is not the model's, if `masking` or
            `hidden_share` is out of range, if no gene matches, or if expression has the wrong scale.
        KeyError
            If a phenotype that is `given` is not an obs column.
        """
        check_balance(balance)
        trained, query = self.fitted_.masking, self._query(given)
        validation = replace(resolve_rates(trained), gene_dropout=0.0, hide_all=1.0) if masking is None else None
        if hidden_share is not None:
            check_fraction(hidden_share, "hidden_share")
        return count_hidden_tokens(
            Engine(self.module, batch_size),
            self.fitted_,
            self._cells(adata, indices, query),
            RandomHiding(validation or resolve_rates(masking), seed, query.shown, hidden_share),
            balance=balance,
            originals_mask=self.fitted_.mask == ORIGINAL_MASK,
        )

    # what if

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
        batch_size: int = 64,
    ) -> list[NDArray[np.float32]]:
        """Expression that the model expects of genes it does not see, with phenotypes as recorded or set.

        No gene is shown when it is asked for. This is association learned from observational data.

        Parameters
        ----------
        adata
            Cells; by default those the model was set up with. Genes are matched by name.
        genes
            Genes of the model; all by default, in the order of ``genes``.
        settings
            What each phenotype is set to in every cell; a result for each mapping.
        keep
            Share of the cell's own genes that is shown when others are asked for: 0 shows none. A pass through the
            network asks for a share of ``1 - keep`` of the genes. 1 asks for all `genes` at once and shows all others.
        given
            Phenotypes that are shown as recorded, where they are known and not set.
        indices
            Row numbers; all by default.
        seed
            Seed of which genes are asked for together.
        log
            False for the mean of counts per 10,000.
        gene_symbols, gene_ids
            As of `predict_phenotype`.
        batch_size
            Cells per step, fewer where many genes are asked for.

        Returns
        -------
        For each setting the mean of log1p of counts per 10,000, shape (n_cells, n_genes).

        Raises
        ------
        ValueError
            If the model has no gene decoder, if a phenotype, category or gene is not the model's, if `keep` is no
            share, if the result is too large, or as for `predict_phenotype`.
        KeyError
            If a phenotype that is `given` is not an obs column.
        """
        self._check_gene_decoder()
        check_fraction(keep, "keep")
        slots = self._gene_slots(genes)
        pairs = [tuple(self._setting(name, category) for name, category in s.items()) for s in settings]
        query = self._query(given)
        data = self._data(adata)
        check_values(len(self._rows(data, indices)), len(slots), len(pairs))
        cells = self._cells(data, indices, query, names={"gene_symbols": gene_symbols, "gene_ids": gene_ids})
        engine = Engine(self.module, batch_size)
        arguments: dict[str, Any] = {"shown": query.shown, "keep": keep, "seed": seed, "log": log}
        return expected_expression(engine, cells, slots, settings=pairs, **arguments)

    def denoised_expression(
        self,
        adata: AnnData | MuData | None = None,
        *,
        genes: Sequence[str] | None = None,
        log: bool = True,
        gene_symbols: str | None = None,
        gene_ids: str | None = None,
        indices: Sequence[int] | NDArray[np.int64] | None = None,
    ) -> NDArray[np.float32] | None:
        """Expression that follows from all measured genes of a cell, by factors of the training cells.

        Parameters
        ----------
        adata
            Cells; by default those the model was set up with. Genes are matched by name.
        genes
            Genes of the model; all by default, in the order of ``genes``.
        log
            Mean of log1p of counts per 10,000, or of counts per 10,000.
        gene_symbols, gene_ids
            As of `predict_phenotype`.
        indices
            Row numbers; all by default.

        Returns
        -------
        Shape (n_cells, n_genes); None if the model has no such factors: it was trained on too few cells.

        Raises
        ------
        ValueError
            If a gene is not the model's, if the result is too large, or as for `predict_phenotype`.
        """
        slots, data = self._gene_slots(genes), self._data(adata)
        rows = self._rows(data, indices)
        check_values(len(rows), len(slots), 1)
        if self.fitted_.factors is None:
            return None
        return denoised_expression(
            self.fitted_.factors,
            self._cells(data, rows, names={"gene_symbols": gene_symbols, "gene_ids": gene_ids}),
            slots,
            log=log,
        )

    def measured_expression(
        self,
        adata: AnnData | MuData | None = None,
        *,
        genes: Sequence[str] | None = None,
        gene_symbols: str | None = None,
        gene_ids: str | None = None,
        indices: Sequence[int] | NDArray[np.int64] | None = None,
    ) -> sp.csr_matrix:
        """Expression of cells as the model reads it: its genes, in its scale.

        Parameters
        ----------
        adata
            Cells; by default those the model was set up with. Genes are matched by name.
        genes
            Genes of the model; all by default, in the order of ``genes``.
        gene_symbols, gene_ids
            As of `predict_phenotype`.
        indices
            Row numbers; all by default.

        Returns
        -------
        log1p of counts per 10,000, shape (n_cells, n_genes); 0 also where a gene is unmeasured.

        Raises
        ------
        ValueError
            If a gene is not the model's, or as for `predict_phenotype`.
        """
        slots = self._gene_slots(genes)
        data = self._data(adata)
        cells = self._cells(data, self._rows(data, indices), names={"gene_symbols": gene_symbols, "gene_ids": gene_ids})
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
        batch_size: int = 64,
    ) -> AnnData:
        """Draw new cells of given phenotypes, see :func:`~polygene_scverse.tl.generate`.

        Parameters
        ----------
        given
            A row for each cell, a column for each phenotype that is given; missing values are drawn.
        seed
            Seed of the draws.
        n_rounds
            Rounds in which the network draws the genes of a cell; by default they are drawn together.
        temperature
            What logits are divided by.
        depth
            Total counts of each cell; by default drawn as of the training cells.
        allow_unseen
            Whether phenotypes may be combined as in no training cell.
        batch_size
            Cells per step.

        Returns
        -------
        The cells, as :func:`~polygene_scverse.tl.generate` describes them.

        Raises
        ------
        ValueError
            As for :func:`~polygene_scverse.tl.generate`.
        """
        self._check_if_trained(warn=False, message="The model is not trained. Call train() first.")
        self._check_gene_decoder()
        if (n_rounds is not None and n_rounds < 1) or not temperature > 0 or (depth is not None and not depth >= 1):
            raise ValueError(
                f"`n_rounds`, `temperature`, `depth`: found {n_rounds}, {temperature} and {depth}, but at least one "
                "round, a temperature above 0 and a depth of 1 or more are needed. Pass such numbers."
            )
        engine, names = Engine(self.module, batch_size), self.layout.phenotype_names
        if not len(given):
            raise ValueError("`n_obs`: found 0, but at least one cell is needed. Pass 1 or more.")
        check_entries(engine, len(given))
        wanted = np.full((len(given), len(names)), -1, dtype=np.int64)
        for name in given.columns:
            check_choice(str(name), names, "given")
            positions, values = pd.factorize(given[name])
            known = [-1 if label_of(v, ()) is None else self._code(str(name), v, "given") for v in values]
            wanted[:, names.index(str(name))] = np.array([*known, -1])[positions]
        codes, seen = draw_phenotypes(self.fitted_, wanted, seed)
        if not seen.all() and not allow_unseen:
            row = {str(name): str(given[name].iloc[int(np.argmin(seen))]) for name in given.columns}
            raise ValueError(
                f"`given`: no training cell had the phenotypes {row} ({int((~seen).sum())} of {len(seen)} cells ask "
                "for such a combination). Pass another combination, or allow_unseen=True: the model then carries over "
                "what it learned of other combinations, and obs['unseen'] marks the cells."
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
        n_null: int = 200,
        seed: int = 0,
        batch_size: int = 64,
    ) -> dict[str, Any]:
        """Shift of phenotypes, embedding and other genes, see :func:`~polygene_scverse.tl.perturb`.

        Parameters
        ----------
        adata
            Cells; by default those the model was set up with.
        genes
            Genes to perturb, or tuples of them.
        kind
            ``"knockout"`` or ``"overexpress"``.
        responses
            Genes whose expected expression is asked for.
        n_null
            Random genes of like expression.
        seed
            Seed of the draws.
        batch_size
            Cells per step.

        Returns
        -------
        ``names`` of the perturbations, of which the first ``n_perturbations`` are those asked for, ``n_genes`` and
        ``expression_of_genes`` of each, ``responses``, and the arrays of
        :class:`~polygene_scverse.abilities._perturb.Shifts`.

        Raises
        ------
        ValueError
            As for :func:`~polygene_scverse.tl.perturb`.
        """
        self._check_gene_decoder()
        check_choice(kind, ["knockout", "overexpress"], "kind")
        if n_null < 0:
            raise ValueError(f"`n_null`: found {n_null}, but it is a number of random genes. Pass 0 or more.")
        if isinstance(genes, str) or not len(genes):
            raise ValueError(f"`genes`: found {genes!r}, but a list of genes is needed. Pass some of model.genes.")
        wanted = [tuple(self._gene_slots([g] if isinstance(g, str) else list(g)).tolist()) for g in genes]
        if len(set(map(frozenset, wanted))) < len(wanted):
            raise ValueError(f"`genes`: found {shorten(genes)}, of which some are named twice. Name each once.")
        asked = None if responses is None else self._gene_slots(responses)
        cells = draw_cells(self._cells(adata), MOST_CELLS, seed)
        measured = cells.measured_in(np.arange(len(cells)))
        own = np.unique(np.concatenate([np.array(w) for w in wanted]))
        if absent := [self.genes[g] for g in own if not measured[g]]:
            raise ValueError(
                f"`genes`: {shorten(absent)} are not measured in adata, so that there is nothing to change. Pass genes "
                "that are among adata.var_names."
            )
        usable, expression = measured.copy(), mean_expression(cells)
        usable[own] = False
        usable &= expression > 0
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
        """Refuse questions about expression that cannot be answered, before anything is read.

        Parameters
        ----------
        n_obs
            Number of cells.
        genes
            Genes, which must be the model's.
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
        """Refuse more cells than can be generated at a time, before anything is made.

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

    # what follows from probabilities

    def decide(self, probabilities: Mapping[str, pd.DataFrame], *, balance: float = BALANCE) -> pd.DataFrame:
        """Choose a category for each cell.

        The most probable category is right most often, but seldom a rare one. Dividing each probability by the
        category's share of the training cells to the power `balance` finds more of the rare ones; what it costs in
        accuracy is little at 0.5. The probabilities stay as they are (logit adjustment after training: Menon et al.,
        "Long-tail learning via logit adjustment", ICLR 2021).

        Parameters
        ----------
        probabilities
            For each phenotype a table of shape (n_cells, n_categories), as `predict_phenotype` returns it.
        balance
            0 takes the most probable category; 1 the one that would be if all were equally frequent in the training
            cells.

        Returns
        -------
        The chosen category of each phenotype, as categorical columns; shape (n_cells, n_phenotypes).

        Raises
        ------
        ValueError
            If `balance` is not between 0 and 1, or if a table has other columns than the phenotype's categories.
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
        self, probabilities: Mapping[str, pd.DataFrame], *, coverage: float = 0.9, by_category: bool = False
    ) -> dict[str, pd.DataFrame]:
        """Choose for each cell the categories that its true one is among.

        A set holds the categories that are at least as probable as a threshold. The threshold is that of split
        conformal prediction, from the cells that the model was calibrated on (see ``calibration_``). For new cells that
        are drawn like those, the share of sets with the true category is at least `coverage` on average. Cells of new
        donors are drawn like those only if donors were named in training (`group_key`): then each was predicted from
        the others, each counts alike, and the promise holds for new donors if there were enough, nine for a coverage of
        0.9. Of fewer a warning says so, and how many cells of each of them were covered; the most probable categories
        that make up `coverage` then belong to the set in any case.

        Otherwise a set may be empty: no category is as probable as it should be, and the cell may be of none of them.

        Parameters
        ----------
        probabilities
            For each phenotype a table of shape (n_cells, n_categories), as `predict_phenotype` returns it.
        coverage
            Share of the cells whose true category shall be in their set.
        by_category
            Whether it shall hold for the cells of each category, not only for all together; sets are larger then.
            Categories with too few calibration cells take the threshold of all cells, and a warning says which.

        Returns
        -------
        For each phenotype a table like that of the probabilities, True where a category is in the set.

        Raises
        ------
        ValueError
            If `coverage` is not between 0 and 1, or if a table has other columns than the phenotype's categories.
        """
        if not 0.0 < coverage < 1.0:
            raise ValueError(f"`coverage`: found {coverage}, but it must be above 0 and below 1, such as 0.9.")
        sets = {}
        for name, table in probabilities.items():
            categories = self._check_categories(name, table)
            scores = self.fitted_.conformal.get(name, NO_SCORES)
            found = scores.sets(name, categories, table.to_numpy(), coverage, by_category)
            sets[name] = pd.DataFrame(found, index=table.index, columns=table.columns)
        return sets

    def expected_value(self, probabilities: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
        """Mean of the numbers that categories stand for, such as years, weighted by their probabilities.

        Parameters
        ----------
        probabilities
            For each phenotype a table of shape (n_cells, n_categories), as `predict_phenotype` returns it.

        Returns
        -------
        A column for each phenotype that is ordered and whose categories are numbers; shape (n_cells, n_such).
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
        indices: Sequence[int] | None = None,
        group_key: str | None = None,
        batch_size: int = 64,
    ) -> pd.DataFrame:
        """Fit temperatures and prediction sets on other labelled cells than those held out in training.

        Best are cells of donors that are not in training: then calibration and coverage hold for new donors too.

        Parameters
        ----------
        adata
            Cells with recorded phenotypes; by default those the model was set up with, which is useful with `indices`.
        phenotypes
            Phenotypes to calibrate; all by default. Those without a known cell are left as they are.
        indices
            Row numbers; all by default.
        group_key
            Obs column of the groups (donors, samples) that the cells belong to and that had no part in training; it is
            noted only.
        batch_size
            Cells per step.

        Returns
        -------
        What is now in ``calibration_``, one row per phenotype.

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
        cells = self._cells(data, indices)
        self._warn_of_training_cells(data, cells.ids)
        warn_unseen(encode_all(obs.iloc[cells.ids], self._columns, self._missing)[1])
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
        """What logits are divided by in prediction; 1 where nothing was fitted.

        Parameters
        ----------
        phenotype
            A phenotype of the model.
        """
        return self.fitted_.temperature(phenotype)

    # arguments

    @property
    def _columns(self) -> dict[str, list[str]]:
        """The obs column of each phenotype, which in a model of the original is not its name, and its categories."""
        return field_state(self.registry, PHENOTYPE_FIELD)["categories"]

    @property
    def _missing(self) -> frozenset[str]:
        """Labels that mean "no value"."""
        return missing_words(setup_args(self.registry).get("missing"))

    def _anndata(self, data: AnnData | MuData) -> AnnData:
        """The AnnData to read: of a MuData the registered modality."""
        return data.mod[setup_args(self.registry).get("mod", "rna")] if isinstance(data, MuData) else data

    def _expression(self, data: AnnData) -> Expression:
        args = setup_args(self.registry)
        return Expression.of(data, args["layer"], args["use_raw"]).named_by(*self._name_columns(data))

    def _name_columns(self, data: AnnData) -> tuple[str | None, str | None]:
        """Columns of ``var`` that the model calls genes by, if these data have them."""
        args, raw = setup_args(self.registry), setup_args(self.registry)["use_raw"] and data.raw is not None
        columns = (data.raw if raw else data).var.columns
        symbols, ids = (args.get(name) if args.get(name) in columns else None for name in GENE_NAMES)
        return symbols, ids

    def _query_expression(
        self, data: AnnData, gene_symbols: str | None = None, gene_ids: str | None = None
    ) -> Expression:
        """Expression of cells to ask about, genes named as the model names them."""
        args = setup_args(self.registry)
        expression = Expression.of_query(data, args["layer"], args["use_raw"])
        if gene_symbols is None and gene_ids is None:
            expression = expression.named_by(*self._name_columns(data))
        return expression.matched(self._known_genes, gene_symbols=gene_symbols, gene_ids=gene_ids)

    @property
    def _known_genes(self) -> list[str]:
        """The genes of the model, and others of its training cells."""
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
            words = f"{shorten(absent)}, which the model learns, not among the columns of adata.obs"
            if len(absent) == len(self._columns):
                raise KeyError(f"`adata`: {words}. Put it back, or set the model up anew with other phenotypes.")
            warn(f"`adata`: {words}: it is unknown in all cells.")
        warn_unseen(encode_all(obs.iloc[rows[0]], self._columns, self._missing)[1])
        groups = None if group_key is None else obs[group_key]
        binning = self.binning_ if self.edges_ is None else np.array(self.edges_)
        return read_training_cells(expression, obs, rows, self.layout, self._columns, binning, groups)

    def _data(self, adata: AnnData | MuData | None) -> AnnData | MuData:
        """The cells that are meant; the model must be trained."""
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
        if not len(indices):
            raise ValueError(
                "`indices`: found none, but at least one cell is needed. Pass row numbers, or None for all."
            )
        return rows[np.asarray(indices)]

    def _cells(
        self,
        adata: AnnData | MuData | None,
        indices: Sequence[int] | NDArray[np.int64] | None = None,
        query: Query | None = None,
        names: Mapping[str, str | None] | None = None,
    ) -> AnnDataCells:
        """Cells to ask about. The columns that are shown must be there; says which of their labels are not known."""
        data = self._anndata(self._data(adata))
        rows = self._rows(data, indices)
        shown = [list(self._columns)[slot] for slot in query.shown] if query is not None else []
        check_columns(shown, data.obs, "given", candidates)
        if shown:
            known = {column: self._columns[column] for column in shown}
            warn_unseen(encode_all(data.obs[shown].iloc[rows], known, self._missing)[1])
        edges = np.array(self.edges_)
        expression = self._query_expression(data, **(names or {}))
        shares = self.fitted_.shares
        cells = AnnDataCells.of(expression, data.obs, rows, self.layout, self._columns, edges, shares)
        measured = cells.tokenizer.measured
        if measured.mean() < LEAST_OVERLAP and measured.sum() < ENOUGH_GENES:
            raise ValueError(
                f"`adata`: {measured.sum()} of the model's {len(measured)} genes are in these data, too "
                f"few to tell anything: at least {LEAST_OVERLAP:.0%}, or {ENOUGH_GENES}, are needed. "
                f"{expression.match_words} Look at model.gene_names(adata), or train on the genes that there are."
            )
        cells.warn_unmeasured(outlook=self._outlook(measured))
        return cells

    def _outlook(self, measured: NDArray[np.bool_]) -> str:
        """What accuracy is to be expected where many genes are unmeasured; empty if that is not known."""
        if measured.mean() >= KNOWN_SHARE:
            return ""
        found = expected_accuracy(Engine(self.module), self.fitted_, measured)
        values = [f"{value:.2f} of {name}" for name, value in found.items()]
        listed = " and ".join([", ".join(values[:-1]), values[-1]] if len(values) > 1 else values)
        return f"an accuracy of {listed} is to be expected of cells like those held out in training." if values else ""

    def _for(self, cells: AnnDataCells, batch_size: int) -> tuple[Engine, FittedState]:
        """The network for cells with these genes, and what was fitted to it."""
        return for_panel(Engine(self.module, batch_size), self.fitted_, cells.tokenizer.measured)

    def _index(self, adata: AnnData | MuData | None, cells: AnnDataCells) -> pd.Index:
        """Names of some cells."""
        return self._anndata(self._data(adata)).obs_names[cells.ids]

    def _names(self, names: str | Sequence[str] | None, argument: str) -> list[str]:
        if names is None:
            return list(self.layout.phenotype_names)
        names = [names] if isinstance(names, str) else list(names)
        for name in names:
            check_choice(name, self.layout.phenotype_names, argument)
        return names

    def _check_gene_decoder(self) -> None:
        """Refuse questions about genes that only the gene decoder answers."""
        if self.module.gene_decoder is None:
            raise ValueError(
                "`model`: it has no gene decoder, because it was made with gene_decoder=False or comes from the "
                "original, so that it does not know how much each gene is expressed. Train a model with the default "
                "gene_decoder=True."
            )

    def _gene_slots(self, genes: Sequence[str] | None) -> NDArray[np.int64]:
        """Slots of some genes of the model, each named once."""
        names = self.genes if genes is None else [str(gene) for gene in genes]
        found = pd.Index(self.genes).get_indexer(pd.Index(names))
        if not len(names) or (found < 0).any() or len(set(names)) != len(names):
            absent = [name for name, at in zip(names, found, strict=True) if at < 0]
            raise ValueError(
                f"`genes`: found {shorten(names, 3)}, of which {shorten(absent, 3)} are not among the "
                f"{len(self.genes)} genes of the model. Pass some of model.genes, each once, or None for all."
            )
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
        """Every expressed gene is shown, and the phenotypes that are given."""
        names = [] if given is None else self._names(given, "given")
        return Query(shown=tuple(i for i, name in enumerate(self.layout.phenotype_names) if name in names))

    def _joint_names(self, phenotypes: Sequence[str], given: str | Sequence[str] | None) -> list[str]:
        names = [phenotypes] if isinstance(phenotypes, str) else list(phenotypes)
        if len(names) < 2:
            raise ValueError(
                f"`phenotypes`: found {names}, but a joint distribution is of two or more. Pass several, or call "
                "predict_phenotype."
            )
        names = self._names(names, "phenotypes")
        shown = [given] if isinstance(given, str) else list(given or [])
        if len(set(names)) != len(names) or set(names) & set(shown):
            raise ValueError(
                f"`phenotypes`: found {names} with given={shown}, but each phenotype is predicted once and not given "
                "at the same time. Name each once."
            )
        return names

    def _check_categories(self, name: str, table: pd.DataFrame) -> list[str]:
        """Categories of a phenotype, which must be the columns of its probabilities."""
        categories = self.categories.get(name)
        if categories is None or list(table.columns) != categories:
            raise ValueError(
                f"`probabilities`: the columns of {name!r} are {list(table.columns)}, but the model's categories "
                f"are {categories}. Pass what predict_phenotype returns."
            )
        return categories

    def _warn_of_training_cells(self, data: AnnData | MuData, rows: NDArray[np.int64]) -> None:
        """The model is surer of the cells it was trained on than of others."""
        trained = getattr(self, "train_indices_", None) if data is self.adata else None
        n = 0 if trained is None else int(np.isin(rows, trained).sum())
        if n:
            warn(
                f"`adata`: {n} of the {len(rows)} cells were trained on, and the model is surer of these than of "
                "others: it will seem better calibrated than it is. Pass indices= of other cells, e.g. "
                "model.validation_indices."
            )
