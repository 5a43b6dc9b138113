"""Warped bases: the map and its slope, densities that integrate to one, and what they are better and no worse for."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import logsumexp

from icl_bayes.flow import Affine, pilot_gaussian, pilot_sample
from icl_bayes.flow.warp import Warp, weighted_median
from icl_bayes.nets import residual_score

WARP = Warp(jnp.asarray([0.3, -0.5]), jnp.asarray([0.7, 1.3]), jnp.asarray(2.0))


def spiky(theta):
    """Normal laws of very different widths about one point."""
    widths = jnp.asarray([0.03, 0.1, 0.3, 1.0])
    squares = jnp.sum((theta - 0.2) ** 2)
    return logsumexp(-0.5 * squares / widths**2 - len(theta) * jnp.log(widths)) - jnp.log(len(widths))


def normal(theta):
    return -0.5 * jnp.sum(((theta - jnp.asarray([0.4, -0.2])) / jnp.asarray([0.3, 0.6])) ** 2)


def found(log_density_fn, **options) -> Affine:
    return jax.jit(lambda: pilot_gaussian(log_density_fn, 2, **options)[0])()


def test_the_way_back_and_the_slope() -> None:
    t = 1.5 * jax.random.normal(jax.random.key(0), (50, 2))  # on both sides of the bend, at 1.05
    theta = WARP.forward(t)
    np.testing.assert_allclose(WARP.backward(theta), t, atol=1e-5)
    jacobians = jax.jit(jax.vmap(jax.jacfwd(WARP.forward)))(t)
    np.testing.assert_allclose(WARP.log_slope(t), np.linalg.slogdet(jacobians)[1], atol=1e-5)


def test_tails_are_straight() -> None:
    far = WARP.forward(jnp.asarray([[2.0, -2.0], [3.0, -3.0], [4.0, -4.0]]))
    np.testing.assert_allclose(far[2] - far[1], far[1] - far[0], rtol=1e-5)
    np.testing.assert_allclose(far[1] - far[0], np.asarray([0.7, -1.3]) * 17.0**0.5, rtol=1e-5)


@pytest.mark.parametrize("strength", [0.01, 6.0])
def test_slope_far_out_is_finite(strength: float) -> None:
    far = jnp.asarray([100.0, -100.0])
    assert np.isfinite(WARP._replace(strength=jnp.asarray(strength)).log_slope(far))


def test_median_of_weighted_points() -> None:
    points = jnp.asarray([[3.0, 0.0], [1.0, 5.0], [2.0, -4.0]])
    np.testing.assert_array_equal(weighted_median(points, jnp.asarray([0.2, 0.2, 0.6])), [2.0, -4.0])


def test_density_of_a_warped_base_integrates_to_one() -> None:
    affine = found(spiky, is_warped=True)
    # Finer towards the peak.
    axis = 0.2 + np.sinh(np.linspace(-7.5, 7.5, 1201)) / 40.0
    grid = jnp.asarray(np.stack(np.meshgrid(axis, axis, indexing="ij"), -1), jnp.float32)
    density = np.exp(np.asarray(jax.jit(affine.log_prob)(grid), float))
    total = np.trapezoid(np.trapezoid(density, axis, axis=1), axis)
    assert total == pytest.approx(1.0, abs=2e-3)


def test_a_spike_with_long_tails_is_described_better() -> None:
    which = jax.random.randint(jax.random.key(1), (4000, 1), 0, 4)
    draws = 0.2 + jnp.asarray([0.03, 0.1, 0.3, 1.0])[which] * jax.random.normal(jax.random.key(2), (4000, 2))
    truth = jnp.mean(jax.jit(jax.vmap(spiky))(draws)) - jnp.log(2.0 * jnp.pi)
    plain, warped = (found(spiky, is_warped=flag) for flag in (False, True))
    divergence = [float(truth - jnp.mean(affine.log_prob(draws))) for affine in (plain, warped)]
    assert warped.warp is not None
    assert float(warped.warp.strength) >= 2.0
    assert divergence[1] < 0.35 * divergence[0]


def test_a_gaussian_stays_one() -> None:
    plain, warped = (found(normal, is_warped=flag) for flag in (False, True))
    draws = jnp.asarray([0.4, -0.2]) + jnp.asarray([0.3, 0.6]) * jax.random.normal(jax.random.key(3), (4000, 2))
    assert float(jnp.mean(plain.log_prob(draws) - warped.log_prob(draws))) < 0.02


def test_scores_are_those_of_the_density_in_the_coordinates_of_the_base() -> None:
    affine = found(spiky, is_warped=True)
    u = jnp.asarray([0.7, -1.1])
    in_base = jax.jit(
        jax.grad(lambda u: spiky(affine.forward(u)) + jnp.linalg.slogdet(jax.jacfwd(affine.forward)(u))[1])
    )(u)
    np.testing.assert_allclose(
        affine.score(u, jax.jit(jax.grad(spiky))(affine.forward(u))), in_base, rtol=1e-3, atol=1e-3
    )
    np.testing.assert_allclose(residual_score(spiky, affine, u), in_base + u, rtol=1e-3, atol=1e-3)


def test_sample_is_that_of_the_base() -> None:
    sample = pilot_sample(spiky, 2, 64, is_warped=True)
    assert np.abs(np.mean(sample, axis=0)).max() < 0.3
    np.testing.assert_allclose(np.std(sample, axis=0), 1.0, atol=0.3)


def test_what_is_not_finite_is_replaced() -> None:
    affine = found(lambda theta: jnp.nan * theta[0], is_warped=True)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(affine))
