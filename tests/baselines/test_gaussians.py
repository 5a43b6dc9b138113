"""Gaussian approximations and the mode: exact on Gaussian posteriors, best at what they claim elsewhere."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from helpers import assert_mean_within_mcse
from numpyro import handlers

from icl_bayes.baselines import ExactSampler, make_baseline
from icl_bayes.baselines.gaussians import ENDED, GaussianInfo, best_mode, gaussian_health, laplace_of, variational_of
from icl_bayes.datasets import load_bundled, prepare_glm
from icl_bayes.flow import variational
from icl_bayes.tasks import Task, make_task
from icl_bayes.types import Dataset


@pytest.mark.parametrize("name", ["laplace", "vi_fixed_point"])
def test_gaussian_posteriors_are_matched_exactly(name: str, linear) -> None:
    result = make_baseline(name, linear.task).sample(jax.random.key(0), linear.dataset, 20_000)
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
        (GaussianInfo(np.float32(1e-6), np.bool_(True), np.float32(-np.inf)), 0, 0),
        (GaussianInfo(np.float32(0.3), np.bool_(True), np.float32(-np.inf)), 0, 1),
        (GaussianInfo(np.float32(1e-6), np.bool_(True), np.float32(-2.0)), 0, 1),
        (GaussianInfo(np.float32(np.nan), np.bool_(False), np.float32(-np.inf)), 1, 0),
    ],
    ids=["converged", "short of the mode", "a second mode", "not finite"],
)
def test_mode_search_is_judged(info: GaussianInfo, failures: int, warnings: int) -> None:
    found_failures, found_warnings, _ = gaussian_health(info)
    assert (len(found_failures), len(found_warnings)) == (failures, warnings)


@pytest.mark.parametrize("order", [[-1.9, 1.9], [1.9, -1.9], [-1.9]], ids=["larger last", "larger first", "zero's"])
def test_the_best_of_several_modes_is_taken_and_the_other_reported(order: list[float], bimodal) -> None:
    """With one start alone nothing can be known of the other mode."""

    def program(dataset: Dataset) -> None:
        location = numpyro.sample("location", dist.Normal(0.5, 2.0))  # exp(1/2) times more mass at 2 than at -2
        with numpyro.plate("rows", dataset.padded_rows), handlers.mask(mask=dataset.row_mask):
            numpyro.sample("y", dist.Normal(location**2, 0.3), obs=dataset["y"])

    starts = {"location": jax.numpy.asarray(order)}
    task = dataclasses.replace(bimodal.task, model=program, starts=lambda dataset: starts)
    found = jax.device_get(jax.jit(lambda dataset: best_mode(task, dataset))(bimodal.dataset))
    assert float(found.affine.shift[0]) == pytest.approx(0.75, abs=0.02)
    assert float(found.info.rival) == pytest.approx(-0.5, abs=0.05)
    alone = dataclasses.replace(task, starts=None)
    affine, info = jax.device_get(jax.jit(lambda dataset: variational_of(alone, dataset))(bimodal.dataset))
    assert affine.shift[0] > 0  # where the path from the prior median leads
    assert info.rival == -np.inf


def test_steps_that_overshoot_are_shortened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fifty diamonds: nearly collinear columns under a prior that is cut off at zero. Whole steps never settle."""
    task = make_task("glm/5")
    table = load_bundled("diamonds")
    moments = {"response_mean": 0.0, "response_variance": 6.8}
    dataset, _ = prepare_glm(table, num_rows=50, num_columns=5, response_kind="real", rng_seed=7, **moments)
    dataset = task.prepare(dataset)

    def decrement() -> float:
        return float(jax.jit(lambda dataset: variational_of(task, dataset)[1].decrement)(dataset))

    assert decrement() < ENDED
    monkeypatch.setattr(variational, "NEGLIGIBLE", np.inf)  # the control: no step is refused
    assert decrement() > 3.0 * ENDED


@pytest.mark.parametrize("scenario", [1, 2, 3, 4])
def test_regression_that_contradicts_its_prior_is_not_left_in_the_mode_next_to_zero(scenario: int) -> None:
    """A slope nine prior scales out, hardly any noise: the mode of shrunken slopes and large noise is the lesser."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((10, 5))
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    task = make_task(f"glm/{scenario}")
    dataset = task.prepare(Dataset(x=x, y=9.0 * x[:, 0] + 0.3 * rng.standard_normal(10)))
    affine, info = jax.device_get(jax.jit(lambda dataset: variational_of(task, dataset))(dataset))
    sites = jax.jit(task.constrain)(affine.shift, dataset)
    assert sites["beta"][0] == pytest.approx(8.7, abs=0.4)
    assert sites["sigma2"] < 1.5
    if scenario == 1:
        exact = ExactSampler(task).sample(jax.random.key(0), dataset, 4000).sites
        mass = float(np.mean(exact["sigma2"] > 3.0))  # of the other mode
        assert 0.05 < mass < 0.2
        assert float(np.exp(info.rival)) == pytest.approx(mass / (1.0 - mass), rel=1.0)
        assert any("second mode" in warning for warning in gaussian_health(info)[1])
        first = jax.jit(lambda dataset: best_mode(task, dataset, num_starts=1))(dataset)
        assert jax.jit(task.constrain)(first.affine.shift, dataset)["sigma2"] < 1.5, "Least squares comes first,"
        assert first.info.rival == -np.inf, "and knows of no other mode."
        alone = dataclasses.replace(task, starts=None)
        from_zero = jax.jit(lambda dataset: best_mode(alone, dataset))(dataset).affine.shift
        assert jax.jit(task.constrain)(from_zero, dataset)["sigma2"] > 3.0, "Zero alone ends in the lesser mode."
