"""Factor analysis with factors of every row: its law, what the program simulates, and which models are identified."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import joint_draw
from scipy.stats import multivariate_normal

from icl_bayes.tasks import Task, make_task
from icl_bayes.tasks.efa import SCENARIOS, EFASpec, loadings_of
from icl_bayes.tasks.factor_covariance import CommonFactorRows, inverse_and_log_det
from icl_bayes.types import Dataset


@functools.cache
def efa(scenario: int) -> Task:
    return make_task(f"efa/{scenario}")


@pytest.mark.parametrize("dim", [1, 2, 3, 5])
def test_sweeping_inverts(dim: int) -> None:
    root = np.random.default_rng(dim).normal(size=(dim, dim + 2))
    matrix = (np.eye(dim) + root @ root.T).astype(np.float32)
    inverse, log_det = inverse_and_log_det(jnp.asarray(matrix))
    np.testing.assert_allclose(inverse @ matrix, np.eye(dim), atol=2e-5)
    assert log_det == pytest.approx(np.linalg.slogdet(matrix)[1], abs=1e-5)


@pytest.mark.parametrize("uniqueness", [0.5, 1e-3], ids=["usual", "almost none"])
def test_law_of_the_rows_is_the_normal_one(uniqueness: float) -> None:
    """Rows with little uniqueness far from their mean make the textbook form lose digits."""
    generator = np.random.default_rng(0)
    loadings, mean = generator.normal(size=(6, 2)), generator.normal(size=6)
    psi = uniqueness * generator.uniform(0.5, 2.0, 6)
    law = multivariate_normal(mean, loadings @ loadings.T + np.diag(psi))
    x = law.rvs(500, random_state=1)
    row_mask = np.arange(500) < 400
    arguments = (jnp.asarray(part, jnp.float32) for part in (loadings, mean, psi))
    found = CommonFactorRows(*arguments, row_mask).log_prob(jnp.asarray(x, jnp.float32))
    assert found == pytest.approx(law.logpdf(x[:400]).sum(), rel=2e-5, abs=0.05)


def test_simulated_rows_have_that_covariance() -> None:
    task, spec = efa(2), SCENARIOS[2]
    theta, dataset = joint_draw(task, jax.random.key(3), 20_000)
    sites = jax.jit(task.constrain)(theta, dataset)
    np.testing.assert_array_equal(sites["loadings"], loadings_of(spec, sites))
    loadings = np.asarray(sites["loadings"], np.float64)
    assert loadings[0, 1] == 0.0
    assert (np.diagonal(loadings) > 0.0).all()
    covariance = loadings @ loadings.T + np.diag(sites["psi"])
    np.testing.assert_allclose(sites["communality"], 1.0 - sites["psi"] / np.diagonal(covariance), rtol=1e-4)
    scale = np.sqrt(np.outer(np.diagonal(covariance), np.diagonal(covariance)))
    deviation = (np.cov(np.asarray(dataset["x"]).T) - covariance) / scale
    assert np.abs(deviation).max() < 5.0 * np.sqrt(2.0 / 20_000)


@pytest.mark.parametrize("scenario", sorted(SCENARIOS))
def test_score_at_the_generating_theta_is_zero_on_average(scenario: int) -> None:
    task, num = efa(scenario), 256

    def score(key: jax.Array) -> jax.Array:
        theta, dataset = task.simulate(key, 50)
        return jax.grad(task.log_joint)(theta, dataset)

    scores = jax.jit(lambda keys: jax.lax.map(score, keys, batch_size=64))(
        jax.random.split(jax.random.key(scenario), num)
    )
    z = np.mean(scores, axis=0) / (np.std(scores, axis=0) / num**0.5)
    assert np.abs(z).max() < 4.5


def test_principal_factors_explain_the_correlations() -> None:
    task, spec = efa(2), SCENARIOS[2]

    def worst(key: jax.Array) -> jax.Array:
        theta, dataset = task.simulate(key, 2000)
        start = task.starting_points(dataset)[0]
        sites = task.constrain(start, dataset)
        loadings = loadings_of(spec, sites)
        covariance = jnp.cov(dataset["x"].T)
        sd = jnp.sqrt(jnp.diagonal(covariance))
        off = (loadings @ loadings.T - covariance) / (sd[:, None] * sd) * (1.0 - jnp.eye(spec.num_features))
        behind = task.log_joint(theta, dataset) - task.log_joint(start, dataset)
        return jnp.stack([jnp.abs(off).max(), behind])

    off, behind = np.asarray(jax.jit(jax.vmap(worst))(jax.random.split(jax.random.key(5), 16))).T
    assert np.median(off) < 0.05
    assert np.median(behind) < 50.0, "nats per 2000 rows"


def test_reflected_factors_are_starts_too() -> None:
    task, spec = efa(2), SCENARIOS[2]
    _, dataset = joint_draw(task, jax.random.key(5), 200)
    starts = task.starting_points(dataset)
    assert starts.shape == (4, task.dim)
    plain, *reflected = (np.asarray(loadings_of(spec, jax.jit(task.constrain)(starts[i], dataset))) for i in (0, 2, 3))
    for factor, loadings in enumerate(reflected):
        expected = plain * np.where(np.arange(2) == factor, -1.0, 1.0)
        expected[factor, factor] = 0.1
        np.testing.assert_allclose(loadings, expected, atol=1e-4)


def test_features_ignore_padding() -> None:
    task = efa(1)
    _, padded = joint_draw(task, jax.random.key(0), 30, 64)
    short = Dataset(x=padded["x"][:30], constants=padded.constants)
    rows, context, _ = task.features(padded)
    np.testing.assert_allclose(context, task.features(short).context, atol=1e-6)
    assert not np.any(rows[30:])


def test_models_that_are_not_identified_are_refused() -> None:
    EFASpec(5, 2)
    for num_features, num_factors in ((4, 2), (3, 3), (3, 0)):
        with pytest.raises(ValueError, match=rf"{num_factors} factors of {num_features} features are not identified"):
            EFASpec(num_features, num_factors)
    with pytest.raises(ValueError, match="Unknown task 'efa/4'; choices: .*efa/3"):
        make_task("efa/4")
