"""The exact sampler against quadrature that shares no formula with it."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from helpers import assert_mean_within_mcse
from scipy.stats import invgamma, kstest, multivariate_normal

from icl_bayes.baselines.exact import ExactSampler, _regression, tabulate
from icl_bayes.tasks import make_task
from icl_bayes.types import Dataset


class Quadrature:
    """Posterior of GLM 1 and 2 on a grid of sigma2, from n-dimensional Gaussian densities."""

    def __init__(self, design: np.ndarray, y: np.ndarray, prior_variances: np.ndarray) -> None:
        self.sigma2 = np.exp(np.linspace(np.log(1e-2), np.log(60.0), 2001))
        prior_covariance = design @ np.diag(prior_variances) @ design.T
        noise = np.eye(len(y))
        log_density = np.array(
            [
                multivariate_normal.logpdf(y, np.zeros(len(y)), prior_covariance + s * noise)
                + invgamma.logpdf(s, 5.0, scale=2.0)
                for s in self.sigma2
            ]
        )
        density = np.exp(log_density - log_density.max()) * self.sigma2  # of log sigma2: the grid is uniform in it
        self.weights = density / density.sum()
        self.cdf = np.cumsum(self.weights) - 0.5 * self.weights
        means, seconds = [], []
        for s in self.sigma2:
            covariance = np.linalg.inv(design.T @ design / s + np.diag(1.0 / prior_variances))
            mean = covariance @ design.T @ y / s
            means.append(mean)
            seconds.append(covariance + np.outer(mean, mean))
        self.coefficient_mean = self.weights @ np.array(means)
        self.coefficient_second = np.einsum("g,gij->ij", self.weights, np.array(seconds))


def small_dataset(num_rows: int, num_columns: int, seed: int) -> Dataset:
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(num_rows, num_columns)).astype(np.float32)
    y = (3.0 + x.sum(axis=1) + generator.normal(size=num_rows)).astype(np.float32)
    return Dataset(x=x, y=y)


@pytest.mark.parametrize(
    ("scenario", "num_rows", "num_columns"),
    [(1, 12, 2), (2, 12, 2), (2, 3, 5)],
    ids=["glm1", "glm2", "more-columns-than-rows"],
)
def test_exact_sampler_agrees_with_quadrature(scenario: int, num_rows: int, num_columns: int) -> None:
    task = make_task(f"glm/{scenario}", num_columns=num_columns)
    dataset = task.prepare(small_dataset(num_rows, num_columns, seed=scenario))
    design = np.asarray(dataset["x"], np.float64)
    prior_variances = np.ones(num_columns)
    if scenario == 2:  # the paper's intercept has variance 9
        design, prior_variances = np.column_stack([np.ones(num_rows), design]), np.append(9.0, prior_variances)
    truth = Quadrature(design, np.asarray(dataset["y"], np.float64), prior_variances)

    table = tabulate(_regression(dataset, scenario == 2), tolerance=1e-6)
    cdf = np.interp(np.log(truth.sigma2), table.edges, table.cdf)
    assert np.max(np.abs(cdf - truth.cdf)) < 2e-5

    result = ExactSampler(task).sample(jax.random.key(1), dataset, 20_000)
    assert result.status == "ok"
    assert result.health["cdf_error"] < 1e-6
    assert kstest(np.log(result.sites["sigma2"]), lambda v: np.interp(v, np.log(truth.sigma2), truth.cdf)).pvalue > 1e-5
    coefficients = result.sites["beta"]
    if scenario == 2:
        coefficients = np.column_stack([result.sites["intercept"], coefficients])
    assert_mean_within_mcse(coefficients, truth.coefficient_mean, label="coefficients")
    products = coefficients[:, :, None] * coefficients[:, None, :]
    assert_mean_within_mcse(products, truth.coefficient_second, label="products of coefficients")


def test_coefficients_depend_on_their_own_sigma2() -> None:
    """A sampler that shuffles the two sites has the right marginals and the wrong joint law."""
    task = make_task("glm/1", num_columns=2)
    dataset = task.prepare(small_dataset(6, 2, seed=5))
    sites = ExactSampler(task).sample(jax.random.key(2), dataset, 20_000).sites
    x, y = np.asarray(dataset["x"], np.float64), np.asarray(dataset["y"], np.float64)
    precision = x.T @ x / sites["sigma2"][:, None, None] + np.eye(2)
    conditional_mean = np.stack(
        [np.linalg.solve(p, x.T @ y / s) for p, s in zip(precision, sites["sigma2"], strict=True)]
    )
    standardized = np.einsum(
        "nij,nj->ni", np.linalg.cholesky(precision).transpose(0, 2, 1), sites["beta"] - conditional_mean
    )
    for column in standardized.T:
        assert kstest(column, "norm").pvalue > 1e-5
    spread = np.log(sites["sigma2"])
    assert_mean_within_mcse(
        (standardized**2 - 1.0) * (spread - spread.mean())[:, None], np.zeros(2), label="dependence"
    )


def test_padding_changes_nothing() -> None:
    task = make_task("glm/2", num_columns=2)
    dataset = task.prepare(small_dataset(10, 2, seed=4))
    plain = ExactSampler(task).sample(jax.random.key(3), dataset, 50).sites
    padded = ExactSampler(task).sample(jax.random.key(3), dataset.pad_rows(16), 50).sites
    for name, values in plain.items():
        np.testing.assert_allclose(values, padded[name], rtol=1e-9)


def test_draws_are_continuous_and_repeatable() -> None:
    task = make_task("glm/1", num_columns=2)
    dataset = small_dataset(10, 2, seed=4)  # not prepared: constants are filled in
    first = ExactSampler(task).sample(jax.random.key(3), dataset, 5000).sites["sigma2"]
    again = ExactSampler(task).sample(jax.random.key(3), dataset, 5000).sites["sigma2"]
    other = ExactSampler(task).sample(jax.random.key(4), dataset, 5000).sites["sigma2"]
    assert len(np.unique(first)) == 5000
    np.testing.assert_array_equal(first, again)
    assert not np.intersect1d(first, other).size


def test_other_tasks_are_refused() -> None:
    with pytest.raises(ValueError, match=r"glm/1, glm/2; received task 'glm/3'"):
        ExactSampler(make_task("glm/3"))


def test_unreachable_tolerance_is_an_error() -> None:
    task = make_task("glm/1", num_columns=2)
    with pytest.raises(ArithmeticError, match="larger tolerance"):
        ExactSampler(task, tolerance=1e-16).sample(jax.random.key(0), small_dataset(10, 2, seed=4), 10)
