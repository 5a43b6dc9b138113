"""Coal-mining disasters (Jarrett, 1979): yearly counts whose rate changes once; the year is summed out."""

# pyright: reportIndexIssue=false, reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false
from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

from icl_bayes.tasks import Task
from icl_bayes.types import Dataset

FIRST_YEAR = 1851
DISASTERS = (
    "4541043406334026335453144155342522342132211113001011003103220111010100021000110233112111124200014000100000100101"
)
"""Disasters in British coal mines with ten or more deaths, one digit per year, 1851 to 1962."""
NUM_YEARS = len(DISASTERS)


def model(year, count=None):
    """Poisson counts with one rate before the change and another from then on."""
    rate = numpyro.sample("rate", dist.Gamma(2.0, 1.0).expand([2]).to_event(1))
    change = numpyro.sample("change", dist.DiscreteUniform(1, NUM_YEARS - 1))
    with numpyro.plate("years", len(year)):
        numpyro.sample("count", dist.Poisson(jnp.where(year < change, rate[0], rate[1])), obs=count)


def inputs(rng_key, num_rows):
    """Years since the first."""
    del rng_key
    return {"year": jnp.arange(num_rows)}


def task() -> Task:
    """The two rates are the posterior; which year it was is summed out of the density."""
    return Task.from_numpyro(model, inputs, num_rows=NUM_YEARS)


def data() -> Dataset:
    return Dataset(year=np.arange(NUM_YEARS), count=[int(digit) for digit in DISASTERS])
