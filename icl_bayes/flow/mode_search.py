"""The mode of a log density: damped Newton iterations with a bounded number of steps, inside jit and under vmap."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

Array = jax.Array
LogDensity = Callable[[Array], Array]
Metric = Callable[[Array], Array]

TRUST_RADIUS = 4.0
CONVERGED = 1e-5
"""Nats promised by a nearly full step below which the search ends: 0.004 posterior standard deviations."""


class NewtonInfo(NamedTuple):
    """Health of a Newton iteration.

    Attributes:
        decrement: ``()``, ``g' H^-1 g / 2`` at the end: nats left to gain.
        is_finite: ``()`` boolean.
    """

    decrement: Array
    is_finite: Array


def find_mode(
    log_density_fn: LogDensity, metric_fn: Metric, start: Array, *, num_steps: int = 16
) -> tuple[Array, NewtonInfo]:
    """Levenberg-Marquardt ascent of ``log_density_fn``.

    Steps that lower the density, or are not finite, are refused and the damping raised, so
    the result is never worse than the start. The search ends when a full step promises less than
    :data:`CONVERGED` nats, or after ``num_steps``; under ``vmap``, when all have ended.

    Args:
        log_density_fn: ``(dim,) -> ()``.
        metric_fn: ``(dim,) -> (dim, dim)``, positive definite: expected information (Fisher
            scoring) where known. In task coordinates the prior contributes (about) the
            identity.
        start: ``(dim,)``.

    Returns:
        mode ``(dim,)`` and :class:`NewtonInfo`.
    """
    value_and_gradient = jax.value_and_grad(log_density_fn)

    class Carry(NamedTuple):
        theta: Array
        value: Array
        gradient: Array
        metric: Array
        damping: Array
        promise: Array  # nats that the last step promised, infinite while much damped
        count: Array

    def solve(metric: Array, gradient: Array) -> Array:
        factor = jnp.linalg.cholesky(metric)
        return jax.scipy.linalg.cho_solve((factor, True), gradient)

    def is_unfinished(carry: Carry) -> Array:
        return (carry.count < num_steps) & (carry.promise > CONVERGED)

    def step(carry: Carry) -> Carry:
        damped = carry.metric + jnp.diag(carry.damping * jnp.diagonal(carry.metric))
        direction = solve(damped, carry.gradient)
        gain = 0.5 * jnp.dot(direction, carry.gradient)
        promise = jnp.where((carry.damping < 0.1) & jnp.isfinite(gain), gain, jnp.inf)
        # A trust region of a few prior standard deviations keeps exponential links from overflowing.
        direction = direction / jnp.maximum(1.0, jnp.linalg.norm(direction) / TRUST_RADIUS)
        theta = carry.theta + direction
        value, gradient = value_and_gradient(theta)
        metric = metric_fn(theta)
        usable = jnp.isfinite(value) & jnp.all(jnp.isfinite(gradient)) & jnp.all(jnp.isfinite(metric))
        accept = usable & (value >= carry.value)
        count = carry.count + 1
        relaxed = jnp.where(carry.damping < 1e-3, 0.0, 0.1 * carry.damping)
        moved = Carry(theta, value, gradient, metric, relaxed, promise, count)
        stayed = carry._replace(damping=4.0 * carry.damping + 0.05, promise=promise, count=count)
        return jax.tree.map(lambda new, old: jnp.where(accept, new, old), moved, stayed)

    value, gradient = value_and_gradient(start)
    zero, infinite = jnp.asarray(0.0, start.dtype), jnp.asarray(jnp.inf, start.dtype)
    initial = Carry(start, value, gradient, metric_fn(start), zero, infinite, jnp.asarray(0))
    final = jax.lax.while_loop(is_unfinished, step, initial)
    decrement = 0.5 * jnp.dot(final.gradient, solve(final.metric, final.gradient))
    return final.theta, NewtonInfo(decrement, jnp.isfinite(final.value) & jnp.isfinite(decrement))
