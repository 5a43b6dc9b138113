"""The denoiser of mixtures: against exact conditional means, in its limits, and under permutations and padding."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icl_bayes.tasks import Task
from icl_bayes.tasks.gmm import SCENARIOS, GMMSpec, make_gmm
from icl_bayes.types import Array, Dataset


@functools.cache
def gmm(scenario: int) -> Task:
    return make_gmm(scenario)


@functools.cache
def one_component() -> Task:
    """No labels to guess: given them, the parameters of every component look like this one's."""
    SCENARIOS[0] = GMMSpec(1, 1, 2.0, 3.0, 30)
    try:
        return make_gmm(0)
    finally:
        del SCENARIOS[0]


@functools.cache
def simulator(task: Task):
    return jax.jit(lambda key: task.simulate(key, task.paper_num_rows, task.paper_num_rows + 3))


@functools.cache
def denoiser(task: Task):
    return jax.jit(task.denoise)


def view(task: Task, key: Array, alpha: float, sigma: float) -> tuple[Array, Array, Dataset]:
    theta, dataset = simulator(task)(key)
    return theta, alpha * theta + sigma * jax.random.normal(jax.random.fold_in(key, 1), theta.shape), dataset


@pytest.mark.parametrize(("alpha", "sigma"), [(0.4, 0.9), (0.8, 0.6), (0.97, 0.25)])
def test_mean_is_the_conditional_mean_where_labels_are_known(alpha: float, sigma: float) -> None:
    """By a fine grid over the three parameters, in posterior standard deviations; its spread by their covariance."""
    task = one_component()
    _, x, dataset = view(task, jax.random.key(3), alpha, sigma)
    mean, center = denoiser(task)(x, jnp.asarray(alpha), jnp.asarray(sigma), dataset)
    axes = [np.linspace(-4.0, 4.0, 41)] + [
        np.linspace(value - 2.0, value + 2.0, 81) for value in np.asarray(center)[1:]
    ]
    grid = jnp.asarray(np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3), jnp.float32)
    log_joint = jax.lax.map(lambda theta: task.log_joint(theta, dataset), grid, batch_size=4096)
    log_joint = log_joint - 0.5 * jnp.sum((x - alpha * grid) ** 2, axis=1) / sigma**2
    weights = np.asarray(jax.nn.softmax(log_joint), np.float64)
    exact = weights @ np.asarray(grid)
    centred = np.asarray(grid) - exact
    covariance = (weights[:, None] * centred).T @ centred
    sd = np.sqrt(np.diag(covariance))
    # The weight of a single component says nothing: its total is only seen through the view.
    np.testing.assert_allclose((np.asarray(mean) - exact)[1:] / sd[1:], 0.0, atol=0.12)
    known = jax.jit(jax.vmap(lambda vector: task.spread(x, jnp.asarray(alpha), jnp.asarray(sigma), dataset, vector)))(
        jnp.eye(3)
    )
    np.testing.assert_allclose(known, known.T, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose((known - covariance)[1:, 1:] / sd[1:] / sd[1:, None], 0.0, atol=0.2)


def test_better_than_the_prior_alone_and_than_the_view_alone() -> None:
    """The mean squared error to the theta that was looked at, over simulations; each rival is the best without data."""
    task = gmm(2)

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(0, None, None))
    def errors(key: Array, alpha: Array, sigma: Array) -> Array:
        theta, dataset = task.simulate(key, 25)
        x = alpha * theta + sigma * jax.random.normal(jax.random.fold_in(key, 1), theta.shape)
        mean, _ = task.denoise(x, alpha, sigma, dataset)
        return jnp.stack([jnp.mean((guess - theta) ** 2) for guess in (mean, alpha * x, x / alpha)])

    keys = jax.random.split(jax.random.key(0), 200)
    for alpha, sigma in [(0.6, 0.8), (0.8, 0.6), (0.95, np.sqrt(1 - 0.95**2))]:
        denoised, shrunk, raw = np.asarray(errors(keys, jnp.asarray(alpha), jnp.asarray(sigma))).mean(axis=0)
        assert denoised < 0.9 * min(shrunk, raw)


def test_without_noise_it_returns_theta_and_without_signal_the_center() -> None:
    task = gmm(2)
    theta, _, dataset = view(task, jax.random.key(1), 1.0, 0.0)
    mean, _ = denoiser(task)(theta, jnp.ones(()), jnp.zeros(()), dataset)
    np.testing.assert_allclose(mean, theta, atol=1e-5)
    mean, center = denoiser(task)(theta, jnp.zeros(()), jnp.ones(()), dataset)
    np.testing.assert_allclose(mean, center, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("scenario", [1, 3, 5])
def test_components_may_be_permuted_and_rows_padded(scenario: int) -> None:
    task = gmm(scenario)
    _, x, dataset = view(task, jax.random.key(2), 0.8, 0.6)
    alpha, sigma = jnp.asarray(0.8), jnp.asarray(0.6)
    order = jax.random.permutation(jax.random.key(9), task.num_exchangeable)
    plain = denoiser(task)(x, alpha, sigma, dataset)
    permuted = denoiser(task)(task.relabel(x, order), alpha, sigma, dataset)
    padded = denoiser(task)(x, alpha, sigma, dataset.pad_rows(dataset.padded_rows + 11))
    direction = jax.random.normal(jax.random.key(10), x.shape)
    spread = jax.jit(task.spread)
    plain = (*plain, spread(x, alpha, sigma, dataset, direction))
    of_permuted = spread(task.relabel(x, order), alpha, sigma, dataset, task.relabel(direction, order))
    permuted = (*permuted, of_permuted)
    padded = (*padded, spread(x, alpha, sigma, dataset.pad_rows(dataset.padded_rows + 11), direction))
    for one, other, longer in zip(plain, permuted, padded, strict=True):
        np.testing.assert_allclose(task.relabel(one, order), other, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(one, longer, rtol=1e-4, atol=1e-4)
        assert np.ptp(np.asarray(one)) > 0.05


def test_em_steps_climb_and_settle() -> None:
    """From prior draws: the likelihood rises on the way, and the last step hardly moves."""
    task = gmm(2)
    _, _, dataset = view(task, jax.random.key(4), 1.0, 0.0)
    em_step = task.em_step
    assert em_step is not None
    starts = jax.random.normal(jax.random.key(5), (64, task.dim))
    paths = jax.jit(
        jax.vmap(lambda theta: jax.lax.scan(lambda one, _: (em_step(one, dataset),) * 2, theta, None, length=60)[1])
    )(starts)
    likelihood = jax.jit(jax.vmap(lambda theta: task.log_likelihood(theta, dataset)))
    first, later = np.asarray(likelihood(starts)), np.asarray(likelihood(paths[:, -1]))
    assert np.mean(later > first) > 0.95
    assert np.median(later - first) > 5.0
    assert float(jnp.median(jnp.max(jnp.abs(paths[:, -1] - paths[:, -2]), axis=1))) < 1e-2
