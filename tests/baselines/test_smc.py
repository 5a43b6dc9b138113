"""Tempered SMC: evidence and moments against closed forms, symmetric labels, runs that have to agree."""

from __future__ import annotations

import dataclasses
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro import handlers
from scipy.special import logsumexp
from scipy.stats import multivariate_normal, norm

from icl_bayes.baselines.smc import SMCSampler, SMCSettings, label_free_features, supports_smc
from icl_bayes.examples import sbibm
from icl_bayes.tasks import Features, Task, make_task
from icl_bayes.types import Dataset

FEW = SMCSettings(num_moves=3, num_leapfrogs=4, num_final_moves=8)


def two_means(dataset: Dataset) -> None:
    """Two exchangeable means with known weights and variances: a mixture over both labelings of every row."""
    mu = numpyro.sample("mu", dist.Normal(0.0, 3.0).expand([2]).to_event(1))
    law = dist.MixtureSameFamily(dist.Categorical(probs=np.full(2, 0.5)), dist.Normal(mu, 0.5))
    with numpyro.plate("rows", dataset.padded_rows), handlers.mask(mask=dataset.row_mask):
        numpyro.sample("x", law, obs=dataset.rows.get("x"))


def make(model=two_means) -> Task:
    return Task(
        name="means/1",
        model=model,
        inputs=lambda key, mask: {},
        responses=("x",),
        target=("mu",),
        compared=("mu",),
        constants={},
        features=lambda dataset: Features(dataset["x"][:, None], np.zeros(1), dataset.row_mask),
        validate=lambda dataset: dataset,
        example=Dataset(x=np.zeros(3, np.float32)),
        paper_num_rows=3,
        num_exchangeable=2,
    )


X = np.asarray([-2.0, -1.5, 2.5, 2.2], np.float32)


def truth() -> tuple[float, float, float]:
    """Log evidence, and mean and variance of the larger of both means, by enumeration of all labelings."""
    logs, larger = [], []
    rng = np.random.default_rng(0)
    for labels in np.ndindex(*(2,) * len(X)):
        log_weight, draws = len(X) * np.log(0.5), []
        for component in (0, 1):
            rows = X[np.asarray(labels) == component].astype(float)
            precision = 1 / 9.0 + len(rows) / 0.25
            draws.append(norm(rows.sum() / 0.25 / precision, precision**-0.5).rvs(4000, random_state=rng))
            if len(rows):
                covariance = 0.25 * np.eye(len(rows)) + 9.0
                log_weight += multivariate_normal(np.zeros(len(rows)), covariance).logpdf(rows)
        logs.append(log_weight)
        larger.append(np.maximum(*draws))
    weights = np.exp(np.asarray(logs) - logsumexp(logs))
    means = np.asarray([one.mean() for one in larger])
    squares = np.asarray([(one**2).mean() for one in larger])
    mean = weights @ means
    return float(logsumexp(logs)), float(mean), float(weights @ squares - mean**2)


@pytest.mark.parametrize(("padded_rows", "num_particles"), [(4, 1000), (200, 500)], ids=["all-at-once", "in-batches"])
def test_evidence_and_moments_are_those_of_all_labelings(padded_rows: int, num_particles: int) -> None:
    """Also with so many rows that particles move in batches."""
    sampler = SMCSampler(make(), num_particles=num_particles, settings=FEW)
    result = sampler.sample(jax.random.key(0), Dataset(x=X).pad_rows(padded_rows), 4 * num_particles)
    log_evidence, mean, variance = truth()
    assert result.status == "ok", result.message
    assert result.health["log_evidence"] == pytest.approx(log_evidence, abs=0.15)
    larger = result.sites["mu"].max(axis=1)
    # Particles that share an ancestor are dependent; a quarter of them is taken for independent.
    assert larger.mean() == pytest.approx(mean, abs=4.0 * (variance / num_particles) ** 0.5)
    assert larger.var() == pytest.approx(variance, rel=0.25)
    first = (result.sites["mu"][:, 0] > result.sites["mu"][:, 1]).mean()
    assert first == pytest.approx(0.5, abs=0.05), "Labels are put in a random order."


def test_runs_that_differ_are_reported() -> None:
    """Two particles per run can't represent anything, and the reference says so."""
    result = SMCSampler(make(), num_particles=8, settings=replace(FEW, num_moves=1, num_final_moves=1)).sample(
        jax.random.key(1), Dataset(x=X), 16
    )
    assert result.status == "failed"
    assert "runs disagree" in result.message


def test_where_data_are_impossible_no_particle_starts() -> None:
    """Two moons: the likelihood is zero for a half of the square, and elsewhere steep."""
    task = sbibm.two_moons()
    dataset = Dataset(x=np.zeros((1, 2), np.float32))
    result = SMCSampler(task, num_particles=1000).sample(jax.random.key(0), dataset, 4000)
    assert result.status == "ok", result.message
    edges = np.linspace(-1.0, 1.0, 2001)
    middles = 0.5 * (edges[1:] + edges[:-1])
    grid = np.stack(np.meshgrid(middles, middles, indexing="ij"), axis=-1).reshape(-1, 2)
    shift = np.stack([-np.abs(grid.sum(axis=1)), grid[:, 1] - grid[:, 0]], axis=1) * sbibm.ANGLE_HALF
    center = jnp.asarray(shift + np.asarray([sbibm.MOON_OFFSET, 0.0]))
    log_likelihood = np.asarray(sbibm.Crescent(center).log_prob(jnp.zeros(2)), np.float64)
    weights = np.exp(log_likelihood)
    assert result.health["log_evidence"] == pytest.approx(np.log(weights.mean()), abs=0.2)
    # Along and across the crescents, and on which of both sides.
    draws = result.sites[sbibm.PARAMETERS]
    for name, feature in {
        "along": lambda theta: theta[:, 1] - theta[:, 0],
        "across": lambda theta: np.abs(theta.sum(axis=1)),
        "side": lambda theta: theta.sum(axis=1) > 0.0,
    }.items():
        values = feature(grid)
        mean = np.average(values, weights=weights)
        sd = np.sqrt(np.average((values - mean) ** 2, weights=weights))
        assert feature(draws).mean() == pytest.approx(mean, abs=4.0 * sd / 1000**0.5), name


def test_data_that_no_prior_draw_explains_are_reported() -> None:
    far = Dataset(x=np.full((1, 2), -9.0, np.float32))
    result = SMCSampler(sbibm.two_moons(), num_particles=50).sample(jax.random.key(0), far, 100)
    assert result.status == "failed"
    assert "impossible under all 400 prior draws" in result.message


def test_a_narrow_core_is_met_by_shorter_steps(monkeypatch) -> None:
    """Half of the posterior has a tenth of the width of the other half."""
    task, dataset = sbibm.gaussian_mixture(), Dataset(x=np.full((1, 2), 1.5, np.float32))
    core = 0.5 * (1.0 - np.exp(-0.5 * 0.3**2)) + 0.5 * (1.0 - np.exp(-0.5 * 3.0**2))
    result = SMCSampler(task).sample(jax.random.key(0), dataset, 8000)
    assert result.status == "ok", result.message
    assert result.health["distinct"] > 0.99
    share = (np.linalg.norm(result.sites[sbibm.PARAMETERS] - 1.5, axis=1) < 0.3).mean()
    error = (core * (1.0 - core) / 2000) ** 0.5  # particles that share an ancestor are dependent
    assert share == pytest.approx(core, abs=4.0 * error)
    # Without them runs agree, on particles that were resampled and never moved.
    monkeypatch.setattr("icl_bayes.baselines.smc._NARROW_SHARE", 0.0)
    result = SMCSampler(task).sample(jax.random.key(0), dataset, 8000)
    assert result.status == "failed"
    assert "of the particles have left the place of others" in result.message
    assert "disagree" not in result.message


def test_features_do_not_change_with_labels_but_with_what_belongs_together() -> None:
    task = make_task("gmm/4")
    rng = np.random.default_rng(0)
    sites = {
        "gamma": rng.gamma(1.0, size=(50, 3)),
        "sigma2": rng.gamma(2.0, size=(50, 3, 3)),
        "mu": rng.normal(size=(50, 3, 3)),
    }
    features = label_free_features(task, sites)
    orders = rng.permuted(np.tile(np.arange(3), (50, 1)), axis=1)
    relabelled = {
        name: np.stack([one[order] for one, order in zip(v, orders, strict=True)]) for name, v in sites.items()
    }
    np.testing.assert_allclose(label_free_features(task, relabelled), features, rtol=1e-9)
    torn = {**sites, "sigma2": sites["sigma2"][:, ::-1]}
    assert np.abs(label_free_features(task, torn) - features).max() > 0.1


def test_what_it_can_not_do_is_refused() -> None:
    task = make()
    assert supports_smc(task)
    assert not supports_smc(make_task("glm/1"))
    assert supports_smc(make_task("efa/1"))  # reflected factors are modes that no chain crosses to
    with pytest.raises(ValueError, match="at least two runs"):
        SMCSampler(task, num_runs=1)
    with pytest.raises(ValueError, match="at most the 32 particles of all runs; received 33"):
        SMCSampler(task, num_particles=8).sample(jax.random.key(0), Dataset(x=X), 33)
    assert dataclasses.is_dataclass(FEW)
