"""Moments of a posterior of few dimensions, whatever its modes: adaptive importance sampling inside jit.

A first set of points covers the prior at several widths. Each further set lies around a sample of the one before,
which was weighted by the log density (population Monte Carlo; Cappe et al., 2004). While few points have a say,
weights are tempered, so that a poor sample errs on the wide side. The points are fixed, so that the result is a
function of the density alone.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp

from icl_bayes.flow.bases import Affine, affine_from_curvature, identity_affine
from icl_bayes.flow.mode_search import LogDensity
from icl_bayes.flow.variational import gaussian_points
from icl_bayes.flow.warp import Warp, candidates, identity_warp

Array = jax.Array

MAX_DIM = 8
"""Dimensions up to which a few hundred points say something about a posterior."""
PRIOR_WIDTHS = (1.0, 0.5, 0.25, 0.125)
"""Of the first set of points, in standard deviations of the prior."""
NUM_CENTERS = 32
PER_CENTER = 8
NUM_POINTS = NUM_CENTERS * PER_CENTER
MIN_EFFECTIVE = 16.0
"""Number of points that must have a say; weights are tempered until they do."""
ISOTROPIC = 2.0
"""Points' worth of an isotropic covariance that is mixed into the one measured."""
_HALVINGS = 12


class PilotInfo(NamedTuple):
    """Health of the search.

    Attributes:
        effective: ``()``, effective number of points of the last set, before tempering.
        is_finite: ``()`` boolean.
    """

    effective: Array
    is_finite: Array


def effective_number(log_weights: Array) -> Array:
    """Of weighted points, ``()``."""
    return 1.0 / jnp.sum(jax.nn.softmax(log_weights) ** 2)


def tempered(log_weights: Array, wanted: float) -> Array:
    """Log weights times the largest power, at most 1, that leaves ``wanted`` effective points; same shape."""

    def halve(bounds: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], None]:
        low, high = bounds
        middle = 0.5 * (low + high)
        enough = effective_number(middle * log_weights) >= wanted
        return (jnp.where(enough, middle, low), jnp.where(enough, high, middle)), None

    (power, _), _ = jax.lax.scan(halve, (jnp.zeros(()), jnp.ones(())), None, length=_HALVINGS)
    return jnp.where(effective_number(log_weights) >= wanted, 1.0, power) * log_weights


def weighted_moments(points: Array, log_weights: Array) -> tuple[Array, Array]:
    """Mean ``(dim,)`` and covariance ``(dim, dim)``, the latter with a share of an isotropic one."""
    weights = jax.nn.softmax(log_weights)
    dim = points.shape[1]
    mean = weights @ points
    centred = points - mean
    covariance = (weights[:, None] * centred).T @ centred
    isotropic = (jnp.trace(covariance) / dim + 1e-6) * jnp.eye(dim)
    count = effective_number(log_weights)
    return mean, (count * covariance + ISOTROPIC * isotropic) / (count + ISOTROPIC)


def _first_points(dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Points ``(NUM_POINTS, dim)`` of several widths about zero, and their log proposal density up to a constant."""
    scales = np.asarray(PRIOR_WIDTHS)
    noise = np.random.default_rng(dim).permutation(gaussian_points(dim, NUM_POINTS).astype(np.float64))
    points = scales[np.arange(NUM_POINTS) % len(scales)][:, None] * noise
    squares = np.sum(points**2, axis=1)[:, None]
    return points, np.logaddexp.reduce(-0.5 * squares / scales**2 - dim * np.log(scales), axis=1)


def systematic_sample(points: Array, log_weights: Array, num: int) -> Array:
    """``num`` of the points by systematic resampling, without randomness, ``(num, dim)``."""
    edges = jnp.cumsum(jax.nn.softmax(log_weights))
    places = (jnp.arange(num) + 0.5) / num * edges[-1]
    return points[jnp.clip(jnp.searchsorted(edges, places), 0, len(points) - 1)]


def find_pilots(log_density_fn: LogDensity, dim: int, *, num_rounds: int = 3) -> tuple[Array, Array]:
    """The last set of points ``(NUM_POINTS, dim)``, and their log weights up to a constant; traceable.

    Args:
        log_density_fn: ``(dim,) -> ()``, unnormalized, in coordinates in which the prior is about standard normal.
        dim: at most :data:`MAX_DIM`.
        num_rounds: sets of points after the first.

    Raises:
        ValueError: for more dimensions than that.
    """
    if dim > MAX_DIM:
        raise ValueError(
            f"Moments by importance sampling are for at most {MAX_DIM} dimensions; received {dim}. Use "
            "model.base=variational or standard."
        )
    points, log_proposal = (jnp.asarray(part, jnp.float32) for part in _first_points(dim))
    noise = jnp.asarray(np.random.default_rng(dim + 1).permutation(gaussian_points(dim, NUM_POINTS)))
    bandwidth = (4.0 / (NUM_CENTERS * (dim + 2.0))) ** (1.0 / (dim + 4.0))

    def log_weights_of(points: Array, log_proposal: Array) -> Array:
        values = jax.vmap(log_density_fn)(points) - log_proposal
        best = jnp.max(jnp.where(jnp.isfinite(values), values, -jnp.inf))
        return jnp.where(jnp.isfinite(values), values - best, -1e6)

    def refine(carry: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], None]:
        points, log_weights = carry
        weights = tempered(log_weights, MIN_EFFECTIVE)
        covariance = weighted_moments(points, weights)[1]
        kernel = affine_from_curvature(jnp.zeros(dim), jnp.linalg.inv(covariance))
        centers = systematic_sample(points, weights, NUM_CENTERS)
        points = jnp.repeat(centers, PER_CENTER, axis=0) + bandwidth * kernel.forward(noise)
        whitened = kernel.backward(points[:, None, :] - centers[None, :, :]) / bandwidth
        log_proposal = logsumexp(-0.5 * jnp.sum(whitened**2, axis=2), axis=1)
        return (points, log_weights_of(points, log_proposal)), None

    first = points, log_weights_of(points, log_proposal)
    return jax.lax.scan(refine, first, None, length=num_rounds)[0]


def pilot_gaussian(
    log_density_fn: LogDensity, dim: int, *, num_rounds: int = 3, is_warped: bool = False
) -> tuple[Affine, PilotInfo]:
    """The Gaussian with the moments of a density, by importance sampling from fixed points; traceable.

    It covers all modes that the points find, where one found by climbing or by a variational bound sits in one.
    Other arguments and errors are those of :func:`find_pilots`.

    Args:
        is_warped: take the coordinates, of those in :mod:`icl_bayes.flow.warp`, in which the points are most likely
            under a Gaussian with their moments.
    """
    return _gaussian_of(*find_pilots(log_density_fn, dim, num_rounds=num_rounds), is_warped)


def pilot_sample(
    log_density_fn: LogDensity, dim: int, num: int, *, num_rounds: int = 3, is_warped: bool = False
) -> Array:
    """``num`` draws, about, of a density, in the coordinates of :func:`pilot_gaussian`, ``(num, dim)``."""
    points, log_weights = find_pilots(log_density_fn, dim, num_rounds=num_rounds)
    affine, _ = _gaussian_of(points, log_weights, is_warped)
    return affine.backward(systematic_sample(points, tempered(log_weights, MIN_EFFECTIVE), num))


def _gaussian_of(points: Array, log_weights: Array, is_warped: bool) -> tuple[Affine, PilotInfo]:
    smooth = tempered(log_weights, MIN_EFFECTIVE)
    affine = _likeliest_warp(points, smooth) if is_warped else _by_moments(points, smooth)
    is_finite = jax.tree.reduce(jnp.logical_and, jax.tree.map(lambda leaf: jnp.all(jnp.isfinite(leaf)), affine))
    dim = points.shape[1]
    otherwise = identity_affine(dim)._replace(warp=identity_warp(dim) if is_warped else None)
    affine = jax.tree.map(lambda found, other: jnp.where(is_finite, found, other), affine, otherwise)
    return affine, PilotInfo(effective_number(log_weights), is_finite)


def _by_moments(points: Array, log_weights: Array) -> Affine:
    mean, covariance = weighted_moments(points, log_weights)
    return affine_from_curvature(mean, jnp.linalg.inv(covariance))


def _likeliest_warp(points: Array, log_weights: Array) -> Affine:
    def judged(warp: Warp) -> tuple[Affine, Array]:
        affine = _by_moments(warp.backward(points), log_weights)._replace(warp=warp)
        return affine, jax.nn.softmax(log_weights) @ affine.log_prob(points)

    affines, log_likelihoods = jax.vmap(judged)(candidates(points, log_weights))
    best = jnp.argmax(jnp.where(jnp.isfinite(log_likelihoods), log_likelihoods, -jnp.inf))
    return jax.tree.map(lambda leaf: leaf[best], affines)
