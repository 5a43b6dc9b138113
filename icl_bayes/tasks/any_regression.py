"""All regressions at once, to train one network on: families, priors, columns and rows are drawn anew for every table.

The program has a fixed number of columns, of which a table uses some; those it does not use have standard normal
coordinates and no part in the likelihood. What is learned is asked of tasks with exactly the columns of a table
(:func:`icl_bayes.tasks.regression.make_regression`).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from numpyro import handlers

from icl_bayes.tasks.any_response import CODES, MAX_TRIALS, AnyResponse
from icl_bayes.tasks.base import Features, Task
from icl_bayes.tasks.coefficient_priors import DEFAULT_SHAPE, MixedPrior, code_of
from icl_bayes.tasks.covariates import make_covariate_prior
from icl_bayes.tasks.regression import RESPONSES
from icl_bayes.tasks.regression_tokens import Priors, view_of
from icl_bayes.tasks.token_view import TokenView
from icl_bayes.types import Array, Dataset

MAX_COLUMNS = 20
MAX_RESPONSE = 1e5
"""Counts and positive responses beyond are not simulated."""
_HAS_DISPERSION = np.asarray([bool(family.dispersion) for family in RESPONSES.values()], np.float32)
_IS_LOG = np.asarray([family.link == "log" for family in RESPONSES.values()])
_REAL_KINDS = ("normal", "student_t", "laplace")
_POSITIVE_KINDS = ("half_normal", "half_student_t", "gamma")


def program(dataset: Dataset) -> None:
    """The NumPyro program; intercept, coefficients and dispersion are one site."""
    constants, rows = dataset.constants, dataset.rows
    prior = MixedPrior(*(constants[part] for part in ("kind", "loc", "scale", "shape")))
    parameters = jnp.asarray(numpyro.sample("parameters", prior.to_event(1)))
    law = AnyResponse(constants["family"], linear_predictor(parameters, dataset), parameters[-1], rows)
    with numpyro.plate("rows", dataset.padded_rows), handlers.mask(mask=dataset.row_mask):
        numpyro.sample("y", law, obs=rows.get("y"))


def linear_predictor(parameters: Array, dataset: Dataset) -> Array:
    """Of every row, ``(n,)``, from intercept, coefficients and dispersion, ``(MAX_COLUMNS + 2,)``."""
    used = parameters * dataset.constants["exists"]
    return jnp.asarray(dataset["offset"]) + used[0] + dataset["x"] @ used[1:-1]


def draw_constants(rng_key: Array) -> dict[str, Array]:
    """What a table looks like: its family, its columns, and the prior of each."""
    keys = dict(
        zip(
            ("family", "columns", "signal", "kinds", "scales", "intercept", "dispersion", "mix", "locs"),
            jax.random.split(rng_key, 9),
            strict=True,
        )
    )
    family = jax.random.randint(keys["family"], (), 0, len(CODES))
    is_log = jnp.asarray(_IS_LOG)[family]
    count_key, even_key, none_key = jax.random.split(keys["columns"], 3)
    uniform = jax.random.uniform(count_key)
    few, many = jnp.exp(uniform * jnp.log(MAX_COLUMNS + 1.0)), 1.0 + uniform * MAX_COLUMNS
    count = jnp.floor(jnp.where(jax.random.bernoulli(even_key), many, few)).astype(jnp.int32)
    count = jnp.where(jax.random.uniform(none_key) < 0.03, 0, jnp.minimum(count, MAX_COLUMNS))
    mask = jnp.arange(MAX_COLUMNS) < count
    # Standard deviation of the linear predictor that the prior expects; large ones overflow where there is a log link.
    low, high = jnp.where(is_log, 0.2, 0.3), jnp.where(is_log, 2.5, 10.0)
    signal = jnp.exp(jax.random.uniform(keys["signal"], minval=jnp.log(low), maxval=jnp.log(high)))
    scale = signal / jnp.sqrt(jnp.maximum(count, 1))
    scale = scale * jnp.exp(0.4 * jax.random.normal(keys["scales"], (MAX_COLUMNS,)))
    beta = _random_kinds(keys["kinds"], (MAX_COLUMNS,), positive_share=0.3)
    location = 0.5 * jax.random.normal(keys["locs"], (MAX_COLUMNS,)) * jax.random.bernoulli(keys["mix"], 0.3)
    intercept_keys = jax.random.split(keys["intercept"], 4)
    has_intercept = jax.random.uniform(intercept_keys[0]) < 0.85
    has_intercept = (has_intercept | (count == 0)).astype(jnp.float32)
    intercept_kind = jnp.where(jax.random.uniform(intercept_keys[1]) < 0.8, code_of("normal"), code_of("student_t"))
    intercept_scale = jnp.exp(jax.random.uniform(intercept_keys[2], minval=jnp.log(0.5), maxval=jnp.log(4.0)))
    dispersion_keys = jax.random.split(keys["dispersion"], 4)
    kinds = jnp.asarray([code_of(kind) for kind in ("half_normal", "half_student_t", "gamma", "root_inverse_gamma")])
    kind = jax.random.choice(dispersion_keys[0], kinds)
    spread = jnp.exp(jax.random.uniform(dispersion_keys[1], minval=jnp.log(0.3), maxval=jnp.log(3.0)))
    shape = jnp.exp(jax.random.uniform(dispersion_keys[2], minval=jnp.log(2.0), maxval=jnp.log(6.0)))
    has_dispersion = jnp.asarray(_HAS_DISPERSION)[family]
    exists = _joined(has_intercept, mask, has_dispersion) > 0
    laws = {
        "kind": (_joined(intercept_kind, beta[0], kind), code_of("normal")),
        "loc": (_joined(0.0, location * scale, 0.0), 0.0),
        "scale": (_joined(intercept_scale, scale, spread), 1.0),
        "shape": (_joined(3.0, beta[1], shape), DEFAULT_SHAPE),
    }
    found = {name: jnp.where(exists, own, unused) for name, (own, unused) in laws.items()}
    found |= {"family": family, "exists": exists}
    return {name: jnp.asarray(value, jnp.float32) for name, value in found.items()}


def _joined(intercept: Any, beta: Any, dispersion: Any) -> Array:
    return jnp.concatenate([jnp.atleast_1d(jnp.asarray(part, jnp.float32)) for part in (intercept, beta, dispersion)])


def _random_kinds(rng_key: Array, shape: tuple[int, ...], *, positive_share: float) -> tuple[Array, Array]:
    """Kinds and shapes; tables differ in how uniform they are."""
    keys = jax.random.split(rng_key, 7)
    real = jnp.asarray([code_of(kind) for kind in _REAL_KINDS])
    positive = jnp.asarray([code_of(kind) for kind in _POSITIVE_KINDS])

    def one(kind_key: Array, sign_key: Array, shape: tuple[int, ...]) -> Array:
        real_key, positive_key = jax.random.split(kind_key)
        is_positive = jax.random.uniform(sign_key, shape) < positive_share
        return jnp.where(
            is_positive, jax.random.choice(positive_key, positive, shape), jax.random.choice(real_key, real, shape)
        )

    main = one(keys[0], keys[1], ())
    adopts = jax.random.uniform(keys[2], shape) < jax.random.uniform(keys[3])
    is_uniform = jax.random.uniform(keys[4]) < 0.5
    kinds = jnp.where(is_uniform | adopts, main, one(keys[5], jax.random.fold_in(keys[1], 1), shape))
    degrees = 3.0 + 5.0 * jax.random.uniform(keys[6])
    concentration = 1.0 + 3.0 * jnp.round(jax.random.uniform(jax.random.fold_in(keys[6], 1)))
    return kinds, jnp.where(kinds == code_of("gamma"), concentration, degrees)


def inputs(rng_key: Array, row_mask: Array) -> dict[str, Array]:
    """Covariates; numbers of trials that are the same for all rows, or differ."""
    x_key, trials_key, same_key = jax.random.split(rng_key, 3)
    n = row_mask.shape[0]
    each = jax.random.randint(trials_key, (n,), 1, MAX_TRIALS + 1)
    trials = jnp.where(jax.random.uniform(same_key) < 0.7, each[0], each)
    return {
        "x": make_covariate_prior("tabular").sample(x_key, MAX_COLUMNS, row_mask),
        "offset": jnp.zeros(n),
        "trials": trials.astype(jnp.float32),
        "precision": jnp.ones(n),
    }


def accept(dataset: Dataset) -> Array:
    """Responses that single precision holds."""
    y = jnp.where(dataset.row_mask, dataset["y"], 0.0)
    is_gamma = jnp.asarray([family.row == "log_y" for family in RESPONSES.values()])
    largest = jnp.where(is_gamma[dataset.constants["family"].astype(int)], 8.0, MAX_RESPONSE)
    return jnp.all(jnp.isfinite(y)) & (jnp.max(y) < largest)


def _tokens(dataset: Dataset, shift: Array, scale: Array) -> TokenView:
    def linear(theta: Array, dataset: Dataset) -> Array:
        return linear_predictor(any_regression.constrain(theta, dataset)["parameters"], dataset)

    constants = dataset.constants
    roles = [0, *[1] * MAX_COLUMNS, 2]
    priors = Priors(*(jnp.asarray(constants[name]) for name in ("kind", "shape", "exists")))
    return view_of(any_regression, linear, priors, roles, dataset, shift, scale, code=constants["family"])


def _features(dataset: Dataset) -> Features:
    """Beside the tokens, nothing but the number of rows."""
    log_rows = jnp.log(dataset.num_rows / any_regression.paper_num_rows)
    return Features(jnp.zeros((dataset.padded_rows, 0)), log_rows[None], dataset.row_mask)


def _example() -> Dataset:
    generator = np.random.default_rng(0)
    exists = np.zeros(MAX_COLUMNS + 2, np.float32)
    exists[:4] = 1.0
    unused = {"kind": code_of("normal"), "loc": 0.0, "scale": 1.0, "shape": DEFAULT_SHAPE}
    constants = {name: np.full(MAX_COLUMNS + 2, value, np.float32) for name, value in unused.items()}
    constants |= {"family": np.asarray(CODES.index("poisson"), np.float32), "exists": exists}
    return Dataset(
        x=generator.normal(size=(6, MAX_COLUMNS)).astype(np.float32),
        y=np.asarray([0, 1, 1, 0, 2, 0], np.float32),
        offset=np.zeros(6, np.float32),
        trials=np.ones(6, np.float32),
        precision=np.ones(6, np.float32),
        constants=constants,
    )


any_regression = Task(
    name="regression/any",
    model=program,
    inputs=inputs,
    responses=("y",),
    target=("parameters",),
    compared=("parameters",),
    constants=_example().constants,
    draw_constants=draw_constants,
    signed=tuple(_example().constants),
    features=_features,
    tokens=_tokens,
    validate=lambda dataset: dataset,
    accept=accept,
    example=_example(),
    paper_num_rows=50,
    options={"num_columns": MAX_COLUMNS},
)
