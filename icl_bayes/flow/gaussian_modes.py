"""A base for posteriors of several modes: for each of them the Gaussian closest to the posterior around it.

A draw starts in one of the modes, chosen by an estimate of its mass, and flows within the coordinates of that mode's
Gaussian. What the flow of mode ``k`` aims at is the posterior times the share ``r_k(theta)`` that the mode has of the
mixture of all Gaussians at ``theta``; over the modes, and over the orders of components that may be permuted, shares
add up to one, and so the draws to the posterior.

A draw together with its mode therefore has the importance weight ``p(theta) r_k(theta) / (w_k q_k(theta))``, whose mean
is the evidence: nothing but the density of one mode's flow is needed. Shares count the Gaussians that come near the
mode (its rivals); those farther away have none of the mass there.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp

from icl_bayes.flow.bases import Affine, Rivals, affine_from_curvature
from icl_bayes.flow.mode_search import LogDensity
from icl_bayes.flow.variational import gaussian_points, variational_gaussian

Array = jax.Array
NUM_MODES = 4
NUM_RIVALS = 8
SAME = 0.25
"""Squared distance per dimension, in the standard deviations of a mode, below which another start leads there, too."""
FLAT = 0.2
"""Least curvature of the Gaussians that the search starts from: no wider than twice the prior."""


class GaussianModes(NamedTuple):
    """Gaussians ``(K, ...)`` with rivals, and their masses.

    Attributes:
        parts: stacked :class:`Affine`, without rivals.
        log_weights: ``(K,)``, normalized; minus infinity for modes that were not found.
        rivals: of all modes together, with ``offset (K, num)`` and ``own (K,)``: what does not depend on the mode is
            kept once, so that draws of different modes share it under ``vmap``.
    """

    parts: Affine
    log_weights: Array
    rivals: Rivals

    def part(self, index: Array) -> Affine:
        """One of the Gaussians, ``index ()``, with its rivals."""
        part: Affine = jax.tree.map(lambda leaf: leaf[index], self.parts)
        return part._replace(rivals=self.rivals._replace(offset=self.rivals.offset[index], own=self.rivals.own[index]))

    def chosen_by(self, chance: Array) -> Array:
        """The mode that a number uniform in (0, 1) stands for, of the shape of ``chance``."""
        edges = jnp.cumsum(jnp.exp(self.log_weights))
        return jnp.clip(jnp.searchsorted(edges, chance * edges[-1]), 0, len(edges) - 1)

    def log_shares(self, orders: Array) -> Array:
        """Of all modes, normalized, at a point in several orders ``(num_orders, dim)``, ``(K, num_orders)``."""
        logs = jax.vmap(lambda part, weight: weight + part.log_prob(orders))(self.parts, self.log_weights)
        return logs - logsumexp(logs)


class ModesInfo(NamedTuple):
    """Health of the search: nats that a further step promised in the largest mode, and whether it is finite, ``()``."""

    decrement: Array
    is_finite: Array


def find_modes(
    log_density_fn: LogDensity,
    starts: Array,
    in_all_orders: Callable[[Array], Array] | None = None,
    *,
    num_modes: int = NUM_MODES,
    num_steps: int = 24,
    num_points: int = 64,
) -> tuple[GaussianModes, ModesInfo]:
    """The Gaussians around the modes that starts lie in, up to the order of exchangeable components; traceable.

    Args:
        log_density_fn: ``(dim,) -> ()``, unnormalized.
        starts: ``(num_starts, dim)``, close to modes.
        in_all_orders: ``(dim,) -> (num_orders, dim)``, the given order first; by default there is but one.
        num_modes: how many are kept, of those with the highest starts.
        num_steps, num_points: see :func:`icl_bayes.flow.variational_gaussian`.
    """
    orders_of = in_all_orders or (lambda theta: theta[None])
    dim = starts.shape[1]
    values = jax.vmap(log_density_fn)(starts)
    values = jnp.where(jnp.isfinite(values), values, -jnp.inf)
    hessians = jax.vmap(lambda theta: -jax.jacfwd(jax.grad(log_density_fn))(theta))(starts)
    is_known = jnp.all(jnp.isfinite(hessians), axis=(1, 2))
    hessians = jnp.where(is_known[:, None, None], hessians, jnp.eye(dim))
    around = jax.vmap(lambda mode, curvature: affine_from_curvature(mode, curvature, floor=FLAT))(starts, hessians)
    chosen, exists = _distinct(values, around, jax.vmap(orders_of)(starts), num_modes)
    around = jax.tree.map(lambda leaf: leaf[chosen], around)

    fit = lambda start: variational_gaussian(  # noqa: E731
        log_density_fn, start, num_steps=num_steps, num_points=max(num_points, 2 * dim)
    )
    parts, info = jax.vmap(fit)(around)
    exists = exists & info.is_finite
    parts = jax.tree.map(lambda new, old: jnp.where(_like(info.is_finite, new), new, old), parts, around)

    points = jnp.asarray(gaussian_points(dim, max(num_points, 2 * dim)), starts.dtype)
    thetas = jax.vmap(lambda part: part.forward(points))(parts)
    log_joint = jax.vmap(jax.vmap(log_density_fn))(thetas)
    log_joint = jnp.where(jnp.isfinite(log_joint), log_joint, -jnp.inf)
    log_ratio = log_joint - jax.vmap(Affine.log_prob)(parts, thetas)
    bounds = jnp.where(exists, jnp.mean(jnp.maximum(log_ratio, jnp.max(log_ratio) - 1e4), axis=1), -jnp.inf)
    # Searches from different starts may have ended in the same place.
    kept, exists = _distinct(bounds, parts, jax.vmap(orders_of)(parts.shift), num_modes)
    parts, thetas, log_ratio, bounds, decrements = jax.tree.map(
        lambda leaf: leaf[kept], (parts, thetas, log_ratio, bounds, info.decrement)
    )
    bounds = _normalized(jnp.where(exists, bounds, -jnp.inf))
    first = GaussianModes(parts, bounds, _rivals(parts, bounds, thetas, orders_of))
    masses = jax.vmap(partial(_log_mass, first))(jnp.arange(len(bounds)), thetas, log_ratio)
    weights = _normalized(jnp.where(exists, masses, -jnp.inf))
    modes = GaussianModes(parts, weights, _rivals(parts, weights, thetas, orders_of))
    return modes, ModesInfo(decrements[jnp.argmax(weights)], jnp.any(exists))


def _like(flags: Array, leaf: Array) -> Array:
    return flags.reshape(flags.shape + (1,) * (leaf.ndim - 1))


def _normalized(logs: Array) -> Array:
    """The same if none is finite, as there is nothing to normalize by."""
    total = logsumexp(logs)
    return jnp.where(jnp.isfinite(total), logs - total, logs)


def _log_mass(modes: GaussianModes, index: Array, thetas: Array, log_ratio: Array) -> Array:
    """Log of the mass of the posterior that is one mode's, by its points, up to a constant, ``()``."""
    return logsumexp(log_ratio + jax.vmap(modes.part(index).log_share)(thetas)) - jnp.log(len(thetas))


def _distinct(values: Array, around: Affine, orders: Array, num: int) -> tuple[Array, Array]:
    """The ``num`` highest starts of which none leads where a higher one does, and whether there are so many.

    Args:
        values: ``(num_starts,)``.
        around: Gaussians of the starts, stacked.
        orders: ``(num_starts, num_orders, dim)``, the starts in every order.
    """
    dim = orders.shape[-1]

    def pick(left: Array, _: None) -> tuple[Array, tuple[Array, Array]]:
        best = jnp.argmax(left)
        part = jax.tree.map(lambda leaf: leaf[best], around)
        distances = jnp.min(jnp.sum(part.backward(orders) ** 2, axis=-1), axis=1)
        found = jnp.isfinite(left[best])
        return jnp.where(distances < SAME * dim, -jnp.inf, left).at[best].set(-jnp.inf), (best, found)

    _, (chosen, exists) = jax.lax.scan(pick, values, None, length=num)
    return jnp.where(exists, chosen, chosen[0]), exists


def _rivals(parts: Affine, log_weights: Array, thetas: Array, orders_of: Callable[[Array], Array]) -> Rivals:
    """The Gaussians, in any order of components, that have the largest shares of a mode: those of all modes together.

    Args:
        thetas: ``(K, num_points, dim)``, points of every mode.
    """
    dim = parts.shift.shape[-1]
    # Where every coordinate of theta comes from in each order: a matrix is relabelled on both of its axes.
    places = orders_of(jnp.arange(dim, dtype=jnp.float32)).astype(jnp.int32)
    shifts = parts.shift[:, places]
    inverses = jax.vmap(lambda inverse: jax.vmap(lambda place: inverse[place][:, place])(places))(parts.inverse)
    num_modes, num_orders = shifts.shape[:2]
    num = num_modes * num_orders
    offsets = jnp.repeat(log_weights - parts.log_det, num_orders)
    own = num_orders * jnp.arange(num_modes)
    everyone = Rivals(shifts.reshape(num, dim), inverses.reshape(num, dim, dim), offsets, own)

    def count(index: Array, points: Array) -> Array:
        logs = jax.vmap(everyone.log_densities)(points)
        share = jnp.mean(jax.nn.softmax(logs, axis=1), axis=0).at[index].set(2.0)
        return jnp.zeros(num, bool).at[jax.lax.top_k(share, min(NUM_RIVALS, num))[1]].set(True)

    counted = jax.vmap(count)(own, thetas)
    anyone = jnp.any(counted, axis=0).astype(jnp.float32)
    pool = jax.lax.top_k(anyone, min(num_modes * NUM_RIVALS, num))[1]
    return Rivals(
        everyone.shift[pool],
        everyone.inverse[pool],
        jnp.where(counted[:, pool], offsets[pool], -jnp.inf),
        jnp.argmax(pool == own[:, None], axis=1),
    )
