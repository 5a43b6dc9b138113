"""A hierarchical regression: one slope, an intercept for each of eight groups."""

# pyright: reportIndexIssue=false, reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false
from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

from icl_bayes.tasks import Task
from icl_bayes.types import Dataset

NUM_GROUPS = 8


def model(group, x, y=None):
    """Intercepts vary between groups around a common one; responses are on a standardized scale."""
    common = numpyro.sample("common", dist.Normal(0.0, 1.0))
    spread = numpyro.sample("spread", dist.HalfNormal(1.0))
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    noise = numpyro.sample("noise", dist.HalfNormal(1.0))
    with numpyro.plate("groups", NUM_GROUPS):
        intercept = numpyro.sample("intercept", dist.Normal(common, spread))
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Normal(intercept[group] + slope * x, noise), obs=y)


def inputs(rng_key, num_rows):
    """Groups of unequal size, and a normal covariate."""
    share_key, group_key, x_key = jax.random.split(rng_key, 3)
    logits = jax.random.normal(share_key, (NUM_GROUPS,))
    return {
        "group": jax.random.categorical(group_key, logits, shape=(num_rows,)),
        "x": jax.random.normal(x_key, (num_rows,)),
    }


def task() -> Task:
    return Task.from_numpyro(model, inputs, num_rows=(20, 200))


def data() -> Dataset:
    """Simulated as a classroom: 60 pupils in eight classes, scores and hours of study, both standardized."""
    generator = np.random.default_rng(3)
    group = np.sort(generator.integers(0, NUM_GROUPS, 60))
    x = generator.normal(size=60)
    intercept = generator.normal(0.2, 0.6, size=NUM_GROUPS)
    y = intercept[group] + 0.5 * x + generator.normal(0.0, 0.7, size=60)
    return Dataset(group=jnp.asarray(group), x=x, y=y)
