"""Draws from the closest Gaussian: densities, certificates, repairs, and what happens to draws far out."""

from __future__ import annotations

import dataclasses
import re

import jax
import numpy as np
import pytest
import scipy.stats

from icl_bayes.inference import gaussian_source
from icl_bayes.inference.gaussian_source import GaussianSource
from icl_bayes.inference.refinement import _Refinement
from icl_bayes.inference.sampler import Densities
from icl_bayes.regression.priors import Prior, RegressionPriors
from icl_bayes.regression.table import counted_together
from icl_bayes.tasks.regression import make_regression
from icl_bayes.types import Dataset


@pytest.fixture(scope="module")
def source():
    return GaussianSource(make_regression("poisson", 1))


@pytest.fixture(scope="module")
def dataset():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(200, 1))
    y = generator.poisson(np.exp(0.5 + 0.4 * x[:, 0]))
    priors = RegressionPriors(Prior("normal"), (Prior("normal"),), None)
    return counted_together({"x": x, "y": y}, priors.constants())[0]


def test_evidence_and_density_by_quadrature(source, dataset):
    """The log evidence of the weights, and the integral of the density of the draws."""
    post = source.sample(jax.random.key(0), dataset, 4000)
    certificate = post.certificate()
    grid = np.linspace(-0.5, 1.5, 401)
    a, b = np.meshgrid(grid, grid, indexing="ij")
    x, y = np.asarray(dataset["x"])[:, 0], np.asarray(dataset["y"])
    weight = np.asarray(dataset["weight"]) if "weight" in dataset else np.ones(len(y))
    linear = a[..., None] + b[..., None] * x
    log_joint = (weight * scipy.stats.poisson(np.exp(linear)).logpmf(y)).sum(-1) + scipy.stats.norm.logpdf(a)
    log_joint += scipy.stats.norm.logpdf(b)
    evidence = scipy.special.logsumexp(log_joint) + 2.0 * np.log(grid[1] - grid[0])
    assert certificate.log_evidence == pytest.approx(evidence, abs=4.0 * certificate.log_evidence_error + 0.005)
    assert certificate.total_variation < 0.03
    # Draws are from a Gaussian in these coordinates, whose density is that of its moments.
    draws = np.column_stack([post["intercept"], post["beta"][:, 0]])
    law = scipy.stats.multivariate_normal(draws.mean(0), np.cov(draws.T))
    assert np.abs(law.logpdf(draws) - post.log_prob).mean() < 0.03


def test_the_same_key_gives_the_same_draws_however_many(source, dataset):
    few, many = source.sample(jax.random.key(3), dataset, 50), source.sample(jax.random.key(3), dataset, 200)
    np.testing.assert_allclose(few.theta, many.theta[:50], rtol=1e-5)


def test_many_data_sets_at_once_are_as_each_alone(source, dataset, monkeypatch):
    """Of two lengths, in several calls of one program, the last of which is not full; a bad one spoils no other."""
    monkeypatch.setattr(gaussian_source, "MAX_STACKED", 2)
    rows = {name: np.asarray(value) for name, value in dataset.rows.items()}
    cuts = [slice(0, 20), slice(20, 50), slice(0, 200), slice(50, 80), slice(5, 35)]
    several = [Dataset(**{n: v[cut] for n, v in rows.items()}, constants=dataset.constants) for cut in cuts]
    negative = Dataset(**{**several[0].rows, "y": -several[0]["y"] - 1.0}, constants=dataset.constants)
    keys = list(jax.random.split(jax.random.key(9), 6))
    found = source.sample_batch(keys, [*several, negative], 50)
    for key, one, post in zip(keys, several, found, strict=False):
        alone = source.sample(key, one, 50)
        np.testing.assert_allclose(post.theta, alone.theta, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(post.log_weights, alone.log_weights, atol=1e-3)
        np.testing.assert_allclose(post["beta"], alone["beta"], rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=re.escape(str(found[5]))):
        source.sample(keys[5], negative, 50)


def test_refined_draws_say_what_made_them(source, dataset):
    good = source.sample(jax.random.key(0), dataset, 1000).refine(jax.random.key(1))
    assert good.info["engine"] == "closest Gaussian"
    strict = source.sample(jax.random.key(0), dataset, 1000).refine(jax.random.key(1), target=0.0)
    assert strict.certificate().verdict == "resampled"
    assert strict.info["engine"] == "closest Gaussian, reweighted"
    assert np.isnan(strict.novelty)


def test_draws_far_out_are_replaced_before_moves(source, dataset):
    """A flow with wild tails: its outliers have next to no weight, and moves would take long to bring them back."""
    post = source.sample(jax.random.key(0), dataset, 400)
    theta, log_weight = np.array(post.theta), np.array(post.densities.log_weight)
    theta[:8] += 50.0
    log_weight[:8] -= 1000.0
    log_weight[8] = -np.inf
    wild = dataclasses.replace(post, theta=theta, densities=Densities(post.densities.log_prob, log_weight))
    found = _Refinement(source, wild, jax.random.key(0), 0.05)._without_outliers()
    np.testing.assert_array_equal(found[9:], theta[9:])
    assert np.abs(found).max() < 10.0
    kept = {tuple(row) for row in theta[9:].tolist()}
    assert all(tuple(row) in kept for row in found[:9].tolist())
    assert _Refinement(source, post, jax.random.key(0), 0.05)._without_outliers() is post.theta


def test_some_draws_are_asked_for(source, dataset):
    with pytest.raises(ValueError, match="num_draws must be at least 1"):
        source.sample(jax.random.key(0), dataset, 0)


class Wide(GaussianSource):
    """Draws from a Gaussian wider than the closest one."""

    factor = 1.5

    def _gaussian(self, padded):
        affine, info = super()._gaussian(padded)
        log_det = affine.log_det + self.task.dim * np.log(self.factor)
        wide = affine._replace(scale=self.factor * affine.scale, inverse=affine.inverse / self.factor, log_det=log_det)
        return wide, info


class Wider(Wide):
    factor = 2.5


@pytest.mark.parametrize(("kind", "times"), [(Wide, 3), (Wider, 6)])
def test_draws_are_chosen_from_more_without_moves(kind, times, source, dataset):
    """By their weights: what was too wide has the posterior's width afterwards, and hardly any draw comes twice.

    In two dimensions the largest relative weight is the square of the factor, and as many times more draws are needed.
    """
    num = 4000
    exact = source.sample(jax.random.key(0), dataset, num)["beta"].std()
    raw = kind(source.task).sample(jax.random.key(0), dataset, num)
    refined = raw.refine(jax.random.key(1))
    (step,) = [step for step in refined.certificate().path if step.name == "resample"]
    assert step.remark.startswith(f"of {times * num} draws"), step.remark
    assert len(np.unique(refined["beta"])) >= 0.99 * num
    assert raw["beta"].std() == pytest.approx(kind.factor * exact, rel=0.06)
    assert refined["beta"].std() == pytest.approx(exact, rel=0.06)
