"""The regression task: densities of all families, weights, offsets, orders of rows and columns, what is refused."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import scipy.stats

from icl_bayes.tasks import Task
from icl_bayes.tasks.any_response import CODES, AnyResponse
from icl_bayes.tasks.distributions import CountByLogMean, PoissonByLogMean
from icl_bayes.tasks.program import announce
from icl_bayes.tasks.regression import FAMILIES, make_regression
from icl_bayes.types import Dataset

THETA = np.asarray([0.3, -0.5, 0.4, 0.2], np.float32)
X = np.random.default_rng(0).normal(size=(7, 2))
COUNTS = np.asarray([0, 1, 3, 0, 2, 5, 1])
RESPONSES = {
    "gaussian": np.asarray([0.1, -0.4, 1.2, 0.3, 0.0, 2.0, -1.1]),
    "bernoulli": np.asarray([0, 1, 1, 0, 1, 0, 0]),
    "binomial": COUNTS,
    "poisson": COUNTS,
    "negative_binomial": COUNTS,
    "gamma": np.asarray([0.1, 0.4, 1.2, 0.3, 3.0, 2.0, 1.1]),
}


def data(family: str, **changes) -> Dataset:
    extra = {"trials": np.full(7, 6.0)} if family == "binomial" else {}
    return Dataset(**({"x": X, "y": RESPONSES[family]} | extra | changes))


def expected(family: str, sites: dict, dataset: Dataset) -> np.ndarray:
    """Log likelihood of every row, by SciPy."""
    linear = float(sites["intercept"]) + X @ np.asarray(sites["beta"], np.float64)
    y = RESPONSES[family]
    mean = np.exp(linear)
    match family:
        case "gaussian":
            return scipy.stats.norm(linear, float(sites["sigma"])).logpdf(y)
        case "bernoulli":
            return scipy.stats.bernoulli(1.0 / (1.0 + np.exp(-linear))).logpmf(y)
        case "binomial":
            return scipy.stats.binom(6, 1.0 / (1.0 + np.exp(-linear))).logpmf(y)
        case "poisson":
            return scipy.stats.poisson(mean).logpmf(y)
        case "negative_binomial":
            c = 1.0 / float(sites["overdispersion"])
            return scipy.stats.nbinom(c, c / (c + mean)).logpmf(y)
        case _:
            phi = float(sites["dispersion"])
            return scipy.stats.gamma(1.0 / phi, scale=phi * mean).logpdf(y) + np.log(y)


@pytest.mark.parametrize("family", FAMILIES)
def test_likelihood(family):
    task = make_regression(family, 2)
    dataset = task.prepare(data(family))
    theta = THETA[: task.dim]
    sites = jax.jit(task.constrain)(theta, dataset)
    found = jax.jit(task.log_likelihood)(theta, dataset.pad_rows(16))
    assert float(found) == pytest.approx(float(expected(family, sites, dataset).sum()), abs=1e-3)
    assert task.has_fisher_information
    information = np.asarray(task.fisher_information(theta, dataset.pad_rows(16)))
    assert np.linalg.eigvalsh(information).min() > 0.9


@pytest.mark.parametrize("family", ["bernoulli", "binomial"])
def test_the_slope_where_searches_start_is_that_of_the_density(family):
    """All logits are zero there: a row's slope is its response less half of its trials."""
    task, dataset = make_regression(family, 2), data(family)
    dataset = task.prepare(dataset)
    trials = 6.0 if family == "binomial" else 1.0
    slope = jax.jit(jax.grad(task.log_likelihood))(jnp.zeros(3), dataset)
    residuals = RESPONSES[family] - 0.5 * trials
    assert float(slope[task.sites["intercept"].start]) == pytest.approx(residuals.sum(), rel=1e-5)


def test_a_weight_is_so_many_rows():
    task = make_regression("negative_binomial", 2)
    weight = np.asarray([2, 1, 0, 3, 1, 1, 2])
    weighted = task.prepare(data("negative_binomial", weight=weight))
    repeated = np.repeat(np.arange(7), weight)
    plain = task.prepare(Dataset(x=X[repeated], y=COUNTS[repeated]))
    assert float(jax.jit(task.log_joint)(THETA, weighted)) == pytest.approx(
        float(jax.jit(task.log_joint)(THETA, plain)), abs=1e-3
    )
    np.testing.assert_allclose(
        task.fisher_information(THETA, weighted), task.fisher_information(THETA, plain), rtol=1e-4
    )


def test_an_offset_moves_the_intercept():
    task = make_regression("poisson", 2)
    theta = THETA[:3]
    moved = task.prepare(data("poisson", offset=np.full(7, 0.7)))
    plain = task.prepare(data("poisson"))
    shifted = theta + np.asarray([0.7, 0.0, 0.0], np.float32)
    difference = jax.jit(task.log_likelihood)(theta, moved) - jax.jit(task.log_likelihood)(shifted, plain)
    assert float(difference) == pytest.approx(0.0, abs=1e-4)


def test_a_precision_scales_the_variance():
    task = make_regression("gaussian", 2)
    dataset = task.prepare(data("gaussian", precision=np.full(7, 4.0)))
    sites = jax.jit(task.constrain)(THETA, dataset)
    linear = float(sites["intercept"]) + X @ np.asarray(sites["beta"], np.float64)
    found = float(jax.jit(task.log_likelihood)(THETA, dataset))
    law = scipy.stats.norm(linear, float(sites["sigma"]) / 2.0)
    assert found == pytest.approx(float(law.logpdf(RESPONSES["gaussian"]).sum()), abs=1e-3)


def test_orders_of_rows_and_columns_do_not_matter():
    with jax.enable_x64():
        task = make_regression.__wrapped__("gamma", 2)
        dataset = task.prepare(data("gamma"))
        value = float(jax.jit(task.log_joint)(jnp.asarray(THETA, jnp.float64), dataset))
        order = np.asarray([3, 1, 0, 6, 2, 5, 4])
        rows = task.prepare(Dataset(x=X[order], y=RESPONSES["gamma"][order]))
        columns = task.prepare(Dataset(x=X[:, ::-1], y=RESPONSES["gamma"]))
        swapped = jnp.asarray(THETA[[0, 2, 1, 3]], jnp.float64)
        assert float(jax.jit(task.log_joint)(jnp.asarray(THETA, jnp.float64), rows)) == pytest.approx(value, rel=1e-12)
        assert float(jax.jit(task.log_joint)(swapped, columns)) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("overdispersion", [1e-6, 1e-3, 0.1, 3.0])
def test_negative_binomial_keeps_its_digits(overdispersion):
    """Single precision against SciPy in double; towards zero it is the Poisson law."""
    y, linear = np.asarray([0, 1, 7, 40, 900]), np.asarray([0.1, -2.0, 2.0, 3.0, 6.8])
    found = CountByLogMean(jnp.asarray(linear, jnp.float32), jnp.float32(overdispersion)).log_prob(jnp.asarray(y))
    c, mean = 1.0 / np.float64(np.float32(overdispersion)), np.exp(np.float64(np.float32(linear)))
    expected = scipy.stats.nbinom(c, c / (c + mean)).logpmf(y)
    if overdispersion == 1e-6:
        np.testing.assert_allclose(expected, scipy.stats.poisson(mean).logpmf(y), atol=1e-2)
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=3e-3)
    poisson = PoissonByLogMean(jnp.asarray(linear, jnp.float32)).log_prob(jnp.asarray(y))
    np.testing.assert_allclose(poisson, scipy.stats.poisson(mean).logpmf(y), rtol=2e-4, atol=3e-3)


@pytest.mark.parametrize("log_mean", [8.0, 11.0, 17.0, 30.0])
def test_many_counts_where_far_more_were_expected_keep_their_digits(log_mean):
    """Searches pass through there: noise of tens of nats in the value once stopped them short of the mode."""
    y, overdispersion = 24131, 5.3
    law = lambda at: CountByLogMean(at, jnp.float32(overdispersion)).log_prob(jnp.asarray(y))  # noqa: E731
    value, slope = jax.jit(jax.value_and_grad(law))(jnp.float32(log_mean))
    c, mean = 1.0 / np.float64(np.float32(overdispersion)), np.exp(log_mean)
    assert float(value) == pytest.approx(scipy.stats.nbinom(c, c / (c + mean)).logpmf(y), abs=0.1)
    assert float(slope) == pytest.approx(y - (c + y) * mean / (c + mean), rel=1e-3, abs=3e-3)
    rows = {"trials": np.ones(1), "precision": np.ones(1)}
    mixed = lambda at: AnyResponse(CODES.index("negative_binomial"), at[None], overdispersion, rows).log_prob(  # noqa: E731
        jnp.asarray([float(y)])
    )
    rise = (mixed(jnp.float32(log_mean)) - mixed(jnp.float32(9.5)))[0]
    expected = float(value - law(jnp.float32(9.5)))
    assert float(rise) == pytest.approx(expected, abs=0.1)


def test_counts_are_drawn_with_their_moments():
    law = CountByLogMean(jnp.log(5.0), 0.4)
    draws = np.asarray(law.sample(jax.random.key(0), (20_000,)), np.float64)
    assert draws.mean() == pytest.approx(5.0, abs=4.0 * np.sqrt(15.0 / 20_000))
    assert draws.var() == pytest.approx(5.0 + 0.4 * 25.0, rel=0.1)


@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        ("poisson", {"y": np.full(7, 0.5)}, "whole numbers from 0 on"),
        ("bernoulli", {"y": np.full(7, 2.0)}, "are 0 and 1; received"),
        ("gamma", {"y": np.zeros(7)}, "positive numbers"),
        ("poisson", {"weight": np.full(7, 0.5)}, "how often a row was observed"),
        ("gaussian", {"precision": np.zeros(7)}, "Precisions must be positive"),
        ("binomial", {"trials": np.full(7, 2.0)}, "at least as many as successes"),
        ("gaussian", {"x": X[:, :1]}, r"x must have shape \(7, 2\)"),
        ("gaussian", {"speed": np.ones(7)}, r"Unknown row\(s\) \['speed'\]"),
    ],
)
def test_what_does_not_fit_is_refused(family, changes, message):
    with pytest.raises(ValueError, match=message):
        make_regression(family, 2).prepare(data(family, **changes))


def test_a_regression_needs_something_to_estimate():
    with pytest.raises(ValueError, match="at least one column, or an intercept"):
        make_regression("gaussian", 0, intercept=False)
    with pytest.raises(ValueError, match="Unknown family 'probit'; choices: gaussian"):
        make_regression("probit", 2)
    assert make_regression("poisson", 0).dim == 1


@pytest.mark.parametrize("family", FAMILIES)
def test_priors_mapped_together_are_those_mapped_one_by_one(family, monkeypatch) -> None:
    priors = {"beta_kind": [2.0, 4.0], "beta_shape": [4.0, 3.0], "beta_scale": [0.7, 2.0], "intercept_loc": 0.4}
    constants = {name: np.asarray(value) for name, value in priors.items()}
    found = []
    for is_announced in (True, False):
        if not is_announced:
            monkeypatch.setattr("icl_bayes.tasks.regression.announce", lambda laws: None)
        make_regression.cache_clear()
        task = make_regression(family, 2)
        dataset = task.prepare(data(family, constants=constants))
        theta = THETA[: task.dim]
        value, score = jax.jit(jax.value_and_grad(task.log_joint))(theta, dataset)
        found.append(
            [value, score, task.log_prior(theta, dataset), *jax.tree.leaves(jax.jit(task.constrain)(theta, dataset))]
        )
        text = jax.jit(jax.grad(task.log_joint)).lower(theta, dataset).as_text("hlo")
        found[-1].append(len(text.splitlines()))
    make_regression.cache_clear()
    for together, one_by_one in zip(found[0][:-1], found[1][:-1], strict=True):
        np.testing.assert_allclose(together, one_by_one, rtol=1e-5, atol=1e-6)
    assert found[0][-1] < 0.75 * found[1][-1]  # what it is for


def test_sites_with_several_coordinates_are_not_mapped_together() -> None:
    def model(y=None) -> None:
        laws = {"location": dist.Normal(0.0, 1.0), "scale": dist.HalfNormal(1.0)}
        announce(laws)
        location, scale = (numpyro.sample(name, law) for name, law in laws.items())
        with numpyro.plate("rows", 5):
            numpyro.sample("y", dist.Normal(location, scale), obs=y)

    task = Task.from_numpyro(model, rows="rows", num_rows=5)
    with pytest.raises(ValueError, match=r"one elementwise coordinate.*half_normal.*normal"):
        jax.jit(task.log_joint)(jnp.zeros(task.dim), task.example)
