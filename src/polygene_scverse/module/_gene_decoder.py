"""Gene-specific decoder: a bias for each gene, effects of phenotypes on it, and a low-rank readout of the cell.

Shapes: B cells, K keys, M targets, G genes, V bins, C categories of all phenotypes, S = n_pairs kept pairs of
categories, I = dimensions of interactions, R = rank, H = n_hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

RANK = 16
"""Rank of the trained readout."""
FEW = 5.0
"""Number of visible genes at which predicted probabilities of hidden categories and training shares weigh the same."""
WIDTH = 32
"""Width of the network that reads the number of visible genes in each bin."""


class Frequencies(Protocol):
    """The fields of :class:`~polygene_scverse.fit._class_frequencies.ClassFrequencies`."""

    @property
    def bias(self) -> NDArray[np.floating]: ...
    @property
    def effects(self) -> NDArray[np.floating]: ...
    @property
    def pairs(self) -> NDArray[np.integer]: ...
    @property
    def interactions(self) -> NDArray[np.floating]: ...


class GeneContext(NamedTuple):
    """Input of the decoder for each cell, in addition to the states of the targets.

    Parameters
    ----------
    genes
        Gene of each target; shape (B, M).
    cls
        State of the CLS token; shape (B, H).
    visible
        Number of visible genes in each bin, 0 for bin 0; shape (B, V).
    shown_share
        Share of the measured genes that is not hidden; shape (B,).
    categories
        Indicators of the shown categories; shape (B, C).
    given
        Whether each phenotype is shown; shape (B, P).
    """

    genes: Tensor
    cls: Tensor
    visible: Tensor
    shown_share: Tensor
    categories: Tensor
    given: Tensor


class GeneDecoder(nn.Module):
    """Logits of the targets' bins that are added to those of the tied head.

    They are the sum of a closed-form part, which is set by `set_frequencies` and not trained, and a trained part, which
    is initialised to zero. The closed-form part is the log-linear model of
    :func:`~polygene_scverse.fit._class_frequencies.fit_class_frequencies`; if a phenotype is hidden, the effects of its
    categories are mixed on the scale of odds, weighted by their probabilities given the visible genes. The trained part
    is the product of a matrix for each gene and bin with a vector for each cell: its CLS state, the categories, the
    number of visible genes in each bin, and the share of all genes that is not hidden, which distinguishes hidden genes
    from genes that are not expressed.

    Parameters
    ----------
    n_genes, n_bins
        Numbers of genes and bins.
    n_categories
        Number of categories of each phenotype.
    n_hidden
        Number of hidden units per token.
    n_interactions
        Maximum number of dimensions for interactions of two phenotypes.
    generator
        Random generator of the initial weights.
    """

    bias: Tensor
    shares: Tensor
    odds: Tensor
    pairs: Tensor
    pair_weights: Tensor
    interactions: Tensor
    values: Tensor
    value_effects: Tensor

    def __init__(
        self,
        n_genes: int,
        n_bins: int,
        n_categories: Sequence[int],
        n_hidden: int,
        *,
        n_interactions: int = 16,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.n_categories, self.n_bins = list(n_categories), n_bins
        n_all = sum(n_categories)
        n_pairs = sum(a * b for i, a in enumerate(n_categories) for b in n_categories[i + 1 :])
        n_dims = min(n_pairs, n_interactions)
        self.register_buffer("bias", torch.zeros(n_genes, n_bins))
        self.register_buffer("shares", torch.zeros(n_all))
        self.register_buffer("odds", torch.ones(n_genes, n_bins, n_all))
        self.register_buffer("pairs", torch.zeros(n_pairs, 2, dtype=torch.long))
        self.register_buffer("pair_weights", torch.zeros(n_pairs, n_dims))
        self.register_buffer("interactions", torch.zeros(n_genes, n_bins, n_dims))
        self.register_buffer("values", torch.zeros(n_genes, n_bins))
        self.register_buffer("value_effects", torch.zeros(n_genes, n_bins, n_all))

        def normal(*shape: int, std: float) -> nn.Parameter:
            return nn.Parameter(std * torch.randn(*shape, generator=generator))

        self.readout = nn.Parameter(torch.zeros(n_genes, n_bins * (1 + RANK)))
        self.of_cls = normal(RANK, n_hidden, std=n_hidden**-0.5)
        self.of_categories = normal(RANK, n_all, std=0.1)
        self.of_visible = normal(WIDTH, n_bins + 2, std=(n_bins + 2) ** -0.5)
        self.bias_visible = nn.Parameter(torch.zeros(WIDTH))
        self.to_context = normal(RANK, WIDTH, std=WIDTH**-0.5)
        self.to_bins = nn.Parameter(torch.zeros(n_bins, WIDTH))
        self.votes = nn.Parameter(torch.zeros(n_all, n_all))  # effect of shown categories (columns) on others (rows)

    @torch.no_grad()
    def set_frequencies(self, found: Frequencies, counts: NDArray[np.floating]) -> None:
        """Set the closed-form part; interactions are reduced to their leading dimensions.

        Parameters
        ----------
        found
            Fitted frequencies.
        counts
            Number of training cells of each category; shape (C,).
        """
        self.bias.copy_(torch.from_numpy(found.bias))
        self.odds.copy_(torch.from_numpy(found.effects).permute(1, 2, 0).exp())
        cells = torch.from_numpy(counts).float().clamp(min=1e-3)
        self.shares.copy_(torch.cat([cells[:0], *(c / c.sum() for c in cells.split(self.n_categories))]))
        for buffer in (self.pairs, self.pair_weights, self.interactions):
            buffer.zero_()
        n = len(found.pairs)
        if not n:
            return
        flat = torch.from_numpy(found.interactions).flatten(1).double()  # (n, G * V)
        importance = self.bias.double().exp().sqrt().flatten()  # weight errors by the frequency of bins
        values, vectors = torch.linalg.eigh((flat * importance) @ (flat * importance).T)
        leading = vectors[:, values.argsort(descending=True)[: self.pair_weights.shape[1]]]  # (n, dimensions)
        self.pairs[:n] = torch.from_numpy(found.pairs)
        self.pair_weights[:n, : leading.shape[1]] = leading.to(self.pair_weights)
        by_gene = (leading.T @ flat).T.view(*self.bias.shape, -1)
        self.interactions[..., : leading.shape[1]] = by_gene.to(self.interactions)

    @torch.no_grad()
    def set_values(self, mean: NDArray[np.floating], effects: NDArray[np.floating]) -> None:
        """Set the mean expression of the bins.

        Parameters
        ----------
        mean, effects
            As in `BinValues`.
        """
        self.values.copy_(torch.from_numpy(mean))
        self.value_effects.copy_(torch.from_numpy(effects).permute(1, 2, 0))

    def bin_values(self, genes: Tensor, weights: Tensor) -> Tensor:
        """Mean expression of each bin, log1p of counts per 10,000; shape (B, M, V).

        Parameters
        ----------
        genes
            Gene of each target; shape (B, M).
        weights
            Weights of the categories, as returned by `weights_of`; shape (B, C).
        """
        shifts = _of_genes(self.value_effects, genes) @ weights[..., None]
        return self.values[genes] + shifts.view(*genes.shape, self.n_bins)

    def forward(self, shared: Tensor, context: GeneContext, probabilities: Sequence[Tensor]) -> Tensor:
        """Logits of the targets' bins; shape (B, M, V).

        Parameters
        ----------
        shared
            Logits of the head shared by all genes; shape (B, M, V).
        context
            Input of the decoder for each cell.
        probabilities
            Probability of each category of each phenotype given the visible genes; P times (B, categories). Ignored for
            phenotypes that are shown.
        """
        n_visible = context.visible.sum(1)
        trust = (n_visible / (n_visible + FEW))[:, None, None]  # weight of the parts that depend on visible genes
        weights = self.weights_of(context, probabilities)  # (B, C)
        return self.class_part(context.genes, weights) + trust * (shared + self.trained_part(context, weights))

    def weights_of(self, context: GeneContext, probabilities: Sequence[Tensor]) -> Tensor:
        """Shown categories, or probabilities shrunk to training shares if few genes are visible; shape (B, C)."""
        n_visible = context.visible.sum(1, keepdim=True)
        trust = n_visible / (n_visible + FEW)
        hidden = torch.cat([trust[:, :0], *(p.detach() for p in probabilities)], dim=1)
        hidden = hidden.to(trust.dtype) * trust + self.shares * (1 - trust)
        parts = zip(context.categories.split(self.n_categories, 1), hidden.split(self.n_categories, 1), strict=True)
        chosen = [torch.where(context.given[:, i, None], *pair) for i, pair in enumerate(parts)]
        return torch.cat([trust[:, :0], *chosen], dim=1)

    def shown_part(self, categories: Tensor) -> list[Tensor]:
        """Contribution of shown categories to the logits of the phenotypes; P times (B, categories).

        Because the closed-form part already contains the effects of phenotypes on genes, the gene loss does not train
        the encoder to attend to phenotypes, so it would learn relations between phenotypes late.

        Parameters
        ----------
        categories
            Indicators of the shown categories; shape (B, C).
        """
        return list(F.linear(categories, self.votes).split(self.n_categories, dim=1))

    def class_part(self, genes: Tensor, weights: Tensor) -> Tensor:
        """Closed-form part of the logits; shape (B, M, V)."""
        logits = F.embedding(genes, self.bias).flatten(1)  # (B, M * V)
        odds = _of_genes(self.odds, genes).split(self.n_categories, dim=-1)  # P times (B, M * V, categories)
        for part, weight in zip(odds, weights.split(self.n_categories, dim=1), strict=True):
            logits = logits + (part @ weight[..., None]).squeeze(-1).clamp(min=1e-8).log()
        if self.pair_weights.numel():
            pair_shares = (weights[:, self.pairs[:, 0]] * weights[:, self.pairs[:, 1]]) @ self.pair_weights  # (B, I)
            logits = logits + (_of_genes(self.interactions, genes) @ pair_shares[..., None]).squeeze(-1)
        return logits.view(*genes.shape, self.n_bins)

    def depth_states(self, visible: Tensor, shown_share: Tensor) -> Tensor:
        """Features of a cell's depth, from the visible genes in each bin and the hidden share; shape (B, WIDTH)."""
        n_visible = visible.sum(1, keepdim=True)
        share = shown_share[:, None].to(n_visible.dtype)
        depth = torch.where(share > 0, n_visible / share.clamp(min=1e-3), 0.0)
        features = torch.cat([torch.log1p(visible), torch.log1p(depth), share], dim=1)  # (B, V + 2)
        return F.gelu(F.linear(features, self.of_visible, self.bias_visible))

    def trained_part(self, context: GeneContext, weights: Tensor) -> Tensor:
        """Trained part of the logits; shape (B, M, V)."""
        visible = self.depth_states(context.visible, context.shown_share)
        vector = F.linear(context.cls, self.of_cls) + F.linear(weights, self.of_categories)
        vector = vector + F.linear(visible, self.to_context)  # (B, R)
        vector = torch.cat([torch.ones_like(vector[:, :1]), vector], dim=1)  # (B, 1 + R)
        rows = F.embedding(context.genes, self.readout)  # (B, M, V * (1 + R))
        rows = rows.view(len(rows), rows.shape[1] * self.n_bins, 1 + RANK)
        logits = (rows @ vector[..., None]).view(*context.genes.shape, self.n_bins)
        return logits + F.linear(visible, self.to_bins)[:, None]


def _of_genes(table: Tensor, genes: Tensor) -> Tensor:
    """Rows (B, M * V, any) of a table (G, V, any) by embedding lookup, which is faster than indexing."""
    return F.embedding(genes, table.flatten(1)).view(len(genes), genes.shape[1] * table.shape[1], table.shape[2])
