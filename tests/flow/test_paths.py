"""Probability paths: derivatives, ends, and the identity that residual parametrizations rest on."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import mixture_target
import numpy as np
import pytest
from helpers import assert_mean_within_mcse
from scipy import stats

from icl_bayes.flow import PATHS, Solver, make_path, solve

TIMES = np.linspace(0.02, 0.98, 25).astype(np.float32)
every_path = pytest.mark.parametrize("name", PATHS)


@every_path
def test_derivatives_are_those_of_the_coefficients(name: str) -> None:
    path = make_path(name)
    values = jax.jit(jax.vmap(path.coefficients))(TIMES)
    slopes = jax.jit(jax.vmap(jax.jacfwd(path.coefficients)))(TIMES)
    np.testing.assert_allclose(values.alpha_dot, slopes.alpha, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(values.sigma_dot, slopes.sigma, rtol=1e-4, atol=1e-5)


@every_path
def test_time_runs_from_noise_to_data(name: str) -> None:
    path = make_path(name)
    start, end = path.coefficients(jnp.asarray(0.0)), path.coefficients(jnp.asarray(path.final_time))
    assert (start.alpha, start.sigma) == pytest.approx((0.0, 1.0), abs=7e-3)
    assert (end.alpha, end.sigma) == pytest.approx((1.0, 0.0), abs=2e-3)
    assert all(np.isfinite(value) for value in (*start, *end))
    alphas, sigmas, *_ = jax.jit(jax.vmap(path.coefficients))(TIMES)
    assert (np.diff(alphas) > 0).all()
    assert (np.diff(sigmas) < 0).all()
    for t in (0.0, path.final_time):
        assert np.isfinite([path.drift(jnp.asarray(t)), path.gain(jnp.asarray(t)), path.spread(jnp.asarray(t))]).all()


def test_the_linear_path_is_the_papers() -> None:
    x, v = make_path("linear").interpolate(jnp.asarray(0.25), jnp.asarray([2.0]), jnp.asarray([5.0]))
    assert x == pytest.approx((1 - (1 - 1e-4) * 0.25) * 2.0 + 0.25 * 5.0)
    assert v == pytest.approx(5.0 - (1 - 1e-4) * 2.0)


def test_the_variance_preserving_path_follows_its_schedule() -> None:
    """alpha(s)^2 = exp(-integral of beta) with beta linear from 0.1 to 20 in diffusion time s = 1 - t."""
    for t in (0.0, 0.3, 0.9):
        s = np.linspace(0.0, 1.0 - t, 10_001)
        integral = np.trapezoid(0.1 + s * 19.9, s)
        alpha, sigma, *_ = make_path("variance_preserving").coefficients(jnp.asarray(t))
        assert alpha**2 == pytest.approx(np.exp(-integral), rel=1e-4)
        assert alpha**2 + sigma**2 == pytest.approx(1.0, rel=1e-6)


@every_path
def test_drift_carries_the_standard_normal_to_itself(name: str) -> None:
    path = make_path(name)
    noise = np.random.default_rng(0).normal(size=4000).astype(np.float32)
    run = lambda end: solve(lambda t, x: path.drift(t) * x, noise, Solver("rk4", 64), final_time=end).x  # noqa: E731
    np.testing.assert_allclose(run(path.final_time), noise, rtol=2e-3)
    halfway = np.asarray(jax.jit(run, static_argnums=0)(0.5), np.float64)
    alpha, sigma, *_ = path.coefficients(jnp.asarray(0.5))
    assert_mean_within_mcse(halfway**2, float(alpha**2 + sigma**2), label="variance at t = 0.5")


def given(path, t: float, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, object]:
    """A fine grid of ``x_1``, its law given ``x_t = x`` ``(len(x), grid)``, and the coefficients, in float64."""
    coefficients = type(path.coefficients(jnp.asarray(t)))(*(float(c) for c in path.coefficients(jnp.asarray(t))))
    x1 = np.linspace(-6.0, 7.0, 40_001)
    weights, means, sds = mixture_target.WEIGHTS, mixture_target.MEANS, mixture_target.SDS
    density = np.sum(weights / sds * np.exp(-0.5 * ((x1[:, None] - means) / sds) ** 2), axis=1)
    likelihood = np.exp(-0.5 * ((x[:, None] - coefficients.alpha * x1) / coefficients.sigma) ** 2)
    law = density * likelihood
    return x1, law / law.sum(axis=1, keepdims=True), coefficients


@every_path
@pytest.mark.parametrize("t", [0.05, 0.3, 0.6, 0.9])
def test_velocity_is_drift_plus_gain_times_mean_residual_score(name: str, t: float) -> None:
    """For a target that is neither Gaussian nor symmetric, with both sides integrated numerically."""
    path = make_path(name)
    x = np.linspace(-2.0, 2.5, 12)
    x1, law, (alpha, sigma, alpha_dot, sigma_dot) = given(path, t, x)
    conditional = alpha_dot * x1 + sigma_dot * (x[:, None] - alpha * x1) / sigma
    velocity = np.sum(law * conditional, axis=1)
    score = np.sum(law * np.asarray(mixture_target.residual_score(x1), np.float64), axis=1)
    rebuilt = float(path.drift(jnp.asarray(t))) * x + float(path.gain(jnp.asarray(t))) * score
    np.testing.assert_allclose(rebuilt, velocity, rtol=2e-4, atol=2e-4 * np.max(np.abs(velocity)))
    closed_form = mixture_target.true_velocity(path, jnp.asarray(t), jnp.asarray(x))
    np.testing.assert_allclose(closed_form, velocity, rtol=2e-4, atol=2e-4 * np.max(np.abs(velocity)))


@every_path
def test_denoised_and_spread_are_the_moments_for_a_standard_normal_target(name: str) -> None:
    path, t = make_path(name), jnp.asarray(0.4)
    alpha, sigma, *_ = (float(c) for c in path.coefficients(t))
    precision = 1.0 + alpha**2 / sigma**2
    assert float(path.denoised(t, jnp.asarray(1.7))) == pytest.approx(alpha / sigma**2 * 1.7 / precision, rel=1e-5)
    assert float(path.spread(t)) == pytest.approx(precision**-0.5, rel=1e-5)


@every_path
def test_the_velocity_at_the_origin_gives_all_velocities_at_the_start(name: str) -> None:
    """True of the marginal velocity of any target, here one that is neither Gaussian nor symmetric."""
    path = make_path(name)

    def field(t, x):
        """Of the mixture moved by 1.5, so that its mean is not zero."""
        alpha, _, alpha_dot, _ = path.coefficients(t)
        return mixture_target.true_velocity(path, t, x[0] - 1.5 * alpha)[None] + 1.5 * alpha_dot

    x0 = jnp.linspace(-2.5, 2.5, 11)[:, None]
    start = path.start_velocity(field, x0)
    if name == "variance_preserving":
        assert start is None, "Its start keeps a trace of the target."
        return
    assert start is not None
    each = jax.jit(jax.vmap(field, (None, 0)))(jnp.asarray(1e-4), x0)
    np.testing.assert_allclose(start, each, atol=1e-3)
    assert np.max(np.abs(each)) > 1.0
    later = jax.jit(jax.vmap(field, (None, 0)))(jnp.asarray(0.3), x0)
    assert np.max(np.abs(start - later)) > 0.1, "Not so at any other time."


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_the_true_velocity_generates_the_target(name: str) -> None:
    path = make_path(name)
    noise = np.random.default_rng(1).normal(size=4000).astype(np.float32)
    field = lambda t, x: mixture_target.true_velocity(path, t, x)  # noqa: E731
    end = jax.jit(lambda x: solve(field, x, Solver("rk4", 128), final_time=path.final_time).x)(noise)
    draws = np.asarray(end, np.float64)
    mean = mixture_target.WEIGHTS @ mixture_target.MEANS
    second = mixture_target.WEIGHTS @ (mixture_target.MEANS**2 + mixture_target.SDS**2)
    assert_mean_within_mcse(np.column_stack([draws, draws**2]), [mean, second])
    below = mixture_target.WEIGHTS @ stats.norm.cdf(-0.5, mixture_target.MEANS, mixture_target.SDS)
    assert_mean_within_mcse(draws < -0.5, below, label="P(x < -0.5)")


def test_unknown_paths_list_the_choices() -> None:
    with pytest.raises(ValueError, match=r"Unknown path 'quadratic'; choices: \['cosine', 'linear', 'vari"):
        make_path("quadratic")
