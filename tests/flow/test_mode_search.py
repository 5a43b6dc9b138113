"""The mode search takes the steps it is granted, and succeeds on simulated data sets of the GLM scenarios.

Scenarios 1, 5 and 6 are seen by the tests of the training targets, which discard a data set whose
mode was not found.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icl_bayes.baselines.gaussians import laplace_of
from icl_bayes.flow import find_mode
from icl_bayes.tasks import make_task

NUM_DATASETS = 400
slow = pytest.mark.slow


@pytest.mark.parametrize(
    "scenario",
    [7, *(pytest.param(scenario, marks=slow) for scenario in (1, 2, 3, 4, 5, 6))],
)
def test_the_mode_is_found_in_98_percent_of_data_sets(scenario: int) -> None:
    task = make_task(f"glm/{scenario}", covariates="gaussian")

    @jax.jit
    @jax.vmap
    def search(rng_key):
        _, dataset = task.simulate(rng_key, task.paper_num_rows)
        affine, info = laplace_of(task, dataset, 12)
        start = task.starting_points(dataset)[0]
        gain = task.log_joint(affine.shift, dataset) - task.log_joint(start, dataset)
        return info, gain, task.is_accepted(dataset)

    info, gain, accepted = jax.device_get(search(jax.random.split(jax.random.key(scenario), NUM_DATASETS)))
    assert accepted.mean() > (0.7 if scenario == 7 else 0.99)  # responses beyond float32 are not simulated
    found = info.is_finite & (info.decrement < 1e-2)
    assert found[accepted].mean() >= 0.98
    assert (gain[accepted & info.is_finite] > -1e-2).all()
    assert np.median(info.decrement[found]) < 1e-4


@pytest.mark.parametrize("num_steps", [0, 1, 3, 7])
def test_as_many_steps_are_taken_as_were_granted(num_steps: int) -> None:
    """With ten times the curvature as metric, every step goes a tenth of the way."""
    start = jnp.asarray([1.0, -2.0])
    metric = lambda theta: 10.0 * jnp.eye(2)  # noqa: E731
    mode = jax.jit(lambda: find_mode(lambda x: -0.5 * jnp.sum(x**2), metric, start, num_steps=num_steps))()
    np.testing.assert_allclose(mode.theta, 0.9**num_steps * start, rtol=1e-5)
    assert mode.value == pytest.approx(-2.5 * 0.81**num_steps, rel=1e-5)
    np.testing.assert_array_equal(mode.metric, 10.0 * np.eye(2))
    assert mode.info.decrement == pytest.approx(0.25 * 0.81**num_steps, rel=1e-5)


def test_a_start_of_density_zero_is_left_by_its_slope() -> None:
    density = lambda x: jnp.where(x[0] < 0.5, -jnp.inf, 0.0) - 0.5 * jnp.sum((x - 2.0) ** 2)  # noqa: E731
    mode = jax.jit(lambda: find_mode(density, lambda x: jnp.eye(2), jnp.zeros(2)))()
    np.testing.assert_allclose(mode.theta, 2.0, atol=1e-5)
    assert bool(mode.info.is_finite)


def test_a_search_that_never_sees_a_density_claims_nothing() -> None:
    mode = jax.jit(lambda: find_mode(lambda x: jnp.nan * jnp.sum(x), lambda x: jnp.eye(2), jnp.ones(2)))()
    assert not bool(mode.info.is_finite)
    assert mode.info.decrement == np.inf
    assert mode.value == -np.inf
    np.testing.assert_array_equal(mode.theta, 1.0)


def test_a_column_far_from_zero_does_not_end_the_search() -> None:
    """Dates beside an intercept: single precision cannot factorize the curvature, and a mode is there all the same."""
    generator = np.random.default_rng(0)
    dates = 2008.0 + 0.2 * generator.normal(size=(300, 4))
    columns = np.column_stack([6000.0 * np.ones(300), 3.0 * dates])  # in units of wide priors
    y = generator.normal(size=300)
    curvature = 195.0 * columns.T @ columns + np.eye(5)
    best = np.linalg.solve(curvature, 195.0 * columns.T @ y)

    def log_density(theta: jax.Array, module=jnp) -> jax.Array:
        return -0.5 * (195.0 * module.sum((y - columns @ theta) ** 2) + module.sum(theta**2))

    metric = jnp.asarray(curvature, jnp.float32)
    assert not jnp.isfinite(jnp.linalg.cholesky(metric)).all()
    mode = find_mode(lambda theta: log_density(theta), lambda _: metric, jnp.zeros(5), num_steps=40)
    assert bool(mode.info.is_finite)
    assert float(mode.value) == pytest.approx(float(log_density(best, np)), rel=2e-3)
    assert np.isfinite(np.linalg.cholesky(np.asarray(mode.metric))).all()
