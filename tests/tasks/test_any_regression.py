"""All regressions in one program: the same laws as the programs of single families, and the same tokens."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from icl_bayes.tasks.any_regression import MAX_COLUMNS, any_regression, draw_constants
from icl_bayes.tasks.any_response import CODES, AnyResponse
from icl_bayes.tasks.regression import RESPONSES, make_regression, prior_constants
from icl_bayes.types import Dataset

N, P = 9, 3
GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(N, P)).astype(np.float32)
Y = {
    "gaussian": GENERATOR.normal(size=N),
    "bernoulli": GENERATOR.integers(0, 2, N),
    "binomial": GENERATOR.integers(0, 5, N),
    "poisson": GENERATOR.poisson(2.0, N),
    "negative_binomial": GENERATOR.poisson(3.0, N),
    "gamma": 0.5 * GENERATOR.normal(size=N),
    "gamma_variance": 0.5 * GENERATOR.normal(size=N),
}
BETA = (np.asarray([2, 5, 1]), np.asarray([0.3, 0.0, -0.2]), np.asarray([0.5, 1.2, 0.8]), np.asarray([4.0, 2.0, 3.0]))
INTERCEPT, DISPERSION = (0, 0.5, 2.0, 4.0), (6, 0.0, 1.5, 5.0)
THETA = np.asarray([0.3, -0.2, 0.4, -0.6, 0.2], np.float32)


# Compiled once: families are data of the joint program.
JOINT = jax.jit(jax.value_and_grad(any_regression.log_joint))


@jax.jit
def joint_tokens(dataset, shift, spread):
    assert any_regression.tokens is not None
    view = any_regression.tokens(dataset, shift, 0.5 * jnp.eye(any_regression.dim))
    return view._replace(scores=None), view.scores(shift, spread)


def both(family: str) -> tuple[tuple, tuple, list[int]]:
    """Task, data set and theta of the family's own program and of the joint one; which coordinates they share."""
    own = make_regression(family, P)
    has_dispersion = bool(RESPONSES[family].dispersion)
    constants = prior_constants("intercept", *INTERCEPT) | prior_constants("beta", *BETA)
    if has_dispersion:
        constants |= prior_constants("dispersion", *DISPERSION)
    rows = {"x": X, "offset": np.zeros(N, np.float32), "weight": np.ones(N, np.float32)}
    rows |= {RESPONSES[family].row: Y[family].astype(np.float32)}
    rows |= {"trials": np.full(N, 6, np.float32)} if family == "binomial" else {}
    rows |= {"precision": np.ones(N, np.float32)} if family == "gaussian" else {}
    shared = [0, 1, 2, 3] + [MAX_COLUMNS + 1] * has_dispersion
    padded = {"exists": np.zeros(MAX_COLUMNS + 2, np.float32), "family": np.float32(CODES.index(family))}
    padded["exists"][shared] = 1.0
    unused = {"kind": 0.0, "loc": 0.0, "scale": 1.0, "shape": 4.0}
    for index, (name, value) in enumerate(unused.items()):
        whole = np.full(MAX_COLUMNS + 2, value, np.float32)
        whole[:4] = [INTERCEPT[index], *BETA[index]]
        if has_dispersion:
            whole[-1] = DISPERSION[index]
        padded[name] = whole
    wide = np.zeros((N, MAX_COLUMNS), np.float32)
    wide[:, :P] = X
    joint = Dataset(
        x=wide,
        y=Y[family].astype(np.float32),
        offset=np.zeros(N, np.float32),
        trials=np.full(N, 6, np.float32),
        precision=np.ones(N, np.float32),
        constants=padded,
    )
    theta = np.zeros(MAX_COLUMNS + 2, np.float32)
    theta[shared] = THETA[: len(shared)]
    return (own, Dataset(**rows, constants=constants), THETA[: own.dim]), (any_regression, joint, theta), shared


QUICK = ("binomial", "negative_binomial", "gamma_variance")
FAMILIES = [family if family in QUICK else pytest.param(family, marks=pytest.mark.slow) for family in CODES]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_joint_program_is_that_of_every_family(family: str) -> None:
    """Scores, and log joints but for a constant; unused coordinates are standard normal."""
    (own, dataset, theta), (joint, wide, padded), shared = both(family)
    score = np.asarray(jax.jit(jax.grad(own.log_joint))(theta, dataset))
    found = np.asarray(JOINT(padded, wide)[1])
    np.testing.assert_allclose(found[shared], score, rtol=2e-5, atol=2e-4)
    elsewhere = np.setdiff1d(np.arange(joint.dim), shared)
    moved = padded.copy()
    moved[elsewhere] = 0.7
    np.testing.assert_allclose(np.asarray(JOINT(moved, wide)[1])[elsewhere], -0.7, rtol=1e-5)
    own_change = float(own.log_joint(theta, dataset) - own.log_joint(-theta, dataset))
    change = float(JOINT(padded, wide)[0] - JOINT(-padded, wide)[0])
    assert change == pytest.approx(own_change, rel=1e-4, abs=1e-3)


@pytest.mark.parametrize("family", ["negative_binomial", pytest.param("gaussian", marks=pytest.mark.slow)])
def test_both_give_the_same_tokens(family: str) -> None:
    (own, dataset, theta), (_, wide, padded), shared = both(family)
    assert own.tokens is not None
    tokens, spread = own.tokens, jnp.asarray(0.6)

    @jax.jit
    def read(dataset, shift):
        view = tokens(dataset, shift, 0.5 * jnp.eye(own.dim))
        return view._replace(scores=None), view.scores(shift, spread)

    few, scores = read(dataset, theta)
    many, found = joint_tokens(wide, padded, spread)
    np.testing.assert_allclose(np.asarray(many.cells)[:, shared], few.cells, atol=2e-3)
    np.testing.assert_allclose(np.asarray(many.context)[shared], few.context, atol=1e-5)
    np.testing.assert_allclose(np.asarray(found)[:, shared], scores, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("family", ["gaussian", "binomial", "negative_binomial", "gamma_variance"])
def test_samples_follow_the_law(family: str) -> None:
    """Means and variances of simulated responses, within five standard errors of the moments of the law."""
    num, linear, dispersion = 20_000, 0.4, 0.7
    rows = {"trials": np.full(num, 6.0, np.float32), "precision": np.full(num, 4.0, np.float32)}
    law = AnyResponse(jnp.float32(CODES.index(family)), jnp.full(num, linear), jnp.float32(dispersion), rows)
    drawn = np.asarray(law.sample(jax.random.key(3)), np.float64)
    mean, share = np.exp(linear), 1.0 / (1.0 + np.exp(-linear))
    moments = {
        "gaussian": (linear, dispersion**2 / 4.0),
        "binomial": (6.0 * share, 6.0 * share * (1.0 - share)),
        "negative_binomial": (mean, mean + dispersion * mean**2),
        "gamma_variance": (mean, dispersion**2),
    }
    values = np.exp(drawn) if family == "gamma_variance" else drawn
    expected, variance = moments[family]
    assert abs(values.mean() - expected) < 5.0 * np.sqrt(variance / num)
    error = np.std((values - expected) ** 2) / np.sqrt(num)
    assert abs(np.mean((values - expected) ** 2) - variance) < 5.0 * error


def test_tables_of_the_training_cover_what_is_asked() -> None:
    """Every family, every number of columns, every kind of prior; unused columns have none."""
    drawn = jax.jit(jax.vmap(draw_constants))(jax.random.split(jax.random.key(0), 3000))
    assert set(np.asarray(drawn["family"]).astype(int)) == set(range(len(CODES)))
    exists = np.asarray(drawn["exists"]) > 0
    assert set(exists[:, 1:-1].sum(axis=1)) == set(range(MAX_COLUMNS + 1))
    kinds = np.asarray(drawn["kind"]).astype(int)
    assert set(kinds[exists]) == set(range(7))
    assert (kinds[~exists] == 0).all()
    assert (np.asarray(drawn["scale"])[~exists] == 1.0).all()


def test_simulated_thetas_follow_the_prior() -> None:
    """In the coordinates of normal, Laplace and unused priors they are standard normal."""
    thetas, datasets = jax.jit(jax.vmap(lambda key: any_regression.simulate(key, jnp.asarray(5), 8)))(
        jax.random.split(jax.random.key(1), 400)
    )
    normal = np.isin(np.asarray(datasets.constants["kind"]).astype(int), (0, 2))
    values = np.asarray(thetas)[normal]
    assert scipy.stats.kstest(values, "norm").pvalue > 1e-3
