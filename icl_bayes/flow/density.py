"""Density of a flow's draws: that of the discrete map in use, whatever its solver and number of steps.

The solver's steps are a map from base noise to a draw like any other. Its Jacobian, one tangent per dimension carried
along with the draw, gives the density of what was actually drawn, not of the ODE that the steps approximate.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

Array = jax.Array
Map = Callable[[Array], Array]
"""``(dim,)`` to ``(dim,)``."""

MAX_RESIDUAL = 1e-3
"""Distance from the point that was to be reached, in base coordinates, up to which a map counts as inverted."""
REACHED = 2e-5
"""The same, below which the search for where a point comes from ends."""
_MAX_STEP = 2.0
_SHARES = (1.0, 0.5, 0.2, 0.05)


def log_normal(z: Array) -> Array:
    """Log density of N(0, I) at ``z (dim,)``, ``()``."""
    return -0.5 * (jnp.sum(z**2) + z.shape[0] * jnp.log(2.0 * jnp.pi))


def value_and_jacobian(map_fn: Map, z: Array) -> tuple[Array, Array]:
    """``map_fn(z)`` ``(dim,)`` and its Jacobian ``(dim, dim)``; the value is computed once for all tangents."""
    push = lambda tangent: jax.jvp(map_fn, (z,), (tangent,))  # noqa: E731
    return jax.vmap(push, out_axes=(None, 1))(jnp.eye(z.shape[0], dtype=z.dtype))


def value_and_log_det(map_fn: Map, z: Array) -> tuple[Array, Array]:
    """``map_fn(z)`` ``(dim,)`` and the log absolute determinant of its Jacobian, ``()``."""
    value, jacobian = value_and_jacobian(map_fn, z)
    return value, jnp.linalg.slogdet(jacobian)[1]


class Inverse(NamedTuple):
    """Where a map comes from.

    Attributes:
        z: ``(dim,)``.
        log_det: ``()``, of the map at ``z``.
        residual: ``()``, distance of ``map_fn(z)`` from the target.
    """

    z: Array
    log_det: Array
    residual: Array


def invert(map_fn: Map, target: Array, start: Array, num_steps: int = 20) -> Inverse:
    """Newton's method with a search along every step, so that the residual never grows; traceable.

    It ends when the residual is below :data:`REACHED`; under ``vmap``, when all have ended.

    Args:
        map_fn: the discrete map.
        target: ``(dim,)``.
        start: ``(dim,)``, e.g. the end of the ODE solved backwards.
    """

    def residual_of(value: Array) -> Array:
        distance = jnp.linalg.norm(value - target)
        return jnp.where(jnp.isfinite(distance), distance, jnp.inf)

    def is_unfinished(carry: tuple[Array, Array, Array]) -> Array:
        _, residual, count = carry
        return (count < num_steps) & ~(residual < REACHED)

    def step(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        z, _, count = carry
        value, jacobian = value_and_jacobian(map_fn, z)
        move = jnp.linalg.solve(jacobian, target - value)
        move = jnp.where(jnp.all(jnp.isfinite(move)), move, 0.0)
        move = move * jnp.minimum(1.0, _MAX_STEP / (jnp.linalg.norm(move) + 1e-12))
        tried = z + jnp.asarray(_SHARES)[:, None] * move
        residuals = jax.vmap(lambda one: residual_of(map_fn(one)))(tried)
        best, before = jnp.argmin(residuals), residual_of(value)
        is_better = residuals[best] < before
        return jnp.where(is_better, tried[best], z), jnp.where(is_better, residuals[best], before), count + 1

    z, _, _ = jax.lax.while_loop(is_unfinished, step, (start, residual_of(map_fn(start)), jnp.asarray(0)))
    value, log_det = value_and_log_det(map_fn, z)
    return Inverse(z, log_det, residual_of(value))
