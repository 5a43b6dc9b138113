"""Mixtures: the law of rows and prior, exchangeability, starts, and what is refused."""

from __future__ import annotations

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import joint_draw
from scipy import stats

from icl_bayes.tasks import Task, make_task
from icl_bayes.tasks.gmm import SCENARIOS, weights_of
from icl_bayes.types import Dataset


@functools.cache
def gmm(scenario: int) -> Task:
    return make_task(f"gmm/{scenario}")


def test_scenarios_are_those_of_the_paper() -> None:
    found = {number: (one.num_components, one.num_columns, one.num_rows) for number, one in SCENARIOS.items()}
    assert found == {1: (5, 1, 50), 2: (3, 3, 25), 3: (3, 5, 50), 4: (3, 3, 50), 5: (5, 2, 500)}
    assert {(one.concentration, one.mean_spread) for number, one in SCENARIOS.items() if number < 5} == {
        (1, 3),
        (0.5, 5),
    }


@pytest.mark.parametrize("scenario", [1, 3])
def test_log_likelihood_is_that_of_the_mixture(scenario: int) -> None:
    task = gmm(scenario)
    theta, dataset = joint_draw(task, jax.random.key(0), 9, 12)
    sites = {name: np.asarray(value, np.float64) for name, value in jax.jit(task.constrain)(theta, dataset).items()}
    weights = sites["weights"]
    np.testing.assert_allclose(weights, weights_of(sites), rtol=1e-6)
    assert task.outputs == ("gamma", "sigma2", "mu", "weights")
    assert weights.sum() == pytest.approx(1.0)
    expected = 0.0
    for row in np.asarray(dataset["x"][:9], np.float64):
        densities = stats.norm.pdf(row, sites["mu"], np.sqrt(sites["sigma2"])).prod(axis=1)
        expected += np.log(weights @ densities)
    assert float(jax.jit(task.log_likelihood)(theta, dataset)) == pytest.approx(expected, rel=1e-4)


def test_curvature_of_vector_rows_is_that_of_the_rows_that_exist() -> None:
    """Rows are events of several columns, masked whole: the metric of mode searches knows no masked one."""
    task = gmm(2)
    theta, dataset = joint_draw(task, jax.random.key(0), 9, 12)
    assert not task.has_fisher_information
    hessian = -np.asarray(jax.jit(jax.hessian(task.log_joint))(theta, dataset))
    eigenvalues, vectors = np.linalg.eigh(0.5 * (hessian + hessian.T))
    expected = vectors @ np.diag(np.maximum(np.abs(eigenvalues), 0.05)) @ vectors.T
    np.testing.assert_allclose(task.curvature(theta, dataset), expected, rtol=2e-2, atol=2e-2)


def test_prior_draws_have_the_prior_of_the_paper() -> None:
    """Variances are inverse gamma, means normal given them, weights Dirichlet."""
    task = gmm(3)
    _, dataset = joint_draw(task, jax.random.key(0), 5)
    thetas = jax.jit(jax.vmap(lambda key: task.sample_prior(key, dataset)))(jax.random.split(jax.random.key(1), 4000))
    sites = {
        name: np.asarray(value) for name, value in jax.jit(jax.vmap(task.constrain, (0, None)))(thetas, dataset).items()
    }
    tests = {
        "sigma2": (sites["sigma2"][:, 0, 0], stats.invgamma(5.0, scale=2.0)),
        "mu": ((sites["mu"] / np.sqrt(5.0 * sites["sigma2"]))[:, 1, 2], stats.norm()),
        "weights": (np.asarray(weights_of(sites))[:, 0], stats.beta(0.5, 1.0)),
    }
    for label, (values, law) in tests.items():
        assert stats.kstest(values, law.cdf).pvalue > 1e-3, label


def test_log_joint_is_normalized_over_the_prior() -> None:
    """Its prior part integrates to one in theta: mean of prior over proposal density under normal proposals."""
    task = gmm(2)
    _, dataset = joint_draw(task, jax.random.key(0), 5)
    draws = 1.3 * jax.random.normal(jax.random.key(2), (100_000, task.dim))
    proposal = jnp.sum(jax.scipy.stats.norm.logpdf(draws, 0.0, 1.3), axis=1)
    ratio = np.exp(
        np.asarray(jax.jit(jax.vmap(lambda one: task.log_prior(one, dataset)))(draws) - proposal, np.float64)
    )
    assert abs(ratio.mean() - 1.0) < 4.0 * ratio.std() / len(ratio) ** 0.5


@pytest.mark.parametrize("scenario", [1, 4])
def test_permuting_components_changes_labels_only(scenario: int) -> None:
    task = gmm(scenario)
    theta, dataset = joint_draw(task, jax.random.key(3), 20)
    before = jax.jit(task.constrain)(theta, dataset)
    joint = float(jax.jit(task.log_joint)(theta, dataset))
    for order in itertools.islice(itertools.permutations(range(task.num_exchangeable)), 1, 5):
        relabelled = task.relabel(theta, jnp.asarray(order))
        assert float(jax.jit(task.log_joint)(relabelled, dataset)) == pytest.approx(joint, rel=1e-5)
        for name, values in jax.jit(task.constrain)(relabelled, dataset).items():
            np.testing.assert_allclose(values, before[name][np.asarray(order)], rtol=1e-5)
    # Negative control: sites permuted apart, as published chains were shuffled, are another mixture.
    torn = jnp.concatenate([theta[: task.num_exchangeable][::-1], theta[task.num_exchangeable :]])
    assert float(jax.jit(task.log_joint)(torn, dataset)) != pytest.approx(joint, rel=1e-3)


def test_searches_start_from_rows_far_apart() -> None:
    task = gmm(1)
    centers = np.asarray([-20.0, -5.0, 0.0, 8.0, 30.0])
    x = (centers[:, None] + 0.1 * np.random.default_rng(0).normal(size=(5, 6))).reshape(-1, 1).astype(np.float32)
    dataset = task.prepare(Dataset(x=x)).pad_rows(40)
    means = np.asarray(task.starts(dataset)["mu"])[0, :, 0]
    np.testing.assert_allclose(np.sort(means), centers, atol=0.5)


def test_a_single_column_may_come_as_a_vector() -> None:
    x = np.random.default_rng(0).normal(size=12)
    assert gmm(1).prepare(Dataset(x=x))["x"].shape == (12, 1)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"y": np.zeros(4)}, r"A mixture needs rows 'x' \(n, 3\); received \['y'\]"),
        ({"x": np.zeros((4, 2))}, r"x must have shape \(n, 3\), one column per feature; received \(4, 2\)"),
        ({"x": np.full((4, 3), np.inf)}, "missing or infinite"),
        ({"x": np.zeros((0, 3))}, "no rows"),
    ],
)
def test_bad_data_are_refused(rows: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gmm(2).prepare(Dataset(**rows))


def test_unknown_scenarios_are_refused() -> None:
    with pytest.raises(ValueError, match="Unknown task 'gmm/6'"):
        make_task("gmm/6")
