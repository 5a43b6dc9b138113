"""Warm starts: chains of NumPyro and blackjax that start from draws and keep their mass matrix stay where they are."""

from __future__ import annotations

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer import MCMC, NUTS

from icl_bayes.inference.gaussian_source import GaussianSource
from icl_bayes.tasks import Task
from icl_bayes.types import Dataset


def model(x, y=None):
    slope = numpyro.sample("slope", dist.Normal(0.0, 2.0))
    noise = numpyro.sample("noise", dist.HalfNormal(1.0))
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Normal(slope * x, noise), obs=y)


@pytest.fixture(scope="module")
def post():
    task = Task.from_numpyro(model, lambda key, num: {"x": jax.random.normal(key, (num,))}, num_rows=(10, 60))
    generator = np.random.default_rng(0)
    x = generator.normal(size=40)
    dataset = Dataset(x=x, y=1.3 * x + 0.4 * generator.normal(size=40))
    return GaussianSource(task).sample(jax.random.key(0), dataset, 4000).refine(jax.random.key(1))


def test_numpyro_goes_on_without_warm_up(post):
    start = post.numpyro_start(jax.random.key(2), num_chains=4)
    assert {name: value.shape for name, value in start.init_params.items()} == {"noise": (4,), "slope": (4,)}
    # Coordinates in the order of their names: log noise comes first.
    np.testing.assert_allclose(start.inverse_mass_matrix[0, 0], np.var(np.log(post["noise"])), rtol=0.02)
    np.testing.assert_allclose(start.inverse_mass_matrix[1, 1], np.var(post["slope"]), rtol=0.02)
    kernel = NUTS(
        model,
        step_size=0.8,
        inverse_mass_matrix=jnp.asarray(start.inverse_mass_matrix, jnp.float32),
        dense_mass=True,
        adapt_mass_matrix=False,
        adapt_step_size=False,
    )
    chains = MCMC(kernel, num_warmup=0, num_samples=500, num_chains=4, chain_method="vectorized", progress_bar=False)
    x, y = jnp.asarray(post.dataset["x"]), jnp.asarray(post.dataset["y"])
    chains.run(jax.random.key(3), x, y, init_params=jax.tree.map(jnp.asarray, start.init_params))
    draws = chains.get_samples()
    for name in ("slope", "noise"):
        error = 5.0 * post[name].std() * np.sqrt(1.0 / 4000 + 1.0 / 500)
        assert abs(float(draws[name].mean()) - post[name].mean()) < error


def test_blackjax_goes_on_without_warm_up(post):
    start = post.blackjax_start(jax.random.key(2), num_chains=3)
    assert start.positions.shape == (3, 2)
    kernel = blackjax.hmc(start.log_density_fn, 0.5, jnp.asarray(start.inverse_mass_matrix, jnp.float32), 4)
    states = jax.jit(jax.vmap(kernel.init))(jnp.asarray(start.positions))

    def move(states, rng_key):
        states, info = jax.vmap(kernel.step)(jax.random.split(rng_key, 3), states)
        return states, (states.position, info.acceptance_rate)

    keys = jax.random.split(jax.random.key(4), 600)
    _, (positions, rates) = jax.jit(lambda states: jax.lax.scan(move, states, keys))(states)
    assert float(rates.mean()) > 0.8
    draws, theta = np.asarray(positions).reshape(-1, 2), post.theta
    assert (np.abs(draws.mean(0) - theta.mean(0)) < 5.0 * theta.std(0) * np.sqrt(1.0 / 4000 + 1.0 / 400)).all()


def test_as_many_chains_as_there_are_draws(post):
    with pytest.raises(ValueError, match="between 1 and the number of draws, 4000; received 0"):
        post.numpyro_start(jax.random.key(0), num_chains=0)
    assert post.numpyro_start(jax.random.key(0), num_chains=1).init_params["slope"].shape == ()
