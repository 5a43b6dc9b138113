"""Every coordinate map: inverse, Jacobian, monotonicity, how Gaussian it makes the prior, far tails."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import scipy.integrate
import scipy.special
import scipy.stats

from icl_bayes.tasks.coordinates import resolve
from icl_bayes.tasks.normal_tails import inverse_normal_ramp, log_erfcx, log_upper_tail, normal_ramp

GRID = np.linspace(-6.0, 6.0, 97).astype(np.float32)  # holds zero, where branches meet
FAR = np.asarray([-12.0, -9.0, 9.0, 12.0], np.float32)


class Case(NamedTuple):
    """A prior, the same prior in SciPy, and how far its coordinate is from standard normal."""

    fn: dist.Distribution
    reference: scipy.stats.rv_continuous
    coordinate: str
    cdf_error: float | None  # largest |Phi(u) - P(value <= value(u))|; None where it isn't meant to be small
    widest: float = 5.0  # |u| up to which float32 values determine u
    override: str | None = None
    lowest: float = -np.inf  # the same to the left alone


EXACT = 3e-6
CASES = {
    "normal": Case(dist.Normal(1.0, 2.0), scipy.stats.norm(1.0, 2.0), "normal", EXACT),
    "log_normal": Case(dist.LogNormal(0.5, 0.8), scipy.stats.lognorm(0.8, scale=np.exp(0.5)), "log_normal", EXACT),
    "laplace": Case(dist.Laplace(0.0, 1.5), scipy.stats.laplace(0.0, 1.5), "laplace", EXACT, override="gaussianizing"),
    "laplace, scaled": Case(dist.Laplace(0.5, 1.5), scipy.stats.laplace(0.5, 1.5), "scaled_laplace", None),
    # Below u = -3.5 (values under 2.3e-4 of the mean), log Phi(-u) is known to 6e-8 only.
    "exponential": Case(
        dist.Exponential(0.5), scipy.stats.expon(scale=2.0), "exponential", EXACT, 3.5, "gaussianizing"
    ),
    # Left of -1.5 a value is less than 1e-36 of the mean, and float32 ends.
    "exponential, ramp": Case(
        dist.Exponential(0.5), scipy.stats.expon(scale=2.0), "ramp_exponential", None, lowest=-1.5
    ),
    "half_normal": Case(dist.HalfNormal(2.0), scipy.stats.halfnorm(scale=2.0), "half_normal", EXACT),
    "half_normal, softplus": Case(
        dist.HalfNormal(2.0), scipy.stats.halfnorm(scale=2.0), "softplus_half_normal", None, override="softplus"
    ),
    # In the lower tail float32 keeps the difference from the median; in the upper one the ratio to the scale.
    "cauchy": Case(dist.Cauchy(0.5, 2.0), scipy.stats.cauchy(0.5, 2.0), "cauchy", EXACT),
    "half_cauchy": Case(dist.HalfCauchy(2.0), scipy.stats.halfcauchy(scale=2.0), "half_cauchy", EXACT),
    # Near its upper end a uniform variable has the spacing of float32 at one, 6e-8.
    "uniform": Case(dist.Uniform(-1.0, 3.0), scipy.stats.uniform(-1.0, 4.0), "uniform", EXACT, widest=3.5),
    "gamma": Case(dist.Gamma(5.0, 2.0), scipy.stats.gamma(5.0, scale=0.5), "gamma_cube_root", 2e-3),
    "gamma, skewed": Case(dist.Gamma(1.0, 2.0), scipy.stats.gamma(1.0, scale=0.5), "gamma_cube_root", 2e-2),
    "inverse_gamma": Case(
        dist.InverseGamma(5.0, 2.0), scipy.stats.invgamma(5.0, scale=2.0), "inverse_gamma_cube_root", 2e-3
    ),
    "inverse_gamma, hyperprior's end": Case(
        dist.InverseGamma(3.0, 4.0), scipy.stats.invgamma(3.0, scale=4.0), "inverse_gamma_cube_root", 4e-3
    ),
    "bijector": Case(dist.Beta(2.0, 3.0), scipy.stats.beta(2.0, 3.0), "bijector", None),
}
GAUSSIANIZING = [name for name, case in CASES.items() if case.cdf_error == EXACT]


def determined(name: str) -> np.ndarray:
    """Where on the grid float32 values determine u."""
    return (np.abs(GRID) <= CASES[name].widest) & (CASES[name].lowest <= GRID)


class Mapped(NamedTuple):
    """A coordinate evaluated on a grid, each ``(len(grid),)``."""

    value: np.ndarray
    log_density: np.ndarray
    slope: np.ndarray
    score: np.ndarray
    back: np.ndarray


@functools.cache
def mapped(name: str) -> tuple[Mapped, Mapped]:
    """On the grid and far out, as float64."""
    coordinate, fn = resolve(CASES[name].fn, CASES[name].override)

    def one(u):
        value, log_density = coordinate.constrain(fn, u)
        slope, score = jax.jacfwd(lambda v: coordinate.constrain(fn, v))(u)
        return Mapped(value, log_density, slope, score, coordinate.unconstrain(fn, value))

    out = jax.device_get(jax.jit(jax.vmap(one))(np.concatenate([GRID, FAR])))
    out = [np.asarray(leaf, np.float64) for leaf in out]
    return Mapped(*(leaf[: len(GRID)] for leaf in out)), Mapped(*(leaf[len(GRID) :] for leaf in out))


@pytest.mark.parametrize("name", CASES)
def test_density_is_prior_density_times_jacobian(name: str) -> None:
    on_grid, _ = mapped(name)
    inside = determined(name) & (np.abs(GRID) <= 4.5)
    expected = CASES[name].reference.logpdf(on_grid.value[inside]) + np.log(on_grid.slope[inside])
    np.testing.assert_allclose(on_grid.log_density[inside], expected, atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize("name", CASES)
def test_map_is_increasing_and_its_inverse_undoes_it(name: str) -> None:
    on_grid, _ = mapped(name)
    inside = determined(name)
    assert (np.diff(on_grid.value[inside]) > 0).all()
    assert (on_grid.slope[inside] > 0).all()
    np.testing.assert_allclose(on_grid.back[inside], GRID[inside], atol=3e-3)
    middle = inside & (np.abs(GRID) <= 2.0)
    np.testing.assert_allclose(on_grid.back[middle], GRID[middle], atol=3e-5)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.cdf_error])
def test_prior_is_standard_normal_in_the_coordinate(name: str) -> None:
    """Both tails of the prior's distribution function are those of a normal at the same point."""
    case, (on_grid, _) = CASES[name], mapped(name)
    u = GRID.astype(np.float64)
    lower, upper = case.reference.cdf(on_grid.value), case.reference.sf(on_grid.value)
    assert np.max(np.abs(lower - scipy.stats.norm.cdf(u))) < case.cdf_error
    if name not in GAUSSIANIZING:
        return
    # Relative accuracy in the tails, where a difference of probabilities is blind.
    left, right = (u < 0) & (u >= -case.widest), (u >= 0) & (u <= case.widest)
    np.testing.assert_allclose(np.log(lower[left]), scipy.stats.norm.logcdf(u[left]), atol=2e-3)
    np.testing.assert_allclose(np.log(upper[right]), scipy.stats.norm.logsf(u[right]), atol=2e-3)
    np.testing.assert_allclose(on_grid.log_density, scipy.stats.norm.logpdf(u), rtol=1e-5)


@pytest.mark.parametrize("name", GAUSSIANIZING)
def test_prior_draws_are_standard_normal_in_the_coordinate(name: str) -> None:
    coordinate, fn = resolve(CASES[name].fn, CASES[name].override)
    values = np.asarray(CASES[name].reference.rvs(2000, random_state=7), np.float32)
    draws = jax.jit(lambda values: coordinate.unconstrain(fn, values))(values)
    assert scipy.stats.kstest(draws, "norm").pvalue > 1e-5


@pytest.mark.parametrize("name", CASES)
def test_far_tails_have_finite_values_and_gradients(name: str) -> None:
    _, far = mapped(name)
    for part in (far.value, far.log_density, far.slope, far.score):
        assert np.isfinite(part).all()
    low, high = CASES[name].reference.support()
    assert ((far.value >= low) & (far.value <= high)).all()
    assert (far.score[:2] > 0).all(), "The density must rise from the left tail..."
    assert (far.score[2:] < 0).all(), "...and fall towards the right one."


@pytest.mark.parametrize(("name", "slope"), [("laplace", 1.5 * 2 * scipy.stats.norm.pdf(0)), ("half_normal", None)])
def test_slope_at_the_branch_point_is_that_of_both_sides(name: str, slope: float | None) -> None:
    """Newton iterations start at zero: a slope of zero there, or half of it, would mislead them."""
    on_grid, _ = mapped(name)
    at = len(GRID) // 2
    assert GRID[at] == 0.0
    step = float(GRID[at + 1])
    right, left = np.diff(on_grid.value)[[at, at - 1]] / step
    assert min(left, right) * 0.9 < on_grid.slope[at] < max(left, right) * 1.1
    if slope is not None:
        assert on_grid.slope[at] == pytest.approx(slope, rel=1e-5)
    second = np.diff(on_grid.slope)[[at - 1, at]] / step
    assert np.all(np.abs(second) < 5.0), f"The slope jumps at zero: {on_grid.slope[at - 1 : at + 2]}."


def test_the_ramp_falls_as_a_normal_density_does() -> None:
    """Against quadrature in doubles, on both sides of where its formula changes, and back again."""
    w = np.asarray([-11.0, -7.0, -5.01, -4.99, -2.0, -0.3, 0.0, 0.7, 4.0, 30.0], np.float32)
    beyond = [scipy.integrate.quad(lambda s, at=float(at): s * scipy.stats.norm.pdf(at - s), 0, np.inf)[0] for at in w]
    beyond[-1] = 30.0  # all of the density lies below; the quadrature misses it
    np.testing.assert_allclose(np.log(normal_ramp(w)), np.log(beyond), atol=3e-4)
    np.testing.assert_allclose(inverse_normal_ramp(normal_ramp(w)), w, atol=2e-4)
    np.testing.assert_allclose(jax.jit(jax.vmap(jax.grad(normal_ramp)))(w), scipy.stats.norm.cdf(w), rtol=1e-4)


def test_expanded_priors_use_the_map_of_their_base_elementwise() -> None:
    expanded = dist.Laplace(0.0, jnp.asarray([1.0, 2.0])).expand([3, 2]).to_event(2)
    coordinate, fn = resolve(expanded, "gaussianizing")
    assert coordinate.name == "laplace"
    assert coordinate.shape(fn) == (3, 2)
    u = np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32)
    value, log_density = coordinate.constrain(fn, u)
    np.testing.assert_allclose(value, scipy.stats.laplace.ppf(scipy.stats.norm.cdf(u)) * [1.0, 2.0], rtol=1e-4)
    assert log_density == pytest.approx(scipy.stats.norm.logpdf(u).sum(), rel=1e-5)


def test_a_coordinate_can_be_overridden_by_the_bijector() -> None:
    coordinate, fn = resolve(dist.Exponential(2.0), "bijector")
    value, log_density = coordinate.constrain(fn, jnp.asarray(0.3))
    assert value == pytest.approx(np.exp(0.3))
    assert log_density == pytest.approx(scipy.stats.expon(scale=0.5).logpdf(np.exp(0.3)) + 0.3)
    with pytest.raises(ValueError, match="Unknown coordinate 'logit'; choices: .*'bijector', 'gaussianizing'"):
        resolve(dist.Exponential(2.0), "logit")


def test_maps_of_coefficients_keep_ridges_straight() -> None:
    """Where a posterior has its mass, coefficients are linear in their coordinates."""
    u = jnp.linspace(-4.0, 4.0, 33)
    for prior, inside in ((dist.Laplace(0.0, 2.0), jnp.ones(33, bool)), (dist.Exponential(0.5), u >= 1.0)):
        coordinate, fn = resolve(prior.expand([33]).to_event(1))
        value, _ = coordinate.constrain(fn, u)
        bend = np.diff(np.asarray(value), 2)[np.asarray(inside)[:-2]]
        assert np.max(np.abs(bend)) < 2e-3
    # Negative control: the Gaussianizing map bends over its whole range.
    coordinate, fn = resolve(dist.Laplace(0.0, 2.0).expand([33]).to_event(1), "gaussianizing")
    assert np.max(np.abs(np.diff(np.asarray(coordinate.constrain(fn, u)[0]), 2))) > 0.05


def test_a_simplex_counts_one_coordinate_less() -> None:
    coordinate, fn = resolve(dist.Dirichlet(jnp.ones(3)))
    assert coordinate.name == "bijector"
    assert coordinate.shape(fn) == (2,)


@pytest.mark.parametrize("batch", [(), (3,)])
def test_multivariate_normal_is_whitened_by_its_factor(batch: tuple[int, ...]) -> None:
    """Density and change of volume together are those of standard normals; the map has its inverse."""
    fn = dist.MultivariateNormal(jnp.asarray([1.0, -2.0]), jnp.asarray([[4.0, 1.0], [1.0, 0.5]])).expand(batch)
    coordinate, law = resolve(fn)
    u = jax.random.normal(jax.random.key(0), coordinate.shape(law))
    value, log_density = coordinate.constrain(law, u)
    volume = np.prod(batch, dtype=int) * 0.5 * np.log(4.0 * 0.5 - 1.0)
    assert coordinate.name == "multivariate_normal"
    assert float(log_density) == pytest.approx(float(jnp.sum(fn.log_prob(value))) + volume, abs=1e-4)
    assert np.asarray(coordinate.unconstrain(law, value)) == pytest.approx(np.asarray(u), abs=1e-4)


def test_log_of_the_scaled_error_function_has_its_values_and_slopes_from_zero_to_far_out() -> None:
    x = np.concatenate([[0.0], np.geomspace(1e-4, 1e6, 400)])
    found, slopes = jax.jit(jax.vmap(jax.value_and_grad(log_erfcx)))(jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(found, np.log(scipy.special.erfcx(x)), atol=1e-6, rtol=5e-7)
    exact = 2.0 * x - 2.0 / np.sqrt(np.pi) / scipy.special.erfcx(x)  # a difference of large numbers far out
    near = x < 1e3
    np.testing.assert_allclose(slopes[near], exact[near], atol=2e-5, rtol=1e-4)
    np.testing.assert_allclose(slopes[~near], -1.0 / x[~near], rtol=1e-4)


def test_log_of_the_upper_tail_and_its_derivative() -> None:
    x = np.concatenate([np.linspace(0.0, 8.0, 801), np.geomspace(8.0, 1e4, 50)])
    for width, tolerance in ((np.float32, 4e-7), (np.float64, 1e-14)):
        with jax.enable_x64(width is np.float64):
            at = jnp.asarray(x, width)
            value, slope = jax.jit(jax.vmap(jax.value_and_grad(log_upper_tail)))(at)
            exact = scipy.stats.norm.logsf(np.asarray(at, np.float64))
            np.testing.assert_allclose(value, exact, rtol=tolerance)
            # Where both logarithms are large, their difference has their rounding errors.
            hazard = np.exp(scipy.stats.norm.logpdf(np.asarray(at, np.float64)) - exact)
            near = x <= 20.0
            np.testing.assert_allclose(slope[near], -hazard[near], rtol=1e3 * tolerance)
