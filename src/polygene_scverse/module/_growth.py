"""Extend a trained network by categories, phenotypes or genes; all learned weights are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from polygene_scverse._layout import TokenLayout
from polygene_scverse.module._module import PolygeneModule


@torch.no_grad()
def grow_module(
    old: PolygeneModule, layout: TokenLayout, *, ordered: Mapping[str, Sequence[float]] | None = None, seed: int = 0
) -> PolygeneModule:
    """Create a network of an extended layout with the weights of an existing one.

    Unless phenotypes are added, the logits of existing categories stay the same up to rounding. A new category starts
    as the average of the categories of its phenotype. Closed-form parts are not copied, because training refits them.

    Parameters
    ----------
    old
        The existing network.
    layout
        Its layout after :meth:`~polygene_scverse._layout.TokenLayout.grown`.
    ordered
        For each ordered phenotype, the values of its categories.
    seed
        Seed of the weights that are newly initialised.
    """
    new = PolygeneModule(
        layout,
        old.config,
        old.loss_config,
        linear_path=old.linear is not None,
        gene_decoder=old.gene_decoder is not None,
        ordered=ordered,
        seed=seed,
    ).to(old.device)
    places = places_of(old.layout, layout)
    words, categories = places["words"], places["categories"]
    every = slice(None)
    moved: dict[str, tuple[Tensor | slice, ...]] = {
        "encoder.embeddings.word.weight": (words,),
        "encoder.embeddings.position.weight": (places["positions"],),
        "head.bias": (words,),
        "gene_decoder.readout": (torch.arange(old.layout.n_genes),),
        "gene_decoder.of_categories": (every, categories),
        "gene_decoder.votes": (categories[:, None], categories),
    }
    found = dict(new.named_parameters())
    for name, value in old.named_parameters():
        found[name][moved.get(name, (every,))] = value
    for before, slot in zip(old.layout.phenotypes, layout.phenotypes, strict=False):
        added = list(slot.ids[len(before.ids) :])
        for table in (new.encoder.embeddings.word.weight, new.head.bias):
            table[added] = table[list(slot.ids[: len(before.ids)])].mean(0)
    return new.train(old.training)


def places_of(old: TokenLayout, new: TokenLayout) -> dict[str, Tensor]:
    """Indices of the ids, positions and categories of a layout in the layout extended from it."""
    words = torch.arange(old.n_tokens)
    words[old.first_bin_id :] += new.first_bin_id - old.first_bin_id
    positions = torch.arange(old.length)
    positions[old.n_phenotypes + 1 :] += new.n_phenotypes - old.n_phenotypes
    positions[-1] = new.length - 1
    starts = torch.tensor([0, *(len(slot.ids) for slot in new.phenotypes)]).cumsum(0).tolist()
    parts = [start + torch.arange(len(slot.ids)) for start, slot in zip(starts, old.phenotypes, strict=False)]
    return {"words": words, "positions": positions, "categories": torch.cat([words[:0], *parts])}
