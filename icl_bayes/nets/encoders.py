"""Data set encoders: rows in, memory tokens out. Memory depends on neither time nor theta.

Without positional encodings, so that the order of the rows cannot matter.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from icl_bayes.nets.config import ModelConfig, ModelShape
from icl_bayes.nets.layers import Attend, FeedForward, KeyValue
from icl_bayes.types import AnyArray

Array = jax.Array


class SetBlock(nnx.Module):
    """Pre-norm transformer block; queries may differ from the tokens attended to."""

    def __init__(self, config: ModelConfig, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> None:
        self.norm_attention = nnx.LayerNorm(config.width, dtype=dtype, rngs=rngs)
        self.key_value = KeyValue(config.width, config.heads, dtype=dtype, rngs=rngs)
        self.attend = Attend(config.width, config.heads, dtype=dtype, rngs=rngs)
        self.norm_feedforward = nnx.LayerNorm(config.width, dtype=dtype, rngs=rngs)
        self.feedforward = FeedForward(config.width, config.feedforward, dropout=config.dropout, dtype=dtype, rngs=rngs)
        self.dropout = nnx.Dropout(config.dropout, rngs=rngs)

    def __call__(self, tokens: Array, source: Array | None = None, mask: AnyArray | None = None) -> Array:
        """``(T, width)``; attends to ``source`` ``(N, width)`` with mask ``(N,)``, default itself."""
        normed = self.norm_attention(tokens)
        keys, values = self.key_value(normed if source is None else source)
        tokens = tokens + self.dropout(self.attend(normed, keys, values, mask))
        return tokens + self.dropout(self.feedforward(self.norm_feedforward(tokens)))


class RowTransformer(nnx.Module):
    """Self-attention over rows: one memory token per row (the paper's encoder)."""

    def __init__(self, config: ModelConfig, shape: ModelShape, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> None:
        self.embed_row = nnx.Linear(shape.row_features, config.width, dtype=dtype, rngs=rngs)
        self.embed_context = nnx.Linear(shape.context_features, config.width, dtype=dtype, rngs=rngs)
        self.blocks = nnx.List([SetBlock(config, dtype=dtype, rngs=rngs) for _ in range(config.encoder_layers)])
        self.norm = nnx.LayerNorm(config.width, dtype=dtype, rngs=rngs)

    def __call__(self, rows: Array, context: Array, row_mask: AnyArray) -> tuple[Array, AnyArray]:
        tokens = self.embed_row(rows) + self.embed_context(context)[None, :]
        for block in self.blocks:
            tokens = block(tokens, mask=row_mask)
        return self.norm(tokens), row_mask


class InducingEncoder(nnx.Module):
    """Latent tokens read the rows by cross-attention, then attend to each other.

    Cost is linear in n, and the memory has a fixed size (Lee et al., 2019; Jaegle et al., 2021).
    """

    def __init__(self, config: ModelConfig, shape: ModelShape, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> None:
        self.embed_row = nnx.Linear(shape.row_features, config.width, dtype=dtype, rngs=rngs)
        self.embed_context = nnx.Linear(shape.context_features, config.width, dtype=dtype, rngs=rngs)
        self.refine_row = FeedForward(config.width, config.feedforward, dropout=config.dropout, dtype=dtype, rngs=rngs)
        self.norm_row = nnx.LayerNorm(config.width, dtype=dtype, rngs=rngs)
        initial = 0.5 * jax.random.normal(rngs.params(), (config.inducing_points, config.width))
        self.latents = nnx.Param(initial)
        self.read = nnx.List([SetBlock(config, dtype=dtype, rngs=rngs) for _ in range(config.encoder_layers)])
        self.mix = nnx.List([SetBlock(config, dtype=dtype, rngs=rngs) for _ in range(config.encoder_layers)])
        self.norm = nnx.LayerNorm(config.width, dtype=dtype, rngs=rngs)

    def __call__(self, rows: Array, context: Array, row_mask: AnyArray) -> tuple[Array, AnyArray]:
        embedded = self.embed_row(rows)
        embedded = self.norm_row(embedded + self.refine_row(embedded))
        tokens = self.latents[...] + self.embed_context(context)[None, :]
        for read, mix in zip(self.read, self.mix, strict=True):
            tokens = mix(read(tokens, embedded, row_mask))
        return self.norm(tokens), jnp.ones(tokens.shape[0], bool)


class FlatEncoder(nnx.Module):
    """MLP of the flattened, zero-padded rows: the paper's ablation (appendix M)."""

    def __init__(self, config: ModelConfig, shape: ModelShape, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> None:
        self.num_rows = config.mlp_rows
        inputs = config.mlp_rows * (shape.row_features + 1) + shape.context_features
        self.embed = nnx.Linear(inputs, config.width, dtype=dtype, rngs=rngs)
        self.layers = nnx.List(
            [
                FeedForward(config.width, config.feedforward, dropout=config.dropout, dtype=dtype, rngs=rngs)
                for _ in range(config.encoder_layers)
            ]
        )
        self.norm = nnx.LayerNorm(config.width, dtype=dtype, rngs=rngs)

    def __call__(self, rows: Array, context: Array, row_mask: AnyArray) -> tuple[Array, AnyArray]:
        missing = self.num_rows - rows.shape[0]
        if missing < 0:
            raise ValueError(
                f"The MLP encoder was built for {self.num_rows} rows; received {rows.shape[0]}. "
                "Use encoder=transformer or encoder=inducing for data sets of varying size."
            )
        marked = jnp.concatenate([rows, row_mask[:, None].astype(rows.dtype)], axis=1)
        marked = jnp.where(row_mask[:, None], marked, 0.0)
        flat = jnp.pad(marked, ((0, missing), (0, 0))).reshape(-1)
        token = self.embed(jnp.concatenate([flat, context]))
        for layer in self.layers:
            token = token + layer(self.norm(token))
        return self.norm(token)[None, :], jnp.ones(1, bool)


ENCODER_TYPES = {"transformer": RowTransformer, "inducing": InducingEncoder, "mlp": FlatEncoder}
