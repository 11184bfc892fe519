"""Check whether data fit a model: genes, scale, labels and expected accuracy."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray

from polygene_scverse._validate import shorten
from polygene_scverse.abilities._panel import enough_genes, expected_accuracy
from polygene_scverse.data.read._expression import Expression
from polygene_scverse.data.read._phenotypes import encode_all
from polygene_scverse.data.read._totals import same_footing
from polygene_scverse.engine import Engine

if TYPE_CHECKING:
    from polygene_scverse.model._polygene import Polygene


def check(
    model: Polygene, data: AnnData, *, gene_symbols: str | None = None, gene_ids: str | None = None
) -> dict[str, str]:
    """Compute the ten descriptions by name; arguments as in `tl.check`."""
    expression = model._query_expression(data, gene_symbols, gene_ids)
    columns = np.flatnonzero(expression.var_names.isin(model.genes))
    found = {"cells": f"{data.n_obs:,} cells x {expression.n_vars:,} genes, expression from {expression.where}"}
    found |= _genes(model, expression, len(columns))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # their content is reported separately
        try:
            found |= _values(model, expression, columns)
            is_usable = True
        except ValueError as error:
            found |= {"scale": f"cannot be used: {error}", "totals": "–", "silent cells": "–"}
            is_usable = False
    found |= _labels(model, data)
    measured = np.isin(model.genes, expression.var_names)
    found["expected accuracy"] = _accuracy(model, measured, is_usable=is_usable)
    return found


def _accuracy(model: Polygene, measured: NDArray[np.bool_], *, is_usable: bool) -> str:
    """Describe the accuracy to expect with these genes, or why there is none."""
    if not measured.any():
        return "none, because no gene of the model is in these data"
    if not enough_genes(measured):
        return "none, because too few genes of the model are in these data to predict"
    if not is_usable:
        return "none, because the expression cannot be used"
    accuracy = expected_accuracy(Engine(model.module), model.fitted_, measured)
    if not accuracy:
        return "not known, because no cells were held out in training"
    return ", ".join(f"{name} {value:.2f}" for name, value in accuracy.items()) + _held_out(model)


def _held_out(model: Polygene) -> str:
    """Describe the cells on which the expected accuracy was measured, and whether it applies to new donors."""
    entry = next(iter(model.fitted_.calibration.values()), None)
    if entry is not None and entry.n_groups:
        n, name = entry.n_groups, entry.group_key
        return f", measured on {n} held-out {'groups' if n > 1 else 'group'} of {name!r}"
    if entry is not None and entry.n_training_groups:
        return f", measured on held-out cells of the training groups of {entry.group_key!r}; expect less for new groups"
    return ", measured on held-out cells; expect less for donors that were not in training"


def _genes(model: Polygene, expression: Expression, n_matched: int) -> dict[str, str]:
    """Describe how genes are matched, and which are not."""
    names, match = expression.var_names, expression.match
    unmeasured = [gene for gene in model.genes if gene not in names]
    extra = [str(name) for name in names.difference(model.genes)]
    how = {} if match is None else match.how
    ways = f" ({', '.join(f'{n:,} columns by {way}' for way, n in how.items())})" if how else ""
    if len(how) == 1:
        ways = f", by {next(iter(how))}"
    doubtful = "" if match is None or not match.ambiguous else f"; ambiguous: {shorten(match.ambiguous, 3)}"
    species = "" if match is None or not match.of_species else f"; {match.of_species}"
    matched = f"{n_matched:,} of the model's {len(model.genes):,} genes{ways}{doubtful}{species}"
    return {
        "genes matched": matched,
        "unmeasured": f"{len(unmeasured):,} genes of the model{_examples(unmeasured)}",
        "extra": f"{len(extra):,} genes that the model does not use{_examples(extra)}",
    }


def _values(model: Polygene, expression: Expression, columns: np.ndarray) -> dict[str, str]:
    """Describe the scale, the totals, and uninformative cells."""
    scale, footing = expression.scale, expression.footing
    if shares := model.fitted_.shares:
        footing = same_footing(expression.sample, expression.var_names, scale, footing, shares)
    note = "computed from the same genes as in training"
    if not shares:
        note = "computed from all genes; those used in training are not known"
    elif footing is not None and footing.note:
        note = footing.note
    n_expressed = np.concatenate(
        [np.diff(block[:, columns].indptr) for block in expression.blocks(np.arange(expression.n_obs))]
    )
    return {"scale": str(scale), "totals": note, "silent cells": _silent(model, expression, n_expressed)}


def _silent(model: Polygene, expression: Expression, n_expressed: NDArray[np.integer]) -> str:
    """Describe cells that express no gene of the model, and those that express few."""
    silent = int((n_expressed == 0).sum())
    found = f"{silent:,} cells express no gene of the model" if silent else "none"
    if model.module.linear is None or not model.module.linear.usual.any():
        return found
    usual = model.module.linear.usual.numpy(force=True)
    fewest = float(usual[np.isin(model.genes, expression.var_names)].sum())
    n_shallow = int((n_expressed < fewest).sum())
    return f"{found}; {n_shallow:,} express fewer than {np.ceil(fewest):.0f} genes, as 5 % of the training cells do"


def _labels(model: Polygene, data: AnnData) -> dict[str, str]:
    """Describe which phenotypes are in the data, and which of their labels the model does not know."""
    there = {name: column for name, column in model.columns.items() if column in data.obs}
    known = {column: model.categories[name] for name, column in there.items()}
    codes, unseen = encode_all(data.obs, known, model.missing)
    counts = dict(zip(there, (codes >= 0).sum(axis=0), strict=True))
    recorded = [
        f"{name} (known in {counts[name]:,} cells)" if name in there else f"{name} (not recorded)"
        for name in model.categories
    ]
    strange = [f"{name}: {shorten(labels, 4)}" for name, labels in unseen.items()]
    return {"phenotypes": ", ".join(recorded), "unknown categories": "; ".join(strange) or "none"}


def _examples(names: list[str]) -> str:
    return f": {shorten(names, 4)}" if names else ""
