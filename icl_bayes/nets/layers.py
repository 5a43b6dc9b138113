"""Building blocks: attention over masked sets, feed-forward, adaptive layer norm, time embedding.

All layers see one example: tokens ``(T, width)``; ``jax.vmap`` adds data sets and draws.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from icl_bayes.types import AnyArray

Array = jax.Array
_MASKED = -1e30


class KeyValue(nnx.Module):
    """Keys and values of a set of tokens; computed once when the set does not change."""

    def __init__(self, width: int, heads: int, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> None:
        self.heads = heads
        self.key = nnx.Linear(width, width, dtype=dtype, rngs=rngs)
        self.value = nnx.Linear(width, width, dtype=dtype, rngs=rngs)

    def __call__(self, tokens: Array) -> tuple[Array, Array]:
        """Keys and values ``(heads, N, width / heads)`` of tokens ``(N, width)``."""
        return split_heads(self.key(tokens), self.heads), split_heads(self.value(tokens), self.heads)


def split_heads(tokens: Array, heads: int) -> Array:
    """``(N, width)`` to ``(heads, N, width / heads)``."""
    return jnp.swapaxes(tokens.reshape(tokens.shape[0], heads, -1), 0, 1)


class Attend(nnx.Module):
    """Queries, softmax and output projection, given keys and values."""

    def __init__(self, width: int, heads: int, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> None:
        self.heads = heads
        self.query = nnx.Linear(width, width, dtype=dtype, rngs=rngs)
        self.out = nnx.Linear(width, width, dtype=dtype, rngs=rngs)

    def __call__(self, queries: Array, keys: Array, values: Array, mask: AnyArray | None = None) -> Array:
        """``(T, width)`` from queries ``(T, width)``, keys and values ``(heads, N, d)``, mask ``(N,)``."""
        q = split_heads(self.query(queries), self.heads)
        scores = jnp.einsum("htd,hnd->htn", q, keys).astype(jnp.float32) / jnp.sqrt(q.shape[-1])
        if mask is not None:
            scores = jnp.where(mask[None, None, :], scores, _MASKED)
        weights = jax.nn.softmax(scores, axis=-1).astype(values.dtype)
        mixed = jnp.einsum("htn,hnd->htd", weights, values)
        return self.out(jnp.swapaxes(mixed, 0, 1).reshape(queries.shape[0], -1))


class FeedForward(nnx.Module):
    """Two linear maps around a ReLU, as in the paper."""

    def __init__(self, width: int, hidden: int, *, dropout: float, dtype: jnp.dtype, rngs: nnx.Rngs) -> None:
        self.up = nnx.Linear(width, hidden, dtype=dtype, rngs=rngs)
        self.down = nnx.Linear(hidden, width, dtype=dtype, rngs=rngs)
        self.dropout = nnx.Dropout(dropout, rngs=rngs)

    def __call__(self, tokens: Array) -> Array:
        return self.down(self.dropout(nnx.relu(self.up(tokens))))


class Modulation(nnx.Module):
    """Shifts, scales and gates ``(1, width)`` from a conditioning vector; zero at initialization (adaLN-Zero)."""

    def __init__(self, condition: int, width: int, pieces: int, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> None:
        self.pieces = pieces
        zeros = nnx.initializers.zeros_init()
        self.project = nnx.Linear(condition, pieces * width, kernel_init=zeros, dtype=dtype, rngs=rngs)

    def __call__(self, condition: Array) -> list[Array]:
        return jnp.split(self.project(nnx.silu(condition))[None, :], self.pieces, axis=-1)


class TimeEmbedding(nnx.Module):
    """Three-layer MLP of time, ``() -> (width,)``, optionally on Fourier features."""

    def __init__(self, width: int, num_features: int, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> None:
        self.num_features = num_features
        inputs = 1 + 2 * num_features
        self.layers = nnx.List([nnx.Linear(i, width, dtype=dtype, rngs=rngs) for i in (inputs, width, width)])

    def __call__(self, t: Array) -> Array:
        # Half-integer multiples of pi: no two times in [0, 1] look alike.
        angles = 0.5 * jnp.pi * t * jnp.arange(1, self.num_features + 1)
        x = jnp.concatenate([t[None], jnp.sin(angles), jnp.cos(angles)])
        for layer in self.layers[:-1]:
            x = nnx.silu(layer(x))
        return self.layers[-1](x)
