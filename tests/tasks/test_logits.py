"""Slopes at logits of zero, by which searches for a mode start: of the density itself, in tasks of every origin."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from icl_bayes.tasks import Task, make_task
from icl_bayes.tasks.logits import with_slope_at_zero
from icl_bayes.types import Dataset

MASK = jnp.asarray([True, False, True])
VALUES = jnp.asarray([0.0, 1.0, 1.0])
WRAPPED = {
    "plain": lambda law: law,
    "event": lambda law: law.to_event(1),
    "masked": lambda law: law.mask(MASK),
    "masked and expanded": lambda law: law.mask(MASK).expand([3]).to_event(1),
}
LAWS = {
    "bernoulli": (1.0, lambda logits: dist.Bernoulli(logits=logits)),
    "binomial": (3.0, lambda logits: dist.Binomial(3, logits=logits)),
}


@pytest.mark.parametrize("wrap", WRAPPED)
@pytest.mark.parametrize("law", LAWS)
def test_slope_at_zero_and_values_elsewhere(law, wrap):
    trials, make = LAWS[law]
    density = lambda logits: jnp.sum(with_slope_at_zero(WRAPPED[wrap](make(logits))).log_prob(VALUES))  # noqa: E731
    slopes = (VALUES - 0.5 * trials) * jnp.where(jnp.asarray("masked" in wrap), MASK, True)
    np.testing.assert_allclose(jax.grad(density)(jnp.zeros(3)), slopes, atol=1e-6)
    logits = jnp.asarray([-1.3, 0.2, 2.0])
    assert float(density(logits)) == float(jnp.sum(WRAPPED[wrap](make(logits)).log_prob(VALUES)))


def test_a_law_without_logits_is_itself():
    law = dist.Normal(jnp.zeros(3), 1.0).to_event(1)
    assert with_slope_at_zero(law) is law


def own_model(x, y=None):
    slope = numpyro.sample("slope", dist.Normal(0.0, 2.0))
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Bernoulli(logits=slope * x), obs=y)


def test_logistic_regressions_of_the_paper_and_of_users_have_it():
    """At zero all logits are: the likelihood's slope in a coefficient is that of its column with ``y - 1/2``."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 3)), rng.integers(0, 2, 20)
    task = make_task("glm/6", num_columns=3)
    found = jax.jit(jax.grad(task.log_likelihood))(jnp.zeros(3), task.prepare(Dataset(x=x, y=y)))
    np.testing.assert_allclose(found, x.T @ (y - 0.5), rtol=1e-5)

    own = Task.from_numpyro(own_model, lambda key, num_rows: {"x": jax.random.normal(key, (num_rows,))}, num_rows=20)
    dataset = own.prepare(Dataset(x=x[:, 0], y=y))
    found = jax.jit(jax.grad(own.log_likelihood))(jnp.zeros(1), dataset)
    unit = jax.jacfwd(lambda theta: own.constrain(theta, dataset)["slope"])(jnp.zeros(1))
    np.testing.assert_allclose(found, unit * (x[:, 0] @ (y - 0.5)), rtol=1e-5)
