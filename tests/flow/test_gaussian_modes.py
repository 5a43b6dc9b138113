"""A Gaussian around every mode: known modes, their masses and shares, and starts that lead nowhere."""

from __future__ import annotations

from itertools import permutations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import logsumexp

from icl_bayes.flow import find_modes, identity_affine
from icl_bayes.flow.bases import Rivals
from icl_bayes.flow.gaussian_modes import NUM_RIVALS

MEANS = jnp.asarray([[2.0, 0.5], [-1.0, -1.5]])
COVARIANCES = jnp.asarray([[[0.10, 0.04], [0.04, 0.05]], [[0.2, 0.0], [0.0, 0.02]]])
MASSES = jnp.asarray([0.7, 0.3])
SHIFT = 4.0
"""Log of the target's integral."""


def gaussian(theta, mean, covariance):
    square = (theta - mean) @ jnp.linalg.inv(covariance) @ (theta - mean)
    return -0.5 * (square + jnp.linalg.slogdet(covariance)[1]) - jnp.log(2.0 * jnp.pi)


def two_modes(theta):
    parts = [gaussian(theta, *one) for one in zip(MEANS, COVARIANCES, strict=True)]
    return SHIFT + logsumexp(jnp.stack(parts), axis=0, b=MASSES)


def swapped(theta):
    return jnp.stack([theta, theta[::-1]])


def exchangeable(theta):
    """One mode, off the diagonal, in both orders."""
    return logsumexp(jax.jit(jax.vmap(lambda one: gaussian(one, MEANS[0], COVARIANCES[0])))(swapped(theta)))


@pytest.fixture(scope="module")
def found():
    starts = jnp.asarray([[-1.2, -1.4], [1.8, 0.4], [2.3, 0.6], [-0.8, -1.5]])
    return jax.jit(lambda: find_modes(two_modes, starts))()


def test_every_mode_is_found_once(found) -> None:
    modes, info = found
    assert bool(info.is_finite)
    assert info.decrement < 1e-3
    np.testing.assert_allclose(np.exp(modes.log_weights), [0.7, 0.3, 0.0, 0.0], atol=2e-3)
    np.testing.assert_allclose(modes.parts.shift[:2], MEANS, atol=1e-2)
    covariances = jax.jit(jax.vmap(lambda scale: scale @ scale.T))(modes.parts.scale[:2])
    np.testing.assert_allclose(covariances, COVARIANCES, atol=5e-3)


def test_a_number_in_the_unit_interval_stands_for_a_mode(found) -> None:
    modes, _ = found
    chosen = np.asarray(modes.chosen_by((jnp.arange(1000) + 0.5) / 1000))
    np.testing.assert_allclose(np.bincount(chosen, minlength=4) / 1000, np.exp(modes.log_weights), atol=2e-3)
    np.testing.assert_array_equal(modes.part(jnp.asarray(1)).shift, modes.parts.shift[1])


def test_shares_add_up_to_one_everywhere(found) -> None:
    modes, _ = found
    points = jax.random.normal(jax.random.key(0), (200, 2)) * 2.0
    shares = jax.jit(jax.vmap(lambda index: jnp.exp(jax.vmap(modes.part(index).log_share)(points))))(jnp.arange(2))
    np.testing.assert_allclose(jnp.sum(shares, axis=0), 1.0, atol=1e-4)
    together = jnp.exp(jax.jit(jax.vmap(lambda point: modes.log_shares(point[None])[:2, 0]))(points)).T
    np.testing.assert_allclose(shares, together, atol=1e-4)
    assert float(identity_affine(2).log_share(points[0])) == 0.0


def test_orders_of_components_count_once_and_have_shares_of_their_own() -> None:
    # One start in each order: the same mode.
    starts = jnp.asarray([[2.1, 0.4], [0.4, 2.1]])
    modes, _ = jax.jit(lambda: find_modes(exchangeable, starts, swapped, num_modes=2))()
    np.testing.assert_allclose(np.exp(modes.log_weights), [1.0, 0.0], atol=1e-6)
    points = jax.random.normal(jax.random.key(1), (100, 2)) + 1.25
    mode = modes.part(jnp.asarray(0))
    own, other = (
        jnp.exp(jax.jit(jax.vmap(mode.log_share))(points)),
        jnp.exp(jax.jit(jax.vmap(mode.log_share))(points[:, ::-1])),
    )
    np.testing.assert_allclose(own + other, 1.0, atol=1e-4)
    # The share is that of the mode among both, by their densities.
    density = jax.vmap(lambda theta: gaussian(theta, mode.shift, mode.scale @ mode.scale.T))
    expected = jax.nn.sigmoid(density(points) - density(points[:, ::-1]))
    np.testing.assert_allclose(own, expected, atol=1e-4)


def test_masses_are_those_of_modes_that_are_no_gaussians() -> None:
    """Masses by the Gaussians' bounds alone would be off by what the modes differ from them."""

    def skewed(theta):
        narrow = gaussian(theta, MEANS[1], COVARIANCES[1])
        # A t law of four degrees of freedom, far away.
        square = jnp.sum((theta - 8.0) ** 2)
        return logsumexp(jnp.stack([narrow, -3.0 * jnp.log1p(square / 4.0) - jnp.log(2.0 * jnp.pi)]))

    modes, _ = jax.jit(lambda: find_modes(skewed, jnp.asarray([[8.2, 7.9], [-1.0, -1.5]]), num_modes=2))()
    np.testing.assert_allclose(np.sort(np.exp(modes.log_weights)), [0.5, 0.5], atol=0.03)


def test_starts_that_cannot_be_evaluated_are_passed_over() -> None:
    def partly(theta):
        return jnp.where(theta[0] > -5.0, two_modes(theta), jnp.nan)

    starts = jnp.asarray([[-6.0, 0.0], [2.0, 0.5], [jnp.inf, 0.0]])
    modes, info = jax.jit(lambda: find_modes(partly, starts))()
    assert bool(info.is_finite)
    np.testing.assert_allclose(np.exp(modes.log_weights), [1.0, 0.0, 0.0, 0.0], atol=1e-6)
    nowhere, info = jax.jit(lambda: find_modes(lambda theta: jnp.nan * theta[0], starts))()
    assert not bool(info.is_finite)
    assert np.isneginf(nowhere.log_weights).all()


def test_shares_count_the_nearest_rivals_whichever_mode_shares_them() -> None:
    """Three exchangeable components: of four modes in six orders each, a mode counts the eight that come nearest."""
    means = jnp.asarray([[-1.0, 0.2, 1.1], [-0.9, -0.4, 0.5], [0.0, 0.5, 1.7], [-2.0, 0.4, 0.7]])
    in_all_orders = lambda theta: theta[jnp.asarray(list(permutations(range(3))))]  # noqa: E731

    def target(theta):
        near = jnp.min(jnp.sum((theta - jax.vmap(in_all_orders)(means)) ** 2, axis=-1))
        return -0.5 * near / 0.2**2

    modes, _ = jax.jit(lambda: find_modes(target, means, in_all_orders))()
    assert np.isfinite(modes.log_weights).all()
    assert modes.rivals.shift.shape == (24, 3)
    assert (np.isfinite(modes.rivals.offset).sum(axis=1) == NUM_RIVALS).all()
    points = np.asarray(modes.parts.shift[:, None] + 0.2 * jax.random.normal(jax.random.key(0), (4, 50, 3)))
    own = jax.jit(jax.vmap(lambda index, at: jax.vmap(modes.part(index).log_share)(at)))(jnp.arange(4), points)
    # By every Gaussian in every order, in double precision.
    weights, log_dets = np.asarray(modes.log_weights, float), np.asarray(modes.parts.log_det, float)
    for index, at in enumerate(points.astype(float)):
        logs = []
        for other in range(4):
            for order in permutations(range(3)):
                inverse = np.asarray(modes.parts.inverse[other], float)[np.ix_(order, order)]
                whitened = (at - np.asarray(modes.parts.shift[other], float)[list(order)]) @ inverse.T
                logs.append(weights[other] - log_dets[other] - 0.5 * np.sum(whitened**2, axis=1))
        logs = np.stack(logs)
        # What the sixteen left out hold of the base at its own mode's points is little, but not nothing.
        left_out = np.exp(own[index]) - np.exp(logs[6 * index] - logsumexp(logs, axis=0))
        assert (left_out > -1e-4).all()
        assert np.mean(left_out) < 0.05
        counted = np.isfinite(modes.rivals.offset[index])
        shifts, inverses = np.asarray(modes.rivals.shift, float), np.asarray(modes.rivals.inverse, float)
        whitened = np.einsum("rij,nrj->nri", inverses, at[:, None] - shifts)
        of_all = np.asarray(modes.rivals.offset[index], float) - 0.5 * np.sum(whitened**2, axis=-1)
        expected = logs[6 * index] - logsumexp(of_all[:, counted], axis=1)
        np.testing.assert_allclose(own[index], expected, atol=2e-4)


def test_narrow_rivals_far_from_zero_lose_no_digits() -> None:
    shift = jnp.asarray([[300.0, -200.0], [300.02, -200.01]])
    rivals = Rivals(shift, jnp.broadcast_to(100.0 * jnp.eye(2), (2, 2, 2)), jnp.zeros(2), jnp.asarray(0))
    theta = jnp.asarray([300.01, -200.02])
    exact = -0.5 * 1e4 * np.sum((np.asarray(theta, float) - np.asarray(shift, float)) ** 2, axis=1)
    np.testing.assert_allclose(jax.jit(rivals.log_densities)(theta), exact, atol=1e-4)
