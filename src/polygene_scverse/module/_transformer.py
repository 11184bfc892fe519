"""The masked transformer: a post-LN BERT encoder that leaves out tokens that cannot affect the result.

Shapes: B cells, T tokens, K keys (the first K of the T tokens), Q queries, H = n_hidden, A attention heads.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from numbers import Integral, Real
from typing import Any, Final, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from polygene_scverse._layout import TokenLayout
from polygene_scverse.module._first_block import FirstBlock, worth

CACHED: Final = 2**20
"""Number of intermediate values of the feed-forward layers computed at a time on a CPU."""


@dataclass(frozen=True)
class TransformerConfig:
    """Configuration of the network.

    Parameters
    ----------
    n_hidden
        Number of hidden units per token.
    n_layers
        Number of blocks.
    n_heads
        Number of attention heads per block.
    n_intermediate
        Number of hidden units in the feed-forward layers.
    dropout
        Dropout rate of embeddings and residuals; there is no attention dropout.
    layer_norm_eps
        Constant added to the variance in layer normalisation.
    init_std
        Standard deviation of the initial weights.
    """

    n_hidden: int = 64
    n_layers: int = 2
    n_heads: int = 2
    n_intermediate: int = 128
    dropout: float = 0.1
    layer_norm_eps: float = 1e-12
    init_std: float = 0.02

    def __post_init__(self) -> None:
        for name, least in (("n_hidden", 1), ("n_layers", 0), ("n_heads", 1), ("n_intermediate", 1)):
            if not (isinstance(value := getattr(self, name), Integral) and int(value) >= least):
                raise ValueError(f"`{name}`: found {value!r}, but it must be at least {least}. Pass a whole number.")
        if not (isinstance(self.dropout, Real) and 0 <= self.dropout <= 1):
            raise ValueError(
                f"`dropout`: found {self.dropout!r}, but it must be a fraction. Pass a number from 0 to 1."
            )
        if self.n_hidden % self.n_heads:
            raise ValueError(
                f"`n_heads`: {self.n_heads} does not divide n_hidden={self.n_hidden}. Pass a divisor of it."
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the values as a plain dict."""
        return asdict(self)


PRESETS: Final[dict[str, TransformerConfig]] = {
    "tiny": TransformerConfig(),
    "512": TransformerConfig(n_hidden=768, n_layers=12, n_heads=12, n_intermediate=3072, dropout=0.1),
    "2432": TransformerConfig(n_hidden=768, n_layers=12, n_heads=12, n_intermediate=3072, dropout=0.1),
}
"""Named sizes; "512" and "2432" are those of the two published models, which differ in the number of genes."""


def resolve_config(size: str, **changes: Any) -> TransformerConfig:
    """Return the configuration of a named size with some values changed.

    Raises
    ------
    ValueError
        If the size is unknown.
    """
    if size not in PRESETS:
        raise ValueError(f"`size`: found {size!r}, but it must be one of {list(PRESETS)}. Pass one of them.")
    known = [field.name for field in fields(TransformerConfig)]
    if unknown := [name for name in changes if name not in known]:
        raise TypeError(f"`{unknown[0]}`: unknown argument. There are {known}. Leave it out.")
    return replace(PRESETS[size], **changes)


class Dropout(nn.Dropout):
    """Dropout that draws four random numbers at a time on a CPU, in a third of the time.

    The probability is rounded to 16 bits, and kept values are scaled by exactly its inverse.
    """

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Apply dropout to `x` and add `residual` if it is given; same shape."""
        dropped = round(self.p * 2**16)
        if not self.training or x.device.type != "cpu" or not 0 < dropped < 2**16:
            x = super().forward(x)
            return x if residual is None else residual + x
        words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        numbers = words.view(torch.int16)[: x.numel()].view(x.shape)
        kept = torch.ge(numbers, dropped - 2**15, out=torch.empty_like(x))  # a boolean result would take twice as long
        factors = kept.mul_(2**16 / (2**16 - dropped))
        return x * factors if residual is None else torch.addcmul(residual, x, factors)


class Embeddings(nn.Module):
    """Sum of word and position embeddings, followed by layer normalisation."""

    def __init__(self, n_tokens: int, n_positions: int, config: TransformerConfig) -> None:
        super().__init__()
        self.word = nn.Embedding(n_tokens, config.n_hidden)
        self.position = nn.Embedding(n_positions, config.n_hidden)
        self.norm = nn.LayerNorm(config.n_hidden, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.dropout)

    def forward(self, tokens: Tensor, positions: Tensor) -> Tensor:
        return self.dropout(self.norm(self.word(tokens) + self.position(positions)))  # (B, T, H)


class Attention(nn.Module):
    """Multi-head attention of queries to keys; the output projection `out` is applied in `Block`."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.n_heads = config.n_heads
        self.query = nn.Linear(config.n_hidden, config.n_hidden)
        self.key = nn.Linear(config.n_hidden, config.n_hidden)
        self.value = nn.Linear(config.n_hidden, config.n_hidden)
        self.out = nn.Linear(config.n_hidden, config.n_hidden)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)  # (B, A, T, H / A)

    def forward(self, queries: Tensor, keys: Tensor, mask: Tensor | None) -> Tensor:
        if not torch.is_grad_enabled() and queries.shape[1] * (self.n_heads - 1) < queries.shape[2]:
            return self._of_few(queries, keys, mask)
        q, k, v = self._split(self.query(queries)), self._split(self.key(keys)), self._split(self.value(keys))
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)  # (B, A, Q, H / A)
        return x.transpose(1, 2).flatten(2)  # (B, Q, H)

    def _of_few(self, queries: Tensor, keys: Tensor, mask: Tensor | None) -> Tensor:
        """Equivalent computation for few queries: project these and the result, not the many keys and values."""
        (n, q, h), a = queries.shape, self.n_heads
        of_keys, of_values = (part.weight.view(a, -1, h) for part in (self.key, self.value))  # (A, H / A, H)
        query = self.query(queries).view(n * q, a, -1).transpose(0, 1) * (h // a) ** -0.5  # (A, B * Q, H / A)
        query = (query @ of_keys).view(a, n, q, h).transpose(0, 1)  # the bias of the keys cancels in the softmax
        scores = query.flatten(1, 2) @ keys.transpose(1, 2)  # (B, A * Q, K)
        if mask is not None:
            scores.masked_fill_(~mask[:, 0], -torch.inf)
        found = (scores.softmax(-1) @ keys).view(n, a, q, h).transpose(0, 1).flatten(1, 2)  # (A, B * Q, H)
        found = (found @ of_values.transpose(1, 2)).transpose(0, 1)  # (B * Q, A, H / A)
        return found.reshape(n, q, h) + self.value.bias


class Block(nn.Module):
    """Attention and feed-forward layers, each followed by residual and layer normalisation (post-LN)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.attention = Attention(config)
        self.norm1 = nn.LayerNorm(config.n_hidden, eps=config.layer_norm_eps)
        self.up = nn.Linear(config.n_hidden, config.n_intermediate)
        self.down = nn.Linear(config.n_intermediate, config.n_hidden)
        self.norm2 = nn.LayerNorm(config.n_hidden, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, keys: Tensor, mask: Tensor | None) -> Tensor:
        return self.after_attention(self.attention(x, keys, mask), x)

    def after_attention(self, attended: Tensor, x: Tensor) -> Tensor:
        """Apply the output projection, residuals, normalisation and feed-forward layers; shape (B, Q, H)."""
        x = self.norm1(self.dropout(self.attention.out(attended), x))  # (B, Q, H)
        return self.norm2(self.dropout(self._feed_forward(x), x))  # (B, Q, H)

    def _feed_forward(self, x: Tensor) -> Tensor:
        """Feed-forward layers; on a CPU in chunks of cells, so that intermediate values stay in the cache."""
        n_cells = max(1, CACHED // max(1, x.shape[1] * self.up.out_features))
        parts = x.split(n_cells) if x.device.type == "cpu" and 0 < n_cells < len(x) else [x]
        outputs = [self.down(F.gelu(self.up(part))) for part in parts]  # (n_cells, Q, H) each
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)  # (B, Q, H)


class Encoder(nn.Module):
    """Embeddings and blocks.

    Parameters
    ----------
    n_tokens
        Size of the vocabulary.
    n_positions
        Number of slots.
    config
        Configuration of the network.
    """

    def __init__(self, n_tokens: int, n_positions: int, config: TransformerConfig) -> None:
        super().__init__()
        self.embeddings = Embeddings(n_tokens, n_positions, config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.first: FirstBlock | None = None

    @contextmanager
    def tabulated(self, layout: TokenLayout, n_cells: int) -> Iterator[None]:
        """Use a lookup table for the first block if there are enough cells; weights must not change meanwhile."""
        before, self.first = self.first, None
        width = self.embeddings.word.embedding_dim
        if self.embeddings.word.weight.device.type == "cpu" and len(self.blocks) > 1 and worth(layout, width, n_cells):
            self.first = FirstBlock(self, layout)
        try:
            yield
        finally:
            self.first = before

    def forward(self, tokens: Tensor, positions: Tensor, key_mask: Tensor, asked: Tensor | None = None) -> Tensor:
        """Hidden states after the last block.

        Parameters
        ----------
        tokens, positions
            Token id and position of each token; shape (B, T).
        key_mask
            Which of the first K tokens are attended to; later tokens never are. Shape (B, K).
        asked
            Columns whose states are returned, shape (Q,); the last block computes only these. Default: all.
        """
        n_keys = key_mask.shape[1]
        mask = None if bool(key_mask.all()) else key_mask[:, None, None, :]  # (B, 1, 1, K)
        rows = None if self.first is None else self.first.rows(tokens, positions, key_mask)
        if self.first is None or rows is None:
            x, n_done = self.embeddings(tokens, positions), 0  # (B, T, H)
        else:
            (x, attended), n_done = self.first.attend(rows, n_keys), 1
            x = cast(Block, self.blocks[0]).after_attention(attended, x)  # (B, T, H)
        keys = x[:, :n_keys]  # (B, K, H)
        for block in self.blocks[n_done:-1]:
            x = block(x, keys, mask)  # (B, T, H)
            keys = x[:, :n_keys]
        if asked is not None:
            x = x.index_select(1, asked)  # (B, Q, H)
        for block in self.blocks[-1:]:
            x = block(x, keys, mask)  # (B, Q, H)
        return x


class Head(nn.Module):
    """BERT's masked-language-model head for a subset of the vocabulary, tied to the word embeddings."""

    def __init__(self, n_tokens: int, config: TransformerConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.n_hidden, config.n_hidden)
        self.norm = nn.LayerNorm(config.n_hidden, eps=config.layer_norm_eps)
        self.bias = nn.Parameter(torch.zeros(n_tokens))

    def transform(self, x: Tensor) -> Tensor:
        return self.norm(F.gelu(self.dense(x)))  # (..., H)

    def forward(self, transformed: Tensor, word: Tensor, ids: Tensor | slice) -> Tensor:
        return F.linear(transformed, word[ids], self.bias[ids])  # (..., len(ids))


def init_weights(module: nn.Module, std: float, generator: torch.Generator) -> None:
    """BERT's initialisation: normal weights, zero biases, unit layer normalisation."""
    for child in module.modules():
        if isinstance(child, (nn.Linear, nn.Embedding)):
            nn.init.normal_(child.weight, std=std, generator=generator)
        if isinstance(child, nn.Linear):
            nn.init.zeros_(child.bias)
