"""Adaptive importance resampling against targets whose moments are known, separated modes included."""

from __future__ import annotations

from dataclasses import replace

import jax
import numpy as np
import pytest
from helpers import assert_mean_within_mcse

from icl_bayes.baselines.importance import (
    WIDTHS,
    ImportanceSampler,
    Proposals,
    disagreement,
    fit_mixture,
    normalized,
    systematic,
)
from icl_bayes.tasks import make_task


def test_draws_of_a_gaussian_posterior(linear) -> None:
    sampler = ImportanceSampler(linear.task, num_proposals=100_000)
    result = sampler.sample(jax.random.key(0), linear.dataset, 1500)
    assert result.status == "ok", result.message
    assert result.health["effective_proposals"] > 50 * 1500
    assert result.health["duplicates"] == 0.0
    beta = result.sites["beta"].astype(np.float64)
    assert_mean_within_mcse(beta, linear.mean, min_ess=1000.0)
    centred = beta - linear.mean
    assert_mean_within_mcse(centred[:, :, None] * centred[:, None, :], linear.covariance, min_ess=1000.0)


def test_separated_modes_are_weighed(bimodal) -> None:
    """Chains can't tell the mass of modes at plus and minus two; proposals from all of the prior can."""
    result = ImportanceSampler(bimodal.task, num_proposals=100_000).sample(jax.random.key(1), bimodal.dataset, 1000)
    assert result.status == "ok", result.message
    location = result.sites["location"]
    assert np.mean(location > 0) == pytest.approx(0.5, abs=4.0 * 0.5 / 1000**0.5)
    np.testing.assert_allclose(np.abs(location), 2.0, atol=0.3)


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
