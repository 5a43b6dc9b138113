"""Denoising by importance sampling against closed forms and quadrature, and where there is nothing to weigh."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from icl_bayes.flow.denoiser import MAX_DENOISED, importance_denoiser

MEAN, SD = np.asarray([0.4, -0.3]), np.asarray([0.6, 0.9])


def gaussian(u):
    return -0.5 * jnp.sum(((u - MEAN) / SD) ** 2)


def two_modes(u):
    """Modes at plus and minus one in the first coordinate, of unequal width."""
    left = -0.5 * ((u[0] + 1.0) / 0.3) ** 2 - jnp.log(0.3)
    right = -0.5 * ((u[0] - 1.0) / 0.5) ** 2 - jnp.log(0.5)
    return jnp.logaddexp(left, right) - 0.5 * (u[1] / 0.7) ** 2


@pytest.mark.parametrize(("alpha", "sigma"), [(0.3, 0.7), (0.6, 0.4), (0.95, 0.05)])
def test_gaussian_in_closed_form(alpha, sigma):
    x = jnp.asarray([0.5, -0.8])
    found, _ = importance_denoiser(gaussian, 2)(x, jnp.asarray(alpha), jnp.asarray(sigma))
    precision = 1.0 / SD**2 + (alpha / sigma) ** 2
    expected = (MEAN / SD**2 + alpha * np.asarray(x) / sigma**2) / precision
    np.testing.assert_allclose(found, expected, atol=0.03)


@pytest.mark.parametrize(("alpha", "sigma"), [(0.3, 0.7), (0.6, 0.4), (0.9, 0.1)])
@pytest.mark.parametrize("start", [(0.1, 0.2), (-0.6, 0.5), (0.9, -0.4)])
def test_two_modes_by_quadrature(alpha, sigma, start):
    grid = np.linspace(-4.0, 4.0, 401)
    points = np.stack(np.meshgrid(grid, grid, indexing="ij"), axis=-1).reshape(-1, 2)
    log_joint = np.asarray(jax.jit(jax.vmap(two_modes))(jnp.asarray(points)), np.float64)
    log_joint -= 0.5 * np.sum(((np.asarray(start) - alpha * points) / sigma) ** 2, axis=1)
    expected = scipy.special.softmax(log_joint) @ points
    found, _ = importance_denoiser(two_modes, 2)(jnp.asarray(start), jnp.asarray(alpha), jnp.asarray(sigma))
    np.testing.assert_allclose(found, expected, atol=0.08)


def test_the_pointer_is_the_residual_score_at_the_mean():
    mean, pointer = importance_denoiser(gaussian, 2)(jnp.asarray([0.5, -0.8]), jnp.asarray(0.6), jnp.asarray(0.4))
    np.testing.assert_allclose(pointer - mean, -(mean - MEAN) / SD**2 + mean, rtol=1e-4)


def test_points_without_density_do_not_count():
    half = lambda u: jnp.where(u[0] > 0.0, 0.0, -jnp.inf) - 0.5 * jnp.sum(u**2)  # noqa: E731
    mean, pointer = importance_denoiser(half, 2)(jnp.zeros(2), jnp.asarray(0.0), jnp.asarray(1.0))
    assert mean[0] == pytest.approx(np.sqrt(2.0 / np.pi), abs=0.05)
    assert mean[1] == pytest.approx(0.0, abs=0.1)
    assert np.isfinite(pointer).all()
    nowhere = lambda u: -jnp.inf + 0.0 * jnp.sum(u)  # noqa: E731
    mean, pointer = importance_denoiser(nowhere, 2)(jnp.ones(2), jnp.asarray(0.5), jnp.asarray(0.5))
    np.testing.assert_allclose(mean, 1.0, rtol=1e-5)  # all points alike: that of N(0, I)
    assert np.isfinite(pointer).all()


def test_many_dimensions_are_refused():
    with pytest.raises(ValueError, match=rf"at most {MAX_DENOISED} dimensions; received 9"):
        importance_denoiser(gaussian, 9)
