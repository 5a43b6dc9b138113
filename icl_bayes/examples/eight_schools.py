"""Eight schools (Rubin, 1981): effects of coaching in eight schools, partially pooled."""

# pyright: reportIndexIssue=false, reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false
from __future__ import annotations

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist

from icl_bayes.tasks import Task
from icl_bayes.types import Dataset

EFFECTS = (28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0)
STANDARD_ERRORS = (15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0)


def model(standard_error, effect=None):
    """Normal effects around a common mean; their spread is half-Cauchy."""
    mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = numpyro.sample("tau", dist.HalfCauchy(5.0))
    with numpyro.plate("schools", 8):
        theta = numpyro.sample("theta", dist.Normal(mu, tau))
        numpyro.sample("effect", dist.Normal(theta, standard_error), obs=effect)


def inputs(rng_key, num_rows):
    """Standard errors between 5 and 25, even on the scale of logarithms."""
    low, high = jnp.log(5.0), jnp.log(25.0)
    return {"standard_error": jnp.exp(jax.random.uniform(rng_key, (num_rows,), minval=low, maxval=high))}


def task() -> Task:
    """Every school has its own theta, so there are always eight."""
    return Task.from_numpyro(model, inputs, num_rows=8)


def data() -> Dataset:
    """The published effects with their standard errors."""
    return Dataset(standard_error=list(STANDARD_ERRORS), effect=list(EFFECTS))
