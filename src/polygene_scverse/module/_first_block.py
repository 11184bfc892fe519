"""Lookup table for the part of the first block that is computed for each token alone.

Before the attention of the first block, the state of a token depends only on its id and its position. The table has a
row for each pair of a gene and a bin, tens of thousands in total, instead of millions of tokens in a data set.

Shapes: B cells, T tokens, K keys (the first K of the T tokens), A attention heads, D = n_hidden / A, R rows.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional as F

from polygene_scverse._layout import CLS, END, MASK, PAD, START, TokenLayout

CACHED: Final = 2**17
"""Attention scores computed at a time, so that they stay in the cache."""
LARGEST_SCORE: Final = 80.0
"""Scores up to this value have exponentials, and sums of thousands of these, that fit in single precision."""
MAX_NUMBERS: Final = 2**26
"""Maximum number of values in a table: a quarter of a gigabyte."""
USES: Final = 32
"""Approximate tokens per cell; a table is built if there are enough cells that each row is used once on average."""


class FirstBlock:
    """Table of embeddings, queries, keys and values of all tokens in the first block; on a CPU, without gradients.

    Parameters
    ----------
    encoder
        The encoder; its weights must not change while the table is used.
    layout
        Token ids and positions.
    """

    @torch.no_grad()
    def __init__(self, encoder: Any, layout: TokenLayout) -> None:
        tokens, positions = _pairs(layout)
        attention = encoder.blocks[0].attention
        heads, width = attention.n_heads, encoder.embeddings.word.embedding_dim
        self.n_heads, self.depth, self.n_words = heads, width // heads, layout.n_tokens
        self.states = encoder.embeddings(tokens[None], positions[None])[0]  # (R, H)
        parts = _of_heads(attention, width)  # (A, 3 * D + 16, H) and (A, 3 * D + 16)
        table = self.states.new_empty(heads, len(tokens), parts[1].shape[1])
        for weight, bias, of_head in zip(*parts, table, strict=True):
            torch.addmm(bias, self.states, weight.T, out=of_head)
        query, key = (table[..., i * self.depth : (i + 1) * self.depth].norm(dim=2).amax(1) for i in range(2))
        self.is_safe = bool((query * key < LARGEST_SCORE).all())  # the products are bounds of the scores of each head
        table[:, 0, 2 * self.depth :] = 0.0  # padding is not attended to
        self.table = table.flatten(0, 1)  # (A * R, 3 * D + 16)
        self.starts = torch.arange(heads)[:, None, None] * len(tokens)
        self.rows_of = torch.full((layout.length * layout.n_tokens,), -1, dtype=torch.long)
        self.rows_of[positions * layout.n_tokens + tokens] = torch.arange(len(tokens))

    def rows(self, tokens: Tensor, positions: Tensor, key_mask: Tensor) -> Tensor | None:
        """Row of each token, shape (B, T); None if the table cannot be used.

        It cannot be used if a token is at a position where it never occurs, if `key_mask` differs from the padding, or
        if the scores are too large.
        """
        if not self.is_safe or not tokens.numel():
            return None
        if not torch.equal(tokens[:, : key_mask.shape[1]] != PAD, key_mask):
            return None
        rows = F.embedding(positions * self.n_words + tokens, self.rows_of[:, None]).squeeze(-1)
        return None if int(rows.min()) < 0 else rows

    def attend(self, rows: Tensor, n_keys: int) -> tuple[Tensor, Tensor]:
        """Embeddings of all tokens, and their attention output over the first `n_keys` tokens; shape (B, T, H) each."""
        n, t = rows.shape
        of_heads = F.embedding(rows + self.starts, self.table).flatten(0, 1)  # (A * B, T, 3 * D + 16)
        d = self.depth
        query, key, value = of_heads[..., :d], of_heads[:, :n_keys, d : 2 * d], of_heads[:, :n_keys, 2 * d : 3 * d + 1]
        sums = attend(query, key, value).view(self.n_heads, n, t, d + 1)
        found = rows.new_empty((n, t, self.n_heads, d), dtype=sums.dtype)
        torch.div(sums[..., :d], sums[..., d:], out=found.permute(2, 0, 1, 3))
        return F.embedding(rows, self.states), found.flatten(2)


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Sums of values weighted by exponentials of the scores, computed in chunks.

    Parameters
    ----------
    query, key, value
        Shapes (n, Q, D), (n, K, D) and (n, K, V).

    Returns
    -------
    Shape (n, Q, V).
    """
    n, n_queries, n_keys = *query.shape[:2], key.shape[1]
    key = key.transpose(1, 2)
    some = max(1, CACHED // max(1, n_queries * n_keys))
    step = n_queries if some > 1 else max(1, min(n_queries, CACHED // max(1, n_keys)))
    scores = query.new_empty(min(some, n) * step * n_keys)
    sums = query.new_empty(n, n_queries, value.shape[2])
    for i in range(0, n, some):
        for j in range(0, n_queries, step):
            part = query[i : i + some, j : j + step]
            shape = (*part.shape[:2], n_keys)
            of_part = scores[: shape[0] * shape[1] * n_keys].view(shape)
            torch.bmm(part, key[i : i + some], out=of_part).exp_()
            torch.bmm(of_part, value[i : i + some], out=sums[i : i + some, j : j + step])
    return sums


def _of_heads(attention: Any, n_hidden: int) -> tuple[Tensor, Tensor]:
    """Weights and bias of each head for a row of the table: scaled query, key, value, ones, and zeros to fill up.

    The weighted sum of the ones is the denominator of the softmax.
    """
    heads, depth = attention.n_heads, n_hidden // attention.n_heads
    width = 3 * depth + 1
    width += -width % 16
    weight = attention.query.weight.new_zeros(heads, width, n_hidden)
    bias = weight.new_zeros(heads, width)
    for i, part in enumerate((attention.query, attention.key, attention.value)):
        columns, scale = slice(i * depth, (i + 1) * depth), depth**-0.5 if i == 0 else 1.0
        weight[:, columns] = part.weight.view(heads, depth, n_hidden) * scale
        bias[:, columns] = part.bias.view(heads, depth) * scale
    bias[:, 3 * depth] = 1.0
    return weight, bias


def worth(layout: TokenLayout, n_hidden: int, n_cells: int) -> bool:
    """Whether a table is used often enough to pay off, and fits in memory."""
    n_rows = layout.n_genes * (layout.n_bins + 1)
    return n_rows <= n_cells * USES and n_rows * (4 * n_hidden + 16) <= MAX_NUMBERS


def _pairs(layout: TokenLayout) -> tuple[Tensor, Tensor]:
    """Ids and positions of all tokens that can occur, padding first; shape (R,) each."""
    first, last = layout.first_gene_position, layout.length - 1
    pairs = [(PAD, 0), (CLS, 0), (START, first - 1), (END, last)]
    for i, slot in enumerate(layout.phenotypes):
        pairs += [(word, 1 + i) for word in dict.fromkeys((MASK, slot.no_value_id, *slot.ids))]
    words = torch.tensor([MASK, *range(layout.first_bin_id, layout.first_bin_id + layout.n_bins)])
    genes = torch.arange(first, last)
    special = torch.tensor(pairs).T
    tokens = torch.cat([special[0], words.repeat(len(genes))])
    return tokens, torch.cat([special[1], genes.repeat_interleave(len(words))])
