"""Adaptive importance resampling against targets whose moments are known, separated modes included."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from helpers import assert_mean_within_mcse
from numpyro.diagnostics import effective_sample_size, split_gelman_rubin
from numpyro.infer import MCMC, NUTS

from icl_bayes.baselines.importance import (
    NUM_COMPONENTS,
    WIDTHS,
    ImportanceSampler,
    Mixture,
    Proposals,
    disagreement,
    fit_mixture,
    normalized,
    propose,
    systematic,
)
from icl_bayes.tasks import make_task
from icl_bayes.tasks.fa import SCENARIOS


def test_draws_of_a_gaussian_posterior(linear) -> None:
    sampler = ImportanceSampler(linear.task, num_proposals=40_000, excess=20.0)
    result = sampler.sample(jax.random.key(0), linear.dataset, 1500)
    assert result.status == "ok", result.message
    assert result.health["effective_proposals"] > 20 * 1500
    assert result.health["duplicates"] == 0.0
    beta = result.sites["beta"].astype(np.float64)
    assert_mean_within_mcse(beta, linear.mean, min_ess=1000.0)
    centred = beta - linear.mean
    assert_mean_within_mcse(centred[:, :, None] * centred[:, None, :], linear.covariance, min_ess=1000.0)


def test_separated_modes_are_weighed(bimodal) -> None:
    """Chains can't tell the mass of modes at plus and minus two; proposals from all of the prior can."""
    sampler = ImportanceSampler(bimodal.task, num_proposals=40_000, excess=20.0)
    result = sampler.sample(jax.random.key(1), bimodal.dataset, 1000)
    assert result.status == "ok", result.message
    location = result.sites["location"]
    assert np.mean(location > 0) == pytest.approx(0.5, abs=4.0 * 0.5 / 1000**0.5)
    np.testing.assert_allclose(np.abs(location), 2.0, atol=0.3)


def test_weights_are_relative_to_the_law_of_the_proposals(linear) -> None:
    """Whatever the mixture, the mean weight is the evidence; a wrong share or scale in the density would move it."""
    generator = np.random.default_rng(0)
    spread = np.linalg.cholesky(linear.covariance)
    centers = linear.mean + generator.normal(size=(NUM_COMPONENTS, 2)) @ spread.T
    widths = np.asarray([0.1, 0.2, 0.3, 0.4])
    estimates = []
    for share, shares in ((0.999, widths), (0.5, widths), (0.3, widths[::-1])):
        leaves = centers, 2.0 * spread, shares, share
        mixture = Mixture(*(np.asarray(leaf, np.float32) for leaf in leaves))
        draw = jax.jit(lambda key, mixture: propose(linear.task, 100_000, key, linear.dataset, mixture)[1])
        log_weights = np.asarray(draw(jax.random.key(3), mixture), np.float64)
        weights = np.exp(log_weights)
        estimates.append((np.log(weights.mean()), weights.std() / weights.mean() / 100_000**0.5))
    (first, error), *others = estimates
    for value, its_error in others:
        assert abs(value - first) < 4.0 * np.hypot(error, its_error)
    assert max(error for _, error in estimates) < 0.05


def test_too_few_proposals_fail(linear) -> None:
    sampler = ImportanceSampler(linear.task, num_proposals=4096, max_rounds=2)
    result = sampler.sample(jax.random.key(0), linear.dataset, 1500)
    assert result.status == "failed"
    assert "effective proposals for 1500 draws (at least 75000)" in result.message


def test_halves_that_differ_are_noticed() -> None:
    generator = np.random.default_rng(0)
    thetas = generator.normal(size=(20_000, 2))
    assert disagreement(thetas, np.zeros(20_000)) < 4.0
    thetas[:10_000, 1] += 0.2
    assert disagreement(thetas, np.zeros(20_000)) > 6.0


def test_systematic_resampling_repeats_heavy_draws_only() -> None:
    generator = np.random.default_rng(1)
    weights = normalized(0.3 * generator.normal(size=5000))
    chosen = systematic(weights, 200, generator)
    assert len(np.unique(chosen)) == 200
    heavy = np.append(np.full(99, 0.5 / 99), 0.5)
    assert np.isin(np.sum(systematic(heavy, 100, generator) == 99), (49, 50, 51))


def test_the_mixture_covers_what_was_weighed() -> None:
    generator = np.random.default_rng(2)
    thetas = generator.normal(size=(50_000, 3))
    log_weights = -0.5 * ((thetas - 1.0) ** 2).sum(1) * 4.0 + 0.5 * (thetas**2).sum(1)  # N(1, 1/4)
    mixture = fit_mixture(Proposals(thetas, log_weights, np.full((50_000, len(WIDTHS)), 1.0 / len(WIDTHS))), generator)
    np.testing.assert_allclose(np.mean(mixture.centers, axis=0), 1.0, atol=0.1)
    np.testing.assert_allclose(np.std(mixture.centers, axis=0), 0.5, atol=0.1)


def test_tasks_that_are_out_of_reach_are_refused() -> None:
    task = replace(make_task("glm/2", num_columns=5), target=("intercept", "beta"), nuisance=("sigma2",))
    with pytest.raises(ValueError, match="no nuisance sites; 'glm/2' has"):
        ImportanceSampler(task)


@pytest.mark.slow
@pytest.mark.parametrize("scenario", [1, 3])
def test_factor_analysis_agrees_with_chains_on_the_full_joint(scenario: int) -> None:
    """Chains over factor, loadings, means and variances, from the textbook program."""
    task, spec = make_task(f"fa/{scenario}"), SCENARIOS[scenario]
    structure, constants = spec.structure, spec.constants
    _, dataset = jax.jit(lambda key: task.simulate(key, task.paper_num_rows))(jax.random.key(10 + scenario))

    def joint() -> None:
        features = [structure.num_features]
        z = numpyro.sample("z", dist.Normal(0.0, 1.0).expand([structure.num_factors]))
        mu = numpyro.sample("mu", dist.Normal(0.0, constants["mean_scale"]).expand(features))
        psi = dist.InverseGamma(constants["psi_concentration"], constants["psi_rate"])
        psi = numpyro.sample("psi", psi.expand(features))
        loadings = numpyro.sample("w", dist.Normal(0.0, constants["loading_scale"]).expand(structure.shape))
        numpyro.sample("x", dist.Normal(mu + structure.triangular(loadings) @ z, jnp.sqrt(psi)), obs=dataset["x"])

    kernel = NUTS(joint, target_accept_prob=0.95)
    chains = MCMC(kernel, num_warmup=500, num_samples=4000, num_chains=4, chain_method="vectorized", progress_bar=False)
    chains.run(jax.random.key(1))
    by_chain = np.asarray(chains.get_samples(group_by_chain=True)["z"], np.float64)
    assert np.max(split_gelman_rubin(by_chain)) < 1.01
    result = ImportanceSampler(task).sample(jax.random.key(0), dataset, 2000)
    assert result.status == "ok", result.message
    for power in (1, 2):
        ours, theirs = result.sites["z"].astype(np.float64) ** power, by_chain**power
        error = ours.var(axis=0) / len(ours) + theirs.var(axis=(0, 1)) / effective_sample_size(theirs)
        assert np.max(np.abs(ours.mean(axis=0) - theirs.mean(axis=(0, 1))) / np.sqrt(error)) < 4.0
