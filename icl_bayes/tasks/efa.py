"""Factor analysis as people use it: a factor for every row, integrated out; loadings, means and uniquenesses wanted.

Loadings are lower triangular with a positive diagonal, which takes out rotations and signs (Geweke and Zhou, 1996), and
only so many factors are allowed as the covariances can tell apart: ``(P - d)^2 >= P + d`` (Ledermann, 1937). The prior
is meant for standardized columns: a feature's communality and its uniqueness are each about a half.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

from icl_bayes.tasks.base import Features, Task
from icl_bayes.tasks.factor_covariance import CommonFactorRows, mean_and_scatter
from icl_bayes.tasks.unlabelled import (
    compressed_rows,
    constant_context,
    example_rows,
    hyperprior_ranges,
    log_num_rows,
    make_rows_validator,
    no_inputs,
)
from icl_bayes.types import Array, Dataset, Sites

SITES = ("diagonal", "below", "mu", "psi")


@dataclass(frozen=True)
class EFASpec:
    """One scenario: P features, d factors.

    Raises:
        ValueError: for more factors than the covariances of the features can tell apart.
    """

    num_features: int
    num_factors: int
    num_rows: int = 100

    def __post_init__(self) -> None:
        features, factors = self.num_features, self.num_factors
        if not 1 <= factors < features or (features - factors) ** 2 < features + factors:
            raise ValueError(
                f"{factors} factors of {features} features are not identified: (P - d)^2 must be at least P + d "
                "(Ledermann's bound). Take fewer factors or more features."
            )

    @property
    def constants(self) -> dict[str, float]:
        loading_scale = float(np.sqrt(0.5 / self.num_factors))
        return {"loading_scale": loading_scale, "mean_scale": 0.5, "psi_concentration": 3.0, "psi_rate": 1.0}

    @property
    def below(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns of the loadings below the diagonal, row by row."""
        return np.tril_indices(self.num_features, -1, self.num_factors)


SCENARIOS: dict[int, EFASpec] = {1: EFASpec(4, 1), 2: EFASpec(6, 2), 3: EFASpec(9, 3)}


def loadings_of(spec: EFASpec, sites: Sites) -> Array:
    """``(..., P, d)`` loadings of draws."""
    diagonal, below = jnp.asarray(sites["diagonal"]), jnp.asarray(sites["below"])
    zeros = jnp.zeros((*diagonal.shape[:-1], spec.num_features, spec.num_factors), diagonal.dtype)
    rows, columns = spec.below
    on_diagonal = np.arange(spec.num_factors)
    return zeros.at[..., on_diagonal, on_diagonal].set(diagonal).at[..., rows, columns].set(below)


def derived_of(spec: EFASpec, sites: Sites) -> dict[str, Array]:
    """``loadings`` ``(..., P, d)``, and ``communality`` ``(..., P)``: the part of the variance that factors explain."""
    loadings = loadings_of(spec, sites)
    explained = jnp.sum(loadings**2, axis=-1)
    return {"loadings": loadings, "communality": explained / (explained + jnp.asarray(sites["psi"]))}


def make_program(spec: EFASpec):
    """The NumPyro program of one specification."""

    def efa(dataset: Dataset) -> None:
        constants = dataset.constants
        scale, features = constants["loading_scale"], [spec.num_features]
        diagonal = numpyro.sample("diagonal", dist.HalfNormal(scale).expand([spec.num_factors]).to_event(1))
        below = numpyro.sample("below", dist.Normal(0.0, scale).expand([len(spec.below[0])]).to_event(1))
        mu = numpyro.sample("mu", dist.Normal(0.0, constants["mean_scale"]).expand(features).to_event(1))
        noise = dist.InverseGamma(constants["psi_concentration"], constants["psi_rate"])
        psi = numpyro.sample("psi", noise.expand(features).to_event(1))
        loadings = loadings_of(spec, {"diagonal": jnp.asarray(diagonal), "below": jnp.asarray(below)})
        law = CommonFactorRows(loadings, jnp.asarray(mu), jnp.asarray(psi), dataset.row_mask)
        numpyro.sample("x", law, obs=dataset.rows.get("x"))

    return efa


def make_features(spec: EFASpec):
    """What a network reads: rows, means, variances and correlations, the prior constants, log n."""
    upper = np.triu_indices(spec.num_features, 1)

    def features(dataset: Dataset) -> Features:
        num_rows, mean, scatter = mean_and_scatter(jnp.asarray(dataset["x"], jnp.float32), dataset.row_mask)
        covariance = (scatter + 0.5 * jnp.eye(spec.num_features)) / (num_rows + 1.0)
        sd = jnp.sqrt(jnp.diagonal(covariance))
        context = [
            constant_context(dataset, spec.constants),
            jnp.arcsinh(mean),
            jnp.log(sd),
            (covariance / (sd[:, None] * sd))[upper],
            log_num_rows(dataset, spec.num_rows),
        ]
        return Features(compressed_rows(dataset, 1.0), jnp.concatenate(context).astype(jnp.float32), dataset.row_mask)

    return features


_PRINCIPAL_ITERATIONS = 12
_SMALL_DIAGONAL = 0.1
_LEAST_UNIQUE = 0.1
"""Share of a feature's variance that no factor takes, in the starts of mode searches."""


def make_starts(spec: EFASpec):
    """Where, beside zero, modes are searched from: iterated principal factors, turned into triangular form.

    And the same with one factor reflected, as far as its positive diagonal allows: where the diagonal is small, a
    reflection is a mode of its own, which no chain reaches.
    """
    num_factors = spec.num_factors
    signs = 1.0 - 2.0 * np.eye(num_factors)

    def starts(dataset: Dataset) -> Sites:
        num_rows, mean, scatter = mean_and_scatter(jnp.asarray(dataset["x"], jnp.float32), dataset.row_mask)
        covariance = scatter / num_rows + 1e-3 * jnp.eye(spec.num_features)
        total = jnp.diagonal(covariance)

        def principal(unique: Array) -> Array:
            variances, axes = jnp.linalg.eigh(covariance - jnp.diag(unique))
            return axes[:, -num_factors:] * jnp.sqrt(jnp.maximum(variances[-num_factors:], 1e-3))

        def improve(unique: Array, _: None) -> tuple[Array, None]:
            return jnp.maximum(total - jnp.sum(principal(unique) ** 2, axis=1), _LEAST_UNIQUE * total), None

        unique, _ = jax.lax.scan(improve, 0.5 * total, None, length=_PRINCIPAL_ITERATIONS)
        loadings = principal(unique)
        rotation, _ = jnp.linalg.qr(loadings[:num_factors].T)
        loadings = loadings @ rotation
        loadings = loadings * jnp.where(jnp.diagonal(loadings) < 0.0, -1.0, 1.0)
        diagonal = jnp.maximum(jnp.diagonal(loadings), 1e-2)
        # As given, then each factor reflected in turn.
        below = jnp.concatenate([loadings[None], loadings * signs[:, None, :]])[:, *spec.below]
        reflected = jnp.where(signs < 0.0, _SMALL_DIAGONAL * jnp.ones(num_factors), diagonal)
        repeated = {name: jnp.tile(value, (1 + num_factors, 1)) for name, value in {"mu": mean, "psi": unique}.items()}
        return {"diagonal": jnp.concatenate([diagonal[None], reflected]), "below": below, **repeated}

    return starts


def make_efa(scenario: int = 1, *, hyperprior: str = "fixed") -> Task:
    """Exploratory factor analysis of the columns of a table as a task.

    Args:
        scenario: 1 (four features, one factor), 2 (six and two) or 3 (nine and three).
        hyperprior: ``fixed`` keeps the prior constants in simulation, ``varied`` draws each log-uniformly within
            :data:`icl_bayes.tasks.unlabelled.HYPERPRIOR_FACTORS` of it.

    Raises:
        ValueError: for an unknown scenario or option, listing the choices.
    """
    if scenario not in SCENARIOS:
        raise ValueError(f"Unknown EFA scenario {scenario!r}; choices: {sorted(SCENARIOS)}.")
    spec = SCENARIOS[scenario]
    return Task(
        name=f"efa/{scenario}",
        model=make_program(spec),
        inputs=no_inputs,
        responses=("x",),
        target=SITES,
        compared=SITES,
        constants=spec.constants,
        features=make_features(spec),
        validate=make_rows_validator("A factor model", spec.num_features),
        example=example_rows(spec.num_features, spec.constants),
        paper_num_rows=spec.num_rows,
        starts=make_starts(spec),
        hyperprior=hyperprior_ranges(hyperprior, spec.constants),
        options={"hyperprior": hyperprior, "num_columns": spec.num_features},
        overrides={"diagonal": "softplus"},  # a diagonal away from zero, as most are, is then as straight as the rest
        derived=lambda sites: derived_of(spec, sites),
        has_far_modes=True,  # a factor reflected, where its diagonal is small
    )
