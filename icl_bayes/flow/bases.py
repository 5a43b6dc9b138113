"""Sources of the flow: where the ODE starts at t = 0.

A base is an affine map of standard normal noise, ``theta = shift + scale @ u``. Velocities are
learned in the whitened coordinates ``u``, in which the base is N(0, I):

* ``standard``: the paper's, no map at all;
* ``gaussian``: mean and Cholesky factor predicted by a head of the network;
* ``laplace``: mode and curvature of the log joint, found here by damped Newton iterations
  with a bounded number of steps, inside jit and under vmap.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

Array = jax.Array
LogDensity = Callable[[Array], Array]
Metric = Callable[[Array], Array]

BASES = ("standard", "gaussian", "laplace")
TRUST_RADIUS = 4.0
CONVERGED = 1e-5
"""Nats promised by a nearly full step below which the search ends: 0.004 posterior standard deviations."""


class Affine(NamedTuple):
    """``theta = shift + scale @ u``.

    Attributes:
        shift: ``(dim,)``.
        scale: ``(dim, dim)``, invertible.
        inverse: ``(dim, dim)``, its inverse: applied to many draws, a product with a
            precomputed inverse costs less than a triangular solve per draw.
        log_det: ``()``, ``log |det scale|``.
    """

    shift: Array
    scale: Array
    inverse: Array
    log_det: Array

    def forward(self, u: Array) -> Array:
        """``theta`` from ``u``; both ``(..., dim)``."""
        return self.shift + u @ self.scale.T

    def backward(self, theta: Array) -> Array:
        """``u`` from ``theta``; both ``(..., dim)``."""
        return (theta - self.shift) @ self.inverse.T


def identity_affine(dim: int) -> Affine:
    eye = jnp.eye(dim)
    return Affine(jnp.zeros(dim), eye, eye, jnp.zeros(()))


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


def affine_from_curvature(mode: Array, curvature: Array, *, floor: float = 0.05) -> Affine:
    """Whitening by the symmetric root of the inverse curvature.

    The symmetric root commutes with permutations of the coordinates, so exchangeable
    columns stay exchangeable. Eigenvalues below ``floor`` (flat or upward-curved directions,
    where the prior alone would give about 1) are raised to it.
    """
    symmetric = 0.5 * (curvature + curvature.T)
    eigenvalues, vectors = jnp.linalg.eigh(symmetric)
    root = jnp.sqrt(jnp.maximum(eigenvalues, floor))
    scale = (vectors / root) @ vectors.T
    inverse = (vectors * root) @ vectors.T
    return Affine(mode, scale, inverse, -jnp.sum(jnp.log(root)))


def laplace_approximation(
    log_density_fn: LogDensity,
    dim: int,
    *,
    metric_fn: Metric | None = None,
    num_steps: int = 16,
    curvature: str = "hessian",
    start: Array | None = None,
) -> tuple[Affine, NewtonInfo]:
    """Gaussian approximation at the mode of an unnormalized log density.

    Args:
        log_density_fn: ``(dim,) -> ()``.
        dim: number of coordinates.
        metric_fn: metric of the mode search, see :func:`find_mode`; default the Hessian with
            its eigenvalues made positive.
        curvature: ``hessian`` of the log density at the mode (the Laplace approximation proper)
            or ``metric`` (expected information, never indefinite).
        start: ``(dim,)``, default zero (the prior median in task coordinates).

    Returns:
        :class:`Affine` with ``shift`` the mode and ``scale`` the symmetric root of the
        inverse curvature, and :class:`NewtonInfo`. If the search ends in non-finite numbers,
        the affine map is the identity and ``info.is_finite`` is false.
    """

    def negative_hessian(theta: Array) -> Array:
        return -jax.jacfwd(jax.grad(log_density_fn))(theta)

    def positive_hessian(theta: Array) -> Array:
        hessian = negative_hessian(theta)
        eigenvalues, vectors = jnp.linalg.eigh(0.5 * (hessian + hessian.T))
        return (vectors * jnp.maximum(jnp.abs(eigenvalues), 0.05)) @ vectors.T

    metric_fn = positive_hessian if metric_fn is None else metric_fn
    mode, info = find_mode(log_density_fn, metric_fn, jnp.zeros(dim) if start is None else start, num_steps=num_steps)
    matrix = negative_hessian(mode) if curvature == "hessian" else metric_fn(mode)
    is_finite = info.is_finite & jnp.all(jnp.isfinite(matrix))
    affine = affine_from_curvature(jnp.where(is_finite, mode, 0.0), jnp.where(is_finite, matrix, jnp.eye(dim)))
    return affine, NewtonInfo(info.decrement, is_finite)
