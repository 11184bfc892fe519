"""The scvi-tools module: encoder, heads and loss, on the batches of ``data``.

Shapes: B cells, T tokens, K keys, M targets, P phenotypes, C categories of all phenotypes, H = n_hidden.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from scvi.module.base import BaseModuleClass, LossOutput
from torch import Tensor, nn
from torch.nn import functional as F

from polygene_scverse._layout import TokenLayout
from polygene_scverse.module._device import move_arguments
from polygene_scverse.module._gene_decoder import GeneContext, GeneDecoder
from polygene_scverse.module._linear_path import LinearPath
from polygene_scverse.module._losses import LossConfig, bin_loss, ordinal_targets, phenotype_loss
from polygene_scverse.module._ordinal import RankedScore
from polygene_scverse.module._prediction import PredictionMixin
from polygene_scverse.module._transformer import Encoder, Head, TransformerConfig, init_weights

_NETWORK_INPUTS = ("tokens", "positions", "key_mask")
_DECODER_INPUTS = (*_NETWORK_INPUTS, "shown_share")


class PolygeneModule(PredictionMixin, BaseModuleClass):
    """Masked transformer over expression bins and phenotypes.

    Parameters
    ----------
    layout
        Slots, vocabulary, ids and positions.
    config
        Sizes of the network.
    loss
        Weights and label smoothing of the losses.
    linear_path
        Whether to combine the logits of the transformer with those of a linear path over the expressed genes. It is not
        used in training; its weight is set for each prediction.
    gene_decoder
        Whether to add a gene-specific decoder of expression bins, see
        :class:`~polygene_scverse.module._gene_decoder.GeneDecoder`.
    ordered
        For each ordered phenotype, the values of its categories; see `RankedScore`.
    seed
        Random seed for the initial weights.
    """

    smoothed_bins: Tensor
    category_ids: Tensor

    def __init__(
        self,
        layout: TokenLayout,
        config: TransformerConfig | None = None,
        loss: LossConfig | None = None,
        *,
        linear_path: bool = True,
        gene_decoder: bool = True,
        ordered: Mapping[str, Sequence[float]] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.layout, self.config, self.loss_config = layout, config or TransformerConfig(), loss or LossConfig()
        self.n_categories = [len(slot.categories) for slot in layout.phenotypes]
        with torch.random.fork_rng(devices=[]):  # torch's default initialisation, replaced below, uses the global state
            self.encoder = Encoder(layout.n_tokens, layout.length, self.config)
            self.head = Head(layout.n_tokens, self.config)
        ranked = [(ordered or {}).get(name) for name in layout.phenotype_names]
        self.ranked = nn.ModuleList([nn.Identity() if v is None else RankedScore(v) for v in ranked])  # no weights
        self.linear = LinearPath(layout.n_genes, sum(self.n_categories)) if linear_path else None
        self.gene_decoder = None
        if gene_decoder:
            sizes = (layout.n_genes, layout.n_bins, self.n_categories, self.config.n_hidden)
            self.gene_decoder = GeneDecoder(*sizes, generator=torch.Generator().manual_seed(seed))
        self.register_buffer(
            "smoothed_bins", ordinal_targets(layout.n_bins, self.loss_config.bin_width), persistent=False
        )
        ids = [i for slot in layout.phenotypes for i in slot.ids]
        self.register_buffer("category_ids", torch.tensor(ids, dtype=torch.long), persistent=False)
        init_weights(self, self.config.init_std, torch.Generator().manual_seed(seed))

    # the three steps of an scvi-tools module

    def _get_inference_input(self, tensors: dict[str, Tensor], **_: Any) -> dict[str, Tensor]:
        names = _NETWORK_INPUTS if self.gene_decoder is None else _DECODER_INPUTS
        return {name: tensors[name] for name in names if name in tensors}

    def _get_generative_input(
        self, tensors: dict[str, Tensor], inference_outputs: dict[str, Tensor], **_: Any
    ) -> dict[str, Tensor]:
        return inference_outputs

    @move_arguments
    def inference(
        self, tokens: Tensor, positions: Tensor, key_mask: Tensor, shown_share: Tensor | None = None
    ) -> dict[str, Any]:
        """Compute states of the phenotype slots and the targets, and the inputs of the gene decoder.

        Parameters
        ----------
        tokens, positions, key_mask
            As for the encoder.
        shown_share
            Share of the measured genes that is not hidden; shape (B,). Default: all genes are shown.
        """
        n_keys, p = key_mask.shape[1], self.layout.n_phenotypes
        decodes = torch.is_grad_enabled() or tokens.shape[1] > n_keys  # otherwise no bin is predicted
        decodes = decodes and self.gene_decoder is not None
        asked = torch.arange(0 if decodes else 1, 1 + p, device=tokens.device)
        asked = torch.cat([asked, torch.arange(n_keys, tokens.shape[1], device=tokens.device)])  # (P + M,)
        hidden = self.encoder(tokens, positions, key_mask, asked)  # (B, P + M, H); if it decodes, CLS comes first
        if self.gene_decoder is None:
            return {"hidden": hidden}
        if not decodes:
            return {"hidden": hidden, "shown": self._shown(tokens, hidden)}
        genes = (positions[:, n_keys:] - self.layout.first_gene_position).clamp(0, self.layout.n_genes - 1)  # (B, M)
        context = self.gene_context(hidden[:, 0], tokens, key_mask, genes, shown_share)
        return {"hidden": hidden[:, 1:], "gene_context": context}

    @move_arguments
    def generative(
        self, hidden: Tensor, gene_context: GeneContext | None = None, shown: Tensor | None = None
    ) -> dict[str, Any]:
        """Compute logits of each phenotype, a list of (B, categories), and of the targets' bins, (B, M, n_bins).

        Parameters
        ----------
        hidden, gene_context
            As returned by `inference`.
        shown
            Indicators of the shown categories, if there are no targets and therefore no context; shape (B, C).
        """
        p = self.layout.n_phenotypes
        transformed = self.head.transform(hidden)  # (B, P + M, H)
        of_phenotypes, of_bins = self.split_logits(transformed[:, :p]), self.bin_logits(transformed[:, p:])
        shown = shown if gene_context is None else gene_context.categories
        if self.gene_decoder is not None and shown is not None:
            of_shown = self.gene_decoder.shown_part(shown)
            of_phenotypes = [z + part for z, part in zip(of_phenotypes, of_shown, strict=True)]
        if self.gene_decoder is None or gene_context is None:
            return {"phenotype_logits": of_phenotypes, "gene_logits": of_bins}
        of_bins = self.gene_decoder(of_bins, gene_context, [z.softmax(-1) for z in of_phenotypes])
        return {"phenotype_logits": of_phenotypes, "gene_logits": of_bins}

    def gene_context(
        self, cls: Tensor, tokens: Tensor, key_mask: Tensor, genes: Tensor, shown_share: Tensor | None = None
    ) -> GeneContext:
        """Inputs of the gene decoder for each cell; none of them depends on the bin of a target.

        Parameters
        ----------
        cls
            State of the CLS token; shape (B, H).
        tokens, key_mask
            As for the encoder; only tokens of keys are read.
        genes
            Gene of each target; shape (B, M).
        shown_share
            As for `inference`.
        """
        layout = self.layout
        bins = tokens[:, : key_mask.shape[1]] - layout.first_bin_id  # (B, K)
        seen = key_mask & (bins > 0) & (bins < layout.n_bins)
        visible = cls.new_zeros(len(cls), layout.n_bins)
        visible.scatter_add_(1, bins.clamp(0, layout.n_bins - 1), seen.to(cls.dtype))
        share = cls.new_ones(len(cls)) if shown_share is None else shown_share
        shown = self.shown_categories(tokens)
        given = torch.cat([tokens[:, :0] > 0, *(of_one.any(1, keepdim=True) for of_one in shown)], dim=1)  # (B, P)
        categories = torch.cat([tokens[:, :0] > 0, *shown], dim=1).to(cls.dtype)  # (B, C)
        return GeneContext(genes, cls, visible, share, categories, given)

    def _shown(self, tokens: Tensor, like: Tensor) -> Tensor:
        """Indicators of the shown categories, with the dtype of `like`; shape (B, C)."""
        return torch.cat([tokens[:, :0] > 0, *self.shown_categories(tokens)], dim=1).to(like.dtype)

    def shown_categories(self, tokens: Tensor) -> list[Tensor]:
        """Indicators of the shown category of each phenotype, if any; P times (B, categories)."""
        slots = enumerate(self.category_ids.split(self.n_categories))
        return [tokens[:, 1 + i, None] == ids for i, ids in slots]

    def loss(
        self,
        tensors: dict[str, Tensor],
        inference_outputs: dict[str, Tensor],
        generative_outputs: dict[str, Any],
        *,
        denominators: Tensor | None = None,
        phenotype_weight: float | None = None,
    ) -> LossOutput:
        """Mean gene loss plus the weighted mean of the phenotypes' mean losses.

        Parameters
        ----------
        tensors
            The batch.
        inference_outputs, generative_outputs
            Results of `inference` and `generative`.
        denominators
            Denominators of the summed losses, as returned by `count_targets` for this batch; shape (1 + P,).
        phenotype_weight
            Replaces the weight in the configuration.
        """
        weight = self.loss_config.phenotype_weight if phenotype_weight is None else phenotype_weight
        counts = (self.count_targets(tensors) if denominators is None else denominators).clamp(min=1e-8)
        parts = self.loss_parts(tensors, generative_outputs)  # (B, 1 + P)
        scaled = parts * (len(parts) / counts)
        of_phenotypes = scaled[:, 1:].mean(1)
        per_cell = scaled[:, 0] + weight * of_phenotypes
        metrics = {
            "gene_loss": scaled[:, 0].mean().detach(),
            "phenotype_loss": of_phenotypes.mean().detach(),
            "loss_sums": parts.sum(0).detach(),
        }
        loss = per_cell.sum() / max(len(per_cell), 1)  # a process may have no cells in the last batch
        return LossOutput(loss=loss, reconstruction_loss=per_cell, extra_metrics=metrics)

    def loss_parts(self, tensors: dict[str, Tensor], generative_outputs: dict[str, Any]) -> Tensor:
        """Summed loss of the gene targets, and the loss of each phenotype, for each cell; shape (B, 1 + P)."""
        bins, codes = tensors["target_bins"], _asked_codes(tensors)
        offset = tensors["zero_offset"][:, None]
        parts = [bin_loss(generative_outputs["gene_logits"], bins, self.smoothed_bins, offset).sum(1)]
        for i, logits in enumerate(generative_outputs["phenotype_logits"]):
            part = phenotype_loss(logits, codes[:, i], self.loss_config.label_smoothing)
            ranked = self.ranked[i](logits, codes[:, i]) if isinstance(self.ranked[i], RankedScore) else 0.0
            parts.append(part + self.loss_config.ordinal_weight * ranked)
        return torch.stack(parts, dim=1)

    def count_targets(self, tensors: dict[str, Tensor]) -> Tensor:
        """Number of gene targets, and of hidden known values of each phenotype; shape (1 + P,)."""
        n_targets = (tensors["target_bins"] >= 0).sum()
        return torch.cat([n_targets[None], (_asked_codes(tensors) >= 0).sum(0)])

    def sample(self, *args: Any, **kwargs: Any) -> Any:
        """Not implemented; part of the scvi-tools interface. The model class generates cells."""
        raise NotImplementedError("The module draws no cells: it has no distribution over whole cells.")

    # parts

    def split_logits(self, transformed: Tensor) -> list[Tensor]:
        """Logits of each phenotype from the transformed states of its slot, shape (B, P, H)."""
        word, bias = self.encoder.embeddings.word.weight[self.category_ids], self.head.bias[self.category_ids]
        parts = zip(word.split(self.n_categories), bias.split(self.n_categories), strict=True)
        return [F.linear(transformed[:, i], w, b) for i, (w, b) in enumerate(parts)]  # P times (B, categories)

    def bin_logits(self, transformed: Tensor) -> Tensor:
        """Logits of the expression bins; shape (..., n_bins)."""
        first = self.layout.first_bin_id
        return self.head(transformed, self.encoder.embeddings.word.weight, slice(first, first + self.layout.n_bins))


def _asked_codes(tensors: dict[str, Tensor]) -> Tensor:
    """Phenotype codes, -1 where unknown or shown, because shown phenotypes are not predicted; shape (B, P)."""
    return torch.where(tensors["phenotype_hidden"], tensors["phenotypes"], -1)
