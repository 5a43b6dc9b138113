"""GLM tasks with cheap covariates and simulated data sets, made once for all tests of the tasks."""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icl_bayes.tasks import Task, make_task
from icl_bayes.types import Array, Dataset

NUM_COLUMNS = 2
NUM_ROWS = 8
NUM_SIMULATED = 4000
# Slopes of a gamma regression act through exp(2 x beta): smaller covariates keep its scores from heavy tails.
COVARIATE_SD = {7: 0.3}


@functools.cache
def glm(scenario: int) -> Task:
    """A scenario with two independent normal columns, whose simulation compiles quickly."""
    scale = COVARIATE_SD.get(scenario, 1.0)

    def inputs(rng_key: Array, row_mask: Array) -> dict[str, Array]:
        return {"x": scale * jax.random.normal(rng_key, (row_mask.shape[0], NUM_COLUMNS))}

    task = make_task(f"glm/{scenario}", num_columns=NUM_COLUMNS, covariates="uniform")
    return dataclasses.replace(task, inputs=inputs)


class Simulated(NamedTuple):
    """Pairs from the joint law: ``theta (N, dim)``, stacked data sets, and sites ``{name: (N, ...)}``."""

    task: Task
    theta: np.ndarray
    dataset: Dataset
    sites: dict[str, np.ndarray]


@functools.cache
def simulated(scenario: int) -> Simulated:
    task = glm(scenario)

    @jax.jit
    @jax.vmap
    def simulate(rng_key: Array) -> tuple[Array, Dataset, dict[str, Array]]:
        theta, dataset = task.simulate(rng_key, jnp.asarray(NUM_ROWS), NUM_ROWS + 1)
        return theta, dataset, task.constrain(theta, dataset)

    keys = jax.random.split(jax.random.key(scenario), NUM_SIMULATED)
    theta, dataset, sites = jax.device_get(simulate(keys))
    assert np.array_equal(dataset.row_mask.sum(axis=1), np.full(NUM_SIMULATED, NUM_ROWS))
    dataset = jax.tree.map(lambda leaf: leaf[:, :NUM_ROWS] if leaf.ndim > 1 else leaf, dataset)
    return Simulated(task, theta, dataset, sites)


@pytest.fixture(name="glm", scope="session")
def glm_fixture():
    """``scenario -> Task``."""
    return glm


@pytest.fixture(name="simulated", scope="session")
def simulated_fixture():
    """``scenario -> Simulated``: exact draws of ``(theta, dataset)``, the same in every test."""
    return simulated
