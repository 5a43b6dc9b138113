"""What a program says of single rows: their log likelihood, and new ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from numpyro import handlers

from icl_bayes.precision import full_precision
from icl_bayes.types import Array, Dataset

if TYPE_CHECKING:
    from icl_bayes.tasks.base import Task

TOLERANCE = 1e-3
"""By which the rows' log likelihoods may differ from the whole one, relative to it."""


@full_precision
def row_log_likelihood(task: Task, theta: Array, dataset: Dataset) -> Array:
    """Log likelihood of every row given ``theta`` ``(dim,)``, zero where masked: ``(padded rows,)``; traceable.

    Programs whose observation law has the rows as an axis give it at once. Of others every row is evaluated alone, all
    others masked; whether the sum is that of all together is for :func:`require_independent_rows` to check.
    """
    _, trace = task._run(theta, dataset)
    num_rows, total = dataset.padded_rows, jnp.zeros(dataset.padded_rows)
    laws = [message for message in trace.values() if message["type"] == "sample" and message["is_observed"]]
    if all(tuple(message["fn"].batch_shape) == (num_rows,) for message in laws):
        for message in laws:
            scale = 1.0 if message["scale"] is None else message["scale"]
            total = total + scale * message["fn"].log_prob(message["value"])
        return jnp.where(dataset.row_mask, total, 0.0)

    def alone(index: Array) -> Array:
        mask = (jnp.arange(num_rows) == index) & dataset.row_mask
        return task.log_likelihood(theta, dataset.replace(row_mask=mask))

    return jnp.where(dataset.row_mask, jax.lax.map(alone, jnp.arange(num_rows)), 0.0)


def require_independent_rows(task: Task, dataset: Dataset, rows: np.ndarray, whole: np.ndarray) -> None:
    """Raise a ValueError unless the rows' log likelihoods ``(num, n)`` add up to the whole ones ``(num,)``."""
    sums = rows.sum(axis=1)
    if np.all(np.abs(sums - whole) <= TOLERANCE * (np.abs(whole) + len(rows[0]))):
        return
    raise ValueError(
        f"The rows of {task.name} are not independent given its sites: their log likelihoods add up to "
        f"{sums[0]:.4g}, all together have {whole[0]:.4g}. What is said of single rows (log likelihoods, LOO, WAIC) "
        "has no meaning here."
    )


@full_precision
def simulate_rows(task: Task, rng_key: Array, theta: Array, dataset: Dataset) -> dict[str, Array]:
    """Responses drawn from the program given ``theta`` ``(dim,)``, at the covariates of a data set; traceable."""
    inputs = {name: value for name, value in dataset.rows.items() if name not in task.responses}
    unobserved = dataset.replace(rows=inputs, row_mask=dataset.row_mask)
    sites = {name: value for name, value in task.constrain(theta, dataset).items() if name in task.sites}
    program = handlers.substitute(task.model, data=sites)
    trace = handlers.trace(handlers.seed(program, rng_key)).get_trace(unobserved)
    return {name: trace[name]["value"] for name in task.responses}
