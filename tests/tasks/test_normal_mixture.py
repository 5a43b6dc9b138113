"""The law of mixtures by one matrix product: NumPyro's own density and gradient, also far from zero."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import stats

from icl_bayes.tasks.normal_mixture import NormalMixture, log_component_densities

WEIGHTS = np.array([0.2, 3.0, 1.1])
MU = np.array([[0.0, 1.0], [-4.0, 0.5], [2.0, -30.0]])
SIGMA2 = np.array([[0.3, 2.0], [1.0, 0.1], [5.0, 0.5]])


def rows(num: int, seed: int = 0) -> np.ndarray:
    """From the mixture itself, and a few far from it."""
    generator = np.random.default_rng(seed)
    labels = generator.choice(3, num, p=WEIGHTS / WEIGHTS.sum())
    x = MU[labels] + np.sqrt(SIGMA2[labels]) * generator.standard_normal((num, 2))
    return np.concatenate([x, [[40.0, 0.0], [0.0, -60.0]]])


def exact(x: np.ndarray, shift: float = 0.0) -> np.ndarray:
    """In double precision, by SciPy, ``(n,)``."""
    parts = stats.norm.logpdf(x[:, None], MU + shift, np.sqrt(SIGMA2)).sum(axis=-1) + np.log(WEIGHTS / WEIGHTS.sum())
    return np.logaddexp.reduce(parts, axis=1)


@pytest.mark.parametrize("shift", [0.0, 300.0])
def test_density_is_that_of_the_mixture(shift: float) -> None:
    """Single precision loses nothing to cancellation when the center moves along with the rows."""
    x = rows(200) + shift
    law = NormalMixture(jnp.asarray(WEIGHTS), jnp.asarray(MU + shift), jnp.asarray(SIGMA2), center=x.mean(axis=0))
    error = np.asarray(law.log_prob(jnp.asarray(x)), np.float64) - exact(x, shift)
    # What rounding the rows themselves does, times their distance in standard deviations.
    np.testing.assert_allclose(error, 0.0, atol=2e-4 + 3e-6 * shift, rtol=0.0)


def test_without_a_center_digits_are_lost() -> None:
    """The control of the test above: were the center ignored, it would fail."""
    x = rows(200) + 300.0
    law = NormalMixture(jnp.asarray(WEIGHTS), jnp.asarray(MU + 300.0), jnp.asarray(SIGMA2))
    error = np.asarray(law.log_prob(jnp.asarray(x)), np.float64) - exact(x, 300.0)
    assert np.max(np.abs(error)) > 0.01


def test_gradients_are_those_of_numpyros_mixture() -> None:
    """But for rounding of terms of some thousands, which cancel in a sum."""
    x = jnp.asarray(rows(50)[:-2])

    def of(make):
        def total(weights, mu, sigma2):
            return jnp.sum(make(weights, mu, sigma2).log_prob(x))

        return jax.grad(total, argnums=(0, 1, 2))(jnp.asarray(WEIGHTS), jnp.asarray(MU), jnp.asarray(SIGMA2))

    def plain(weights, mu, sigma2):
        components = dist.Normal(mu, jnp.sqrt(sigma2)).to_event(1)
        return dist.MixtureSameFamily(dist.Categorical(logits=jnp.log(weights)), components)

    ours = of(lambda *arguments: NormalMixture(*arguments, center=jnp.mean(x, axis=0)))
    for gradient, expected in zip(ours, of(plain), strict=True):
        np.testing.assert_allclose(gradient, expected, rtol=2e-4, atol=5e-3)


def test_any_center_gives_the_same_densities() -> None:
    x, precision = jnp.asarray(rows(30)), jnp.asarray(1.0 / SIGMA2)
    of = [log_component_densities(x, jnp.full(2, c), jnp.zeros(3), precision, jnp.asarray(MU)) for c in (0.0, 3.0)]
    assert of[0].shape == (3, 32)
    np.testing.assert_allclose(of[0], of[1], rtol=2e-5, atol=1e-3)


def test_components_are_those_of_numpyros_mixture() -> None:
    """In its order of axes, with weights."""
    x = jnp.asarray(rows(30)[:-2])
    law = NormalMixture(jnp.asarray(WEIGHTS), jnp.asarray(MU), jnp.asarray(SIGMA2), center=jnp.mean(x, axis=0))
    found = law.component_log_probs(x)
    assert found.shape == (30, 3)
    np.testing.assert_allclose(found, dist.MixtureSameFamily.component_log_probs(law, x), rtol=1e-5, atol=1e-3)


def test_draws_have_the_mixtures_moments() -> None:
    """And survive a plate, which expands the law."""
    law = NormalMixture(jnp.asarray(WEIGHTS), jnp.asarray(MU), jnp.asarray(SIGMA2)).expand([4000])
    draws = np.asarray(law.sample(jax.random.key(0)), np.float64)
    shares = WEIGHTS / WEIGHTS.sum()
    mean = shares @ MU
    variance = shares @ (SIGMA2 + MU**2) - mean**2
    assert draws.shape == (4000, 2)
    np.testing.assert_allclose((draws.mean(axis=0) - mean) / np.sqrt(variance / 4000), 0.0, atol=4.0)
    assert law.log_prob(jnp.asarray(draws)).shape == (4000,)
