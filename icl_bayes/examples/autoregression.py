"""An AR(2) series: the order of the rows matters, so the model takes an index and masks its own rows."""

# pyright: reportIndexIssue=false, reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false
from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.contrib.control_flow import scan

from icl_bayes.tasks import Task
from icl_bayes.types import Dataset


def model(time, row_mask, y=None):
    """``y_t = level + first (y_{t-1} - level) + second (y_{t-2} - level) + noise``, started at the level.

    Partial autocorrelations in (-1, 1) are exactly the stationary series (Barndorff-Nielsen and Schou, 1973).
    """
    level = numpyro.sample("level", dist.Normal(0.0, 1.0))
    partial = numpyro.sample("partial", dist.Uniform(-1.0, 1.0).expand([2]).to_event(1))
    noise = numpyro.sample("noise", dist.HalfNormal(1.0))
    second = partial[1]
    first = partial[0] * (1.0 - second)

    def step(previous, observed):
        mean = level + first * (previous[0] - level) + second * (previous[1] - level)
        value = numpyro.sample("y", dist.Normal(mean, noise), obs=observed)
        return (value, previous[0]), None

    with numpyro.handlers.mask(mask=row_mask):
        scan(step, (level, level), y, length=len(time))


def inputs(rng_key, num_rows):
    """The time of every row: an index tells networks the order."""
    del rng_key
    return {"time": jnp.arange(num_rows)}


def task() -> Task:
    return Task.from_numpyro(model, inputs, num_rows=(30, 200))


def data() -> Dataset:
    """A series of 100 values with a slow cycle."""
    generator = np.random.default_rng(5)
    values = [0.3, 0.3]
    for _ in range(100):
        values.append(0.3 + 1.2 * (values[-1] - 0.3) - 0.5 * (values[-2] - 0.3) + 0.4 * generator.normal())
    return Dataset(time=np.arange(100), y=values[2:])
