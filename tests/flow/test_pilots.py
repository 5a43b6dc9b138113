"""Moments by importance sampling: those of densities with known ones, over all modes, and what is refused."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import logsumexp

from icl_bayes.flow.pilots import MAX_DIM, effective_number, pilot_gaussian, tempered

MEAN = np.asarray([0.6, -0.4, 0.2], np.float32)
COVARIANCE = np.asarray([[0.10, 0.04, 0.0], [0.04, 0.05, -0.01], [0.0, -0.01, 0.30]], np.float32)


def normal(theta, mean, covariance):
    return -0.5 * (theta - mean) @ jnp.linalg.inv(covariance) @ (theta - mean)


def two_modes(theta):
    modes = [normal(theta, sign * jnp.asarray([1.0, 0.5]), 0.04 * jnp.eye(2)) for sign in (1.0, -1.0)]
    return logsumexp(jnp.stack(modes), axis=0, b=jnp.asarray([0.75, 0.25]))


def found(log_density_fn, dim, **options):
    return jax.jit(lambda: pilot_gaussian(log_density_fn, dim, **options))()


def test_moments_of_a_gaussian_much_narrower_than_the_prior() -> None:
    affine, info = found(lambda theta: normal(theta, MEAN, COVARIANCE), 3)
    np.testing.assert_allclose(affine.shift, MEAN, atol=0.05)
    np.testing.assert_allclose(affine.scale @ affine.scale.T, COVARIANCE, atol=0.03)
    np.testing.assert_allclose(affine.scale @ affine.inverse, np.eye(3), atol=1e-4)
    assert 60.0 < info.effective <= 256.0
    assert bool(info.is_finite)


def test_moments_cover_both_modes_by_their_mass() -> None:
    affine, _ = found(two_modes, 2)
    direction = np.asarray([1.0, 0.5])
    np.testing.assert_allclose(affine.shift, 0.5 * direction, atol=0.15)
    expected = 0.04 * np.eye(2) + 4 * 0.75 * 0.25 * np.outer(direction, direction)
    np.testing.assert_allclose(affine.scale @ affine.scale.T, expected, atol=0.15)


def test_a_poor_sample_errs_on_the_wide_side() -> None:
    """Without a further set of points, and a target that hardly any point meets."""
    covariance = 1e-4 * np.eye(5)
    affine, info = found(lambda theta: normal(theta, 0.8 * jnp.ones(5), covariance), 5, num_rounds=0)
    assert info.effective < 16.0
    assert np.linalg.eigvalsh(affine.scale @ affine.scale.T).min() > 1e-4


def test_points_of_density_zero_have_no_say() -> None:
    affine, info = found(lambda theta: jnp.where(theta[0] > 0.0, -0.5 * theta @ theta, -jnp.inf), 2)
    assert affine.shift[0] == pytest.approx(np.sqrt(2 / np.pi), abs=0.1)
    assert bool(info.is_finite)


def test_tempering_leaves_enough_points_and_no_more_than_needed() -> None:
    log_weights = 3.0 * jnp.arange(100.0)
    assert effective_number(log_weights) < 1.2
    assert effective_number(tempered(log_weights, 16.0)) == pytest.approx(16.0, rel=0.02)
    even = 0.001 * jnp.arange(100.0)
    np.testing.assert_array_equal(tempered(even, 16.0), even)


def test_many_dimensions_are_refused() -> None:
    with pytest.raises(ValueError, match=f"at most {MAX_DIM} dimensions; received 9"):
        pilot_gaussian(lambda theta: -0.5 * theta @ theta, 9)
