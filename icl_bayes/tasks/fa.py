"""Factor analysis with one factor per data set: the six scenarios of Reuter et al. (2025), section 4 and Table 6.

The factor ``z`` is the target. Loadings, means and variances are integrated out inside the law of the rows
(:mod:`icl_bayes.tasks.factor_law`), so that the program has no nuisance sites. Variances are variances: the
published code passes those of the loadings (3 in scenarios 3, 4 and 6) as standard deviations.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

from icl_bayes.tasks.base import Features, Task
from icl_bayes.tasks.factor_law import FactorRows, FactorStructure
from icl_bayes.tasks.unlabelled import (
    compressed_rows,
    constant_context,
    example_rows,
    hyperprior_ranges,
    log_num_rows,
    make_rows_validator,
    no_inputs,
)
from icl_bayes.types import Array, Dataset

FACTOR_PRIORS = ("normal", "laplace")


@dataclass(frozen=True)
class FASpec:
    """One scenario.

    Attributes:
        structure: numbers of features and factors, law of the loadings.
        constants: prior constants, see :class:`icl_bayes.tasks.factor_law.FactorRows`.
        num_rows: in the published scenario.
        factor: prior of each coordinate of z: standard ``normal`` or ``laplace`` of unit scale.
    """

    structure: FactorStructure
    constants: dict[str, float]
    num_rows: int
    factor: str = "normal"

    def __post_init__(self) -> None:
        if self.factor not in FACTOR_PRIORS:
            raise ValueError(f"Unknown prior of the factor {self.factor!r}; choices: {FACTOR_PRIORS}.")


def _constants(mean_variance: float, psi_rate: float, loading_scale: float) -> dict[str, float]:
    return {
        "mean_scale": float(np.sqrt(mean_variance)),
        "psi_concentration": 5.0,
        "psi_rate": psi_rate,
        "loading_scale": loading_scale,
    }


SCENARIOS: dict[int, FASpec] = {
    1: FASpec(FactorStructure(3, 3), _constants(1.0, 1.0, 1.0), 50),
    2: FASpec(FactorStructure(3, 3, "laplace"), _constants(0.1, 1.0, 10.0), 50),
    3: FASpec(FactorStructure(5, 3), _constants(0.1, 2.0, 3.0**0.5), 25),
    4: FASpec(FactorStructure(15, 5), _constants(0.1, 2.0, 3.0**0.5), 25),
    5: FASpec(FactorStructure(5, 3, "laplace"), _constants(0.1, 2.0, 3.0), 25),
    6: FASpec(FactorStructure(5, 3), _constants(0.1, 2.0, 3.0**0.5), 25, "laplace"),
}


def make_program(spec: FASpec):
    """The NumPyro program of one specification."""

    def fa(dataset: Dataset) -> None:
        prior = dist.Normal(0.0, 1.0) if spec.factor == "normal" else dist.Laplace(0.0, 1.0)
        factor = numpyro.sample("z", prior.expand([spec.structure.num_factors]).to_event(1))
        law = FactorRows(factor, spec.structure, dataset.constants, dataset.row_mask)
        numpyro.sample("x", law, obs=dataset.rows.get("x"))

    return fa


def make_features(spec: FASpec):
    """What a network reads: rows, plain and compressed, the sufficient statistics, the prior constants, log n."""
    # The standard deviation of a feature over data sets, about.
    scale = max(1.0, spec.constants["loading_scale"] * spec.structure.num_factors**0.5)

    def features(dataset: Dataset) -> Features:
        mean, variance = sufficient_statistics(dataset)
        constants, num_rows = constant_context(dataset, spec.constants), log_num_rows(dataset, spec.num_rows)
        context = jnp.concatenate([constants, jnp.arcsinh(mean), jnp.log(variance), num_rows])
        return Features(compressed_rows(dataset, scale), context.astype(jnp.float32), dataset.row_mask)

    return features


def sufficient_statistics(dataset: Dataset) -> tuple[Array, Array]:
    """Mean of every feature, and what data and prior say about its variance, ``(P,)`` each.

    Given the factor the posterior depends on the rows through mean and scatter alone.
    """
    x = jnp.asarray(dataset["x"], jnp.float32)
    weights = jnp.asarray(dataset.row_mask, x.dtype)[:, None]
    mean = jnp.sum(weights * x, axis=0) / jnp.sum(weights)
    scatter = jnp.sum(weights * (x - mean) ** 2, axis=0)
    concentration = dataset.constants["psi_concentration"] + 0.5 * (jnp.sum(weights) - 1.0)
    return mean, jnp.asarray((dataset.constants["psi_rate"] + 0.5 * scatter) / concentration)


def make_fa(scenario: int = 1, *, hyperprior: str = "fixed") -> Task:
    """One of the paper's factor analysis scenarios as a task.

    Args:
        scenario: 1 to 6.
        hyperprior: ``fixed`` keeps the paper's prior constants in simulation, ``varied`` draws each log-uniformly
            within :data:`icl_bayes.tasks.unlabelled.HYPERPRIOR_FACTORS` of it.

    Raises:
        ValueError: for an unknown scenario or option, listing the choices.
    """
    if scenario not in SCENARIOS:
        raise ValueError(f"Unknown FA scenario {scenario!r}; choices: {sorted(SCENARIOS)}.")
    spec = SCENARIOS[scenario]
    num_features = spec.structure.num_features
    return Task(
        name=f"fa/{scenario}",
        model=make_program(spec),
        inputs=no_inputs,
        responses=("x",),
        target=("z",),
        compared=("z",),
        constants=spec.constants,
        features=make_features(spec),
        validate=make_rows_validator("A factor model", num_features),
        example=example_rows(num_features, spec.constants),
        paper_num_rows=spec.num_rows,
        hyperprior=hyperprior_ranges(hyperprior, spec.constants),
        options={"hyperprior": hyperprior, "num_columns": num_features},
        has_dear_gradients=spec.structure.loadings == "laplace",  # integrals over characteristic functions
    )
