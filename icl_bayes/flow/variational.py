"""The Gaussian closest to a posterior, by a few fixed-point steps inside jit.

Among Gaussians q = N(m, S), the Kullback-Leibler divergence KL(q || posterior) is least where

    E_q[score] = 0   and   S^-1 = -E_q[Hessian of the log density]

(Opper and Archambeau, 2009). In coordinates in which q is N(0, I), both expectations need the score
alone, since E_q[Hessian] = E_q[score u'] by Stein's identity, so densities with kinks are no trouble.
The expectations are taken over a fixed, antithetic, low-discrepancy set of points that has mean zero
and covariance one exactly; every step is a damped natural-gradient step of length one. Unlike the mode,
this Gaussian sits in the middle of a skewed or kinked posterior and has its width.
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
"""Nats of the evidence bound that a later iterate may lie below an earlier one and still replace it."""
IMPOSSIBLE = -1e6
"""What a point counts, relative to the best one, where the log density is not finite."""


class VariationalInfo(NamedTuple):
    """Health of the fixed-point iteration.

    Attributes:
        decrement: ``()``, nats that the last step still promised for the mean.
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


class _Evaluation(NamedTuple):
    """The Gaussian of one iteration, judged: its evidence bound ``()``, mean score and score moment."""

    affine: Affine
    bound: Array
    mean_score: Array
    moment: Array


def variational_gaussian(
    log_density_fn: LogDensity, start: Affine, *, num_steps: int = 8, num_points: int = 32
) -> tuple[Affine, VariationalInfo]:
    """The best Gaussian found from ``start`` in ``num_steps`` fixed-point steps; traceable.

    Args:
        log_density_fn: ``(dim,) -> ()``, unnormalized; only its values and gradients are used.
        start: for example a Laplace approximation.
        num_points: see :func:`gaussian_points`; raised to four per dimension where fewer.

    Returns:
        The visited Gaussian with the largest evidence bound (to :data:`NEGLIGIBLE`, never worse than
        ``start`` by that measure), with a symmetric ``scale``, and :class:`VariationalInfo`.
    """
    dim = start.shift.shape[0]
    points = jnp.asarray(gaussian_points(dim, max(num_points, 4 * dim)), start.shift.dtype)

    def evaluate(affine: Affine) -> _Evaluation:
        values, scores = jax.vmap(jax.value_and_grad(lambda u: log_density_fn(affine.forward(u))))(points)
        scores = jnp.where(jnp.isfinite(scores), scores, 0.0)
        best = jnp.max(jnp.where(jnp.isfinite(values), values, -jnp.inf))
        values = jnp.where(jnp.isfinite(values), jnp.maximum(values, best + IMPOSSIBLE), best + IMPOSSIBLE)
        moment = points.T @ scores / len(points)
        bound = jnp.mean(values) + affine.log_det
        return _Evaluation(affine, bound, jnp.mean(scores, axis=0), 0.5 * (moment + moment.T))

    def step(carry: tuple[_Evaluation, _Evaluation], _: None) -> tuple[tuple[_Evaluation, _Evaluation], None]:
        present, best = carry
        # In whitened coordinates the precision of the next Gaussian is -E[score u'].
        eigenvalues, vectors = jnp.linalg.eigh(-present.moment)
        precision = jnp.clip(eigenvalues, MAX_SCALING**-2, MAX_SCALING**2)
        move = (vectors / precision) @ (vectors.T @ present.mean_score)
        move = move * jnp.minimum(1.0, MAX_SHIFT / jnp.maximum(jnp.linalg.norm(move), 1e-12))
        root = jnp.sqrt(precision)
        scale = present.affine.scale @ ((vectors / root) @ vectors.T)
        inverse = ((vectors * root) @ vectors.T) @ present.affine.inverse
        shift = present.affine.shift + present.affine.scale @ move
        log_det = present.affine.log_det - jnp.sum(jnp.log(root))
        proposed = evaluate(Affine(shift, scale, inverse, log_det))
        # Of iterates that are equal to rounding the last is taken, so that rounding can't choose among them.
        better = proposed.bound > best.bound - NEGLIGIBLE
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), proposed, best)
        return (proposed, best), None

    first = evaluate(start)
    (_, best), _ = jax.lax.scan(step, (first, first), None, length=num_steps)
    affine = symmetrized(best.affine)
    decrement = 0.5 * jnp.sum(best.mean_score**2)
    finite = [jnp.all(jnp.isfinite(part)) for part in (*affine, best.bound)]
    return affine, VariationalInfo(decrement, jnp.all(jnp.asarray(finite)))


def symmetrized(affine: Affine) -> Affine:
    """The same Gaussian with the symmetric root of its covariance, which commutes with permutations."""
    vectors, singular, _ = jnp.linalg.svd(affine.scale)
    scale = (vectors * singular) @ vectors.T
    inverse = (vectors / singular) @ vectors.T
    return Affine(affine.shift, scale, inverse, jnp.sum(jnp.log(singular)))
