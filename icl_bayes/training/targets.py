"""Exact-start targets: many exact posterior draws from one simulated pair.

The theta that generated a data set is an exact draw from its posterior, so a chain started there
under any kernel that leaves the posterior invariant is stationary from its first state: no
burn-in, no bias. Step size, metric and number of moves depend on the data set and on constants,
never on the generating theta or the state of the chain; a failed proposal is a rejection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, cast

import blackjax
import jax
import jax.numpy as jnp

from icl_bayes.baselines.laplace import laplace_of
from icl_bayes.flow import Affine
from icl_bayes.tasks import Features, Task
from icl_bayes.training.config import TargetsConfig
from icl_bayes.types import Array, Dataset

MAX_DECREMENT = 0.1
"""Nats left to the mode beyond which a simulated data set is not used for training."""


class Targets(NamedTuple):
    """One simulated data set with draws from its posterior.

    Attributes:
        dataset, features: the data, raw and as the network reads it.
        laplace: mode and whitening of the log joint (a function of the data alone).
        theta: ``(num_draws, dim)`` exact, dependent draws.
        weight: ``()`` 1 if the task keeps the data set, else 0.
        acceptance: ``()`` mean acceptance rate of the moves.
    """

    dataset: Dataset
    features: Features
    laplace: Affine
    theta: Array
    weight: Array
    acceptance: Array


def exact_start_chain(
    rng_key: Array,
    log_density_fn: Callable[[Array], Array],
    affine: Affine,
    theta: Array,
    config: TargetsConfig,
) -> tuple[Array, Array]:
    """``num_draws`` states of an HMC chain started at an exact draw.

    Args:
        log_density_fn: ``(dim,) -> ()`` log joint given the data.
        affine: whitening in which the chain moves.
        theta: ``(dim,)`` exact posterior draw; it is the first state returned.

    Returns:
        draws ``(num_draws, dim)`` and the mean acceptance rate ``()``.
    """
    dim = theta.shape[0]
    kernel = blackjax.hmc.build_kernel()

    def whitened(u: Array) -> Array:
        return log_density_fn(affine.forward(u))

    def move(state: blackjax.mcmc.hmc.HMCState, rng_key: Array):
        jitter_key, hmc_key = jax.random.split(rng_key)
        step_size = config.step_size * jax.random.uniform(jitter_key, minval=0.8, maxval=1.2)
        state, info = kernel(
            hmc_key,
            state,
            whitened,
            step_size=step_size,
            inverse_mass_matrix=jnp.ones(dim),
            num_integration_steps=config.num_leapfrogs,
        )
        return state, info.acceptance_rate

    def draw(state: blackjax.mcmc.hmc.HMCState, rng_key: Array):
        state, rates = jax.lax.scan(move, state, jax.random.split(rng_key, config.num_moves))
        return state, (state.position, jnp.mean(rates))

    if config.num_moves == 0 or config.num_draws == 1:
        return theta[None, :], jnp.ones(())
    start = blackjax.hmc.init(affine.backward(theta), whitened)
    _, (positions, rates) = jax.lax.scan(draw, start, jax.random.split(rng_key, config.num_draws - 1))
    # The first state is kept as simulated: a round trip through the whitening would round it.
    return jnp.concatenate([theta[None, :], affine.forward(cast(Array, positions))]), jnp.mean(rates)


def make_targets(task: Task, config: TargetsConfig, *, needs_laplace: bool) -> Callable[[Array, Array, int], Targets]:
    """``(rng_key, num_rows, padded_rows) -> Targets`` for one data set; jit- and vmap-able.

    Args:
        needs_laplace: whether the network's base is the Laplace approximation; it is also
            computed when the chain moves, as its metric.
    """
    uses_laplace = needs_laplace or config.num_moves > 0

    def targets(rng_key: Array, num_rows: Array, padded_rows: int) -> Targets:
        simulate_key, chain_key = jax.random.split(rng_key)
        theta, dataset = task.simulate(simulate_key, num_rows, padded_rows)
        accepted = task.is_accepted(dataset)

        def log_density_fn(theta: Array) -> Array:
            return task.log_joint(theta, dataset)

        if uses_laplace:
            affine, info = laplace_of(task, dataset, config.newton_steps)
            # Also a rule on the data alone: without its mode found, a data set has no usable base.
            accepted = accepted & info.is_finite & (info.decrement < MAX_DECREMENT)
        else:
            eye = jnp.eye(task.dim)
            affine = Affine(jnp.zeros(task.dim), eye, eye, jnp.zeros(()))
        draws, acceptance = exact_start_chain(chain_key, log_density_fn, affine, theta, config)
        usable = jnp.all(jnp.isfinite(draws)) & accepted
        draws = jnp.where(usable, draws, 0.0)
        return Targets(dataset, task.features(dataset), affine, draws, usable.astype(jnp.float32), acceptance)

    return targets
