"""A model of one parameter whose posterior has two modes, each with an exact answer on a grid."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax.scipy.special import logsumexp

from icl_bayes.tasks import Task


def two_roots(num_rows: int, y=None):
    """A parameter whose sign the data hardly know."""
    root = numpyro.sample("root", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", num_rows):
        numpyro.sample("y", dist.Normal(root**2 + 0.1 * root, 1.0), obs=y)


def two_roots_task() -> Task:
    task = Task.from_numpyro(two_roots, num_rows=8)
    return dataclasses.replace(task, mode_starts=lambda dataset: jnp.asarray([[1.0], [-1.0], [0.9]]))


def data(task: Task, mean: float = 1.0):
    """Rows of this mean: with one, modes hardly overlap; with less, they do."""
    _, found = task.simulate(jax.random.key(3), jnp.asarray(8), 8)
    y = np.asarray(found["y"]) - np.mean(found["y"]) + mean
    return task.prepare(jax.device_get(found).replace(rows={**found.rows, "y": y}))


def on_grid(task: Task, dataset):
    """Points ``(4001,)``, the log joint there, and the log evidence."""
    points = jnp.linspace(-4.0, 4.0, 4001)
    log_joint = jax.jit(jax.vmap(lambda one: task.log_joint(one[None], dataset)))(points)
    return points, log_joint, float(logsumexp(log_joint) + jnp.log(points[1] - points[0]))
