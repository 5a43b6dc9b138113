"""Draws and densities of networks whose base has several modes (:mod:`icl_bayes.flow.gaussian_modes`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from icl_bayes.baselines.gaussians import GaussianInfo
from icl_bayes.flow import MAX_RESIDUAL, Affine, GaussianModes, Noise, Solver, transport, value_and_log_det
from icl_bayes.tasks import Task
from icl_bayes.training.draws import UNKNOWN, Inverted, ThetaDraws
from icl_bayes.types import Array, Dataset

if TYPE_CHECKING:
    from icl_bayes.training.network import Network, Params

MAX_SQUARES = 4.0, 25.0
"""Squared distance, so much per dimension and so much more, of a simulated theta from its mode's center beyond which it
lies in none of the modes that were found."""
NUM_SOURCES = 8
"""Modes, in any order of components, that the density of a draw is summed over."""
LEAST_SHARE = 1e-4
"""Of the base, below which a mode is left out of that sum."""
_CHOICE = 4
"""Apart from what else the key of a draw is folded with."""


def noise_of_modes(noise: Noise, task: Task, rng_keys: Array) -> Array:
    """For each key ``(num,)`` a vector ``(dim + 1 + num_exchangeable,)``.

    The last numbers, uniform in (0, 1), choose a mode and an order of the components.
    """
    dim, num = task.dim, 1 + task.num_exchangeable
    chances = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, _CHOICE), (num,)))(rng_keys)
    return jnp.concatenate([noise.draw(rng_keys, dim), chances], axis=1)


def own_mode(rng_key: Array, task: Task, modes: GaussianModes, theta: Array) -> tuple[Affine, Array, Array]:
    """One of the modes, by its share at ``theta (dim,)`` in one of all orders, and theta in that order.

    Returns:
        The mode, theta and whether it lies near enough to be the mode's, ``()``. If theta is an exact draw of the
        posterior, it is one of the posterior times the share of the mode it gets.
    """
    orders = task.in_all_orders(theta)
    log_shares = modes.log_shares(orders)
    chosen = jax.random.categorical(rng_key, log_shares.ravel())
    affine, theta = modes.part(chosen // len(orders)), orders[chosen % len(orders)]
    per_dimension, more = MAX_SQUARES
    return affine, theta, jnp.sum(affine.backward(theta) ** 2) < per_dimension * task.dim + more


def draw_from_modes(
    network: Network,
    params: Params,
    dataset: Dataset,
    modes: GaussianModes,
    info: GaussianInfo,
    noise: Array,
    solver: Solver,
    *,
    with_log_prob: bool,
) -> ThetaDraws:
    """See :meth:`Network.draw_from`; ``noise`` is that of :func:`noise_of_modes`."""
    task, velocity_of = network.task, network.velocity_maker(params, dataset)
    dim = task.dim
    which = modes.chosen_by(noise[:, dim])
    origin = jnp.zeros(()), jnp.zeros(dim)
    at_origin = jax.vmap(lambda index: velocity_of(modes.part(index))(*origin))(jnp.arange(len(modes.log_weights)))

    def one(index: Array, noise: Array) -> tuple[Array, Array]:
        affine, log_weight = modes.part(index), modes.log_weights[index]
        flow = lambda z: transport(network.path, velocity_of(affine), z, solver, at_origin[index]).x  # noqa: E731
        z = noise[:dim]
        if with_log_prob:
            x, log_det = value_and_log_det(flow, z)
            log_prob = network.noise.log_prob(z) - log_det - affine.log_det
        else:
            x, log_prob = flow(z), jnp.zeros(())
        theta = affine.forward(x)
        log_prob = log_weight + log_prob - affine.log_share(theta) - _log_num_orders(task)
        if task.num_exchangeable:
            theta = task.relabel(theta, jnp.argsort(noise[dim + 1 :]))
        return theta, log_prob

    theta, log_prob = jax.vmap(one)(which, noise)
    is_finite = info.is_finite & jnp.all(jnp.isfinite(theta))
    if with_log_prob:
        is_finite = is_finite & jnp.all(jnp.isfinite(log_prob))
    return ThetaDraws(theta, is_finite, info.decrement, info.rival, log_prob if with_log_prob else UNKNOWN)


def log_prob_from_modes(
    network: Network, params: Params, dataset: Dataset, modes: GaussianModes, thetas: Array, solver: Solver
) -> Inverted:
    """See :meth:`Network.log_prob`: the sum over the modes, in all orders, that have a share at a point."""
    task, velocity_of = network.task, network.velocity_maker(params, dataset)

    def one(theta: Array) -> Inverted:
        orders = task.in_all_orders(theta)
        log_shares = modes.log_shares(orders).ravel()
        shares, chosen = jax.lax.top_k(jnp.exp(log_shares), min(NUM_SOURCES, len(log_shares)))

        def counts(carry: tuple[Array, Array, Array]) -> Array:
            index = carry[0]
            return (index < len(shares)) & ((shares[index] > LEAST_SHARE) | (index == 0))

        def add(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            index, total, residual = carry
            which, order = chosen[index] // len(orders), chosen[index] % len(orders)
            affine = modes.part(which)
            found = network.inverted(velocity_of(affine), affine, orders[order], solver)
            # What cannot be traced back in a mode is hardly ever drawn from it; in the mode most likely it matters.
            is_known = (found.residual <= MAX_RESIDUAL) | (index == 0)
            log_prob = jnp.where(is_known, modes.log_weights[which] + found.log_prob, -jnp.inf)
            residual = jnp.where(index == 0, found.residual, residual)
            return index + 1, jnp.logaddexp(total, log_prob), residual

        start = jnp.asarray(0), jnp.asarray(-jnp.inf, theta.dtype), jnp.zeros((), theta.dtype)
        _, total, residual = jax.lax.while_loop(counts, add, start)
        return Inverted(total - _log_num_orders(task), residual)

    # One after another: most have but one source, and none waits for those that have more.
    return jax.lax.map(one, thetas)


def _log_num_orders(task: Task) -> float:
    return float(np.log(len(task.orders)))
