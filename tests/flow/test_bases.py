"""Affine bases and the mode search behind the Laplace approximation."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal

from icl_bayes.flow import affine_from_curvature, find_mode, identity_affine, laplace_approximation

DIM = 3
MEAN = np.asarray([1.5, -0.7, 0.2], np.float32)
ROOT = np.random.default_rng(5).normal(size=(DIM, DIM))
PRECISION = (ROOT @ ROOT.T + 0.5 * np.eye(DIM)).astype(np.float32)


def gaussian(theta):
    return -0.5 * (theta - MEAN) @ PRECISION @ (theta - MEAN)


def test_laplace_is_exact_for_a_gaussian_with_its_density() -> None:
    affine, info = jax.jit(lambda: laplace_approximation(gaussian, DIM))()
    covariance = np.linalg.inv(PRECISION.astype(float))
    np.testing.assert_allclose(affine.shift, MEAN, atol=1e-5)
    np.testing.assert_allclose(affine.scale @ affine.scale.T, covariance, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(affine.scale @ affine.inverse, np.eye(DIM), atol=1e-5)
    assert info.decrement < 1e-8
    assert bool(info.is_finite)
    u = np.random.default_rng(0).normal(size=(4, DIM)).astype(np.float32)
    theta = np.asarray(affine.forward(u), np.float64)
    # Density of theta by change of variables, against the Gaussian's own.
    by_change = multivariate_normal.logpdf(u, np.zeros(DIM)) - float(affine.log_det)
    np.testing.assert_allclose(by_change, multivariate_normal.logpdf(theta, MEAN, covariance), atol=1e-4)
    np.testing.assert_allclose(affine.backward(theta.astype(np.float32)), u, atol=1e-4)


def test_whitening_commutes_with_permutations() -> None:
    """Exchangeable columns stay exchangeable; a Cholesky factor would not do."""
    base = affine_from_curvature(MEAN, PRECISION)
    for order in itertools.permutations(range(DIM)):
        p = np.eye(DIM)[list(order)]
        permuted = affine_from_curvature(p @ MEAN, (p @ PRECISION @ p.T).astype(np.float32))
        np.testing.assert_allclose(permuted.scale, p @ base.scale @ p.T, atol=1e-5)
        np.testing.assert_allclose(permuted.inverse, p @ base.inverse @ p.T, atol=1e-5)
        assert permuted.log_det == pytest.approx(float(base.log_det), abs=1e-5)
    cholesky = np.linalg.cholesky(PRECISION)
    p = np.eye(DIM)[[1, 2, 0]]
    assert not np.allclose(np.linalg.cholesky(p @ PRECISION @ p.T), p @ cholesky @ p.T, atol=1e-2)


def test_flat_and_upward_directions_are_raised_to_the_floor() -> None:
    affine = affine_from_curvature(jnp.zeros(2), jnp.diag(jnp.asarray([-3.0, 4.0])), floor=0.25)
    np.testing.assert_allclose(np.diag(affine.scale), [2.0, 0.5], rtol=1e-5)
    assert affine.log_det == pytest.approx(0.0, abs=1e-6)


def quartic(theta):
    """Smooth with a far minimum; Newton's full steps overshoot."""
    return -jnp.sum(0.1 * (theta - 3.0) ** 4 + jnp.cosh(theta) / 50.0)


def walled(theta):
    """Undefined beyond the wall at one, beside which the maximum lies."""
    return jnp.sum(jnp.log(1.0 - theta) + 5.0 * theta)


def exponential_link(theta):
    """Overflows a few units away."""
    return jnp.sum(4.0 * theta - jnp.exp(8.0 * theta)) - 0.5 * jnp.sum(theta**2)


def rippled(theta):
    return jnp.sum(jnp.sin(4.0 * theta)) - 0.1 * jnp.sum(theta**2)


@pytest.mark.parametrize("density", [quartic, walled, exponential_link, rippled])
def test_mode_search_is_never_worse_than_its_start(density) -> None:
    metrics = {"identity": lambda theta: jnp.eye(2), "tiny": lambda theta: 1e-3 * jnp.eye(2)}
    starts = np.random.default_rng(1).uniform(-3.0, 0.9, size=(20, 2)).astype(np.float32)
    for metric in metrics.values():
        search = jax.jit(jax.vmap(lambda start: find_mode(density, metric, start, num_steps=12)))  # noqa: B023
        found, value, _, info = search(starts)
        before, after = jax.jit(jax.vmap(density))(starts), jax.jit(jax.vmap(density))(found)
        np.testing.assert_allclose(value, after, rtol=1e-5)
        assert np.isfinite(after).all()
        assert (after >= before).all()
        assert info.is_finite.all()
        assert (after > before).mean() > 0.9


@pytest.mark.parametrize(("density", "mode"), [(walled, 0.8), (exponential_link, None)])
def test_newton_reaches_the_mode_past_walls_and_overflow(density, mode: float | None) -> None:
    affine, info = jax.jit(lambda: laplace_approximation(density, 2))()
    assert info.decrement < 1e-5
    if mode is not None:
        np.testing.assert_allclose(affine.shift, mode, atol=1e-3)
    np.testing.assert_allclose(jax.jit(jax.grad(density))(affine.shift), 0.0, atol=2e-2)


def test_a_search_that_is_not_finite_falls_back_to_the_identity() -> None:
    broken = lambda theta: jnp.where(jnp.sum(theta) > -1e9, jnp.nan, 0.0) * jnp.sum(theta)  # noqa: E731
    affine, info = jax.jit(lambda: laplace_approximation(broken, 2))()
    assert not bool(info.is_finite)
    for ours, expected in zip(jax.tree.leaves(affine), jax.tree.leaves(identity_affine(2)), strict=True):
        np.testing.assert_allclose(ours, expected)


def test_curvature_may_come_from_the_metric() -> None:
    metric = jnp.diag(jnp.asarray([4.0, 9.0, 16.0]))
    affine, _ = laplace_approximation(gaussian, DIM, metric_fn=lambda theta: metric, curvature="metric", num_steps=2)
    np.testing.assert_allclose(affine.scale, np.diag([1 / 2, 1 / 3, 1 / 4]), atol=1e-5)


def test_batches_of_draws_map_like_single_ones() -> None:
    affine = affine_from_curvature(MEAN, PRECISION)
    u = np.random.default_rng(0).normal(size=(2, 4, DIM)).astype(np.float32)
    np.testing.assert_allclose(affine.forward(u)[1, 2], affine.forward(u[1, 2]), rtol=1e-5)
    identity = identity_affine(DIM)
    np.testing.assert_array_equal(identity.forward(u), u)
    assert identity.log_det == 0.0
