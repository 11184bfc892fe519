"""Training step of the original: Hugging Face BERT over all genes of a cell, with batches made as in the original."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch.nn import functional as F
from transformers import BertConfig, BertForMaskedLM

from polygene_scverse._layout import MASK, TokenLayout
from polygene_scverse.data.read._binning import digitize, normalize, original_edges
from polygene_scverse.module import TransformerConfig

Batch = dict[str, torch.Tensor]
_IGNORED = -100  # label that is ignored in the loss


def make_batch(
    counts: sp.csr_matrix,
    totals: NDArray[np.floating],
    codes: NDArray[np.integer],
    layout: TokenLayout,
    rng: np.random.Generator | None = None,
) -> Batch:
    """Tokens of every slot, attention to all tokens except bin 0, and 15 % of genes and half of the phenotypes hidden.

    The original rebuilds a list per token; here this is vectorised, which favours the original.

    Parameters
    ----------
    counts
        Raw counts of the model's genes, in their order; shape (n_cells, n_genes).
    totals
        Total count of each cell.
    codes
        Phenotype codes; shape (n_cells, n_phenotypes).
    layout
        Token ids and positions.
    rng
        Random generator for masking; without it only the phenotypes are hidden, as in prediction.
    """
    n, first, p = counts.shape[0], layout.first_gene_position, layout.n_phenotypes
    bins = digitize(normalize(counts.toarray(), totals[:, None]), original_edges(layout.n_bins))
    tokens = np.empty((n, layout.length), dtype=np.int64)
    tokens[:, [*range(first), -1]] = layout.special_tokens
    tokens[:, 1 : 1 + p] = layout.encode_phenotypes(codes)
    tokens[:, first:-1] = layout.first_bin_id + bins
    visible = (tokens != layout.first_bin_id).astype(np.int64)  # computed before masking, as in the original
    hidden = np.zeros(tokens.shape, dtype=bool)
    hidden[:, 1 : 1 + p] = True if rng is None else rng.random((n, p)) < 0.5
    if rng is not None:
        hidden[:, first:-1] = rng.random((n, layout.n_genes)) < 0.15
    labels = np.where(hidden, tokens, _IGNORED)
    tokens[hidden] = MASK
    arrays = {"input_ids": tokens, "attention_mask": visible, "labels": labels}
    return {name: torch.from_numpy(a) for name, a in arrays.items()}


def make_step(layout: TokenLayout, config: TransformerConfig, train: bool) -> Callable[[Batch], None]:
    """Create a training step with AdamW, or a forward pass, of the network with the original's dropout and loss."""
    network = BertForMaskedLM(
        BertConfig(
            vocab_size=layout.n_tokens,
            hidden_size=config.n_hidden,
            num_hidden_layers=config.n_layers,
            num_attention_heads=config.n_heads,
            intermediate_size=config.n_intermediate,
            max_position_embeddings=layout.length,
            layer_norm_eps=config.layer_norm_eps,
            hidden_dropout_prob=0.1,
            attention_probs_dropout_prob=0.1,
        )
    )
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True) if train else None
    network.train(train)

    def training_step(batch: Batch) -> None:
        logits = network(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        loss = F.cross_entropy(
            logits.flatten(0, 1), batch["labels"].flatten(), ignore_index=_IGNORED, label_smoothing=0.5
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    @torch.inference_mode()
    def forward_pass(batch: Batch) -> None:
        network(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])

    return training_step if train else forward_pass
