"""The velocity decoder: theta tokens attend to each other and to the memory.

Time and (optionally) pooled memory enter through adaptive layer norm whose gates start at zero,
so every block is the identity at initialization (Peebles and Xie, 2023).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from icl_bayes.nets.config import ModelConfig
from icl_bayes.nets.layers import (
    Attend,
    Folded,
    KeyValue,
    Modulation,
    activation_of,
    feedforward_of,
    normalized,
)
from icl_bayes.types import AnyArray

Array = jax.Array
BlockMemory = tuple[Array, Array] | Folded
"""Keys and values ``(heads, N, d)``, or the same folded."""


class DecoderBlock(nnx.Module):
    """Self-attention among theta tokens (if several), cross-attention to memory, feed-forward."""

    def __init__(self, config: ModelConfig, num_tokens: int, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> None:
        width = config.width
        self.has_self_attention = num_tokens > 1
        self.modulation = Modulation(width, width, 9 if self.has_self_attention else 6, dtype=dtype, rngs=rngs)
        if self.has_self_attention:
            self.self_key_value = KeyValue(width, config.heads, dtype=dtype, rngs=rngs)
            self.self_attend = Attend(width, config.heads, dtype=dtype, rngs=rngs)
        self.memory_key_value = KeyValue(width, config.heads, dtype=dtype, rngs=rngs)
        self.cross_attend = Attend(width, config.heads, dtype=dtype, rngs=rngs)
        self.feedforward = feedforward_of(config, dtype=dtype, rngs=rngs)
        self.dropout = nnx.Dropout(config.dropout, rngs=rngs)

    def memory(self, tokens: Array, *, for_many_draws: bool) -> BlockMemory:
        """What this block needs of the encoder's tokens ``(N, width)``, computed once per data set.

        Folding costs as much as a few draws and pays where the memory is short.
        """
        keys, values = self.memory_key_value(tokens)
        if for_many_draws and keys.shape[0] * keys.shape[1] <= tokens.shape[-1]:
            return self.cross_attend.fold(keys, values)
        return keys, values

    def __call__(self, tokens: Array, memory: BlockMemory, mask: AnyArray, condition: Array) -> Array:
        """``(T, width)``; see :meth:`memory`."""
        pieces = self.modulation(condition)
        if self.has_self_attention:
            shift, scale, gate, *pieces = pieces
            normed = normalized(tokens) * (1.0 + scale) + shift
            tokens = tokens + gate * self.dropout(self.self_attend(normed, *self.self_key_value(normed)))
        shift, scale, gate, *pieces = pieces
        normed = normalized(tokens) * (1.0 + scale) + shift
        if isinstance(memory, Folded):
            attended = memory(normed, mask)
        else:
            attended = self.cross_attend(normed, *memory, mask)
        tokens = tokens + gate * self.dropout(attended)
        shift, scale, gate = pieces
        normed = normalized(tokens) * (1.0 + scale) + shift
        return tokens + gate * self.dropout(self.feedforward(normed))


class Head(nnx.Module):
    """Conditioned MLP from tokens to outputs; the last layer starts at zero."""

    def __init__(self, config: ModelConfig, outputs: int, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> None:
        width = config.width
        self.activation = activation_of(config)
        self.modulations = nnx.List(
            [Modulation(width, width, 3, dtype=dtype, rngs=rngs) for _ in range(config.head_layers)]
        )
        self.layers = nnx.List([nnx.Linear(width, width, dtype=dtype, rngs=rngs) for _ in range(config.head_layers)])
        zeros = nnx.initializers.zeros_init()
        self.out = nnx.Linear(width, outputs, kernel_init=zeros, dtype=dtype, rngs=rngs)

    def __call__(self, tokens: Array, condition: Array) -> Array:
        for modulation, layer in zip(self.modulations, self.layers, strict=True):
            shift, scale, gate = modulation(condition)
            tokens = tokens + (1.0 + gate) * self.activation(layer(normalized(tokens) * (1.0 + scale) + shift))
        return self.out(tokens)
