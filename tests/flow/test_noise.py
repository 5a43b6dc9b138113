"""Base noise with a wide share: its law, its density, and what it is for."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from icl_bayes.evaluation.importance_weights import report_weights
from icl_bayes.flow import Noise, log_normal
from icl_bayes.training import FlowConfig

NUM = 20_000


def keys(num: int = NUM) -> jax.Array:
    return jax.jit(jax.vmap(lambda index: jax.random.fold_in(jax.random.key(3), index)))(jnp.arange(num))


def test_without_a_wide_share_it_is_the_normal_law_to_the_bit() -> None:
    plain = jax.jit(jax.vmap(lambda key: jax.random.normal(key, (4,))))(keys(50))
    np.testing.assert_array_equal(Noise().draw(keys(50), 4), plain)
    np.testing.assert_array_equal(jax.jit(jax.vmap(Noise().log_prob))(plain), jax.jit(jax.vmap(log_normal))(plain))


@pytest.mark.parametrize(("share", "dim"), [(0.05, 1), (0.3, 3), (0.5, 20)])
def test_draws_have_the_law_that_the_density_says(share: float, dim: int) -> None:
    """Squared radii against the mixture of scaled chi-squared laws; densities against SciPy's."""
    width, noise = 1.0 + 1.2 / dim**0.5, Noise(share)
    draws = np.asarray(noise.draw(keys(), dim), np.float64)
    parts, shares = (stats.chi2(dim), stats.chi2(dim, scale=width**2)), (1.0 - share, share)

    def cdf(radius: np.ndarray) -> np.ndarray:
        return sum(weight * part.cdf(radius) for weight, part in zip(shares, parts, strict=True))

    assert stats.kstest(np.sum(draws**2, axis=1), cdf).pvalue > 1e-4
    assert stats.kstest(np.sum(draws**2, axis=1), parts[0].cdf).pvalue < 1e-4, "The control: not the normal law."
    laws = (stats.norm(), stats.norm(scale=width))
    density = sum(weight * np.prod(law.pdf(draws[:200]), axis=1) for weight, law in zip(shares, laws, strict=True))
    np.testing.assert_allclose(jax.jit(jax.vmap(noise.log_prob))(draws[:200]), np.log(density), rtol=1e-4, atol=1e-4)


def test_weights_of_a_wider_target_are_bounded() -> None:
    """The target N(0, 1.5^2 I) in two dimensions: without a wide share a few weights have all the say."""

    def log_weights(noise: Noise) -> np.ndarray:
        draws = noise.draw(keys(), 2)
        target = jax.vmap(lambda z: log_normal(z / 1.5) - 2.0 * jnp.log(1.5))(draws)
        return np.asarray(target - jax.vmap(noise.log_prob)(draws))

    bounded, free = log_weights(Noise(0.05)), log_weights(Noise())
    assert bounded.max() <= np.log(((1.0 + 1.2 / 2**0.5) / 1.5) ** 2 / 0.05) + 1e-4
    assert free.max() > 4.0
    assert report_weights(bounded).khat < 0.3 < report_weights(free).khat


@pytest.mark.parametrize("dim", [2, 5, 20])
def test_it_moves_the_noise_by_about_half_of_the_share(dim: int) -> None:
    """Total variation from N(0, I), the mean of ``max(0, 1 - p / q)`` over its draws."""
    noise, draws = Noise(0.1), Noise().draw(keys(), dim)
    ratio = np.asarray(jnp.exp(jax.jit(jax.vmap(noise.log_prob))(draws) - jax.jit(jax.vmap(log_normal))(draws)))
    assert np.maximum(0.0, 1.0 - ratio).mean() == pytest.approx(0.05, abs=0.009)


def test_a_share_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"flow\.wide_share.* between 0 and 0\.5; received 0\.7"):
        Noise(0.7)
    with pytest.raises(ValueError, match=r"flow\.wide_share"):
        FlowConfig(wide_share=-0.1)
