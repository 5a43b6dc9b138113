"""A network's loss by divergence (:mod:`icl_bayes.flow.divergence`), for what other losses have brought near.

It costs several times a regression step, and from far away it has little to hold on to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from icl_bayes.flow import LIKELIHOOD_BASES, gap_at, hellinger, identity_affine, trace_back, transport
from icl_bayes.precision import full_precision
from icl_bayes.training.targets import Targets
from icl_bayes.types import Array

if TYPE_CHECKING:
    from icl_bayes.training.network import Network, Params, Velocity


@full_precision
def hellinger_loss(network: Network, params: Params, rng_key: Array, targets: Targets) -> Array:
    """Squared Hellinger distance between a network's draws and the posterior of one data set, ``()``.

    The draws are those of the solver that the network will be run with, without dropout; draws of the posterior are the
    simulated ones, traced back to the noise that they come from.
    """
    noise_key, choice_key = jax.random.split(rng_key)
    config, dataset, dim = network.config, targets.dataset, network.task.dim
    solver = config.flow.make_solver()
    affine = targets.affine if config.model.base in LIKELIHOOD_BASES else identity_affine(dim)
    view = network.tokens(dataset, affine)
    read = targets.features if view is None else view[:-1]

    def velocity_of(params: Params) -> Velocity:
        model = network.model(params)
        return network.velocity(model, model.encode(*read, for_many_draws=True), affine, dataset, view)

    def flow_of(velocity: Velocity):
        return lambda z: transport(network.path, velocity, z, solver).x

    fixed = velocity_of(jax.lax.stop_gradient(params))
    num = config.targets.num_examples or len(targets.theta)
    chosen = targets.theta[jax.random.categorical(choice_key, targets.log_weights, shape=(num,))]
    x = jax.vmap(affine.backward)(chosen)
    traced = jax.vmap(lambda one: trace_back(network.path, fixed, one, solver))(x)
    noise = network.draw_noise(jax.random.split(noise_key, num))[:, :dim]
    z = jax.lax.stop_gradient(jnp.concatenate([noise, traced]))

    log_target = affine.pulled_back(network.log_density_fn(dataset, affine))
    gaps = jax.vmap(lambda one: gap_at(flow_of(fixed), network.noise.log_prob, log_target, one))(z)
    found = jax.lax.stop_gradient(hellinger(gaps))
    # Of this the gradient, of the distance the value.
    pushed = jnp.sum(found.pushes * jax.vmap(flow_of(velocity_of(params)))(z)) / len(z)
    return pushed + jax.lax.stop_gradient(found.value - pushed)
