"""Building blocks: attention over masked sets, feed-forward, adaptive layer norm, time embedding.

All layers see one example: tokens ``(T, width)``; ``jax.vmap`` adds data sets and draws.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from icl_bayes.nets.config import ModelConfig
from icl_bayes.types import AnyArray

Array = jax.Array
Activation = Callable[[Array], Array]
ROUNDNESS = 0.25
"""Of the smooth ReLU: the square of twice its value at zero."""
_MASKED = -1e30
_SMALL_VARIANCE = 1e-6


def normalized(tokens: Array) -> Array:
    """Layer norm without parameters: ``(..., width)`` with mean zero and variance one along the last axis."""
    wide, width = tokens.astype(jnp.promote_types(tokens.dtype, jnp.float32)), tokens.shape[-1]
    centred = wide - _total(wide) / width
    return (centred * jax.lax.rsqrt(_total(centred**2) / width + _SMALL_VARIANCE)).astype(tokens.dtype)


def softmax(scores: Array) -> Array:
    """Weights ``(..., N)`` that are positive and sum to one along the last axis."""
    powers = jnp.exp(scores - jax.lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True)))
    return powers / _total(powers)


def _total(x: Array) -> Array:
    """Sum along the last axis, which stays.

    On a CPU XLA sums along a short last axis one number at a time, which is slow where tangents are carried along; a
    product of matrices is not.
    """
    if jax.default_backend() != "cpu":
        return jnp.sum(x, axis=-1, keepdims=True)
    return jnp.matmul(x, jnp.ones((x.shape[-1], 1), x.dtype), precision=jax.lax.Precision.HIGHEST)


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


def weights_of(linear: nnx.Linear, dtype: jnp.dtype) -> tuple[Array, Array]:
    """Kernel and bias of a layer in the type it computes in."""
    assert linear.bias is not None
    return linear.kernel[...].astype(dtype), linear.bias[...].astype(dtype)


class Attend(nnx.Module):
    """Queries, softmax and output projection, given keys and values."""

    def __init__(self, width: int, heads: int, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> None:
        self.heads = heads
        self.query = nnx.Linear(width, width, dtype=dtype, rngs=rngs)
        self.out = nnx.Linear(width, width, dtype=dtype, rngs=rngs)

    def __call__(self, queries: Array, keys: Array, values: Array, mask: AnyArray | None = None) -> Array:
        """``(T, width)`` from queries ``(T, width)``, keys and values ``(heads, N, d)``, mask ``(N,)``."""
        q = split_heads(self.query(queries), self.heads)
        scores = jnp.einsum("htd,hnd->htn", q, keys)
        scores = scores.astype(jnp.promote_types(scores.dtype, jnp.float32)) / jnp.sqrt(q.shape[-1])
        if mask is not None:
            scores = jnp.where(mask[None, None, :], scores, _MASKED)
        weights = softmax(scores).astype(values.dtype)
        mixed = jnp.einsum("htn,hnd->htd", weights, values)
        return self.out(jnp.swapaxes(mixed, 0, 1).reshape(queries.shape[0], -1))

    def fold(self, keys: Array, values: Array) -> Folded:
        """Keys and values ``(heads, N, d)`` with the projections of queries and outputs taken in."""
        heads, length, size = keys.shape
        (kernel, bias), (out_kernel, out_bias) = weights_of(self.query, keys.dtype), weights_of(self.out, keys.dtype)
        keys = keys / jnp.sqrt(size).astype(keys.dtype)
        ask = jnp.einsum("whd,hnd->whn", kernel.reshape(-1, heads, size), keys).reshape(-1, heads * length)
        offset = jnp.einsum("hd,hnd->hn", bias.reshape(heads, size), keys)
        answer = jnp.einsum("hnd,hdw->hnw", values, out_kernel.reshape(heads, size, -1))
        return Folded(ask, offset, answer.reshape(heads * length, -1), out_bias)


class Folded(NamedTuple):
    """A memory that answers queries in two products of matrices, whatever the number of heads.

    Attributes:
        ask: ``(width, heads * N)``, scores of a query.
        offset: ``(heads, N)``, added to them.
        answer: ``(heads * N, width)``, what the weights are applied to.
        bias: ``(width,)``, added to that.
    """

    ask: Array
    offset: Array
    answer: Array
    bias: Array

    def __call__(self, queries: Array, mask: AnyArray) -> Array:
        """What :class:`Attend` returns for queries ``(T, width)`` and mask ``(N,)``, to rounding."""
        dtype = self.ask.dtype
        scores = (queries.astype(dtype) @ self.ask).reshape(-1, *self.offset.shape) + self.offset[None]
        scores = jnp.where(mask[None, None, :], scores.astype(jnp.float32), _MASKED)
        weights = softmax(scores).astype(dtype)
        return weights.reshape(len(queries), -1) @ self.answer + self.bias[None, :]


def smooth_relu(x: Array) -> Array:
    """A ReLU without its kink (squareplus; Barron, 2021), whose derivatives are all continuous."""
    return jax.nn.squareplus(x, ROUNDNESS)


_ACTIVATIONS: dict[str, Activation] = {"relu": nnx.relu, "smooth_relu": smooth_relu}


def activation_of(config: ModelConfig) -> Activation:
    """What the decoder's linear maps are joined by."""
    return _ACTIVATIONS[config.activation]


class FeedForward(nnx.Module):
    """Two linear maps around an activation, in the paper a ReLU."""

    def __init__(
        self,
        width: int,
        hidden: int,
        *,
        dropout: float,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
        activation: Activation = nnx.relu,
    ) -> None:
        self.activation = activation
        self.up = nnx.Linear(width, hidden, dtype=dtype, rngs=rngs)
        self.down = nnx.Linear(hidden, width, dtype=dtype, rngs=rngs)
        self.dropout = nnx.Dropout(dropout, rngs=rngs)

    def __call__(self, tokens: Array) -> Array:
        return self.down(self.dropout(self.activation(self.up(tokens))))


def feedforward_of(config: ModelConfig, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> FeedForward:
    """That of a block of the decoder."""
    sizes, activation = (config.width, config.feedforward), activation_of(config)
    return FeedForward(*sizes, dropout=config.dropout, dtype=dtype, rngs=rngs, activation=activation)


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
