"""The in-context network: encode a data set once, then evaluate velocities against its memory."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from icl_bayes.nets.config import ModelConfig, ModelShape
from icl_bayes.nets.decoder import BlockMemory, DecoderBlock, Head
from icl_bayes.nets.encoders import ENCODER_TYPES
from icl_bayes.nets.gaussian_head import GaussianHead
from icl_bayes.nets.layers import TimeEmbedding
from icl_bayes.types import AnyArray

Array = jax.Array
SCORE_SQUASH = 3.0
"""Residual scores enter as ``r / sqrt(1 + (r / SCORE_SQUASH)^2)``: linear where they matter, bounded far out."""


class Memory(NamedTuple):
    """What the decoder needs of a data set, computed once.

    Attributes:
        blocks: per decoder block, keys and values ``(heads, m, d)``, perhaps folded.
        mask: ``(m,)`` boolean, memory tokens that exist.
        condition: ``(width,)``, pooled memory (zeros without ``pooled_context``).
        shift: ``(rounds, dim)`` and
        scale: ``(rounds, dim, dim)``, factors of covariances: what the Gaussian base's head found in its
            rounds, of which the last is the base (one standard normal otherwise).
    """

    blocks: tuple[BlockMemory, ...]
    mask: AnyArray
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
        held = np.asarray(shape.tokens(config.layout))
        self.num_tokens, per_token = held.shape
        # Where each token's coordinates lie in theta, and where theta's lie among the tokens'; empty for all in order.
        is_in_order = np.array_equal(held.ravel(), np.arange(shape.dim))
        orders = ((), ()) if is_in_order else (held.ravel().tolist(), np.argsort(held.ravel()).tolist())
        self.gather, self.scatter = map(tuple, orders)
        seen = per_token * (1 + config.score_kinds + config.place_kinds)
        self.embed_theta = nnx.Linear(seen, width, dtype=dtype, rngs=rngs)
        self.has_token_types = config.layout == "coordinate" and self.num_tokens > 1
        if self.has_token_types:
            self.token_type = nnx.Param(0.5 * jax.random.normal(rngs.params(), (self.num_tokens, width)))
        self.time = TimeEmbedding(width, config.time_features, dtype=dtype, rngs=rngs)
        if config.pooled_context:
            self.pool = nnx.Linear(width, width, dtype=dtype, rngs=rngs)
            self.pool_context = nnx.Linear(shape.context_features, width, dtype=dtype, rngs=rngs)
        self.blocks = nnx.List(
            [DecoderBlock(config, self.num_tokens, dtype=dtype, rngs=rngs) for _ in range(config.decoder_blocks)]
        )
        self.head = Head(config, per_token * (1 + config.score_kinds), dtype=dtype, rngs=rngs)
        if config.base == "gaussian":
            self.gaussian_head = GaussianHead(config, shape, rngs=rngs)

    def encode(self, rows: Array, context: Array, row_mask: AnyArray, *, for_many_draws: bool = False) -> Memory:
        """Memory of one data set.

        Args:
            rows: ``(n, row_features)``.
            context: ``(context_features,)``.
            row_mask: ``(n,)``; masked rows do not influence the result.
            for_many_draws: spend more here and less on every draw; the same to rounding.
        """
        tokens, mask = self.encoder(rows, context, row_mask)
        blocks = tuple(block.memory(tokens, for_many_draws=for_many_draws) for block in self.blocks)
        weights = mask[:, None] / jnp.sum(mask)
        pooled = jnp.sum(tokens * weights, axis=0)
        condition = jnp.zeros(self.config.width, tokens.dtype)
        if self.config.pooled_context:
            condition = self.pool(pooled) + self.pool_context(context)
        shift, scale = jnp.zeros((1, self.shape.dim)), jnp.eye(self.shape.dim)[None]
        if self.config.base == "gaussian":
            shift, scale = self.gaussian_head(rows, row_mask, pooled.astype(jnp.float32))
        return Memory(blocks, mask, condition, shift, scale)

    def output(
        self, t: Array, x: Array, memory: Memory, scores: Array | None = None, place: Array | None = None
    ) -> Array:
        """Raw network output for one draw, ``(dim,)``: a velocity or a residual score.

        Args:
            t: ``()`` time.
            x: ``(dim,)`` in base coordinates.
            memory: of the data set.
            scores: ``(score_kinds, dim)`` what the velocity sees beside ``x`` (see ``ModelConfig.inputs``), the
                best estimate of the output first.
            place: ``(place_kinds, dim)``, where the base lies, if it is one of several.
        """
        inputs = x[None, :] if scores is None else jnp.concatenate([x[None, :], scores])
        seen = inputs if place is None else jnp.concatenate([inputs, place])
        # Token-major: (kinds, tokens, per_token) to (tokens, kinds * per_token).
        if self.gather:
            seen = seen[:, np.asarray(self.gather)]
        tokens = jnp.swapaxes(seen.reshape(len(seen), self.num_tokens, -1), 0, 1).reshape(self.num_tokens, -1)
        tokens = self.embed_theta(tokens)
        if self.has_token_types:
            tokens = tokens + self.token_type[...].astype(tokens.dtype)
        condition = self.time(t) + memory.condition
        for block, its_memory in zip(self.blocks, memory.blocks, strict=True):
            tokens = block(tokens, its_memory, memory.mask, condition)
        out = self.head(tokens, condition).astype(jnp.float32)
        out = jnp.swapaxes(out.reshape(self.num_tokens, len(inputs), -1), 0, 1).reshape(len(inputs), -1)
        if self.scatter:
            out = out[:, np.asarray(self.scatter)]
        if scores is None:
            return out[0]
        # The score itself is the first-order answer; the network corrects and gates it.
        return out[0] + scores[0] + jnp.sum(out[1:] * scores, axis=0)


def count_parameters(model: nnx.Module) -> int:
    """Number of trainable scalars."""
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
