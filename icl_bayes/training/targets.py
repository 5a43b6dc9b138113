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

from icl_bayes.baselines.gaussians import GAUSSIANS, GaussianInfo, laplace_of, modes_of, variational_of
from icl_bayes.flow import LIKELIHOOD_BASES, Affine, affine_from_curvature, identity_affine
from icl_bayes.precision import full_precision
from icl_bayes.tasks import Features, Task
from icl_bayes.training.config import TargetsConfig
from icl_bayes.training.mode_flow import own_mode
from icl_bayes.types import Array, Dataset

MAX_DECREMENT = 0.1
"""Nats promised by a further step of the base beyond which a simulated data set is not used for training."""
MAX_RIVAL = -4.6
"""Log mass of a second mode, relative to the one taken, from which on it is not either: one percent."""


STEP_SIZE_OCTAVES = {"posterior": 1, "prior": 5, "pilots": 3, "warped": 3, "modes": 2}
"""Step sizes by metric: the given one, its half, and so on."""
SHRINKAGE = (0.5, 0.25, 0.125)
"""Of theta, in simulations from a shrunken prior; they are equally likely."""


class Targets(NamedTuple):
    """One simulated data set with draws from its posterior.

    Attributes:
        dataset, features: the data, raw and as the network reads it.
        affine: Gaussian approximation of the posterior (a function of the data alone): the base of the
            flow if that is computed from the likelihood, and the metric of the moves.
        theta: ``(num_draws, dim)`` exact, dependent draws.
        log_weights: ``(num_draws,)``, of the draws, up to a constant; equal unless the prior was shrunken.
        scores: ``(num_draws, dim)``, gradients of the log joint at the draws; none without ``with_scores``.
        weight: ``()`` 1 if the task keeps the data set, else 0.
        acceptance: ``()`` mean acceptance rate of the moves.
    """

    dataset: Dataset
    features: Features
    affine: Affine
    theta: Array
    log_weights: Array
    scores: Array | None
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

    whitened = affine.pulled_back(log_density_fn)

    def move(state: blackjax.mcmc.hmc.HMCState, rng_key: Array):
        jitter_key, hmc_key = jax.random.split(rng_key)
        step_size = config.step_size * jax.random.uniform(jitter_key, minval=0.8, maxval=1.2)
        octaves = STEP_SIZE_OCTAVES[config.metric]
        if octaves > 1:  # a posterior may be much narrower than its metric, in places
            octave_key = jax.random.fold_in(jitter_key, 1)
            step_size = step_size / 2.0 ** jax.random.randint(octave_key, (), 0, octaves)
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
    """The base computed from the log joint of a data set, ``laplace``, ``variational``, ``pilots`` or ``warped``.

    Args:
        config: bounds on the number of steps and starts. By default those of the baselines: one data set at
            hand is worth more patience than one of many to train on, which is discarded if not found by then.
    """
    if config is None or kind in ("pilots", "warped"):
        return GAUSSIANS[kind](task, dataset)
    if kind == "laplace":
        return laplace_of(task, dataset, config.newton_steps, num_starts=config.mode_starts or None)
    return variational_of(task, dataset, config.newton_steps, config.variational_steps, config.mode_starts or None)


def is_usable(info: GaussianInfo) -> Array:
    """Whether a base represents its posterior well enough to learn from, ``()``; a rule on the data alone."""
    return info.is_finite & (info.decrement < MAX_DECREMENT) & (info.rival < MAX_RIVAL)


def make_targets(
    task: Task,
    config: TargetsConfig,
    *,
    base: str,
    with_scores: bool = False,
    features: Callable[[Dataset], Features] | None = None,
) -> Callable[[Array, Array, int], Targets]:
    """``(rng_key, num_rows, padded_rows) -> Targets`` for one data set; jit- and vmap-able.

    Args:
        base: of the network. One computed from the likelihood is also the metric of the moves; with
            another base, moves use the variational one, unless ``config.metric`` is the prior's.
        with_scores: whether to compute those too.
        features: what the network reads, the task's by default.
    """
    kind = base if base in LIKELIHOOD_BASES else "variational"
    needs_gaussian = base in LIKELIHOOD_BASES or (config.num_moves > 0 and config.metric == "posterior")

    @full_precision
    def targets(rng_key: Array, num_rows: Array, padded_rows: int) -> Targets:
        simulate_key, chain_key = jax.random.split(rng_key)
        scale = shrinkage(jax.random.fold_in(rng_key, 1), config.shrunk_share) if config.shrunk_share else None
        theta, dataset = task.simulate(simulate_key, num_rows, padded_rows, scale=scale)
        accepted = task.is_accepted(dataset)

        def excess(theta: Array) -> Array:
            """By how much the prior of the simulation exceeds the task's, in nats."""
            return shrunken_excess(lambda one: task.log_prior(one, dataset), theta, config.shrunk_share)

        if kind == "modes":
            modes, info = modes_of(task, dataset, config.variational_steps)
            affine, theta, is_near = own_mode(jax.random.fold_in(rng_key, 3), task, modes, theta)
            accepted = accepted & info.is_finite & is_near
        elif needs_gaussian:
            affine, info = likelihood_base(kind, task, dataset, config)
            accepted = accepted & is_usable(info)
        else:
            affine = identity_affine(task.dim)

        def log_joint_fn(theta: Array) -> Array:
            log_joint = task.log_joint(theta, dataset)
            return log_joint if affine.rivals is None else log_joint + affine.log_share(theta)

        def log_density_fn(theta: Array) -> Array:
            return log_joint_fn(theta) + excess(theta) if config.shrunk_share else log_joint_fn(theta)

        if config.metric == "pilots" and config.num_moves and not needs_gaussian:
            affine = pilot_affine(jax.random.fold_in(rng_key, 2), log_density_fn, task.dim)
        draws, acceptance = exact_start_chain(chain_key, log_density_fn, affine, theta, config)
        log_weights = -jax.vmap(excess)(draws) if config.shrunk_share else jnp.zeros(len(draws))
        scores = jax.vmap(jax.grad(log_joint_fn))(draws) if with_scores else None
        found = (draws, log_weights, scores)
        usable = accepted & jax.tree.reduce(
            jnp.logical_and, jax.tree.map(lambda leaf: jnp.all(jnp.isfinite(leaf)), found)
        )
        draws, log_weights, scores = jax.tree.map(lambda leaf: jnp.where(usable, leaf, 0.0), found)
        weight = usable.astype(jnp.float32)
        read = (features or task.features)(dataset)
        return Targets(dataset, read, affine, draws, log_weights, scores, weight, acceptance)

    return targets


NUM_PILOTS, MIN_EFFECTIVE_PILOTS, ISOTROPIC_PILOTS = 128, 12.0, 4.0


def pilot_affine(rng_key: Array, log_density_fn: Callable[[Array], Array], dim: int) -> Affine:
    """Whitening by the moments of a density, from weighted draws of normal laws of several widths about zero.

    Weights are tempered until a dozen draws have a say, so that a poor sample errs on the wide side. A function of
    the data and of ``rng_key`` alone.
    """
    scales = jnp.asarray((1.0, *SHRINKAGE))
    which = jnp.arange(NUM_PILOTS) % len(scales)
    pilots = scales[which][:, None] * jax.random.normal(rng_key, (NUM_PILOTS, dim))
    squares = jnp.sum(pilots**2, axis=1)[:, None]
    log_proposal = jax.scipy.special.logsumexp(-0.5 * squares / scales**2 - dim * jnp.log(scales), axis=1)
    log_weights = jax.vmap(log_density_fn)(pilots) - log_proposal
    log_weights = jnp.where(jnp.isfinite(log_weights), log_weights, -1e6)

    def effective(power: Array) -> Array:
        return 1.0 / jnp.sum(jax.nn.softmax(power * log_weights) ** 2)

    def halve(bounds: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], None]:
        low, high = bounds
        middle = 0.5 * (low + high)
        enough = effective(middle) >= MIN_EFFECTIVE_PILOTS
        return (jnp.where(enough, middle, low), jnp.where(enough, high, middle)), None

    (power, _), _ = jax.lax.scan(halve, (jnp.zeros(()), jnp.ones(())), None, length=12)
    power = jnp.where(effective(jnp.ones(())) >= MIN_EFFECTIVE_PILOTS, 1.0, power)
    weights = jax.nn.softmax(power * log_weights)
    mean = weights @ pilots
    centred = pilots - mean
    covariance = (weights[:, None] * centred).T @ centred
    isotropic = (jnp.trace(covariance) / dim + 1e-6) * jnp.eye(dim)
    count = effective(power)
    covariance = (count * covariance + ISOTROPIC_PILOTS * isotropic) / (count + ISOTROPIC_PILOTS)
    return affine_from_curvature(mean, jnp.linalg.inv(covariance))


def shrinkage(rng_key: Array, share: float) -> Array:
    """What theta is multiplied by in a simulation, ``()``: one, or with probability ``share`` one of `SHRINKAGE`."""
    which_key, how_key = jax.random.split(rng_key)
    shrunk = jax.random.choice(how_key, jnp.asarray(SHRINKAGE))
    return jnp.where(jax.random.uniform(which_key) < share, shrunk, 1.0)


def shrunken_excess(log_prior_fn: Callable[[Array], Array], theta: Array, share: float) -> Array:
    """Log density of :func:`shrinkage` times a prior draw at ``theta`` ``(dim,)``, minus the prior's, ``()``."""
    log_prior = log_prior_fn(theta)
    parts = [jnp.log1p(-share)]
    for scale in SHRINKAGE:
        density = log_prior_fn(theta / scale) - theta.shape[0] * jnp.log(scale)
        parts.append(jnp.log(share / len(SHRINKAGE)) + density - log_prior)
    return jax.scipy.special.logsumexp(jnp.stack(parts))
