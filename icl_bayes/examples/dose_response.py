"""A dose-response curve: how many animals respond at each dose, logistic in the logarithm of the dose."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist

from icl_bayes.tasks import Task
from icl_bayes.types import Dataset


def model(log_dose, animals, responding=None):
    """A background rate, the logarithm of the dose at which half of the others respond, and a slope."""
    background = numpyro.sample("background", dist.Beta(1.0, 9.0))
    log_ed50 = numpyro.sample("log_ed50", dist.Normal(0.0, 1.0))
    slope = numpyro.sample("slope", dist.LogNormal(0.5, 0.7))
    with numpyro.plate("doses", len(log_dose)):
        probability = background + (1.0 - background) * jax.nn.sigmoid(slope * (log_dose - log_ed50))
        numpyro.sample("responding", dist.Binomial(animals, probability), obs=responding)


def inputs(rng_key, num_rows):
    """Doses over a few powers of e, and five to twenty animals at each, in every other data set as many at all."""
    dose_key, count_key, design_key = jax.random.split(rng_key, 3)
    animals = jax.random.randint(count_key, (num_rows,), 5, 21)
    is_balanced = jax.random.bernoulli(design_key)
    return {
        "log_dose": 1.5 * jax.random.normal(dose_key, (num_rows,)),
        "animals": jnp.where(is_balanced, animals[0], animals),
    }


def task() -> Task:
    return Task.from_numpyro(model, inputs, num_rows=(4, 40))


def data() -> Dataset:
    """Racine et al. (1986): deaths among five animals at each of four doses."""
    return Dataset(
        log_dose=jnp.asarray([-0.86, -0.30, -0.05, 0.73]),
        animals=[5, 5, 5, 5],
        responding=[0, 1, 3, 5],
    )
