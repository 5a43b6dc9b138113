"""NUTS: bad runs say so, batches equal single runs, both starts work."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from helpers import assert_mean_within_mcse

from icl_bayes.baselines import NutsSampler
from icl_bayes.baselines.nuts import NutsChains

NOISE_SD = 0.7  # of the linear task


def test_a_run_without_warm_up_is_reported(linear) -> None:
    # Depth 1 is a single leapfrog step; unadapted, its size of one is far too large here.
    bad = NutsSampler(linear.task, mode="jit", num_warmup=0, max_tree_depth=1)
    result = bad.sample(jax.random.key(0), linear.dataset, 100)
    assert result.status == "failed"
    assert "not mixed" in result.message or "effective draws" in result.message


@pytest.mark.parametrize("strategy", ["vmap", "map"])
def test_batches_are_sampled_correctly(linear, strategy: str) -> None:
    x, y = linear.dataset["x"], linear.dataset["y"]
    shifted = linear.dataset.replace(rows={"x": x, "y": y + x[:, 0]})
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), linear.dataset, shifted)
    sampler = NutsSampler(linear.task, mode="jit", dense_mass=True, num_warmup=300)
    results = sampler.sample_batch(jax.random.key(2), stacked, 800, strategy)
    shift = linear.covariance @ (x.T @ x[:, 0]) / NOISE_SD**2
    for result, mean in zip(results, (linear.mean, linear.mean + shift), strict=True):
        assert result.status == "ok", result.message
        assert_mean_within_mcse(result.sites["beta"], mean, label=strategy)
    again = sampler.sample_batch(jax.random.key(3), stacked, 800, strategy)
    assert sum(result.seconds_compile for result in again) == 0.0


def test_an_unknown_strategy_is_refused(linear) -> None:
    with pytest.raises(ValueError, match="choices: vmap, map"):
        NutsSampler(linear.task).sample_batch(jax.random.key(0), linear.dataset, 10, "pmap")


@pytest.mark.parametrize("mode", [pytest.param("mcmc_run", marks=pytest.mark.slow), "jit"])
def test_chains_thinning_and_laplace_start(linear, mode: str) -> None:
    sampler = NutsSampler(
        linear.task, mode=mode, num_chains=2, num_warmup=200, thinning=2, start="laplace", dense_mass=True
    )
    result = sampler.sample(jax.random.key(4), linear.dataset, 501)
    assert result.status == "ok", result.message
    assert result.sites["beta"].shape == (501, 2)
    assert_mean_within_mcse(result.sites["beta"], linear.mean)
    assert result.health["nats_below_peak"] == pytest.approx(1.0, abs=0.3)  # dim / 2 for a Gaussian


def test_a_spurious_mode_is_reported(linear) -> None:
    """A stuck chain looks converged to R-hat; its log density gives it away."""
    sampler = NutsSampler(linear.task)
    generator = np.random.default_rng(0)
    peak = float(linear.task.log_joint(sampler.task.unconstrain({"beta": linear.mean}, linear.dataset), linear.dataset))
    sites = {"beta": np.zeros((500, 2))}
    chains = NutsChains(
        thetas=generator.normal(size=(1, 500, 2)),
        diverging=np.zeros((1, 500), bool),
        num_steps=np.full((1, 500), 3),
        log_density=np.full((1, 500), peak - 1.0),
    )
    assert sampler._result(linear.dataset, chains, sites, 0.0, 0.0).status == "ok"
    stuck = chains._replace(log_density=chains.log_density - 50.0)
    result = sampler._result(linear.dataset, stuck, sites, 0.0, 0.0)
    assert result.status == "failed"
    assert "spurious mode: on average 51 nats below" in result.message
