"""Prediction with the trained module: logits of both paths combined, and states.

Shapes: B cells, T tokens, K keys, P phenotypes, C categories of all phenotypes, H = n_hidden, Q asked columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from polygene_scverse._layout import MASK, PAD, TokenLayout
from polygene_scverse.module._device import move_arguments
from polygene_scverse.module._linear_path import LinearPath, clipped_sums


class PredictionMixin:
    """Prediction and states of `PolygeneModule`."""

    layout: TokenLayout
    linear: LinearPath | None
    n_categories: list[int]
    category_ids: Tensor
    encoder: Any
    head: Any
    gene_decoder: Any
    shown_categories: Any
    inference: Any
    generative: Any

    @move_arguments
    def predict(
        self,
        tokens: Tensor,
        positions: Tensor,
        key_mask: Tensor,
        values: Tensor,
        measured: Tensor,
        linear_share: Tensor,
    ) -> list[Tensor]:
        """Logits of each phenotype, as a mixture of both paths; P times (B, categories).

        The effect of shown phenotypes on the transformer's logits is added to the mixture in full, because the linear
        path does not use phenotypes.

        Parameters
        ----------
        tokens, positions, key_mask
            As for the encoder.
        values, measured
            As for `LinearPath`.
        linear_share
            Mixture weight of the linear path in each phenotype; shape (P,).
        """
        logits = self.transformer_logits(tokens, positions, key_mask)
        parts = self.linear_part(tokens, positions, key_mask, values, measured, linear_share, logits=logits)
        return [z + part for z, part in zip(logits, parts, strict=True)]

    @move_arguments
    def linear_part(
        self,
        tokens: Tensor,
        positions: Tensor,
        key_mask: Tensor,
        values: Tensor,
        measured: Tensor,
        linear_share: Tensor,
        *,
        logits: list[Tensor] | None = None,
    ) -> list[Tensor]:
        """Contribution of the linear path to the mixture, which is added to the transformer's logits.

        It does not depend on which phenotypes are shown.

        Parameters
        ----------
        tokens, positions, key_mask
            As for the encoder.
        values, measured
            As for `LinearPath`.
        linear_share
            As for `predict`.
        logits
            The transformer's logits for these tokens, if available; they are reused if no phenotype is shown.

        Returns
        -------
        P times (B, categories).
        """
        if self.linear is None or not linear_share.any():
            return [linear_share.new_zeros(())] * len(self.n_categories)
        hidden = self._hide_phenotypes(tokens)
        blank = logits if hidden is tokens else None
        if blank is None:
            blank = self.transformer_logits(hidden, positions, key_mask)
        linear = self.linear_logits(positions, values, measured)
        return [m * (of_genes - z) for m, of_genes, z in zip(linear_share, linear, blank, strict=True)]

    def _hide_phenotypes(self, tokens: Tensor) -> Tensor:
        """The same tokens with every phenotype masked; the input tensor itself if none is shown."""
        of_phenotypes = slice(1, 1 + self.layout.n_phenotypes)
        if (tokens[:, of_phenotypes] == MASK).all():
            return tokens
        tokens = tokens.clone()
        tokens[:, of_phenotypes] = MASK
        return tokens

    @move_arguments
    def linear_logits(self, positions: Tensor, values: Tensor, measured: Tensor) -> list[Tensor]:
        """Logits of the linear path; P times (B, categories)."""
        if self.linear is None:
            raise ValueError("`linear_path`: the model has none. Create it with linear_path=True, the default.")
        logits = self.linear(self._visible_genes(positions, values), values, measured)  # (B, C)
        return list(logits.split(self.n_categories, dim=1))

    @move_arguments
    def relative_depth(self, values: Tensor, measured: Tensor) -> Tensor:
        """As `LinearPath.relative_depth`; 1 without a linear path."""
        return values.new_ones(len(values)) if self.linear is None else self.linear.relative_depth(values, measured)

    @move_arguments
    def linear_certainty(self, values: Tensor, measured: Tensor) -> list[Tensor]:
        """Factor of the linear path's logits, below 1 for shallow cells; P times (B, categories)."""
        if self.linear is None:
            raise ValueError("`linear_path`: the model has none. Create it with linear_path=True, the default.")
        return list(self.linear.certainty(values, measured).split(self.n_categories, dim=1))

    @move_arguments
    def expression_sums(self, positions: Tensor, values: Tensor, cap: Tensor, weights: Tensor) -> Tensor:
        """Weighted sums of the expression of the visible genes; arguments as for the encoder and `clipped_sums`."""
        return clipped_sums(self._visible_genes(positions, values), values, cap, weights)

    def _visible_genes(self, positions: Tensor, values: Tensor) -> Tensor:
        """Index of each visible gene, 0 on padding, in the shape of `values`."""
        s = self.layout.n_special
        return (positions[:, s : s + values.shape[1]] - self.layout.first_gene_position).clamp(min=0)

    @move_arguments
    def transformer_logits(self, tokens: Tensor, positions: Tensor, key_mask: Tensor) -> list[Tensor]:
        """Logits of each phenotype from the transformer alone; P times (B, categories).

        Only the genes selected by `select_genes` are read.
        """
        return self.generative(**self.inference(*self.select_genes(tokens, positions, key_mask)))["phenotype_logits"]

    @move_arguments
    def select_genes(self, tokens: Tensor, positions: Tensor, key_mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Keep the genes of each cell that the transformer reads to predict phenotypes; see `LinearPath`.

        Parameters
        ----------
        tokens, positions, key_mask
            As for the encoder. Batches with targets are not changed.

        Returns
        -------
        The same arrays with the genes that are read, the most important first, and padding.
        """
        if tokens.shape[1] > key_mask.shape[1]:
            return tokens, positions, key_mask
        columns, kept = self.columns_read(positions, key_mask)
        if columns.shape[1] == key_mask.shape[1]:
            return tokens, positions, key_mask
        tokens, positions = (part.gather(1, columns) for part in (tokens, positions))
        return tokens.where(kept, PAD), positions.where(kept, 0), kept

    @move_arguments
    def columns_read(self, positions: Tensor, key_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Columns of the keys that the transformer reads to predict phenotypes, and a mask that is False on padding.

        Parameters
        ----------
        positions, key_mask
            As for the encoder.

        Returns
        -------
        Two arrays of shape (B, K'), with the most important genes first; all columns if all genes are read.
        """
        s, n_keys = self.layout.n_special, key_mask.shape[1]
        every = torch.arange(n_keys, device=key_mask.device).expand(key_mask.shape)  # (B, K)
        if self.linear is None:
            return every, key_mask
        n_read = self.linear.n_read(key_mask[:, s:].sum(1))  # (B,)
        n = int(n_read.max()) if len(n_read) else 0
        if n == n_keys - s:
            return every, key_mask
        genes = (positions[:, s:n_keys] - self.layout.first_gene_position).clamp(min=0)  # (B, K - s)
        ranks = self.linear.ranks[genes].masked_fill(~key_mask[:, s:], -1)
        columns = torch.cat([every[:, :s], s + ranks.topk(n, dim=1).indices], dim=1)  # (B, s + n)
        return columns, every[:, : s + n] < s + n_read[:, None]

    @move_arguments
    def decision_states(
        self,
        tokens: Tensor,
        positions: Tensor,
        key_mask: Tensor,
        values: Tensor,
        measured: Tensor,
        linear_share: Tensor,
    ) -> Tensor:
        """States from which the phenotypes are predicted, with the linear path mixed in; shape (B, P, H).

        The linear path has logits but no states. Its contribution is the shortest vector whose product with the
        embeddings of the categories gives these logits, up to a constant that does not change the softmax. Shown
        phenotypes are treated as in `predict`.
        """
        states = self._phenotype_states(tokens, positions, key_mask)
        hidden = self._hide_phenotypes(tokens)
        shows = self.gene_decoder is not None and hidden is not tokens
        if self.linear is None and not shows:
            return states
        words = self.encoder.embeddings.word.weight[self.category_ids].split(self.n_categories)
        inverses = [torch.linalg.pinv(word - word.mean(0)).T for word in words]  # P times (categories, H)
        if shows:
            shown = torch.cat(self.shown_categories(tokens), dim=1).to(states.dtype)
            parts = zip(self.gene_decoder.shown_part(shown), inverses, strict=True)
            shown_states = torch.stack([(z - z.mean(1, keepdim=True)) @ inverse for z, inverse in parts], dim=1)
        else:
            shown_states = torch.zeros_like(states)
        if self.linear is None:
            return states + shown_states
        blank = states if hidden is tokens else self._phenotype_states(hidden, positions, key_mask)
        logits = zip(inverses, self.linear_logits(positions, values, measured), strict=True)
        of_genes = [(z - z.mean(1, keepdim=True)) @ inverse for inverse, z in logits]  # P times (B, H)
        return states + shown_states + linear_share[:, None] * (torch.stack(of_genes, dim=1) - blank)

    @move_arguments
    def gene_probabilities(
        self, tokens: Tensor, positions: Tensor, key_mask: Tensor, shown_share: Tensor, *, temperature: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """Probabilities of the bins of the targets, and mean expression of each bin; shape (B, M, V) each.

        Parameters
        ----------
        tokens, positions, key_mask
            As for the encoder.
        shown_share
            As for `inference`.
        temperature
            Divisor of the logits.

        Raises
        ------
        ValueError
            If the module has no gene decoder.
        """
        if self.gene_decoder is None:
            raise ValueError("`gene_decoder`: the model has none. Create it with gene_decoder=True, the default.")
        outputs = self.inference(tokens, positions, key_mask, shown_share)
        found, context = self.generative(**outputs), outputs["gene_context"]
        weights = self.gene_decoder.weights_of(context, [z.softmax(-1) for z in found["phenotype_logits"]])
        values = self.gene_decoder.bin_values(context.genes, weights).clamp(min=0.0)
        return (found["gene_logits"] / temperature).softmax(-1), values

    def _phenotype_states(self, tokens: Tensor, positions: Tensor, key_mask: Tensor) -> Tensor:
        """States from which the transformer predicts the phenotypes; shape (B, P, H)."""
        hidden = self.inference(*self.select_genes(tokens, positions, key_mask))["hidden"]
        return self.head.transform(hidden[:, : self.layout.n_phenotypes])

    @move_arguments
    def states(self, tokens: Tensor, positions: Tensor, key_mask: Tensor, asked: Sequence[int] | None = None) -> Tensor:
        """Hidden states after the last block, for the columns in `asked` or for all; shape (B, Q, H)."""
        columns = None if asked is None else torch.as_tensor(list(asked), device=tokens.device)
        return self.encoder(tokens, positions, key_mask, columns)
