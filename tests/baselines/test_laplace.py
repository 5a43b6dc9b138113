"""Laplace approximation and mode, on a posterior that is exactly Gaussian."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from helpers import assert_mean_within_mcse

from icl_bayes.baselines import make_baseline
from icl_bayes.baselines.laplace import laplace_health, laplace_of
from icl_bayes.flow.bases import NewtonInfo
from icl_bayes.tasks import Task
from icl_bayes.types import Dataset


def test_laplace_is_exact_on_a_gaussian_posterior(linear) -> None:
    result = make_baseline("laplace", linear.task).sample(jax.random.key(0), linear.dataset, 20_000)
    assert result.status == "ok", result.message
    beta = result.sites["beta"].astype(np.float64)
    assert_mean_within_mcse(beta, linear.mean)
    centred = beta - linear.mean
    assert_mean_within_mcse(centred[:, :, None] * centred[:, None, :], linear.covariance, label="covariance")


def test_map_is_the_mode_of_a_gaussian_posterior(linear) -> None:
    sampler = make_baseline("map", linear.task)
    result = sampler.sample(jax.random.key(0), linear.dataset, 7)
    assert result.sites["beta"].shape == (7, 2)
    np.testing.assert_allclose(result.sites["beta"], np.tile(linear.mean, (7, 1)), atol=1e-4)
    assert sampler.sample(jax.random.key(1), linear.dataset, 9).seconds_compile == 0.0


def test_laplace_sits_at_the_mode_of_a_skewed_posterior(glm1: Task, glm1_dataset: Dataset) -> None:
    log_joint = lambda theta: glm1.log_joint(theta, glm1_dataset)  # noqa: E731

    @jax.jit
    def inspect(dataset: Dataset) -> dict:
        affine, info = laplace_of(glm1, dataset)
        neighbours = affine.forward(0.3 * jax.random.normal(jax.random.key(0), (50, glm1.dim)))
        return {
            "decrement": info.decrement,
            "scale": affine.scale,
            "gradient": jax.grad(log_joint)(affine.shift),
            "curvature": -jax.hessian(log_joint)(affine.shift),
            "peak": log_joint(affine.shift),
            "around": jax.vmap(log_joint)(neighbours),
        }

    found = jax.device_get(inspect(glm1_dataset))
    assert found["decrement"] < 1e-5
    assert np.linalg.norm(found["scale"] @ found["gradient"]) < 1e-2  # in standard deviations
    assert (found["around"] < found["peak"]).all()
    np.testing.assert_allclose(found["scale"] @ found["curvature"] @ found["scale"], np.eye(glm1.dim), atol=2e-3)


@pytest.mark.parametrize(
    ("info", "failures", "warnings"),
    [
        (NewtonInfo(np.float32(1e-6), np.bool_(True)), 0, 0),
        (NewtonInfo(np.float32(0.3), np.bool_(True)), 0, 1),
        (NewtonInfo(np.float32(np.nan), np.bool_(False)), 1, 0),
    ],
    ids=["converged", "short of the mode", "not finite"],
)
def test_mode_search_is_judged(info: NewtonInfo, failures: int, warnings: int) -> None:
    found_failures, found_warnings, _ = laplace_health(info)
    assert (len(found_failures), len(found_warnings)) == (failures, warnings)
