"""Gaussian mixtures: the four scenarios of Reuter et al. (2025), section 4, and one on which short chains fail.

The labels of the rows are summed out. Weights, Dirichlet distributed, are written as normalized gamma variables, whose
total is independent of everything else: all coordinates of a component then look alike, and permuting components
permutes coordinates. The published code takes ``mean_spread * sigma2`` for a standard deviation and shuffles means and
variances apart; here as in the paper's text both are variances, and components stay whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro import handlers

from icl_bayes.tasks.base import Features, Task
from icl_bayes.tasks.mixture_denoiser import (
    make_denoiser,
    make_em_step,
    make_responsibilities,
    make_spread,
)
from icl_bayes.tasks.mixture_modes import make_mode_starts, make_summaries, spread_out_rows
from icl_bayes.tasks.normal_mixture import NormalMixture, mean_of_rows
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

SITES = ("gamma", "sigma2", "mu")


@dataclass(frozen=True)
class GMMSpec:
    """One scenario.

    Attributes:
        num_components, num_columns: M and L.
        concentration: of the symmetric Dirichlet prior of the weights.
        mean_spread: prior variance of a mean relative to the variance of its component.
        num_rows: in the published scenario.
    """

    num_components: int
    num_columns: int
    concentration: float
    mean_spread: float
    num_rows: int

    @property
    def constants(self) -> dict[str, float]:
        return {
            "concentration": self.concentration,
            "mean_spread": self.mean_spread,
            "sigma2_concentration": 5.0,
            "sigma2_rate": 2.0,
        }


SCENARIOS: dict[int, GMMSpec] = {
    1: GMMSpec(5, 1, 1.0, 3.0, 50),
    2: GMMSpec(3, 3, 1.0, 3.0, 25),
    3: GMMSpec(3, 5, 0.5, 5.0, 50),
    4: GMMSpec(3, 3, 1.0, 3.0, 50),
    # Ours: far apart, of unequal size, and often fewer than there is room for.
    5: GMMSpec(5, 2, 0.4, 40.0, 500),
}


def make_program(spec: GMMSpec):
    """The NumPyro program of one specification."""
    shape = [spec.num_components, spec.num_columns]

    def gmm(dataset: Dataset) -> None:
        constants = dataset.constants
        prior = dist.Gamma(constants["concentration"], 1.0)
        gamma = numpyro.sample("gamma", prior.expand(shape[:1]).to_event(1))
        noise = dist.InverseGamma(constants["sigma2_concentration"], constants["sigma2_rate"])
        sigma2 = numpyro.sample("sigma2", noise.expand(shape).to_event(2))
        mu = numpyro.sample("mu", dist.Normal(0.0, jnp.sqrt(constants["mean_spread"] * sigma2)).to_event(2))
        law = NormalMixture(gamma, mu, sigma2, center=mean_of_rows(dataset) if "x" in dataset.rows else 0.0)
        with numpyro.plate("rows", dataset.padded_rows), handlers.mask(mask=dataset.row_mask):
            numpyro.sample("x", law, obs=dataset.rows.get("x"))

    return gmm


def weights_of(sites: Sites) -> Array:
    """Mixture weights ``(..., M)`` of draws."""
    gamma = jnp.asarray(sites["gamma"])
    return gamma / jnp.sum(gamma, axis=-1, keepdims=True)


def make_features(spec: GMMSpec):
    """What a network reads: rows, plain and compressed, the prior constants, log n."""
    scale = float(np.sqrt(0.5 * (1.0 + spec.mean_spread)))  # the prior sd of a value, about

    def features(dataset: Dataset) -> Features:
        context = jnp.concatenate([constant_context(dataset, spec.constants), log_num_rows(dataset, spec.num_rows)])
        return Features(compressed_rows(dataset, scale), context.astype(jnp.float32), dataset.row_mask)

    return features


def make_starts(spec: GMMSpec):
    """Where, beside zero, modes are searched from: rows far apart as means."""

    def starts(dataset: Dataset) -> Sites:
        return {"mu": spread_out_rows(dataset, mean_of_rows(dataset), spec.num_components)[None]}

    return starts


def make_gmm(scenario: int = 1, *, hyperprior: str = "fixed") -> Task:
    """One of the mixture scenarios as a task.

    Args:
        scenario: 1 to 4 of the paper, 5 with components far apart.
        hyperprior: ``fixed`` keeps the scenario's prior constants in simulation, ``varied`` draws each log-uniformly
            within :data:`icl_bayes.tasks.unlabelled.HYPERPRIOR_FACTORS` of it.

    Raises:
        ValueError: for an unknown scenario or option, listing the choices.
    """
    if scenario not in SCENARIOS:
        raise ValueError(f"Unknown GMM scenario {scenario!r}; choices: {sorted(SCENARIOS)}.")
    spec = SCENARIOS[scenario]
    return Task(
        name=f"gmm/{scenario}",
        model=make_program(spec),
        inputs=no_inputs,
        responses=("x",),
        target=SITES,
        compared=("mu", "sigma2"),
        constants=spec.constants,
        features=make_features(spec),
        validate=make_rows_validator("A mixture", spec.num_columns),
        example=example_rows(spec.num_columns, spec.constants),
        paper_num_rows=spec.num_rows,
        starts=make_starts(spec),
        hyperprior=hyperprior_ranges(hyperprior, spec.constants),
        options={"hyperprior": hyperprior, "num_columns": spec.num_columns},
        derived=lambda sites: {"weights": weights_of(sites)},
        denoise=make_denoiser(spec.num_components, spec.num_columns),
        summaries=make_summaries(spec.num_components, spec.num_columns),
        spread=make_spread(spec.num_components, spec.num_columns),
        responsibilities=make_responsibilities(spec.num_components, spec.num_columns),
        em_step=make_em_step(spec.num_components, spec.num_columns),
        mode_starts=make_mode_starts(spec.num_components, spec.num_columns),
        num_exchangeable=spec.num_components,
    )
