"""Exact-start chains leave the joint law alone; broken variants of them do not."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icl_bayes.baselines.gaussians import variational_of
from icl_bayes.tasks import make_task
from icl_bayes.training.config import TargetsConfig
from icl_bayes.training.targets import exact_start_chain

NUM_DATASETS = 3000
CONFIG = TargetsConfig(num_draws=4, num_moves=2, num_leapfrogs=3)


def last_draws(scenario: int, chain) -> tuple[np.ndarray, np.ndarray]:
    """Simulated theta and the last state of a chain from it, ``(NUM_DATASETS, dim)`` each."""
    task = make_task(f"glm/{scenario}", covariates="gaussian")

    def one(rng_key):
        simulate_key, chain_key = jax.random.split(rng_key)
        theta, dataset = task.simulate(simulate_key, 12)
        affine, _ = variational_of(task, dataset, 8, 6)
        return theta, chain(chain_key, lambda x: task.log_joint(x, dataset), affine, theta)

    theta, draws = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(scenario), NUM_DATASETS))
    return np.asarray(theta), np.asarray(draws)


def z_scores(theta: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Paired z-scores of first and second moments: both columns have the prior's law if exact."""
    columns = np.concatenate([draws - theta, draws**2 - theta**2], axis=1)
    return columns.mean(axis=0) / (columns.std(axis=0) / np.sqrt(len(columns)))


def exact(rng_key, log_density_fn, affine, theta):
    return exact_start_chain(rng_key, log_density_fn, affine, theta, CONFIG)[0][-1]


@pytest.mark.parametrize("scenario", [1, 3, 5, 6])
def test_the_last_draw_has_the_law_of_the_prior(scenario: int) -> None:
    theta, draws = last_draws(scenario, exact)
    assert np.mean(np.any(draws != theta, axis=1)) > 0.95  # the chain moved
    assert np.abs(z_scores(theta, draws)).max() < 4.0


def test_a_chain_without_rejections_is_caught() -> None:
    """Dropping the accept step (here: unadjusted Langevin with a long step) must show."""

    def unadjusted(rng_key, log_density_fn, affine, theta):
        def move(u, key):
            gradient = jax.grad(lambda v: log_density_fn(affine.forward(v)))(u)
            return u + 0.5 * gradient + jax.random.normal(key, u.shape), None

        u, _ = jax.lax.scan(move, affine.backward(theta), jax.random.split(rng_key, 6))
        return affine.forward(u)

    assert np.abs(z_scores(*last_draws(1, unadjusted))).max() > 6.0


def test_a_metric_that_depends_on_theta_is_caught() -> None:
    """Whitening centred and scaled by the generating theta breaks the law; the test must see it."""

    def cheating(rng_key, log_density_fn, affine, theta):
        size = 0.2 + 1.5 * jax.nn.sigmoid(3.0 * theta[0])
        config = partial(exact_start_chain, rng_key, log_density_fn)
        short = config(affine, theta, TargetsConfig(num_draws=2, num_moves=1, num_leapfrogs=1))[0][-1]
        # A random-walk step whose length depends on where it starts, always accepted with the
        # Metropolis ratio of a symmetric proposal: not reversible.
        proposal_key, accept_key = jax.random.split(rng_key)
        u = affine.backward(short)
        proposal = u + size * jax.random.normal(proposal_key, u.shape)
        ratio = log_density_fn(affine.forward(proposal)) - log_density_fn(affine.forward(u))
        keep = jnp.log(jax.random.uniform(accept_key)) < ratio
        return jnp.where(keep | (size > 1.0), affine.forward(proposal), short)

    assert np.abs(z_scores(*last_draws(1, cheating))).max() > 6.0
