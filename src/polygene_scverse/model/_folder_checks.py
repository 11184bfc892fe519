"""Checks of the plain values of a saved model and the shapes of its weights, before a network is created."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import torch

from polygene_scverse._compat import field_state
from polygene_scverse._constants import PHENOTYPE_FIELD
from polygene_scverse._layout import SPECIAL_TOKENS, TokenLayout, token_text
from polygene_scverse._validate import shorten
from polygene_scverse.fit import FittedState
from polygene_scverse.fit._novelty import NoveltyReference
from polygene_scverse.fit._panels import PanelAccuracy, PanelMoments
from polygene_scverse.module import PolygeneModule, TransformerConfig
from polygene_scverse.module._linear_path import OPTIONAL
from polygene_scverse.module._transformer import resolve_config

ROUNDING: Final = 1e-9
"""Rounding errors that are tolerated in curves."""

FLOATS = ("F16", "BF16", "F32", "F64")
"""Allowed dtypes of weights."""


def check_plain(attributes: Mapping[str, Any]) -> None:
    """Raise an error for invalid slots, tokens, sizes, edges and temperatures.

    Raises
    ------
    ValueError
        If the check fails.
    """
    layout = _layout_of(attributes)
    _check_layout(layout)
    _config_of(attributes)
    categories = field_state(attributes["registry_"], PHENOTYPE_FIELD)["categories"]
    slot_categories = [list(slot.categories) for slot in layout.phenotypes]
    _check(
        [list(names) for names in categories.values()] == slot_categories,
        f"the registered categories, {shorten(categories.items(), 3)}, differ from those of the tokens or are in "
        "another order",
    )
    edges = attributes.get("edges_")
    if edges is not None:
        numbers = [float(edge) for edge in edges]
        fits = len(numbers) == layout.n_bins and numbers[0] == 0.0 and sorted(numbers) == numbers
        _check(fits and all(map(math.isfinite, numbers)), f"the bin edges {shorten(numbers)} do not increase from 0")
    for name, entry in attributes["fitted_"]["calibration"].items():
        found = entry["temperature"]
        _check(
            name in layout.phenotype_names and _is_number(found) and found > 0,
            f"the temperature of {name!r} is {found}, but it must be above 0",
        )


def check_shapes(attributes: Mapping[str, Any], found: Mapping[str, tuple[str, tuple[int, ...]]]) -> None:
    """Raise an error if the weights do not fit the configuration; allocates no memory for them.

    Parameters
    ----------
    attributes
        Attributes of the model.
    found
        Dtype and shape of each weight according to the file.

    Raises
    ------
    ValueError
        If the check fails.
    """
    config = _config_of(attributes)
    _check(
        config.n_layers <= len(found),
        f"{config.n_layers:,} layers are declared, but there are only {len(found)} weights",
    )
    parts = {name: bool(_arguments(attributes)[name]) for name in ("linear_path", "gene_decoder")}
    weights = implied_weights(_layout_of(attributes), config, **parts)
    optional = {f"linear.{name}" for name in OPTIONAL}
    absent, extra = sorted(set(weights) - set(found) - optional), sorted(set(found) - set(weights))
    _check(not absent and not extra, f"weights are missing, {shorten(absent, 3)}, or not known, {shorten(extra, 3)}")
    for name in sorted(set(weights) & set(found)):
        weight = weights[name]
        (kind, there), shape = found[name], tuple(weight.shape)
        _check(
            there == shape and kind in (FLOATS if weight.is_floating_point() else ("I64",)),
            f"the weights {name} are {kind} of shape {there}, but the configuration says "
            f"{'floating point' if weight.is_floating_point() else 'I64'} of shape {shape}",
        )


def implied_weights(
    layout: TokenLayout, config: TransformerConfig, *, linear_path: bool, gene_decoder: bool
) -> dict[str, torch.Tensor]:
    """Weights of a network on the meta device, without creating it: all blocks have the shapes of the first."""
    sizes = replace(config, n_layers=min(config.n_layers, 1))
    with torch.device("meta"):
        module = PolygeneModule(layout, sizes, linear_path=linear_path, gene_decoder=gene_decoder)
    first = "encoder.blocks.0."
    weights: dict[str, torch.Tensor] = {}
    for name, weight in module.state_dict().items():
        if name.startswith(first):
            weights |= {name.replace(first, f"encoder.blocks.{i}.", 1): weight for i in range(config.n_layers)}
        else:
            weights[name] = weight
    return weights


def check_weights(weights: Mapping[str, torch.Tensor], argument: str, remedy: str) -> None:
    """Raise an error for weights that are not finite.

    Raises
    ------
    ValueError
        If the check fails.
    """
    bad = [name for name, value in weights.items() if not bool(torch.isfinite(value).all())]
    if bad:
        raise ValueError(
            f"`{argument}`: {len(bad)} of {len(weights)} weights hold NaN or infinite values, e.g. {shorten(bad, 3)}: "
            f"no prediction can be made with them. {remedy}"
        )


def check_fitted(fitted: FittedState, layout: TokenLayout) -> None:
    """Raise an error if the fitted state belongs to other phenotypes, categories or genes.

    Raises
    ------
    ValueError
        If the check fails.
    """
    sizes = {slot.name: len(slot.categories) for slot in layout.phenotypes}
    for name, scores in fitted.conformal.items():
        codes, p = scores.codes, scores.probabilities
        inside = name in sizes and codes.shape == p.shape and codes.ndim == 1
        inside = inside and bool(((codes >= 0) & (codes < sizes[name]) & (p >= 0) & (p <= 1)).all())
        _check(inside, f"the calibration cells of {name!r} have other categories")
    counts = fitted.category_counts
    fits = not counts or [c.shape for c in counts] == [(n,) for n in sizes.values()]
    _check(fits and all(bool((c >= 0).all() and np.isfinite(c).all()) for c in counts), "category counts do not match")
    shares = fitted.linear_share
    fits = len(shares) in (0, len(sizes)) and all(_is_number(share) and 0 <= share <= 1 for share in shares)
    _check(fits, f"the shares of the linear path, {shares}, are not valid")
    if (novelty := fitted.novelty) is not None:
        _check(_novelty_fits(novelty, layout), "the reference for novelty is not valid")
    if (panels := fitted.panels) is not None:
        _check(_moments_fit(panels, layout), "the moments of the training cells are not valid")
    for name, entry in fitted.panel_accuracy.items():
        _check(name in sizes and _trials_fit(entry), f"the accuracy of {name!r} with few genes is not valid")


def _moments_fit(panels: PanelMoments, layout: TokenLayout) -> bool:
    """Whether the shapes are consistent, the genes are those of the model, and the numbers are finite."""
    n, n_categories = len(panels.genes), sum(len(slot.ids) for slot in layout.phenotypes)
    shapes = {
        "products": (n * (n + 1) // 2,),
        "deviations": (n,),
        "means": (n_categories, n),
        "counts": (n_categories,),
        "temperatures": (layout.n_phenotypes,),
    }
    arrays = {name: getattr(panels, name) for name in shapes}
    if any(arrays[name].shape != shape for name, shape in shapes.items()) or panels.genes.ndim != 1:
        return False
    inside = bool((np.diff(panels.genes) > 0).all() and ((panels.genes >= 0) & (panels.genes < layout.n_genes)).all())
    positive = bool((panels.temperatures > 0).all() and (panels.deviations > 0).all() and (panels.counts >= 0).all())
    return inside and positive and all(bool(np.isfinite(array).all()) for array in arrays.values())


def _trials_fit(entry: PanelAccuracy) -> bool:
    """Whether there is a number for each panel, in ascending order."""
    n, curves = len(entry.simulated), (entry.simulated, entry.accuracy, entry.factors)
    if not n or len(entry.accuracy) not in (0, n) or len(entry.factors) not in (0, n):
        return False
    if not all(_is_number(value) and 0 <= value <= 1 + ROUNDING for curve in curves for value in curve):
        return False
    return all(bool((np.diff(curve) >= -ROUNDING).all()) for curve in curves) and all(x > 0 for x in entry.factors)


def _novelty_fits(novelty: NoveltyReference, layout: TokenLayout) -> bool:
    """Whether the shapes are consistent and the numbers finite."""
    space, names = novelty.space, set(layout.phenotype_names)
    if space.components.ndim != 2:
        return False
    n_pcs, n = space.components.shape
    of_genes = (space.cap, space.centre, space.deviation, space.noise)
    by_name = (space.centres, space.spreads, space.known, novelty.distances, novelty.entropies)
    if n > layout.n_genes or any(a.shape != (n,) for a in of_genes) or any(set(d) != names for d in by_name):
        return False
    sizes = {slot.name: len(slot.ids) for slot in layout.phenotypes}
    shapes = [c.shape == (sizes[name], n_pcs) for name, c in space.centres.items()]
    shapes += [k.shape == (sizes[name],) and bool(np.isin(k, (0, 1)).all()) for name, k in space.known.items()]
    shapes += [s.shape == (n_pcs, n_pcs) for s in space.spreads.values()]
    shapes += [a.ndim == 1 for a in (*novelty.distances.values(), *novelty.entropies.values())]
    arrays = [*of_genes, space.components, *(a for d in by_name for a in d.values())]
    positive = bool((space.noise > 0).all() and (space.deviation > 0).all())
    return all(shapes) and positive and all(bool(np.isfinite(a).all()) for a in arrays)


def _arguments(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = attributes["init_params_"]["non_kwargs"]
    return found


def _layout_of(attributes: Mapping[str, Any]) -> TokenLayout:
    return TokenLayout.from_dict(_arguments(attributes)["layout"])


def _config_of(attributes: Mapping[str, Any]) -> TransformerConfig:
    """Sizes of the network, checked for validity."""
    changes = {k: v for group in attributes["init_params_"]["kwargs"].values() for k, v in group.items()}
    sizes = {**resolve_config(_arguments(attributes)["size"]).to_dict(), **changes}
    for name in ("n_hidden", "n_layers", "n_heads", "n_intermediate"):
        value = sizes[name]
        whole = isinstance(value, int) and not isinstance(value, bool) and value >= (name != "n_layers")
        _check(whole, f"{name} is {value!r}, but it must be a whole number above 0")
    _check(_is_number(sizes["dropout"]) and 0 <= sizes["dropout"] < 1, f"dropout is {sizes['dropout']!r}")
    for name in ("layer_norm_eps", "init_std"):
        _check(_is_number(sizes[name]) and sizes[name] >= 0, f"{name} is {sizes[name]!r}")
    return TransformerConfig(**sizes)


def _check_layout(layout: TokenLayout) -> None:
    """Check that ids are unique and within the vocabulary, and that each category's token is at its id."""
    words = layout.vocabulary
    _check(
        layout.n_bins >= 2 and layout.first_bin_id + layout.n_bins == len(words),
        f"{layout.n_bins:,} expression bins and {layout.first_bin_id:,} other tokens do not make {len(words):,} tokens",
    )
    _check(tuple(words[: len(SPECIAL_TOKENS)]) == SPECIAL_TOKENS, "special tokens are not at the start")
    _check(all(isinstance(word, str) for word in (*words, *layout.genes)), "tokens or genes are not text")
    ids: list[int] = []
    for slot in layout.phenotypes:
        _check(len(slot.ids) == len(slot.categories) >= 1, f"{slot.name!r} has {len(slot.categories)} categories")
        _check(len(set(slot.categories)) == len(slot.categories), f"a category of {slot.name!r} is named twice")
        own = [*slot.ids, slot.no_value_id]
        inside = all(isinstance(i, int) and len(SPECIAL_TOKENS) <= i < layout.first_bin_id for i in own)
        _check(inside and len(set(own)) == len(own), f"tokens of {slot.name!r} are not in the vocabulary")
        _check_words(slot.name, slot.categories, [words[i] for i in slot.ids])
        ids += own
    _check(bool(layout.genes) or bool(ids), "there is neither a gene nor a phenotype")


def _check_words(name: str, categories: Sequence[str], words: Sequence[str]) -> None:
    for category, word in zip(categories, words, strict=True):
        _check(
            word in (token_text(f"{name}={category}"), token_text(category)),
            f"the token of {category!r} of {name!r} is {word!r}: categories and tokens are in another order",
        )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _check(fits: bool, what: str) -> None:
    if not fits:
        raise ValueError(
            f"`dir_path`: this model was not written by save(), or was changed afterwards: {what}. Pass the folder as "
            "it was written."
        )
