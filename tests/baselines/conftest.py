"""Small models with known posteriors, shared by the tests of the baselines."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro import handlers

from icl_bayes.tasks import Features, Task, make_task
from icl_bayes.types import Dataset

NOISE_SD = 0.7


class KnownPosterior(NamedTuple):
    """A task, a data set, and the Gaussian posterior of its ``beta``."""

    task: Task
    dataset: Dataset
    mean: np.ndarray
    covariance: np.ndarray


def make_linear_task(example: Dataset, prior_scale: float = 2.0) -> Task:
    """Linear regression with known noise: its posterior is exactly Gaussian."""

    def program(dataset: Dataset) -> None:
        num_columns = dataset["x"].shape[1]
        beta = numpyro.sample("beta", dist.Normal(0.0, prior_scale).expand([num_columns]).to_event(1))
        with numpyro.plate("rows", dataset.padded_rows), handlers.mask(mask=dataset.row_mask):
            numpyro.sample("y", dist.Normal(dataset["x"] @ beta, NOISE_SD), obs=dataset["y"])

    return Task(
        name="toy/linear",
        model=program,
        inputs=lambda rng_key, row_mask: {"x": jnp.zeros((len(row_mask), 2))},
        responses=("y",),
        target=("beta",),
        compared=("beta",),
        constants={},
        features=lambda dataset: Features(dataset["x"], jnp.zeros(1), dataset.row_mask),
        validate=lambda dataset: dataset,
        example=example,
        paper_num_rows=30,
    )


@pytest.fixture(scope="session")
def linear() -> KnownPosterior:
    """Two columns with correlation 0.9, hence a posterior with correlation near -0.9."""
    generator = np.random.default_rng(3)
    x = generator.multivariate_normal([0.0, 0.0], [[1.0, 0.9], [0.9, 1.0]], size=30).astype(np.float32)
    y = (x @ np.array([1.0, -0.5]) + NOISE_SD * generator.normal(size=30)).astype(np.float32)
    precision = x.T.astype(float) @ x / NOISE_SD**2 + np.eye(2) / 2.0**2
    covariance = np.linalg.inv(precision)
    dataset = Dataset(x=x, y=y)
    return KnownPosterior(make_linear_task(dataset), dataset, covariance @ (x.T @ y) / NOISE_SD**2, covariance)


@pytest.fixture(scope="session")
def bimodal() -> KnownPosterior:
    """Two separated modes of equal mass, at plus and minus two."""

    def program(dataset: Dataset) -> None:
        location = numpyro.sample("location", dist.Normal(0.0, 2.0))
        with numpyro.plate("rows", dataset.padded_rows), handlers.mask(mask=dataset.row_mask):
            numpyro.sample("y", dist.Normal(location**2, 0.3), obs=dataset["y"])

    dataset = Dataset(y=np.full(8, 4.0, np.float32))
    task = Task(
        name="toy/bimodal",
        model=program,
        inputs=lambda rng_key, row_mask: {},
        responses=("y",),
        target=("location",),
        compared=("location",),
        constants={},
        features=lambda dataset: Features(dataset["y"][:, None], jnp.zeros(1), dataset.row_mask),
        validate=lambda dataset: dataset,
        example=dataset,
        paper_num_rows=8,
    )
    return KnownPosterior(task, dataset, np.zeros(1), np.full((1, 1), 4.0))


@pytest.fixture(scope="session")
def glm1() -> Task:
    return make_task("glm/1", num_columns=3, covariates="gaussian")


def simulated(task: Task, seed: int, num_rows: int = 30) -> Dataset:
    """One simulated data set with NumPy leaves."""
    return jax.device_get(task.simulate(jax.random.key(seed), num_rows)[1])


@pytest.fixture(scope="session")
def glm1_dataset(glm1: Task) -> Dataset:
    return simulated(glm1, 0)


@pytest.fixture(scope="session")
def glm1_other_dataset(glm1: Task) -> Dataset:
    return simulated(glm1, 1)
