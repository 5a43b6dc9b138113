"""The in-context network: encode a data set once, then evaluate velocities against its memory."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from icl_bayes.nets.config import ModelConfig, ModelShape
from icl_bayes.nets.decoder import DecoderBlock, Head
from icl_bayes.nets.encoders import ENCODER_TYPES
from icl_bayes.nets.layers import TimeEmbedding

Array = jax.Array
SCORE_SQUASH = 3.0
"""Residual scores enter as ``r / sqrt(1 + (r / SCORE_SQUASH)^2)``: linear where they matter, bounded elsewhere."""


class Memory(NamedTuple):
    """What the decoder needs of a data set, computed once.

    Attributes:
        keys_values: per decoder block, keys and values ``(heads, m, d)``.
        mask: ``(m,)`` boolean, memory tokens that exist.
        condition: ``(width,)``, pooled memory (zeros without ``pooled_context``).
        shift: ``(dim,)`` and
        scale: ``(dim, dim)``, lower triangular: the Gaussian base's head (standard otherwise).
    """

    keys_values: tuple[tuple[Array, Array], ...]
    mask: Array
    condition: Array
    shift: Array
    scale: Array


def squash(residual_score: Array) -> Array:
    """Bounded residual score, of the same shape.

    Where the log joint overflows there is no direction to report: zero, by definition of the input.
    """
    bounded = jnp.clip(residual_score, -1e6, 1e6)
    bounded = jnp.where(jnp.isfinite(residual_score), bounded, 0.0)
    return bounded / jnp.sqrt(1.0 + (bounded / SCORE_SQUASH) ** 2)


class InContextFlow(nnx.Module):
    """Encoder and velocity decoder; sees one data set and one draw at a time (vmap adds axes)."""

    def __init__(self, config: ModelConfig, shape: ModelShape, *, rngs: nnx.Rngs) -> None:
        self.config, self.shape = config, shape
        dtype = jnp.dtype(config.compute_dtype)
        width = config.width
        self.encoder = ENCODER_TYPES[config.encoder](config, shape, dtype=dtype, rngs=rngs)
        self.num_tokens = 1 if config.layout == "single" else shape.dim
        per_token = shape.dim // self.num_tokens
        sees_score = config.inputs == "theta_and_score"
        self.embed_theta = nnx.Linear(per_token * (2 if sees_score else 1), width, dtype=dtype, rngs=rngs)
        if self.num_tokens > 1:
            self.token_type = nnx.Param(0.5 * jax.random.normal(rngs.params(), (self.num_tokens, width)))
        self.time = TimeEmbedding(width, config.time_features, dtype=dtype, rngs=rngs)
        if config.pooled_context:
            self.pool = nnx.Linear(width, width, dtype=dtype, rngs=rngs)
            self.pool_context = nnx.Linear(shape.context_features, width, dtype=dtype, rngs=rngs)
        self.blocks = nnx.List(
            [DecoderBlock(config, self.num_tokens, dtype=dtype, rngs=rngs) for _ in range(config.decoder_blocks)]
        )
        self.head = Head(config, per_token * (2 if sees_score else 1), dtype=dtype, rngs=rngs)
        if config.base == "gaussian":
            self.base_hidden = nnx.Linear(width, 2 * width, rngs=rngs)
            zeros = nnx.initializers.zeros_init()
            outputs = shape.dim + shape.dim * (shape.dim + 1) // 2
            self.base_out = nnx.Linear(2 * width, outputs, kernel_init=zeros, rngs=rngs)

    def encode(self, rows: Array, context: Array, row_mask: Array) -> Memory:
        """Memory of one data set.

        Args:
            rows: ``(n, row_features)``.
            context: ``(context_features,)``.
            row_mask: ``(n,)``; masked rows do not influence the result.
        """
        tokens, mask = self.encoder(rows, context, row_mask)
        keys_values = tuple(block.memory_key_value(tokens) for block in self.blocks)
        weights = mask[:, None] / jnp.sum(mask)
        pooled = jnp.sum(tokens * weights, axis=0)
        condition = jnp.zeros(self.config.width, tokens.dtype)
        if self.config.pooled_context:
            condition = self.pool(pooled) + self.pool_context(context)
        shift, scale = jnp.zeros(self.shape.dim), jnp.eye(self.shape.dim)
        if self.config.base == "gaussian":
            shift, scale = self._gaussian_base(pooled.astype(jnp.float32))
        return Memory(keys_values, mask, condition, shift, scale)

    def _gaussian_base(self, pooled: Array) -> tuple[Array, Array]:
        """Mean ``(dim,)`` and Cholesky factor ``(dim, dim)`` of the predicted Gaussian."""
        dim = self.shape.dim
        out = self.base_out(nnx.silu(self.base_hidden(pooled)))
        shift, diagonal, lower = jnp.split(out, [dim, 2 * dim])
        factor = jnp.zeros((dim, dim)).at[jnp.tril_indices(dim, -1)].set(lower)
        # Scales are exponentials about exp(-1): posterior sds are a fraction of the prior's.
        return shift, factor + jnp.diag(jnp.exp(jnp.clip(diagonal - 1.0, -9.0, 2.0)))

    def output(self, t: Array, x: Array, memory: Memory, residual_score: Array | None = None) -> Array:
        """Raw network output for one draw, ``(dim,)``: a velocity or a residual score.

        Args:
            t: ``()`` time.
            x: ``(dim,)`` in base coordinates.
            memory: of the data set.
            residual_score: ``(dim,)`` at the denoised point (``theta_and_score`` only).
        """
        tokens = x.reshape(self.num_tokens, -1)
        squashed = None
        if residual_score is not None:
            squashed = squash(residual_score).reshape(self.num_tokens, -1)
            tokens = jnp.concatenate([tokens, squashed], axis=-1)
        tokens = self.embed_theta(tokens)
        if self.num_tokens > 1:
            tokens = tokens + self.token_type[...].astype(tokens.dtype)
        condition = self.time(t) + memory.condition
        for block, keys_values in zip(self.blocks, memory.keys_values, strict=True):
            tokens = block(tokens, keys_values, memory.mask, condition)
        out = self.head(tokens, condition).astype(jnp.float32)
        if squashed is None:
            return out.reshape(-1)
        # The score itself is the first-order answer; the network corrects and gates it.
        correction, gate = jnp.split(out, 2, axis=-1)
        return (correction + (1.0 + gate) * squashed).reshape(-1)


def count_parameters(model: nnx.Module) -> int:
    """Number of trainable scalars."""
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
