"""The closest Gaussian: exact for Gaussians, the optimum of its criterion for skewed and kinked densities."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import minimize
from scipy.stats import norm

from icl_bayes.flow import affine_from_curvature, identity_affine, variational_gaussian
from icl_bayes.flow.variational import gaussian_points, symmetrized

DIM = 3
MEAN = np.asarray([1.5, -0.7, 0.2], np.float32)
PRECISION = np.asarray([[4.0, 1.0, 0.0], [1.0, 3.0, -0.5], [0.0, -0.5, 1.5]], np.float32)


def gaussian(theta):
    return -0.5 * (theta - MEAN) @ PRECISION @ (theta - MEAN)


LINE = {
    "skewed": lambda x: 2.0 * x - jnp.exp(x),  # the log of a gamma variable of shape 2
    "kinked": lambda x: -0.5 * (x - 0.8) ** 2 / 0.6**2 - 2.0 * jnp.abs(x),
}


@pytest.mark.parametrize(("dim", "num"), [(1, 8), (6, 32), (6, 12), (30, 120)])
def test_points_have_the_moments_of_a_standard_normal(dim: int, num: int) -> None:
    points = gaussian_points(dim, num).astype(np.float64)
    np.testing.assert_allclose(points.mean(axis=0), 0.0, atol=1e-6)
    np.testing.assert_allclose(points.T @ points / num, np.eye(dim), atol=1e-5)
    np.testing.assert_array_equal(points[: num // 2], -points[num // 2 :])  # antithetic
    assert len(np.unique(points[:, 0])) == num


@pytest.mark.parametrize("num", [5, 4], ids=["odd", "too few"])
def test_points_that_cannot_be_are_refused(num: int) -> None:
    with pytest.raises(ValueError, match="come in pairs, at least 6; received"):
        gaussian_points(3, num)


def test_a_gaussian_is_found_exactly_from_afar() -> None:
    affine, info = jax.jit(lambda: variational_gaussian(gaussian, identity_affine(DIM), num_steps=10))()
    np.testing.assert_allclose(affine.shift, MEAN, atol=1e-4)
    np.testing.assert_allclose(affine.scale @ affine.scale.T, np.linalg.inv(PRECISION.astype(float)), atol=1e-4)
    np.testing.assert_allclose(affine.scale, affine.scale.T, atol=1e-5)
    np.testing.assert_allclose(affine.scale @ affine.inverse, np.eye(DIM), atol=1e-5)
    assert affine.log_det == pytest.approx(-0.5 * np.linalg.slogdet(PRECISION)[1], abs=1e-4)
    assert bool(info.is_finite)
    assert info.decrement < 1e-6


@pytest.mark.parametrize("num_steps", [0, 1])
def test_no_more_steps_are_taken_than_granted(num_steps: int) -> None:
    """For a Gaussian near the start one step is exact; without one the start is judged and returned."""
    start = affine_from_curvature(MEAN + 0.1, 1.2 * PRECISION)
    affine, info = jax.jit(lambda: variational_gaussian(gaussian, start, num_steps=num_steps))()
    np.testing.assert_allclose(affine.shift, MEAN + (0.1 if num_steps == 0 else 0.0), atol=1e-4)
    assert bool(info.is_finite)
    assert (info.decrement > 0.01) == (num_steps == 0)


@pytest.mark.parametrize("name", LINE)
def test_it_is_the_optimum_of_the_evidence_bound(name: str) -> None:
    """Against minimization of KL(q || p) by quadrature and Nelder-Mead."""

    def divergence(parameters: np.ndarray) -> float:
        mean, log_sd = parameters
        sd = np.exp(log_sd)
        integrand = lambda x: norm.pdf(x, mean, sd) * (norm.logpdf(x, mean, sd) - float(LINE_NUMPY[name](x)))  # noqa: E731
        return quad(integrand, mean - 9 * sd, mean + 9 * sd, points=[0.0], limit=200)[0]

    best = minimize(divergence, [0.3, -0.5], method="Nelder-Mead", options={"xatol": 1e-4, "fatol": 1e-9})
    solve = jax.jit(lambda: variational_gaussian(lambda t: LINE[name](t[0]), identity_affine(1), num_points=512))
    affine, _ = jax.device_get(solve())
    sd = float(affine.scale[0, 0])
    assert float(affine.shift[0]) == pytest.approx(best.x[0], abs=0.02 * sd)
    assert sd == pytest.approx(np.exp(best.x[1]), rel=0.02)
    few, _ = jax.device_get(jax.jit(lambda: variational_gaussian(lambda t: LINE[name](t[0]), identity_affine(1)))())
    reached = divergence(np.asarray([few.shift[0], np.log(few.scale[0, 0])], float))
    assert reached - best.fun < 0.01  # nats, with the default number of points


LINE_NUMPY = {
    "skewed": lambda x: 2.0 * x - np.exp(x),
    "kinked": lambda x: -0.5 * (x - 0.8) ** 2 / 0.6**2 - 2.0 * np.abs(x),
}


def test_a_kink_does_not_mislead_it_as_it_does_the_mode() -> None:
    """A weakly informed coefficient under a Laplace prior: the curvature at the kink knows nothing of the prior."""
    log_density = lambda theta: -0.5 * jnp.sum(theta**2) * 0.1 - jnp.sqrt(2.0) * jnp.sum(jnp.abs(theta))  # noqa: E731
    from_mode = affine_from_curvature(jnp.zeros(2), 0.1 * jnp.eye(2))
    affine, _ = jax.jit(lambda: variational_gaussian(log_density, from_mode))()
    exact_sd = np.sqrt(quad(lambda x: x**2 * np.exp(-0.05 * x**2 - np.sqrt(2) * abs(x)), -20, 20, points=[0])[0])
    exact_sd /= np.sqrt(quad(lambda x: np.exp(-0.05 * x**2 - np.sqrt(2) * abs(x)), -20, 20, points=[0])[0])
    assert float(from_mode.scale[0, 0]) > 3.0 * exact_sd
    np.testing.assert_allclose(np.diag(affine.scale), exact_sd, rtol=0.25)


def test_infinite_regions_and_bad_starts_never_make_it_worse() -> None:
    """Where the density is zero points count as impossible; the start itself is the worst answer there is."""
    bounded = lambda theta: jnp.where(theta[0] > 3.0, -jnp.inf, gaussian(theta))  # noqa: E731
    start = affine_from_curvature(jnp.asarray(MEAN), jnp.asarray(PRECISION))
    affine, info = jax.jit(lambda: variational_gaussian(bounded, start))()
    assert bool(info.is_finite)
    assert np.isfinite(np.asarray(affine.scale)).all()
    hopeless, _ = jax.jit(lambda: variational_gaussian(lambda theta: jnp.nan * jnp.sum(theta), start))()
    np.testing.assert_allclose(hopeless.shift, start.shift)
    np.testing.assert_allclose(hopeless.scale, start.scale, atol=1e-5)


def test_the_symmetric_root_has_the_same_covariance() -> None:
    root = np.linalg.cholesky(np.linalg.inv(PRECISION.astype(float))).astype(np.float32)
    turned = identity_affine(DIM)._replace(scale=jnp.asarray(root), inverse=jnp.linalg.inv(root))
    affine = symmetrized(turned)
    np.testing.assert_allclose(affine.scale @ affine.scale.T, root @ root.T, atol=1e-5)
    np.testing.assert_allclose(affine.scale, affine.scale.T, atol=1e-6)
    assert affine.log_det == pytest.approx(np.log(np.abs(np.diag(root))).sum(), abs=1e-5)
