"""The law of a log gamma variable against float64 references, over twelve orders of magnitude of its shape."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from helpers import assert_mean_within_mcse
from scipy.special import digamma, gammaln, polygamma
from scipy.stats import loggamma

from icl_bayes.tasks.distributions import LogGamma, log_gamma_constant

SHAPES = np.logspace(-4, 8, 49).astype(np.float32)
# In standard deviations where the law is narrow, in absolute terms where it's wide; left tails are long.
DEVIATIONS = np.asarray([-6.0, -2.0, -0.3, -1e-3, 0.0, 1e-3, 0.3, 2.0, 4.0], np.float32)


def grid() -> tuple[np.ndarray, np.ndarray]:
    """Shapes and values ``(len(SHAPES), len(DEVIATIONS))``."""
    scale = 1.0 / np.sqrt(np.maximum(SHAPES, 0.3))
    return np.broadcast_to(SHAPES[:, None], (len(SHAPES), len(DEVIATIONS))), (scale[:, None] * DEVIATIONS).astype(
        np.float32
    )


def reference_log_density(a: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Of ``log Y`` with mean-one ``Y``, from SciPy's standard log gamma law shifted by ``log a``."""
    a, z = a.astype(np.float64), z.astype(np.float64)
    return loggamma.logpdf(z + np.log(a), a)


def test_log_density_agrees_with_scipy() -> None:
    a, z = grid()
    ours = np.asarray(jax.jit(lambda a, z: LogGamma(a, 0.0).log_prob(z))(a, z), np.float64)
    expected = reference_log_density(a, z)
    # The reference itself cancels terms of size a log a in float64.
    tolerance = 8e-6 * np.maximum(1.0, np.abs(expected)) + 1e-14 * a * np.log(a + 2.0)
    assert np.all(np.abs(ours - expected) <= tolerance), np.max(np.abs(ours - expected) / tolerance)


def test_gradients_agree_with_finite_differences_of_scipy() -> None:
    a, z = grid()
    log_prob = lambda log_a, z: LogGamma(jax.numpy.exp(log_a), 0.0).log_prob(z)  # noqa: E731
    gradient = jax.jit(jax.vmap(jax.vmap(jax.grad(log_prob, argnums=(0, 1)))))
    by_shape, by_value = (np.asarray(leaf, np.float64) for leaf in gradient(np.log(a), z))
    # Finite differences of the reference lose their digits for large shapes; there the textbook derivative serves.
    a64, z64 = np.exp(np.log(a).astype(np.float64)), z.astype(np.float64)
    excess = np.expm1(z64) - z64
    textbook = a64 * (np.log(a64) - digamma(a64) - excess), -a64 * np.expm1(z64)
    moderate = a64 < 1e4
    step = 1e-5
    differences = (
        reference_log_density(a64 * np.exp(step), z64) - reference_log_density(a64 * np.exp(-step), z64),
        reference_log_density(a64, z64 + step) - reference_log_density(a64, z64 - step),
    )
    for ours, difference, exact in zip((by_shape, by_value), differences, textbook, strict=True):
        np.testing.assert_allclose(exact[moderate], difference[moderate] / (2 * step), rtol=1e-4, atol=1e-4)
        # exp(log a) in float32 moves a by up to eps * log a.
        np.testing.assert_allclose(ours, exact, rtol=3e-5, atol=3e-6)


def test_location_shifts_the_law() -> None:
    value, shift = np.float32(1.25), np.float32(-3.0)
    assert LogGamma(2.0, shift).log_prob(value + shift) == pytest.approx(
        float(LogGamma(2.0, 0.0).log_prob(value)), rel=1e-6
    )


def test_values_beyond_exponentials_have_no_nan() -> None:
    a, z = np.meshgrid(np.float32([1e-6, 1.0, 1e12]), np.float32([-1e6, 85.0, 1e6]))
    law = jax.vmap(jax.value_and_grad(lambda z, a: LogGamma(a, 0.0).log_prob(z)))
    value, slope = jax.jit(law)(z.ravel(), a.ravel())
    assert not np.isnan(value).any()
    assert np.isfinite(slope[np.isfinite(value)]).all()


def test_draws_have_the_moments_of_the_law() -> None:
    a = np.asarray([0.01, 0.5, 3.0, 400.0], np.float32)
    law = LogGamma(a, np.asarray([0.0, 1.0, -1.0, 2.0], np.float32))
    draws = np.asarray(jax.jit(lambda key: law.sample(key, (5000,)))(jax.random.key(0)), np.float64)
    mean = digamma(a) - np.log(a) + law.log_mean
    assert_mean_within_mcse(draws, mean, label="mean of log y")
    assert_mean_within_mcse((draws - mean) ** 2 * a, polygamma(1, a) * a, label="scaled variance of log y")
    assert_mean_within_mcse(np.exp(draws[:, 1:]), np.exp(law.log_mean[1:]), label="mean of y")
    variance = np.exp(2 * law.log_mean[2:]) / a[2:]
    assert_mean_within_mcse((np.exp(draws) - np.exp(law.log_mean))[:, 2:] ** 2, variance, label="variance of y")


def test_the_constant_and_its_derivatives_keep_their_digits() -> None:
    """Also on both sides of the concentration at which the series changes."""
    a = np.concatenate([np.logspace(-37, 8, 181), np.linspace(7.9, 8.1, 9)]).astype(np.float32)
    exact = a.astype(np.float64)
    value, first, second = (
        np.asarray(jax.jit(jax.vmap(fn))(a), np.float64)
        for fn in (log_gamma_constant, jax.grad(log_gamma_constant), jax.grad(jax.grad(log_gamma_constant)))
    )
    # The references cancel in float64: what they can vouch for shrinks as a grows.
    digits = 1e-14 * exact * np.log(exact + 2.0)
    assert np.all(
        np.abs(value - (exact * np.log(exact) - exact - gammaln(exact))) < 3e-6 * (1 + np.abs(value)) + digits
    )
    expected = np.log(exact) - digamma(exact)
    assert np.all(np.abs(first - expected) < 1e-5 * np.abs(expected) + 1e-14)
    expected = 1.0 / exact - polygamma(1, exact)
    moderate = exact > 1e-18  # its square is a float
    assert np.all((np.abs(second - expected) < 1e-4 * np.abs(expected) + 1e-15)[moderate])


def test_the_slope_is_that_of_the_value_where_the_exponential_ends() -> None:
    law = jax.jit(jax.vmap(jax.value_and_grad(lambda z: LogGamma(1e-6, 0.0).log_prob(z))))
    value, slope = (np.asarray(leaf, np.float64) for leaf in law(np.float32([79.5, 80.0, 81.0, 83.0])))
    np.testing.assert_allclose(slope[1:], slope[1], rtol=1e-6)
    np.testing.assert_allclose(np.diff(value)[1:], slope[1] * np.asarray([1.0, 2.0]), rtol=1e-5)
    assert value[0] > value[1]
