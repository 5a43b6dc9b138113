"""Simulated pairs follow the paper's laws (a variance is a variance) and the log joint they are scored by."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_mean_within_mcse, joint_draw
from scipy import stats
from scipy.special import expit

from icl_bayes.tasks import make_task

PRIORS = {1: stats.norm(), 2: stats.norm(), 3: stats.laplace(), 5: stats.expon(), 6: stats.norm(), 7: stats.norm()}
GAUSSIAN = [1, 2, 3, 4, 5]


def linear_predictor(pairs) -> np.ndarray:
    """``(N, n)`` in float64."""
    x, beta = pairs.dataset["x"].astype(np.float64), pairs.sites["beta"].astype(np.float64)
    return np.einsum("nrp,np->nr", x, beta) + pairs.sites.get("intercept", np.zeros(len(x)))[:, None]


@pytest.mark.parametrize("scenario", [*PRIORS, 4])
def test_coefficients_and_noise_variance_follow_their_priors(scenario: int, simulated) -> None:
    pairs = simulated(scenario)
    prior = PRIORS.get(scenario, stats.laplace())
    assert stats.kstest(pairs.sites["beta"].ravel(), prior.cdf).pvalue > 1e-5
    if scenario == 6:
        assert "sigma2" not in pairs.sites
        return
    sigma2 = pairs.sites["sigma2"].astype(np.float64)
    assert stats.kstest(sigma2, stats.invgamma(5.0, scale=2.0).cdf).pvalue > 1e-5
    assert_mean_within_mcse(sigma2, 0.5, label="mean of IG(5, 2)")
    assert_mean_within_mcse((sigma2 - 0.5) ** 2, 1.0 / 12.0, label="variance of IG(5, 2)")


@pytest.mark.parametrize("scenario", [2, 4])
def test_intercept_has_variance_nine(scenario: int, simulated) -> None:
    intercept = simulated(scenario).sites["intercept"].astype(np.float64)
    assert stats.kstest(intercept, stats.norm(0.0, 3.0).cdf).pvalue > 1e-5
    assert_mean_within_mcse(intercept**2, 9.0)


@pytest.mark.parametrize("scenario", GAUSSIAN)
def test_response_has_variance_sigma2_not_its_square(scenario: int, simulated) -> None:
    pairs = simulated(scenario)
    residual = pairs.dataset["y"] - linear_predictor(pairs)
    sigma2 = pairs.sites["sigma2"].astype(np.float64)[:, None]
    assert stats.kstest((residual / np.sqrt(sigma2)).ravel(), "norm").pvalue > 1e-5
    small = sigma2[:, 0] < 0.4  # there, a standard deviation mistaken for a variance is off by more than 2.5
    assert_mean_within_mcse((residual**2 / sigma2)[small].mean(axis=1), 1.0, label="variance ratio at small sigma2")
    # One law per row: residuals of different rows are uncorrelated.
    assert_mean_within_mcse((residual / np.sqrt(sigma2))[:, :4] * (residual / np.sqrt(sigma2))[:, 4:8], np.zeros(4))


def test_bernoulli_response_has_logistic_probability(simulated) -> None:
    pairs = simulated(6)
    y, probability = pairs.dataset["y"].astype(np.float64), expit(linear_predictor(pairs))
    assert np.isin(y, (0.0, 1.0)).all()
    for low, high in ((0.0, 0.3), (0.3, 0.7), (0.7, 1.0)):
        inside = (probability > low) & (probability < high)
        assert_mean_within_mcse((y - probability)[inside], 0.0, label=f"P(y) in ({low}, {high})")


def test_gamma_response_has_mean_of_the_log_link_and_variance_sigma2(simulated) -> None:
    pairs = simulated(7)
    mean, y = np.exp(linear_predictor(pairs)), np.exp(pairs.dataset["log_y"].astype(np.float64))
    sigma2 = np.broadcast_to(pairs.sites["sigma2"].astype(np.float64)[:, None], mean.shape)
    light = mean**2 / sigma2 > 1.0  # shapes below one have too heavy tails for moments
    assert_mean_within_mcse(((y - mean) / np.sqrt(sigma2))[light], 0.0, label="mean")
    assert_mean_within_mcse(((y - mean) ** 2 / sigma2)[light], 1.0, label="variance ratio")
    uniform = stats.gamma.cdf(y, mean**2 / sigma2, scale=sigma2 / mean)
    assert stats.kstest(uniform[mean**2 / sigma2 > 0.2], "uniform").pvalue > 1e-5


def estimates_of(pairs) -> np.ndarray:
    """A bounded function of the data for every coordinate that rises with it, ``(N, dim)``."""
    response = pairs.dataset[pairs.task.responses[0]].astype(np.float64)
    centred = response - np.median(response)
    by_site = {
        "intercept": centred.mean(axis=1)[:, None],
        "beta": np.einsum("nr,nrp->np", centred, pairs.dataset["x"]),
        "sigma2": np.log(response.var(axis=1) + 1e-3)[:, None],
    }
    raw = np.concatenate([by_site[name] for name in pairs.task.sites], axis=1)
    centre, spread = np.median(raw, axis=0), np.quantile(raw, 0.84, axis=0) - np.quantile(raw, 0.16, axis=0)
    return np.tanh(2.0 * (raw - centre) / spread)


@pytest.mark.parametrize("scenario", range(1, 8))
def test_simulation_and_log_joint_describe_one_law(scenario: int, simulated) -> None:
    """Integration by parts: for pairs from the joint law, E[h(y) (df/dtheta + f d log joint/dtheta)] = 0."""
    pairs = simulated(scenario)
    zeros = np.zeros(pairs.task.dim)
    score = np.asarray(jax.jit(jax.vmap(jax.grad(pairs.task.log_joint)))(pairs.theta, pairs.dataset), np.float64)
    theta, estimates = pairs.theta.astype(np.float64), estimates_of(pairs)
    assert_mean_within_mcse(score, zeros, label="E[score]")
    assert_mean_within_mcse(1.0 + theta * score, zeros, label="E[1 + theta score]")
    assert_mean_within_mcse(estimates * score, zeros, label="E[h(y) score]")
    smooth = 1.0 - np.tanh(theta) ** 2 + np.tanh(theta) * score
    assert_mean_within_mcse(estimates * smooth, zeros, label="E[h(y) (f' + f score)]")
    # The test sees a likelihood that counts too little (the prior's score is about -theta).
    with pytest.raises(AssertionError, match="standard errors"):
        assert_mean_within_mcse(estimates * (0.5 * (score + theta) - theta), zeros)


def test_rows_beyond_num_rows_are_masked_and_the_rest_does_not_depend_on_tracing(glm) -> None:
    task = glm(6)
    fixed = joint_draw(task, jax.random.key(3), 6)
    traced = jax.jit(lambda n: task.simulate(jax.random.key(3), n, 6))(jnp.asarray(4))
    assert fixed[1].padded_rows == traced[1].padded_rows == 6
    np.testing.assert_array_equal(traced[1].row_mask, [True] * 4 + [False] * 2)
    assert fixed[1].row_mask.all()
    np.testing.assert_allclose(fixed[0], traced[0], rtol=1e-6)


def test_varied_hyperpriors_fill_their_range_and_fixed_ones_stay() -> None:
    varied = make_task("glm/2", num_columns=2, covariates="uniform", hyperprior="varied")
    keys = jax.random.split(jax.random.key(0), 2000)
    drawn = jax.device_get(jax.jit(jax.vmap(varied.sample_constants))(keys))
    assert set(drawn) == set(varied.constants)
    for name, (low, high) in varied.hyperprior.items():
        assert low < varied.constants[name] < high, "The paper's constants must lie inside the family."
        span = np.log(high / low)
        assert stats.kstest(np.log(drawn[name] / low) / span, "uniform").pvalue > 1e-5, name
    fixed = make_task("glm/2", num_columns=2, covariates="uniform")
    for name, value in jax.jit(fixed.sample_constants)(keys[0]).items():
        assert value == fixed.constants[name]
