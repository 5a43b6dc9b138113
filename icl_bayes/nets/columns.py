"""A network for models of any number of coefficients: one token per coordinate of theta, all treated alike.

No weight knows how many coordinates there are, and none which is which but by what the task says of it (its prior, its
part in the rows): permuted columns give permuted velocities, and one network serves tables of any width.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from icl_bayes.nets.config import ModelConfig
from icl_bayes.nets.decoder import Head
from icl_bayes.nets.encoders import SetBlock
from icl_bayes.nets.layers import (
    Attend,
    KeyValue,
    Modulation,
    TimeEmbedding,
    feedforward_of,
    normalized,
)
from icl_bayes.types import AnyArray

Array = jax.Array
_MIN_COUNT = 1e-6


class ColumnMemory(NamedTuple):
    """What the decoder needs of a data set, computed once.

    Attributes:
        tokens: ``(dim, width)``.
        exists: ``(dim,)`` boolean; coordinates that don't are standard normal and left alone.
        condition: ``(width,)``, pooled tokens.
    """

    tokens: Array
    exists: Array
    condition: Array


class ColumnEncoder(nnx.Module):
    """Cells of a row and a coordinate, pooled over rows; then attention among coordinates. Cost is linear in n."""

    def __init__(self, config: ModelConfig, cells: int, context: int, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> None:
        width = config.width
        self.embed_cell = nnx.Linear(cells, width, dtype=dtype, rngs=rngs)
        self.embed_context = nnx.Linear(context, width, dtype=dtype, rngs=rngs)
        self.mix_cell = nnx.Linear(width, width, dtype=dtype, rngs=rngs)
        self.join = nnx.Linear(2 * width + 1, width, dtype=dtype, rngs=rngs)
        self.blocks = nnx.List([SetBlock(config, dtype=dtype, rngs=rngs) for _ in range(config.encoder_layers)])
        self.norm = nnx.LayerNorm(width, dtype=dtype, rngs=rngs)

    def __call__(self, cells: Array, shares: Array, context: Array, row_mask: AnyArray) -> tuple[Array, Array]:
        """Tokens ``(dim, width)`` and which of them exist, the first number of their context.

        Args:
            cells: ``(n, dim, c)``.
            shares: ``(n, dim)``, weights of rows, beside equal ones.
            context: ``(dim, k)``.
            row_mask: ``(n,)``.
        """
        exists = context[:, 0] > 0.5
        own = self.embed_context(context)
        hidden = nnx.silu(self.mix_cell(nnx.silu(self.embed_cell(cells) + own[None])))
        equal = jnp.where(row_mask, 1.0 / jnp.maximum(jnp.sum(row_mask), 1), 0.0)
        total = jnp.sum(shares, axis=0)
        by_share = jnp.einsum("nd,ndw->dw", shares, hidden) / jnp.sqrt(total + _MIN_COUNT)[:, None]
        pooled = jnp.concatenate([jnp.einsum("n,ndw->dw", equal, hidden), by_share, total[:, None]], axis=1)
        tokens = self.join(pooled) + own
        for block in self.blocks:
            tokens = block(tokens, mask=exists)
        return self.norm(tokens), exists


class ColumnBlock(nnx.Module):
    """Self-attention among coordinates and a feed-forward part, both modulated by time and data set."""

    def __init__(self, config: ModelConfig, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> None:
        width = config.width
        self.modulation = Modulation(width, width, 6, dtype=dtype, rngs=rngs)
        self.key_value = KeyValue(width, config.heads, dtype=dtype, rngs=rngs)
        self.attend = Attend(width, config.heads, dtype=dtype, rngs=rngs)
        self.feedforward = feedforward_of(config, dtype=dtype, rngs=rngs)

    def __call__(self, tokens: Array, exists: Array, condition: Array) -> Array:
        shift, scale, gate, *pieces = self.modulation(condition)
        normed = normalized(tokens) * (1.0 + scale) + shift
        tokens = tokens + (1.0 + gate) * self.attend(normed, *self.key_value(normed), exists)
        shift, scale, gate = pieces
        normed = normalized(tokens) * (1.0 + scale) + shift
        return tokens + (1.0 + gate) * self.feedforward(normed)


class ColumnFlow(nnx.Module):
    """Encoder and decoder; sees one data set and one draw at a time (vmap adds axes)."""

    def __init__(self, config: ModelConfig, cells: int, context: int, *, rngs: nnx.Rngs) -> None:
        self.config = config
        dtype, width, kinds = jnp.dtype(config.compute_dtype), config.width, 1 + config.score_kinds
        self.encoder = ColumnEncoder(config, cells, context, dtype=dtype, rngs=rngs)
        self.embed = nnx.Linear(kinds, width, dtype=dtype, rngs=rngs)
        self.time = TimeEmbedding(width, config.time_features, dtype=dtype, rngs=rngs)
        self.pool = nnx.Linear(width, width, dtype=dtype, rngs=rngs)
        self.blocks = nnx.List([ColumnBlock(config, dtype=dtype, rngs=rngs) for _ in range(config.decoder_blocks)])
        self.head = Head(config, kinds, dtype=dtype, rngs=rngs)

    def encode(
        self, cells: Array, shares: Array, context: Array, row_mask: AnyArray, *, for_many_draws: bool = False
    ) -> ColumnMemory:
        """Memory of one data set; arguments as those of :class:`ColumnEncoder`."""
        del for_many_draws
        tokens, exists = self.encoder(cells, shares, context, row_mask)
        pooled = jnp.sum(jnp.where(exists[:, None], tokens, 0.0), axis=0) / jnp.maximum(jnp.sum(exists), 1)
        return ColumnMemory(tokens, exists, self.pool(pooled))

    def output(self, t: Array, x: Array, memory: ColumnMemory, scores: Array) -> Array:
        """Residual score of one draw, ``(dim,)``; zero at initialization, so that the flow is its base.

        Args:
            t: ``()`` time.
            x: ``(dim,)`` in base coordinates.
            scores: ``(score_kinds, dim)``, bounded.
        """
        inputs = jnp.concatenate([x[None], scores]).T
        tokens = self.embed(inputs) + memory.tokens
        condition = self.time(t) + memory.condition
        for block in self.blocks:
            tokens = block(tokens, memory.exists, condition)
        out = self.head(tokens, condition).astype(x.dtype)
        found = out[:, 0] + jnp.sum(out[:, 1:] * scores.T, axis=1)
        return jnp.where(memory.exists, found, 0.0)
