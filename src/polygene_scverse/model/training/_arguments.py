"""Arguments known from other models of scvi-tools: translated if they apply here, else refused with an explanation."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import scvi
from lightning.pytorch import Trainer as LightningTrainer
from scvi.train import Trainer

from polygene_scverse._validate import check_fraction, check_seed, check_whole
from polygene_scverse.data.read._split import Split
from polygene_scverse.model.training._plan import PolygeneTrainingPlan

REMEDIES: Final = {
    "shuffle_set_split": "Cells are drawn at random; pass split= with row numbers to choose them.",
    "load_sparse_tensor": "Only expressed genes are loaded in any case. Leave it out.",
    "datamodule": "Cells are read from AnnData, or from files by pgs.tl.train(paths). Leave it out.",
    "plan_config": "Pass its values in plan_kwargs=.",
    "trainer_config": "Pass its values as arguments of train().",
    "pin_memory": "Pass loader_kwargs={'pin_memory': True}.",
    "external_indexing": "Pass split= with row numbers of the training and of the validation cells.",
    "reduce_lr_on_plateau": "The schedule of the learning rate is set by plan_kwargs={'schedule': ...}: 'linear', "
    "'cosine' or 'constant'. Leave it out, or pass early_stopping=True.",
}
"""Advice for some unsupported arguments."""


def resolve_seed(seed: int | None) -> int:
    """Return the seed that was passed, else that of ``scvi.settings``, else 0."""
    if seed is not None:
        return check_seed(seed)
    return 0 if scvi.settings.seed is None else int(scvi.settings.seed)


def validation_share(train_size: float | None, validation_size: float | None) -> float:
    """Share of the cells to hold out.

    Parameters
    ----------
    train_size, validation_size
        Shares of cells for training and validation; each defaults to the rest of the other. Defaults: 0.9 and 0.1.

    Raises
    ------
    ValueError
        If one is not a valid share, or if both are given and do not sum to 1.
    """
    if train_size is None:
        return 0.1 if validation_size is None else validation_size
    check_fraction(train_size, "train_size")
    if validation_size is not None and not np.isclose(train_size + validation_size, 1.0):
        raise ValueError(
            f"`train_size`: found {train_size} with validation_size={validation_size}, but every cell is on one side. "
            "Pass one of them, or split= with row numbers."
        )
    return round(1.0 - train_size, 12)


def split_of(split: Split | None, splitter: Mapping[str, Any] | None) -> Split | None:
    """Row numbers of both sides, called ``external_indexing`` in the splitter of scvi-tools.

    Parameters
    ----------
    split
        Row numbers of the training and of the validation cells.
    splitter
        ``datasplitter_kwargs`` of scvi-tools.

    Raises
    ------
    ValueError
        If row numbers are given twice, or if `splitter` has other entries.
    """
    found = dict(splitter or {})
    indexing: Sequence[Any] | None = found.pop("external_indexing", None)
    if found:
        name = next(iter(found))
        remedy = REMEDIES.get(name, "Pass arguments of torch's DataLoader in loader_kwargs=.")
        raise ValueError(f"`datasplitter_kwargs`: {name!r} is not supported. {remedy}")
    if indexing is None:
        return split
    if split is not None:
        raise ValueError("`datasplitter_kwargs`: found external_indexing together with split=. Pass one of them.")
    if len(indexing) == 3 and len(indexing[2]):
        raise ValueError(
            "`datasplitter_kwargs`: external_indexing names test cells, which are not used in training. Pass two lists."
        )
    return indexing[0], indexing[1]


def cells_per_step(batch_size: int, trainer: Mapping[str, Any]) -> int:
    """Number of cells per optimiser step.

    Parameters
    ----------
    batch_size
        Number of cells per batch.
    trainer
        Arguments for the trainer, which may accumulate several batches.

    Raises
    ------
    ValueError
        If a number is not a whole number of at least 1.
    """
    n_batches = trainer.get("accumulate_grad_batches", 1)
    return check_whole(batch_size, "batch_size", 1) * check_whole(n_batches, "accumulate_grad_batches", 1)


def refuse_unknown(trainer: Mapping[str, Any], plan: Mapping[str, Any]) -> None:
    """Raise an error for arguments that neither the trainer nor the training plan has.

    Parameters
    ----------
    trainer, plan
        Arguments for the trainer and for the training plan.

    Raises
    ------
    TypeError
        If the check fails.
    """
    of_trainer = {name for kind in (Trainer, LightningTrainer) for name in inspect.signature(kind.__init__).parameters}
    of_plan = [*inspect.signature(PolygeneTrainingPlan.__init__).parameters][2:]
    for name in [*(set(trainer) - of_trainer), *(set(trainer) & set(REMEDIES))]:
        raise TypeError(f"`{name}`: unknown argument. {REMEDIES.get(name, 'Leave it out.')}")
    for name in [name for name in plan if name not in of_plan]:
        remedy = REMEDIES.get(name, f"There are {of_plan}.")
        raise TypeError(f"`plan_kwargs`: unknown argument {name!r}. {remedy}")
