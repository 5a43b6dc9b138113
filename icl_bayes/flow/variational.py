"""The Gaussian closest to a posterior, by a few fixed-point steps inside jit.

Among Gaussians q = N(m, S), the Kullback-Leibler divergence KL(q || posterior) is least where

    E_q[score] = 0   and   S^-1 = -E_q[Hessian of the log density]

(Opper and Archambeau, 2009). In coordinates in which q is N(0, I), both expectations need the score
alone, since E_q[Hessian] = E_q[score u'] by Stein's identity, so densities with kinks are no trouble.
The expectations are taken over a fixed, antithetic, low-discrepancy set of points that has mean zero
and covariance one exactly; every step is a natural-gradient step, shortened while it lowers the evidence
bound. Unlike the mode, this Gaussian sits in the middle of a skewed or kinked posterior and has its width.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import ndtri

from icl_bayes.flow.bases import Affine
from icl_bayes.flow.mode_search import LogDensity

Array = jax.Array

MAX_SHIFT = 1.5
"""Largest move of the mean in one step, in standard deviations of the present Gaussian."""
MAX_SCALING = 2.0
"""Largest factor by which one step widens or narrows a direction."""
NEGLIGIBLE = 1e-3
"""Nats of the evidence bound that an iterate may lie below the one before and still replace it."""
BACKTRACK = 0.5
"""Factor on the length of a step that was refused; one that was taken doubles it, up to a whole step."""
SETTLED = 1e-4
"""Nats promised by a step below which the iteration ends."""
IMPOSSIBLE = -1e6
"""What a point counts, relative to the best one, where the log density is not finite."""


class VariationalInfo(NamedTuple):
    """Health of the fixed-point iteration.

    Attributes:
        decrement: ``()``, nats that one more step promises, for mean and covariance.
        is_finite: ``()`` boolean.
    """

    decrement: Array
    is_finite: Array


@lru_cache(maxsize=32)
def gaussian_points(dim: int, num: int) -> np.ndarray:
    """Fixed points ``(num, dim)`` that stand for N(0, I): antithetic, mean zero, covariance one exactly.

    An additive recurrence with the powers of the generalized golden ratio, mapped by the normal quantile
    function, joined by its mirror image and whitened.

    Args:
        num: an even number, at least ``2 * dim``.
    """
    if num % 2 or num < 2 * dim:
        raise ValueError(f"Points for {dim} dimensions come in pairs, at least {2 * dim}; received {num}.")
    ratio = 2.0
    for _ in range(64):  # the root of x^(dim + 1) = x + 1
        ratio = (1.0 + ratio) ** (1.0 / (dim + 1.0))
    steps = ratio ** -np.arange(1, dim + 1)
    uniforms = (0.5 + np.arange(1, num // 2 + 1)[:, None] * steps) % 1.0
    half = ndtri(uniforms)
    points = np.concatenate([half, -half])
    root = np.linalg.cholesky(points.T @ points / num)
    return np.linalg.solve(root, points.T).T.astype(np.float32)


class _Iterate(NamedTuple):
    """A Gaussian, judged: its evidence bound ``()``, mean score, score moment and the nats left to gain ``()``."""

    affine: Affine
    bound: Array
    mean_score: Array
    moment: Array
    decrement: Array


def variational_gaussian(
    log_density_fn: LogDensity, start: Affine, *, num_steps: int = 24, num_points: int = 64
) -> tuple[Affine, VariationalInfo]:
    """The best Gaussian found from ``start`` in at most ``num_steps`` fixed-point steps; traceable.

    A step that lowers the evidence bound by more than :data:`NEGLIGIBLE` is refused and tried shorter, so
    the result is never worse than the start by more than that. The search ends when a step promises less
    than :data:`SETTLED` nats; under ``vmap``, when all have ended.

    Args:
        log_density_fn: ``(dim,) -> ()``, unnormalized; only its values and gradients are used.
        start: for example a Laplace approximation.
        num_points: see :func:`gaussian_points`; raised to four per dimension where fewer.

    Returns:
        The Gaussian, with a symmetric ``scale``, and :class:`VariationalInfo`.
    """
    dim = start.shift.shape[0]
    points = jnp.asarray(gaussian_points(dim, max(num_points, 4 * dim)), start.shift.dtype)
    value_and_score = jax.value_and_grad(lambda affine, u: log_density_fn(affine.forward(u)), argnums=1)

    def judge(affine: Affine) -> _Iterate:
        values, scores = jax.vmap(value_and_score, in_axes=(None, 0))(affine, points)
        scores = jnp.where(jnp.isfinite(scores), scores, 0.0)
        best = jnp.max(jnp.where(jnp.isfinite(values), values, -jnp.inf))
        values = jnp.where(jnp.isfinite(values), jnp.maximum(values, best + IMPOSSIBLE), best + IMPOSSIBLE)
        bound = jnp.mean(values) + affine.log_det
        mean_score = jnp.mean(scores, axis=0)
        moment = points.T @ scores / len(points)
        moment = 0.5 * (moment + moment.T)
        decrement = 0.5 * jnp.sum(mean_score**2) + 0.25 * jnp.sum((moment + jnp.eye(dim)) ** 2)
        return _Iterate(affine, bound, mean_score, moment, decrement)

    def proposal(iterate: _Iterate, length: Array) -> Affine:
        # In whitened coordinates the precision of the next Gaussian is -E[score u'].
        eigenvalues, vectors = jnp.linalg.eigh(-iterate.moment)
        precision = jnp.clip(eigenvalues, MAX_SCALING**-2, MAX_SCALING**2)
        move = (vectors / precision) @ (vectors.T @ iterate.mean_score)
        move = length * move * jnp.minimum(1.0, MAX_SHIFT / jnp.maximum(jnp.linalg.norm(move), 1e-12))
        root = precision ** (0.5 * length)
        shift, scale, inverse, log_det, *_ = iterate.affine
        return Affine(
            shift + scale @ move,
            scale @ ((vectors / root) @ vectors.T),
            ((vectors * root) @ vectors.T) @ inverse,
            log_det - jnp.sum(jnp.log(root)),
        )

    def is_unfinished(carry: tuple[_Iterate, Array, Array]) -> Array:
        iterate, _, count = carry
        return (count <= num_steps) & ~(iterate.decrement < SETTLED)

    def step(carry: tuple[_Iterate, Array, Array]) -> tuple[_Iterate, Array, Array]:
        iterate, length, count = carry
        proposed = judge(proposal(iterate, length))
        # Among iterates that are equal to rounding the later one is taken, so that rounding can't choose.
        accept = proposed.bound > iterate.bound - NEGLIGIBLE
        iterate = jax.tree.map(lambda new, old: jnp.where(accept, new, old), proposed, iterate)
        return iterate, jnp.where(accept, jnp.minimum(1.0, 2.0 * length), BACKTRACK * length), count + 1

    # The first step goes nowhere: it judges the start, so that the density is compiled once.
    infinite = jnp.asarray(jnp.inf, start.shift.dtype)
    unjudged = _Iterate(start, -infinite, jnp.zeros_like(start.shift), -jnp.eye(dim), infinite)
    initial = unjudged, jnp.asarray(1.0, start.shift.dtype), jnp.asarray(0)
    iterate, _, _ = jax.lax.while_loop(is_unfinished, step, initial)
    finite = [jnp.all(jnp.isfinite(part)) for part in (*jax.tree.leaves(iterate.affine), iterate.bound)]
    return symmetrized(iterate.affine), VariationalInfo(iterate.decrement, jnp.all(jnp.asarray(finite)))


def symmetrized(affine: Affine) -> Affine:
    """The same Gaussian with the symmetric root of its covariance, which commutes with permutations."""
    vectors, singular, _ = jnp.linalg.svd(affine.scale)
    scale = (vectors * singular) @ vectors.T
    inverse = (vectors / singular) @ vectors.T
    return Affine(affine.shift, scale, inverse, jnp.sum(jnp.log(singular)))
