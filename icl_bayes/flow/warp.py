"""Heavy tails and spikes in the coordinates of a base: a hyperbolic sine whose strength the draws choose.

A Gaussian in coordinates ``t`` becomes, by ``theta = center + width sinh(strength t) / strength`` in every coordinate,
a law with a sharp peak and long tails (the symmetric sinh-arcsinh law of Jones and Pewsey, 2009); of strength zero it
stays what it is. A flow that starts from it need not pull most of its draws together. Farther than :data:`BEND` widths
from the center the map goes on straight, so that tails fall as normal ones, as those of priors do.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

Array = jax.Array
STRENGTHS = (0.01, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
"""From next to none to a peak of a fortieth of the standard deviation."""
BEND = 2.0
MIN_WIDTH = 1e-6


class Warp(NamedTuple):
    """``theta = center + width * sinh(strength * t) / strength``, elementwise, and straight beyond the bend.

    Attributes:
        center, width: ``(dim,)``, the latter positive.
        strength: ``()``, positive.
    """

    center: Array
    width: Array
    strength: Array

    def forward(self, t: Array) -> Array:
        """``theta`` from ``t``; both ``(..., dim)``."""
        bend, slope = self._bend()
        near = jnp.clip(t, -bend, bend)
        return self.center + self.width * (jnp.sinh(self.strength * near) / self.strength + slope * (t - near))

    def backward(self, theta: Array) -> Array:
        """``t`` from ``theta``; both ``(..., dim)``."""
        _, slope = self._bend()
        x = (theta - self.center) / self.width
        near = jnp.clip(x, -BEND, BEND)
        return jnp.arcsinh(self.strength * near) / self.strength + (x - near) / slope

    def log_slope(self, t: Array) -> Array:
        """``log |d theta / d t|`` at ``t (..., dim)``, summed over coordinates, ``(...)``."""
        bend, _ = self._bend()
        return jnp.sum(jnp.log(jnp.cosh(self.strength * jnp.clip(t, -bend, bend))) + jnp.log(self.width), axis=-1)

    def _bend(self) -> tuple[Array, Array]:
        """``t`` where the map bends, and the slope that it has there and beyond, ``()``."""
        at = self.strength * BEND
        return jnp.arcsinh(at) / self.strength, jnp.sqrt(1.0 + at**2)


def identity_warp(dim: int) -> Warp:
    """Of the least strength."""
    return Warp(jnp.zeros(dim), jnp.ones(dim), jnp.asarray(STRENGTHS[0]))


def candidates(points: Array, log_weights: Array) -> Warp:
    """Warps that a weighted sample may ask for, stacked: about its mean and its median, of every strength.

    Args:
        points: ``(num, dim)``.
        log_weights: ``(num,)``, up to a constant.
    """
    weights = jax.nn.softmax(log_weights)
    centers = jnp.stack([weights @ points, weighted_median(points, weights)])
    widths = jnp.sqrt(jnp.maximum(jnp.einsum("n,cnd->cd", weights, (points - centers[:, None]) ** 2), MIN_WIDTH**2))
    strengths = jnp.asarray(STRENGTHS)
    num = len(strengths)
    return Warp(jnp.repeat(centers, num, axis=0), jnp.repeat(widths, num, axis=0), jnp.tile(strengths, 2))


def weighted_median(points: Array, weights: Array) -> Array:
    """Of every coordinate: where half of the weight lies below, ``(dim,)``."""

    def of_coordinate(values: Array) -> Array:
        order = jnp.argsort(values)
        below = jnp.cumsum(weights[order])
        return values[order][jnp.searchsorted(below, 0.5 * below[-1])]

    return jax.vmap(of_coordinate, in_axes=1)(points)
