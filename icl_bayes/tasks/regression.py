"""Generalized linear models for tables: any number of columns, priors as inputs, weights and offsets.

One program per response family. What a user chooses beside it (kind, location, scale and shape of every prior) is data,
so that tables of one size share compiled programs. Built by :func:`icl_bayes.glm`; the paper's seven scenarios are in
:mod:`icl_bayes.tasks.glm`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro import handlers

from icl_bayes.tasks.base import Features, Task
from icl_bayes.tasks.coefficient_priors import DEFAULT_SHAPE, MixedPrior, code_of
from icl_bayes.tasks.data_checks import require_finite
from icl_bayes.tasks.distributions import CountByLogMean, LogGamma, PoissonByLogMean
from icl_bayes.tasks.glm_starts import gamma_starts
from icl_bayes.tasks.program import announce
from icl_bayes.tasks.regression_tokens import ROLES, Priors, view_of
from icl_bayes.tasks.token_view import TokenView
from icl_bayes.types import Array, Dataset


class ResponseFamily(NamedTuple):
    """A law of responses.

    Attributes:
        link: of the linear predictor, in words.
        dispersion: name of the site beside the coefficients; empty if there is none.
        row: name of the row that is observed.
        describe: what responses are, in words.
        accepts: ``y (n,) -> (n,)`` boolean.
        law: ``(linear, dispersion, rows) -> Distribution`` over rows.
    """

    link: str
    dispersion: str
    row: str
    describe: str
    accepts: Callable[[np.ndarray], np.ndarray]
    law: Callable[[Array, Any, dict[str, Any]], dist.Distribution]


def _is_count(y: np.ndarray) -> np.ndarray:
    return (y >= 0) & (y == np.round(y))


FAMILIES: dict[str, ResponseFamily] = {
    "gaussian": ResponseFamily(
        "identity",
        "sigma",
        "y",
        "any numbers",
        lambda y: np.isfinite(y),
        lambda linear, sigma, rows: dist.Normal(linear, sigma / jnp.sqrt(rows["precision"])),
    ),
    "bernoulli": ResponseFamily(
        "logit",
        "",
        "y",
        "0 and 1",
        lambda y: np.isin(y, (0.0, 1.0)),
        lambda linear, _, rows: dist.Bernoulli(logits=linear),
    ),
    "binomial": ResponseFamily(
        "logit",
        "",
        "y",
        "whole numbers up to the number of trials",
        _is_count,
        lambda linear, _, rows: dist.Binomial(jnp.asarray(rows["trials"], jnp.int32), logits=linear),
    ),
    "poisson": ResponseFamily(
        "log",
        "",
        "y",
        "whole numbers from 0 on",
        _is_count,
        lambda linear, _, rows: PoissonByLogMean(linear),
    ),
    "negative_binomial": ResponseFamily(
        "log",
        "overdispersion",
        "y",
        "whole numbers from 0 on",
        _is_count,
        lambda linear, overdispersion, rows: CountByLogMean(linear, overdispersion),
    ),
    "gamma": ResponseFamily(
        "log",
        "dispersion",
        "log_y",
        "positive numbers",
        lambda y: y > 0,
        lambda linear, dispersion, rows: LogGamma(1.0 / dispersion, linear),
    ),
}
"""``sigma`` is the standard deviation; variances are ``mu + overdispersion mu^2`` and ``dispersion mu^2``."""

RESPONSES: dict[str, ResponseFamily] = FAMILIES | {
    "gamma_variance": ResponseFamily(
        "log",
        "sigma",
        "log_y",
        "positive numbers",
        lambda y: y > 0,
        lambda linear, sigma, rows: LogGamma(jnp.exp(jnp.clip(2.0 * linear, -80.0, 80.0)) / sigma**2, linear),
    )
}
"""Those, and the gamma law of the paper's seventh scenario, whose variance is ``sigma^2`` whatever the mean."""


MISSING_CELLS = "missing"
"""Site of the cells that were not observed."""


def extra_rows(family: str) -> tuple[str, ...]:
    """Rows beside covariates, response, offset and weight."""
    return {"gaussian": ("precision",), "binomial": ("trials",)}.get(family, ())


def prior_constants(name: str, kind: Any, loc: Any, scale: Any, shape: Any) -> dict[str, np.ndarray]:
    """Constants of a data set that state the prior of a site."""
    parts = {"kind": kind, "loc": loc, "scale": scale, "shape": shape}
    return {f"{name}_{part}": np.asarray(value, np.float32) for part, value in parts.items()}


def _prior(constants: dict[str, Any], name: str) -> MixedPrior:
    return MixedPrior(*(constants[f"{name}_{part}"] for part in ("kind", "loc", "scale", "shape")))


def make_program(family: str, num_columns: int, *, intercept: bool, num_missing: int = 0) -> Callable[[Dataset], None]:
    """The NumPyro program of a family; rows of whole weight w count as w rows.

    Cells of ``x`` that were not observed are zero there and a site of their own: ``cell`` says which of them a cell is,
    from 1 on, and is 0 where there was an observation.
    """
    response = RESPONSES[family]

    def regression(dataset: Dataset) -> None:
        constants, rows = dataset.constants, dataset.rows
        linear = jnp.asarray(rows["offset"])
        present = {"intercept": intercept, "beta": num_columns > 0, response.dispersion: bool(response.dispersion)}
        named = {response.dispersion: "dispersion"}
        priors = {site: _prior(constants, named.get(site, site)) for site, is_there in present.items() if is_there}
        announce(priors)
        if intercept:
            linear = linear + numpyro.sample("intercept", priors["intercept"])
        if num_columns:
            beta = numpyro.sample("beta", priors["beta"].to_event(1))
        dispersion = numpyro.sample(response.dispersion, priors[response.dispersion]) if response.dispersion else None
        if num_columns:
            linear = linear + rows["x"] @ beta
        if num_missing:
            law = dist.MultivariateNormal(constants["missing_loc"], scale_tril=constants["missing_scale"])
            cells = jnp.asarray(numpyro.sample(MISSING_CELLS, law))
            # By products instead of indices: gradients of a lookup are slow on CPUs.
            is_cell = rows["cell"][:, :, None] == jnp.arange(1, num_missing + 1)
            in_row, in_column = jnp.any(is_cell, axis=1), jnp.any(is_cell, axis=0).T
            linear = linear + in_row @ (cells * (in_column @ beta))
        law = response.law(linear, dispersion, rows)
        plate, mask = numpyro.plate("rows", dataset.padded_rows), handlers.mask(mask=dataset.row_mask)
        with plate, mask, handlers.scale(scale=rows["weight"]):
            numpyro.sample(response.row, law, obs=rows.get(response.row))

    return regression


@lru_cache(maxsize=64)
def make_regression(family: str, num_columns: int, *, intercept: bool = True, num_missing: int = 0) -> Task:
    """The task of a family for tables with so many columns.

    Args:
        family: one of :data:`FAMILIES`.
        num_columns: of the design, the intercept apart; may be 0 if there is one.
        num_missing: cells of the columns that were not observed. They are integrated out under a normal law, given by
            the constants ``missing_loc`` ``(num_missing,)`` and ``missing_scale``, its Cholesky factor.

    Raises:
        ValueError: for an unknown family, or a model without coefficients.
    """
    if family not in RESPONSES:
        raise ValueError(f"Unknown family {family!r}; choices: {', '.join(RESPONSES)}.")
    if num_columns < 0 or (num_columns == 0 and not intercept):
        raise ValueError("A regression needs at least one column, or an intercept.")
    response = RESPONSES[family]
    sites = ("intercept",) * intercept + ("beta",) * (num_columns > 0)
    cells = (MISSING_CELLS,) * (num_missing > 0)
    dispersion = (response.dispersion,) * bool(response.dispersion)
    example = _example(family, num_columns, intercept=intercept, num_missing=num_missing)
    return Task(
        name=f"regression/{family}",
        model=make_program(family, num_columns, intercept=intercept, num_missing=num_missing),
        inputs=_no_inputs,
        responses=(response.row,),
        target=sites + dispersion + cells,
        compared=sites + dispersion,
        constants={name: np.asarray(value) for name, value in example.constants.items()},
        signed=tuple(name for name in example.constants if name.endswith(("_kind", "_loc", "missing_scale"))),
        features=_features,
        tokens=None if num_missing else partial(regression_tokens, family=family, intercept=intercept),
        starts=gamma_starts if family == "gamma_variance" else None,
        validate=_make_validator(family, num_columns, num_missing),
        example=example,
        paper_num_rows=50,
        options={"num_columns": num_columns},
    )


def regression_tokens(dataset: Dataset, shift: Array, scale: Array, *, family: str, intercept: bool) -> TokenView:
    """What a network of column tokens sees of a table; see :class:`TokenView`.

    Args:
        shift, scale: of the Gaussian that whitens.
    """
    task = make_regression(family, dataset["x"].shape[-1], intercept=intercept)
    constants = dataset.constants

    def linear(theta: Array, dataset: Dataset) -> Array:
        sites = task.constrain(theta, dataset)
        found = jnp.asarray(dataset["offset"])
        if "intercept" in sites:
            found = found + sites["intercept"]
        return found + dataset["x"] @ sites["beta"] if "beta" in sites else found

    roles, kinds, shapes = [], [], []
    for name, site in task.sites.items():
        role = name if name in ROLES else "dispersion"
        roles += [ROLES.index(role)] * site.size
        kinds.append(jnp.broadcast_to(constants[f"{role}_kind"], (site.size,)))
        shapes.append(jnp.broadcast_to(constants[f"{role}_shape"], (site.size,)))
    priors = Priors(jnp.concatenate(kinds), jnp.concatenate(shapes), jnp.ones(task.dim))
    return view_of(task, linear, priors, roles, dataset, shift, scale, code=list(RESPONSES).index(family))


def _no_inputs(rng_key: Array, row_mask: Array) -> dict[str, Array]:
    raise ValueError(
        "Tables for regression are not simulated: there is no law of their covariates. Use glm/1 to glm/7, or "
        "Task.from_numpyro with inputs of your own."
    )


def _features(dataset: Dataset) -> Features:
    return Features(jnp.asarray(dataset["x"]), jnp.log(dataset.num_rows)[None], dataset.row_mask)


def _example(family: str, num_columns: int, *, intercept: bool, num_missing: int) -> Dataset:
    generator = np.random.default_rng(0)
    response = RESPONSES[family]
    rows = {
        "x": generator.normal(size=(6, num_columns)).astype(np.float32),
        response.row: np.asarray([0, 1, 1, 0, 1, 0], np.float32),
        "offset": np.zeros(6, np.float32),
        "weight": np.ones(6, np.float32),
        **{name: np.ones(6, np.float32) for name in extra_rows(family)},
    }
    unit = (code_of("normal"), 0.0, 1.0, DEFAULT_SHAPE)
    constants = prior_constants("intercept", *unit) if intercept else {}
    if num_columns:
        constants |= prior_constants("beta", *(np.full(num_columns, part) for part in unit))
    if response.dispersion:
        constants |= prior_constants("dispersion", code_of("half_normal"), 0.0, 1.0, DEFAULT_SHAPE)
    if num_missing:
        cell = np.zeros((6, num_columns), np.float32)
        cell[0, 0] = 1.0
        rows["cell"] = cell
        constants |= {"missing_loc": np.zeros(num_missing), "missing_scale": np.eye(num_missing)}
    return Dataset(**rows, constants=constants)


def _make_validator(family: str, num_columns: int, num_missing: int) -> Callable[[Dataset], Dataset]:
    response = RESPONSES[family]

    def validate(dataset: Dataset) -> Dataset:
        rows = dict(dataset.rows)
        num_rows = dataset.padded_rows
        rows.setdefault("x", np.zeros((num_rows, 0), np.float32))
        defaults = {"offset": 0.0, "weight": 1.0, **dict.fromkeys(extra_rows(family), 1.0)}
        if num_missing:  # new rows lack no cells
            rows.setdefault("cell", np.zeros((num_rows, num_columns), np.float32))
        if family == "binomial" and "trials" not in rows:
            raise ValueError("A binomial response needs the number of trials of every row.")
        for name, value in defaults.items():
            rows.setdefault(name, np.full(num_rows, value, np.float32))
        if response.row == "log_y" and "y" in rows and "log_y" not in rows:
            y = require_finite("y", rows.pop("y"))
            _require_response(response, family, y)
            rows["log_y"] = np.log(y)
        if response.row not in rows:
            raise ValueError(f"A regression needs the row 'y' (n,); received {sorted(dataset.rows)}.")
        unknown = sorted(set(rows) - {"x", response.row, *defaults, *["cell"] * (num_missing > 0)})
        if unknown:
            raise ValueError(f"Unknown row(s) {unknown}; the family {family} has {sorted({'x', 'y', *defaults})}.")
        rows = {name: require_finite(name, value) for name, value in rows.items()}
        if rows["x"].shape != (num_rows, num_columns):
            raise ValueError(f"x must have shape ({num_rows}, {num_columns}); received {rows['x'].shape}.")
        if num_missing:
            _require_cells(rows["cell"], rows["x"].shape, num_missing)
            rows["x"] = np.where(rows["cell"] > 0, np.float32(0.0), rows["x"])
        if response.row == "y":
            _require_response(response, family, rows["y"])
        weight = rows["weight"]
        if (weight < 0).any() or (weight != np.round(weight)).any():
            raise ValueError(
                "Weights are how often a row was observed, whole numbers from 0 on; received "
                f"{weight[(weight < 0) | (weight != np.round(weight))][:3].tolist()}. Of other kinds only known "
                "precisions of Gaussian responses have a likelihood (precision)."
            )
        if family == "binomial" and (not _is_count(rows["trials"]).all() or (rows["trials"] < rows["y"]).any()):
            raise ValueError("Trials must be whole numbers and at least as many as successes in every row.")
        if family == "gaussian" and (rows["precision"] <= 0).any():
            raise ValueError(f"Precisions must be positive; received {rows['precision'].min():g}.")
        return dataset.replace(rows=rows)

    return validate


def _require_cells(cell: np.ndarray, shape: tuple[int, ...], num_missing: int) -> None:
    if cell.shape != shape or not np.isin(cell, np.arange(num_missing + 1)).all():
        raise ValueError(
            f"cell must have shape {shape} and hold whole numbers from 0 (observed) to {num_missing}; received shape "
            f"{cell.shape} and values up to {cell.max(initial=0.0):g}."
        )


def _require_response(response: ResponseFamily, family: str, y: np.ndarray) -> None:
    bad = ~response.accepts(y)
    if bad.any():
        raise ValueError(
            f"Responses of the family {family} are {response.describe}; received {np.unique(y[bad])[:3].tolist()}."
        )
