"""A trained network with more categories, phenotypes or genes: all that was learned is taken over."""

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
    """A network of a grown layout with the weights of an old one.

    Logits of the old categories are those of before, to rounding, where no phenotype was added: a new category begins
    as an average one of its phenotype. What is fitted in closed form is not taken over, since a training fits it anew.

    Parameters
    ----------
    old
        The network.
    layout
        Its layout after :meth:`~polygene_scverse._layout.TokenLayout.grown`.
    ordered
        Of ordered phenotypes the values of their categories.
    seed
        Seed of weights that are new altogether.
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
    """Where the words, positions and categories of a layout stand in the one grown from it."""
    words = torch.arange(old.n_tokens)
    words[old.first_bin_id :] += new.first_bin_id - old.first_bin_id
    positions = torch.arange(old.length)
    positions[old.n_phenotypes + 1 :] += new.n_phenotypes - old.n_phenotypes
    positions[-1] = new.length - 1
    starts = torch.tensor([0, *(len(slot.ids) for slot in new.phenotypes)]).cumsum(0).tolist()
    parts = [start + torch.arange(len(slot.ids)) for start, slot in zip(starts, old.phenotypes, strict=False)]
    return {"words": words, "positions": positions, "categories": torch.cat([words[:0], *parts])}
