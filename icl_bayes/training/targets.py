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

from icl_bayes.baselines.gaussians import GaussianInfo, laplace_of, variational_of
from icl_bayes.flow import LIKELIHOOD_BASES, Affine, identity_affine
from icl_bayes.tasks import Features, Task
from icl_bayes.training.config import TargetsConfig
from icl_bayes.types import Array, Dataset

MAX_DECREMENT = 0.1
"""Nats promised by a further step of the base beyond which a simulated data set is not used for training."""
MAX_RIVAL = -4.6
"""Log mass of a second mode, relative to the one taken, from which on it is not either: one percent."""


class Targets(NamedTuple):
    """One simulated data set with draws from its posterior.

    Attributes:
        dataset, features: the data, raw and as the network reads it.
        affine: Gaussian approximation of the posterior (a function of the data alone): the base of the
            flow if that is computed from the likelihood, and the metric of the moves.
        theta: ``(num_draws, dim)`` exact, dependent draws.
        weight: ``()`` 1 if the task keeps the data set, else 0.
        acceptance: ``()`` mean acceptance rate of the moves.
    """

    dataset: Dataset
    features: Features
    affine: Affine
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


def likelihood_base(
    kind: str, task: Task, dataset: Dataset, config: TargetsConfig | None = None
) -> tuple[Affine, GaussianInfo]:
    """The base computed from the log joint of a data set, ``laplace`` or ``variational``.

    Args:
        config: bounds on the number of steps and starts. By default those of the baselines: one data set at
            hand is worth more patience than one of many to train on, which is discarded if not found by then.
    """
    fn = {"laplace": laplace_of, "variational": variational_of}[kind]
    if config is None:
        return fn(task, dataset)
    if kind == "laplace":
        return laplace_of(task, dataset, config.newton_steps, num_starts=config.mode_starts or None)
    return variational_of(task, dataset, config.newton_steps, config.variational_steps, config.mode_starts or None)


def is_usable(info: GaussianInfo) -> Array:
    """Whether a base represents its posterior well enough to learn from, ``()``; a rule on the data alone."""
    return info.is_finite & (info.decrement < MAX_DECREMENT) & (info.rival < MAX_RIVAL)


def make_targets(task: Task, config: TargetsConfig, *, base: str) -> Callable[[Array, Array, int], Targets]:
    """``(rng_key, num_rows, padded_rows) -> Targets`` for one data set; jit- and vmap-able.

    Args:
        base: of the network. One computed from the likelihood is also the metric of the moves; with
            another base, moves use the variational one.
    """
    kind = base if base in LIKELIHOOD_BASES else "variational"
    needs_gaussian = base in LIKELIHOOD_BASES or config.num_moves > 0

    def targets(rng_key: Array, num_rows: Array, padded_rows: int) -> Targets:
        simulate_key, chain_key = jax.random.split(rng_key)
        theta, dataset = task.simulate(simulate_key, num_rows, padded_rows)
        accepted = task.is_accepted(dataset)

        def log_density_fn(theta: Array) -> Array:
            return task.log_joint(theta, dataset)

        if needs_gaussian:
            affine, info = likelihood_base(kind, task, dataset, config)
            accepted = accepted & is_usable(info)
        else:
            affine = identity_affine(task.dim)
        draws, acceptance = exact_start_chain(chain_key, log_density_fn, affine, theta, config)
        usable = jnp.all(jnp.isfinite(draws)) & accepted
        draws = jnp.where(usable, draws, 0.0)
        return Targets(dataset, task.features(dataset), affine, draws, usable.astype(jnp.float32), acceptance)

    return targets
