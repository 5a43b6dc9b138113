"""The law of a factor model's rows against integrals over its loadings, means and variances."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from icl_bayes.tasks import factor_law
from icl_bayes.tasks.factor_law import LOADINGS, FactorRows, FactorStructure, inverse_gamma_nodes

CONSTANTS = {"mean_scale": 0.5, "psi_concentration": 5.0, "psi_rate": 2.0, "loading_scale": 1.7}


def transform_of_mean(t: np.ndarray, p: int, structure: FactorStructure, factor: np.ndarray) -> np.ndarray:
    """Characteristic function of ``w_p . z``, from the textbook forms of its independent parts."""
    scales = CONSTANTS["loading_scale"] * factor
    total = np.ones_like(t, complex)
    is_normal = structure.loadings == "normal"
    for k in range(min(p, structure.num_factors)):
        squared = (scales[k] * t) ** 2
        total *= np.exp(-0.5 * squared) if is_normal else 1.0 / (1.0 + squared)
    if p < structure.num_factors:
        if not is_normal:  # an exponential variable
            total *= 1.0 / (1.0 - 1j * scales[p] * t)
        else:  # half-normal
            nodes, weights = np.polynomial.legendre.leggauss(400)
            x, w = 5.0 * (nodes + 1.0), 5.0 * weights * 2.0 * stats.norm.pdf(5.0 * (nodes + 1.0))
            total *= np.exp(1j * scales[p] * np.outer(t, x)) @ w
    return total


def log_marginal(x: np.ndarray, structure: FactorStructure, factor: np.ndarray) -> float:
    """Log density of the rows: Fourier inversion for the means, adaptive quadrature over every variance."""
    num_rows, total = len(x), 0.0
    t = np.linspace(0.0, 20.0, 4001)
    for p in range(structure.num_features):
        mean, scatter = x[:, p].mean(), ((x[:, p] - x[:, p].mean()) ** 2).sum()
        spectrum = transform_of_mean(t, p, structure, factor) * np.exp(-0.5 * (CONSTANTS["mean_scale"] * t) ** 2)
        spectrum = np.real(spectrum * np.exp(-1j * t * mean)) / np.pi

        def integrand(psi: float, spectrum=spectrum, scatter=scatter) -> float:
            density = integrate.trapezoid(spectrum * np.exp(-0.5 * psi * t**2 / num_rows), t)
            log_rest = -0.5 * (num_rows - 1) * np.log(2 * np.pi * psi) - 0.5 * scatter / psi - 0.5 * np.log(num_rows)
            prior = stats.invgamma.pdf(psi, CONSTANTS["psi_concentration"], scale=CONSTANTS["psi_rate"])
            return density * np.exp(log_rest) * prior

        total += np.log(integrate.quad(integrand, 0.0, 8.0, points=[0.2, 0.5, 1.0], epsabs=0.0, epsrel=1e-7)[0])
    return total


def law(structure: FactorStructure, factor: np.ndarray, num_rows: int) -> FactorRows:
    constants = {name: jnp.asarray(value) for name, value in CONSTANTS.items()}
    return FactorRows(jnp.asarray(factor, jnp.float32), structure, constants, np.ones(num_rows, bool))


@pytest.mark.parametrize("loadings", LOADINGS)
@pytest.mark.parametrize("factor", [(0.8, -0.4, 1.3), (0.02, 1.1, -1.1), (-2.5, 0.3, 0.0)])
def test_density_equals_the_integral(loadings: str, factor: tuple[float, ...]) -> None:
    structure, z = FactorStructure(4, 3, loadings), np.asarray(factor)
    x = np.random.default_rng(0).normal(size=(6, 4)) * 0.6 + [0.9, -1.5, 0.3, 1.0]
    got = float(law(structure, z, 6).log_prob(jnp.asarray(x, jnp.float32)))
    assert got == pytest.approx(log_marginal(x, structure, z), abs=2e-3)


@pytest.mark.parametrize("loadings", LOADINGS)
def test_simulated_rows_have_the_density(loadings: str) -> None:
    """For one row and one feature, whose density can be put on a grid and integrated."""
    structure, z = FactorStructure(1, 1, loadings), np.asarray([-1.2])
    one = law(structure, z, 1)
    draws = np.asarray(jax.jit(lambda key: one.sample(key, (20_000,)))(jax.random.key(0))).ravel()
    grid = np.linspace(-40.0, 20.0, 6001)
    density = np.exp(jax.jit(jax.vmap(lambda x: one.log_prob(x.reshape(1, 1))))(jnp.asarray(grid, jnp.float32)))
    cumulative = integrate.cumulative_trapezoid(density, grid, initial=0.0)
    assert cumulative[-1] == pytest.approx(1.0, abs=1e-3)
    assert stats.kstest(np.interp(draws, grid, cumulative), "uniform").pvalue > 1e-3
    # A wrong sign of the skewness is noticed.
    assert stats.kstest(np.interp(-draws, grid, cumulative), "uniform").pvalue < 1e-6


@pytest.mark.parametrize("loadings", LOADINGS)
def test_gradients_are_finite_and_right(loadings: str) -> None:
    structure = FactorStructure(5, 3, loadings)
    x = jnp.asarray(np.random.default_rng(1).normal(size=(25, 5)) + 2.0, jnp.float32)

    def log_density(z: jax.Array) -> jax.Array:
        return law(structure, z, 25).log_prob(x)

    points = jnp.asarray([[0.0, 0.0, 0.0], [0.003, -0.006, 0.01], [1.0, -1.0, 0.5], [9.0, -9.0, 9.0]])
    near = points[:, None, :] + 1e-2 * jnp.concatenate([jnp.eye(3), -jnp.eye(3)])
    gradients, values = jax.jit(
        lambda: (jax.vmap(jax.grad(log_density))(points), jax.vmap(jax.vmap(log_density))(near))
    )()
    differences = (values[:, :3] - values[:, 3:]) / 2e-2
    np.testing.assert_allclose(gradients, differences, rtol=0.03, atol=0.05)


def test_masked_rows_do_not_count() -> None:
    structure, z = FactorStructure(4, 2), jnp.asarray([0.3, -0.8])
    x = jnp.asarray(np.random.default_rng(2).normal(size=(7, 4)), jnp.float32)
    constants = {name: jnp.asarray(value) for name, value in CONSTANTS.items()}
    short = FactorRows(z, structure, constants, np.ones(5, bool)).log_prob(x[:5])
    padded = FactorRows(z, structure, constants, np.arange(7) < 5).log_prob(x)
    assert float(short) == pytest.approx(float(padded), abs=1e-5)


def test_nodes_of_the_inverse_gamma_law() -> None:
    psi, log_weights = inverse_gamma_nodes(jnp.asarray([5.0, 30.0]), jnp.asarray([2.0, 9.0]), 8)
    np.testing.assert_allclose(jnp.sum(jnp.exp(log_weights) / psi, axis=1), [2.5, 30.0 / 9.0], rtol=1e-3)
    np.testing.assert_allclose(jnp.sum(jnp.exp(log_weights) * psi, axis=1), [0.5, 9.0 / 29.0], rtol=1e-3)


@pytest.mark.parametrize("scale", [-30.0, -1.0, -0.02, 0.02, 0.5, 30.0])
def test_an_exponential_part_is_convolved_as_scipy_does(scale: float) -> None:
    x = np.linspace(-12.0, 12.0, 97)
    found = factor_law._normal_exponential(jnp.asarray(x, jnp.float32), jnp.float32(0.7), jnp.float32(scale))
    sd = np.sqrt(0.7)
    exact = stats.exponnorm.logpdf(np.sign(scale) * x, abs(scale) / sd, scale=sd)
    usual = exact > -60.0
    np.testing.assert_allclose(found[usual], exact[usual], atol=2e-5, rtol=2e-5)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="no more than features; received 4 factors for 3 features"):
        FactorStructure(3, 4)
    with pytest.raises(ValueError, match="choices: \\('normal', 'laplace'\\)"):
        FactorStructure(3, 2, "cauchy")
