"""Variational families on a correlated Gaussian posterior, where their optima are known."""

from __future__ import annotations

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from helpers import assert_mean_within_mcse
from numpyro import handlers

from icl_bayes.baselines import VariationalSampler
from icl_bayes.baselines.guides import AutoStructuredNormal
from icl_bayes.types import SampleResult

NUM_DRAWS = 4000


@pytest.fixture(scope="module")
def samplers(linear) -> dict[str, VariationalSampler]:
    return {guide: VariationalSampler(linear.task, guide=guide) for guide in ("diagonal", "full")}


@pytest.fixture(scope="module")
def fits(linear, samplers) -> dict[str, SampleResult]:
    return {guide: sampler.sample(jax.random.key(0), linear.dataset, NUM_DRAWS) for guide, sampler in samplers.items()}


def test_every_fit_starts_afresh(linear, samplers, fits) -> None:
    """Nothing is carried from one data set to the next (fault 11 of the published code)."""
    other = linear.dataset.replace(rows={**linear.dataset.rows, "y": linear.dataset["y"] + 1.0})
    second = samplers["full"].sample(jax.random.key(0), other, NUM_DRAWS)
    again = samplers["full"].sample(jax.random.key(0), linear.dataset, NUM_DRAWS)
    assert second.seconds_compile == again.seconds_compile == 0.0
    assert not np.allclose(second.sites["beta"], again.sites["beta"])
    np.testing.assert_array_equal(again.sites["beta"], fits["full"].sites["beta"])


def test_full_family_finds_the_posterior(linear, fits) -> None:
    beta = fits["full"].sites["beta"].astype(np.float64)
    sd = np.sqrt(np.diag(linear.covariance))
    # Adam at 1e-2 keeps moving by a fraction of a standard deviation; no Monte Carlo bound applies.
    assert np.all(np.abs(beta.mean(axis=0) - linear.mean) < 0.35 * sd)
    np.testing.assert_allclose(beta.std(axis=0), sd, rtol=0.2)
    correlation = linear.covariance[0, 1] / np.prod(sd)
    assert np.corrcoef(beta.T)[0, 1] == pytest.approx(correlation, abs=0.06)


def test_diagonal_family_underestimates_the_variance(linear, fits) -> None:
    """The optimum keeps the conditional variances, a fraction 1 - correlation^2 of the marginal ones."""
    beta = fits["diagonal"].sites["beta"].astype(np.float64)
    conditional_sd = 1.0 / np.sqrt(np.diag(np.linalg.inv(linear.covariance)))
    marginal_sd = np.sqrt(np.diag(linear.covariance))
    assert np.all(beta.std(axis=0) < 0.75 * marginal_sd)
    np.testing.assert_allclose(beta.std(axis=0), conditional_sd, rtol=0.2)
    assert abs(np.corrcoef(beta.T)[0, 1]) < 0.1
    # The gap between the two ELBOs is the divergence of the best product from the posterior.
    correlation = linear.covariance[0, 1] / np.prod(marginal_sd)
    divergence = -0.5 * np.log1p(-(correlation**2))
    gap = fits["full"].health["elbo"] - fits["diagonal"].health["elbo"]
    noise = np.hypot(fits["full"].health["elbo_error"], fits["diagonal"].health["elbo_error"])
    assert gap == pytest.approx(divergence, abs=5.0 * noise + 0.15)


def test_too_few_steps_are_reported(linear) -> None:
    sampler = VariationalSampler(linear.task, guide="iaf", num_steps=200)
    assert sampler.learning_rate == 1e-3
    result = sampler.sample(jax.random.key(1), linear.dataset, 50)
    assert result.status == "warning"
    assert "not converged" in result.message


def test_structured_family_is_a_linear_gaussian_network() -> None:
    """Its one Gaussian has the covariance of the sites drawn in turn, each given those before."""

    def model() -> None:
        numpyro.sample("a", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
        numpyro.sample("b", dist.LogNormal(0.0, 1.0))
        numpyro.sample("c", dist.Normal(0.0, 1.0).expand([2]).to_event(1))

    guide = AutoStructuredNormal(model)
    with handlers.seed(rng_seed=0), handlers.trace() as trace:
        guide()
    generator = np.random.default_rng(0)
    params = {
        name: generator.uniform(0.2, 1.0, size=np.shape(site["value"])).astype(np.float32)
        for name, site in trace.items()
        if site["type"] == "param"
    }
    for site in "ac":
        params[f"auto_{site}_scale_tril"] = np.tril(params[f"auto_{site}_scale_tril"])
    with handlers.substitute(data=params):
        posterior = guide._get_posterior()
    assert params["auto_c_weights"].shape == (2, 3)

    noise = generator.normal(size=(100_000, 5))
    deviations = np.zeros((100_000, 0))
    for site, columns in (("a", slice(0, 2)), ("b", slice(2, 3)), ("c", slice(3, 5))):
        own = params[f"auto_{site}_scale"] * (noise[:, columns] @ params[f"auto_{site}_scale_tril"].T)
        if site != "a":
            own = own + deviations @ params[f"auto_{site}_weights"].T
        deviations = np.column_stack([deviations, own])
    np.testing.assert_allclose(posterior.mean, params["auto_loc"])
    products = deviations[:, :, None] * deviations[:, None, :]
    assert_mean_within_mcse(products, posterior.covariance_matrix, label="covariance")


@pytest.mark.slow
def test_structured_and_full_families_reach_the_same_elbo(glm1, glm1_dataset) -> None:
    health = {
        guide: VariationalSampler(glm1, guide=guide).sample(jax.random.key(2), glm1_dataset, 10).health
        for guide in ("full", "structured")
    }
    noise = np.hypot(health["full"]["elbo_error"], health["structured"]["elbo_error"])
    assert abs(health["full"]["elbo"] - health["structured"]["elbo"]) < 5.0 * noise + 0.2


def test_unknown_guide_lists_the_choices(linear) -> None:
    with pytest.raises(ValueError, match="choices: diagonal, full, structured, iaf"):
        VariationalSampler(linear.task, guide="lowrank")
