"""Conversion of settings to arguments of `pgs.tl.train`; unset ones are omitted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from polygene_scverse.cli._cells import split_list
from polygene_scverse.cli._errors import UserError
from polygene_scverse.cli._train_settings import TrainSettings

SPECIAL_WORDS = 8
"""Number of tokens of the original's sequence that are not genes."""
SAME: tuple[str, ...] = ("model", "group_key", "validation_size", "layer", "use_raw", "gene_symbols", "gene_ids")
SAME += ("buffer_cells", "max_epochs", "batch_size", "seed", "early_stopping", "strategy", "precision", "devices")
"""Settings that are passed as arguments of the same name."""
FIRST_EDGE, LAST_EDGE, N_BINS = 0.1, 9.0, 10
"""Bin edges of the original."""


def train_arguments(s: TrainSettings) -> dict[str, Any]:
    """Arguments of `pgs.tl.train` except cells, split and folder.

    Raises
    ------
    UserError
        If settings are contradictory.
    """
    if s.model_name not in (None, "bert"):
        raise UserError(f"--model-name: found {s.model_name!r}, but 'bert' is the only network. Leave it out.")
    plan = {"lr": s.lr, "weight_decay": s.weight_decay, "warmup": s.warmup, "schedule": s.schedule}
    arguments = {
        "phenotypes": split_list(s.phenotypes),
        "ordered": split_list(s.ordered),
        "missing": split_list(s.missing),
        "n_genes": n_genes_of(s),
        "model_kwargs": model_arguments(s),
        "masking": masking_of(s),
        "plan_kwargs": without_none(plan) or None,
        "accumulate_grad_batches": s.accumulate,
        **device_of(s.device),
        "num_nodes": s.nodes,
        "loader_kwargs": None if s.num_workers is None else {"num_workers": s.num_workers},
        "verbose": not s.quiet,
    }
    return without_none(arguments) | without_none({name: getattr(s, name) for name in SAME})


def without_none(values: dict[str, Any]) -> dict[str, Any]:
    """The values that are not None."""
    return {key: value for key, value in values.items() if value is not None}


def model_arguments(s: TrainSettings) -> dict[str, Any] | None:
    """Arguments of the model; None if there are none."""
    loss = {"phenotype_weight": s.phenotype_weight, "bin_width": s.bin_width, "label_smoothing": s.label_smoothing}
    names = ("n_bins", "size", "n_hidden", "n_layers", "n_heads", "n_intermediate", "dropout", "linear_path")
    values = {name: getattr(s, name) for name in names}
    return without_none({**values, "binning": binning_of(s), "loss": without_none(loss) or None}) or None


def n_genes_of(s: TrainSettings) -> int | None:
    """Number of genes; the original alternatively takes the sequence length, which includes 8 other tokens."""
    if s.max_length is None:
        return s.n_genes
    if s.n_genes is not None and s.max_length != s.n_genes + SPECIAL_WORDS:
        raise UserError(
            f"--max-length: found {s.max_length}, but {s.n_genes} genes and {SPECIAL_WORDS} other tokens make "
            f"{s.n_genes + SPECIAL_WORDS}. Leave out one of the two."
        )
    return s.max_length - SPECIAL_WORDS


def binning_of(s: TrainSettings) -> str | list[float] | None:
    """Binning by name, or the lower bin edges: 0, then equally spaced as in the original."""
    import numpy as np

    if s.threshold is None and s.expression_min is None and s.expression_max is None:
        return s.binning
    if s.binning is not None:
        raise UserError("--binning: passed together with --threshold or --expression-min/max. Pass one or the other.")
    n_bins = N_BINS if s.n_bins is None else s.n_bins
    first = s.threshold if s.threshold is not None else s.expression_min or FIRST_EDGE
    last = LAST_EDGE if s.expression_max is None else s.expression_max
    if n_bins > 2 and not 0 < first < last:
        raise UserError(f"--threshold: found {first}, but it must be above 0 and below the last edge, {last}.")
    return [0.0, *(np.linspace(first, last, n_bins - 1).tolist() if n_bins > 2 else [first])]


def masking_of(s: TrainSettings) -> dict[str, Any] | str | None:
    """Masking rates: a named set, in which single rates may be replaced."""
    from dataclasses import asdict

    from polygene_scverse.data.feed._rates import resolve_rates

    share = s.mask_not_expressed
    if share is not None and share != "match":
        share = _number(share)  # type: ignore[assignment]
    elif share is None and s.masking == "original":
        share = s.mask_genes  # type: ignore[assignment]
    values = {
        "expressed": s.mask_genes,
        "not_expressed": share,
        "hide_each": s.mask_phenotypes,
        "gene_dropout": s.gene_dropout,
        "max_genes": s.max_genes,
    }
    if s.masking is not None:
        return asdict(resolve_rates(s.masking)) | without_none(values)
    return without_none(values) or None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UserError(f"--mask-not-expressed: found {text!r}, but it must be a number or 'match'.") from None


def device_of(device: str | None) -> dict[str, Any]:
    """Accelerator and devices in Lightning's terms, from a device name of torch."""
    if device is None:
        return {}
    import torch

    name, _, number = device.partition(":")
    if name not in ("auto", "cpu", "cuda", "gpu", "mps") or not (number.isdigit() or device == name):
        raise UserError(f"--device: found {device!r}, but it must be auto, cpu, cuda, cuda:1 or mps. Pass one of them.")
    if name in ("cuda", "gpu") and not torch.cuda.is_available():
        raise UserError(f"--device: found {device!r}, but torch sees no such device here. Pass auto or cpu.")
    return {"accelerator": "gpu" if name == "cuda" else name, **({"devices": [int(number)]} if number else {})}


def columns_of(names: Sequence[str] | None, present: Sequence[str]) -> list[str] | None:
    """Obs columns of phenotypes, which may have their names in the original: age is development_stage."""
    from polygene_scverse.model.original._files import ORIGINAL_COLUMNS

    if names is None:
        return None
    return [ORIGINAL_COLUMNS.get(name, name) if name not in present else name for name in names]
