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

_SHARES = (0.0, 1e-6, 1e-5, 1e-4)
"""Of the diagonal, added where a metric cannot be factorized."""


class NewtonInfo(NamedTuple):
    """Health of a Newton iteration.

    Attributes:
        decrement: ``()``, ``g' H^-1 g / 2`` at the end: nats left to gain.
        is_finite: ``()`` boolean.
    """

    decrement: Array
    is_finite: Array


class Mode(NamedTuple):
    """Where a search ended.

    Attributes:
        theta: ``(dim,)``.
        value: ``()``, the log density there.
        metric: ``(dim, dim)``, the metric there.
        info: health of the search.
    """

    theta: Array
    value: Array
    metric: Array
    info: NewtonInfo


class _Carry(NamedTuple):
    """State of a search; ``promise`` are the nats that the last step promised, infinite while much damped."""

    theta: Array
    value: Array
    gradient: Array
    metric: Array
    damping: Array
    promise: Array
    count: Array


def find_mode(log_density_fn: LogDensity, metric_fn: Metric, start: Array, *, num_steps: int = 16) -> Mode:
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
        The :class:`Mode`; a start that can't be evaluated gives one of value minus infinity.
    """
    value_and_gradient = jax.value_and_grad(log_density_fn)

    def solve(metric: Array, gradient: Array) -> Array:
        factor = jnp.linalg.cholesky(metric)
        return jax.scipy.linalg.cho_solve((factor, True), gradient)

    def is_unfinished(carry: _Carry) -> Array:
        return (carry.count <= num_steps) & (carry.promise > CONVERGED)

    def step(carry: _Carry) -> _Carry:
        damped = carry.metric + jnp.diag(carry.damping * jnp.diagonal(carry.metric))
        direction = solve(damped, carry.gradient)
        gain = 0.5 * jnp.dot(direction, carry.gradient)
        is_newton = (carry.damping < 0.1) & jnp.isfinite(gain) & (carry.count > 0)
        promise = jnp.where(is_newton, gain, jnp.inf)
        # A trust region of a few prior standard deviations keeps exponential links from overflowing.
        direction = direction / jnp.maximum(1.0, jnp.linalg.norm(direction) / TRUST_RADIUS)
        theta = carry.theta + direction
        value, gradient = value_and_gradient(theta)
        metric = metric_fn(theta)
        # A start of density zero may still have a slope to leave it by.
        is_known = jnp.isfinite(value) | ((carry.count == 0) & jnp.isneginf(value))
        usable = is_known & jnp.all(jnp.isfinite(gradient)) & jnp.all(jnp.isfinite(metric))
        accept = usable & (value >= carry.value)
        count = carry.count + 1
        relaxed = jnp.where(carry.damping < 1e-3, 0.0, 0.1 * carry.damping)
        moved = _Carry(theta, value, gradient, metric, relaxed, promise, count)
        stayed = carry._replace(damping=4.0 * carry.damping + 0.05, promise=promise, count=count)
        return jax.tree.map(lambda new, old: jnp.where(accept, new, old), moved, stayed)

    # The first step goes nowhere: it evaluates the start, so that the density is compiled once.
    zero, infinite = jnp.asarray(0.0, start.dtype), jnp.asarray(jnp.inf, start.dtype)
    nowhere = jnp.zeros_like(start), jnp.eye(start.shape[0], dtype=start.dtype)
    final = jax.lax.while_loop(is_unfinished, step, _Carry(start, -infinite, *nowhere, zero, infinite, jnp.asarray(0)))
    metric = factorizable(final.metric)
    decrement = 0.5 * jnp.dot(final.gradient, solve(metric, final.gradient))
    decrement = jnp.where(jnp.isfinite(final.value), decrement, jnp.inf)
    info = NewtonInfo(decrement, jnp.isfinite(decrement))
    return Mode(final.theta, final.value, metric, info)


def factorizable(metric: Array) -> Array:
    """A positive definite matrix ``(dim, dim)`` with as little added to its diagonal as its Cholesky factor needs.

    Mostly nothing. Of columns whose spread is a small part of their mean, single precision knows the curvature along
    the combination that the data do not determine only with an error larger than itself.
    """
    diagonal = jnp.diag(jnp.diagonal(metric))
    tried = metric[None] + jnp.asarray(_SHARES, metric.dtype)[:, None, None] * diagonal
    is_usable = jnp.all(jnp.isfinite(jnp.linalg.cholesky(tried)), axis=(1, 2))
    return tried[jnp.argmax(is_usable)]
