"""Generalized linear models: the seven scenarios of Reuter et al. (2025), section 4 and Table 5.

One program covers them all. A scenario is a choice of coefficient prior, intercept and
response; its prior constants are inputs of the network. Variances are variances: the
published code passes the noise variance, and the intercept's, as standard deviations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax.typing import ArrayLike
from numpyro import handlers

from icl_bayes.tasks.base import Features, Task
from icl_bayes.tasks.covariates import make_covariate_prior
from icl_bayes.tasks.data_checks import require_finite, warn
from icl_bayes.tasks.distributions import LogGamma
from icl_bayes.tasks.glm_starts import gamma_starts, gaussian_starts
from icl_bayes.types import AnyArray, Array, Dataset

COEFFICIENT_PRIORS = ("normal", "laplace", "exponential")
RESPONSES = ("gaussian", "bernoulli", "gamma")


@dataclass(frozen=True)
class GLMSpec:
    """The discrete choices of a generalized linear model.

    Attributes:
        coefficients: prior of each coefficient: ``normal`` (sd ``beta_scale``), ``laplace``
            (scale ``beta_scale``) or ``exponential`` (mean ``beta_scale``; the paper's
            Gamma(1, 1)).
        intercept: whether there is an intercept, normal with sd ``intercept_scale``.
        response: ``gaussian`` (variance sigma2), ``bernoulli`` (logit link) or ``gamma``
            (log link, variance sigma2).
    """

    coefficients: str = "normal"
    intercept: bool = False
    response: str = "gaussian"

    def __post_init__(self) -> None:
        if self.coefficients not in COEFFICIENT_PRIORS:
            raise ValueError(f"Unknown coefficient prior {self.coefficients!r}; choices: {COEFFICIENT_PRIORS}.")
        if self.response not in RESPONSES:
            raise ValueError(f"Unknown response {self.response!r}; choices: {RESPONSES}.")

    @property
    def has_noise(self) -> bool:
        return self.response != "bernoulli"

    @property
    def response_row(self) -> str:
        """Gamma responses are kept as logarithms: simulated ones underflow float32 otherwise."""
        return "log_y" if self.response == "gamma" else "y"


SCENARIOS: dict[int, GLMSpec] = {
    1: GLMSpec(),
    2: GLMSpec(intercept=True),
    3: GLMSpec(coefficients="laplace"),
    4: GLMSpec(coefficients="laplace", intercept=True),
    5: GLMSpec(coefficients="exponential"),
    6: GLMSpec(response="bernoulli"),
    7: GLMSpec(response="gamma"),
}
PAPER_NUM_ROWS, PAPER_NUM_COLUMNS = 50, 5


def default_constants(spec: GLMSpec) -> dict[str, float]:
    """The paper's prior constants: unit coefficients, intercept variance 9, sigma2 ~ IG(5, 2)."""
    constants = {"beta_scale": 1.0}
    if spec.intercept:
        constants["intercept_scale"] = 3.0
    if spec.has_noise:
        constants |= {"noise_concentration": 5.0, "noise_rate": 2.0}
    return constants


HYPERPRIOR_RANGES: dict[str, tuple[float, float]] = {
    "beta_scale": (0.5, 2.0),
    "intercept_scale": (1.5, 6.0),
    "noise_concentration": (3.0, 8.0),
    "noise_rate": (1.0, 4.0),
}


def coefficient_prior(spec: GLMSpec, scale: AnyArray) -> dist.Distribution:
    match spec.coefficients:
        case "normal":
            return dist.Normal(0.0, scale)
        case "laplace":
            return dist.Laplace(0.0, scale)
        case _:
            return dist.Exponential(1.0 / scale)


def response_law(spec: GLMSpec, linear: Array, sigma2: ArrayLike | None) -> dist.Distribution:
    """The law of one response given its linear predictor; for gamma, of its logarithm."""
    match spec.response:
        case "gaussian":
            assert sigma2 is not None
            return dist.Normal(linear, jnp.sqrt(sigma2))
        case "bernoulli":
            return dist.Bernoulli(logits=linear)
        case _:
            assert sigma2 is not None
            # Mean exp(linear), variance sigma2, hence shape exp(2 linear) / sigma2.
            concentration = jnp.exp(jnp.clip(2.0 * linear, -80.0, 80.0)) / sigma2
            return LogGamma(concentration, linear)


def make_program(spec: GLMSpec):
    """The NumPyro program of one specification."""

    def glm(dataset: Dataset) -> None:
        constants = dataset.constants
        covariates = dataset["x"]
        num_rows, num_columns = covariates.shape
        linear = jnp.zeros(num_rows)
        if spec.intercept:
            linear = linear + numpyro.sample("intercept", dist.Normal(0.0, constants["intercept_scale"]))
        prior = coefficient_prior(spec, constants["beta_scale"])
        beta = numpyro.sample("beta", prior.expand([num_columns]).to_event(1))
        linear = linear + covariates @ beta
        sigma2 = None
        if spec.has_noise:
            noise = dist.InverseGamma(constants["noise_concentration"], constants["noise_rate"])
            sigma2 = numpyro.sample("sigma2", noise)
        observed = dataset.rows.get(spec.response_row)
        with numpyro.plate("rows", num_rows), handlers.mask(mask=dataset.row_mask):
            numpyro.sample(spec.response_row, response_law(spec, linear, sigma2), obs=observed)

    return glm


def make_features(spec: GLMSpec):
    """What a network reads: covariates, the response plain and compressed, constants, log n."""

    def features(dataset: Dataset) -> Features:
        response = dataset[spec.response_row].astype(jnp.float32)
        if spec.response == "bernoulli":
            columns = [2.0 * response - 1.0]
        else:
            columns = [jnp.clip(response, -30.0, 30.0) / 3.0, jnp.arcsinh(response)]
        rows = jnp.concatenate([dataset["x"], jnp.stack(columns, axis=1)], axis=1)
        rows = jnp.where(dataset.row_mask[:, None], rows, 0.0)
        defaults = default_constants(spec)
        context = [jnp.log(dataset.constants[name] / defaults[name]) for name in sorted(defaults)]
        context.append(jnp.log(dataset.num_rows / PAPER_NUM_ROWS))
        return Features(rows, jnp.stack(context).astype(jnp.float32), dataset.row_mask)

    return features


MAX_SIMULATED_LOG_RESPONSE = 6.0
"""Gamma data sets beyond pin a coefficient to 1e-3 and exhaust float32; they are not simulated."""


def make_starts(spec: GLMSpec):
    """Where, beside zero, a scenario's modes are searched from (see :class:`Task`)."""
    if spec.response == "gaussian":
        return partial(gaussian_starts, nonnegative=spec.coefficients == "exponential", intercept=spec.intercept)
    return gamma_starts if spec.response == "gamma" else None  # logistic regression has one mode


def gamma_accept(dataset: Dataset) -> Array:
    """Whether the largest log response stays below the simulated range's limit."""
    return jnp.max(jnp.where(dataset.row_mask, dataset["log_y"], -jnp.inf)) < MAX_SIMULATED_LOG_RESPONSE


def make_validator(spec: GLMSpec, num_columns: int):
    """Checks a user's data set and converts the response to the row the program observes."""

    def validate(dataset: Dataset) -> Dataset:
        stored_as_log = spec.response_row == "log_y" and "log_y" in dataset
        response_name = spec.response_row if stored_as_log else "y"
        missing = [name for name in ("x", response_name) if name not in dataset]
        if missing:
            raise ValueError(f"A GLM needs rows 'x' (n, {num_columns}) and 'y' (n,); missing {missing}.")
        x = require_finite("x", dataset["x"])
        if x.ndim != 2 or x.shape[1] != num_columns:
            raise ValueError(
                f"x must have shape (n, {num_columns}), as this model has {num_columns} coefficients; received "
                f"{x.shape}. Choose {num_columns} columns, or a network trained for {x.shape[-1]}."
            )
        valid = np.asarray(dataset.row_mask, bool)
        if not valid.any():
            raise ValueError("The data set has no rows; at least one observation is needed.")
        y = require_finite(response_name, dataset[response_name])
        if y.ndim != 1:
            raise ValueError(f"{response_name} must have shape (n,); received {y.shape}. Pass y.ravel() for a column.")
        if spec.response == "bernoulli" and not np.isin(y[valid], (0.0, 1.0)).all():
            raise ValueError(f"A Bernoulli response takes values 0 and 1; received {np.unique(y[valid])[:6].tolist()}.")
        if spec.response == "gamma" and not stored_as_log:
            if (y[valid] <= 0).any():
                raise ValueError(f"A gamma response is positive; received a minimum of {y[valid].min():g}.")
            y = np.log(np.where(valid, y, 1.0)).astype(np.float32)
        constant = [j for j in range(num_columns) if valid.sum() > 1 and np.ptp(x[valid, j]) == 0]
        if constant:
            warn(
                f"Column(s) {constant} of x are constant: their coefficients are confounded with the intercept "
                "or informed by the prior alone. Drop them unless this is meant."
            )
        return dataset.replace(rows={"x": x, spec.response_row: y})

    return validate


def make_glm(
    scenario: int = 1,
    *,
    num_columns: int = PAPER_NUM_COLUMNS,
    covariates: str = "mixture",
    covariate_options: Mapping[str, Any] | None = None,
    hyperprior: str = "fixed",
) -> Task:
    """One of the paper's GLM scenarios as a task.

    Args:
        scenario: 1 to 7 (Table 5 of the paper).
        num_columns: number of covariates, p.
        covariates: name of the covariate prior used in simulation.
        hyperprior: ``fixed`` keeps the paper's prior constants in simulation, ``varied``
            draws them log-uniformly within ``HYPERPRIOR_RANGES``.

    Raises:
        ValueError: for an unknown scenario or option, listing the choices.
    """
    if scenario not in SCENARIOS:
        raise ValueError(f"Unknown GLM scenario {scenario!r}; choices: {sorted(SCENARIOS)}.")
    if hyperprior not in ("fixed", "varied"):
        raise ValueError(f"Unknown hyperprior {hyperprior!r}; choices: ['fixed', 'varied'].")
    spec = SCENARIOS[scenario]
    prior = make_covariate_prior(covariates, **dict(covariate_options or {}))
    constants = default_constants(spec)
    sites = ("intercept",) * spec.intercept + ("beta",)
    generator = np.random.default_rng(0)
    example = Dataset(
        x=generator.normal(size=(6, num_columns)).astype(np.float32),
        constants={name: jnp.asarray(value, jnp.float32) for name, value in constants.items()},
        **{spec.response_row: np.asarray([0, 1, 1, 0, 1, 0], np.float32)},
    )

    def inputs(rng_key: Array, row_mask: Array) -> dict[str, Array]:
        return {"x": prior.sample(rng_key, num_columns, row_mask)}

    return Task(
        name=f"glm/{scenario}",
        model=make_program(spec),
        inputs=inputs,
        responses=(spec.response_row,),
        target=sites + ("sigma2",) * spec.has_noise,
        compared=sites,
        constants=constants,
        features=make_features(spec),
        validate=make_validator(spec, num_columns),
        example=example,
        paper_num_rows=PAPER_NUM_ROWS,
        starts=make_starts(spec),
        accept=gamma_accept if spec.response == "gamma" else None,
        hyperprior={k: v for k, v in HYPERPRIOR_RANGES.items() if k in constants} if hyperprior == "varied" else {},
        options={
            "num_columns": num_columns,
            "covariates": covariates,
            "covariate_options": dict(covariate_options or {}),
            "hyperprior": hyperprior,
        },
    )


def posterior_predictive(spec: GLMSpec, rng_key: Array, sites: Mapping[str, Array], x: Array) -> Array:
    """One response vector ``(n,)`` given one draw of the sites and covariates ``(n, p)``."""
    linear = x @ sites["beta"] + sites.get("intercept", 0.0)
    return cast(Array, response_law(spec, linear, sites.get("sigma2")).sample(rng_key))


jax.tree_util.register_static(GLMSpec)
