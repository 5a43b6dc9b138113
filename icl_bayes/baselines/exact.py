"""Exact independent posterior draws for Gaussian regression (GLM 1 and 2).

The coefficients are Gaussian given the noise variance, so they integrate out in closed form.
What is left is one dimension: ``sigma2`` is drawn by inverting its distribution function on a
grid that is refined until the error of that function is below a stated bound; then the
coefficients are drawn from their Gaussian. Everything runs in float64 on the host.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from math import lgamma

import jax
import numpy as np

from icl_bayes.baselines.common import check_num_draws
from icl_bayes.tasks import Task
from icl_bayes.types import Array, Dataset, SampleResult

_EXACT_TASKS = ("glm/1", "glm/2")
_LOG_TAIL = 32.0  # the grid ends where the density is exp(-32) of its peak: 1e-14, below any error bound
_MAX_CELLS = 2**20


def supports_exact(task: Task) -> bool:
    """Whether :class:`ExactSampler` can sample the posterior of ``task``."""
    return task.name in _EXACT_TASKS


@dataclass(frozen=True)
class ConjugateRegression:
    """Gaussian regression with the coefficients in prior-scaled eigen-coordinates.

    Attributes:
        eigenvalues: ``(k,)`` of the Gram matrix of the prior-scaled design.
        projected: ``(k,)``, eigenvectors times scaled design transposed times response.
        basis: ``(k, k)``, coefficients are ``basis @ c``.
        y_squared: response times itself, summed.
        num_rows: number of rows that exist.
        concentration, rate: of the inverse gamma prior of the noise variance.
    """

    eigenvalues: np.ndarray
    projected: np.ndarray
    basis: np.ndarray
    y_squared: float
    num_rows: int
    concentration: float
    rate: float

    @classmethod
    def from_design(
        cls, design: np.ndarray, y: np.ndarray, prior_scales: np.ndarray, concentration: float, rate: float
    ) -> ConjugateRegression:
        """From a design ``(n, k)``, response ``(n,)`` and prior standard deviations ``(k,)``."""
        scaled = design * prior_scales
        eigenvalues, vectors = np.linalg.eigh(scaled.T @ scaled)
        return cls(
            eigenvalues=np.maximum(eigenvalues, 0.0),
            projected=vectors.T @ (scaled.T @ y),
            basis=prior_scales[:, None] * vectors,
            y_squared=float(y @ y),
            num_rows=len(y),
            concentration=concentration,
            rate=rate,
        )

    def log_density(self, log_sigma2: np.ndarray) -> np.ndarray:
        """Unnormalized posterior log density of ``log sigma2``, same shape as the argument."""
        sigma2 = np.exp(log_sigma2)
        posterior_precision = self.eigenvalues + sigma2[..., None]
        explained = np.sum(self.projected**2 / posterior_precision, axis=-1)
        log_det = (self.num_rows - len(self.eigenvalues)) * log_sigma2 + np.sum(np.log(posterior_precision), axis=-1)
        log_marginal = -0.5 * log_det - 0.5 * (self.y_squared - explained) / sigma2
        # The Jacobian of the logarithm turns the prior's exponent -(a + 1) into -a.
        return log_marginal - self.concentration * log_sigma2 - self.rate / sigma2

    def log_evidence(self, edges: np.ndarray) -> float:
        """Log marginal likelihood of the response, by the trapezoidal rule on a grid of ``log sigma2``."""
        log_density = self.log_density(edges)
        top = log_density.max()
        integral = np.trapezoid(np.exp(log_density - top), edges)
        prior = self.concentration * np.log(self.rate) - lgamma(self.concentration)
        return float(top + np.log(integral) + prior - 0.5 * self.num_rows * np.log(2.0 * np.pi))

    def sample_coefficients(self, generator: np.random.Generator, sigma2: np.ndarray) -> np.ndarray:
        """One coefficient vector per noise variance: ``(num_draws,)`` to ``(num_draws, k)``."""
        posterior_precision = self.eigenvalues + sigma2[:, None]
        noise = generator.standard_normal(posterior_precision.shape)
        rotated = self.projected / posterior_precision + np.sqrt(sigma2[:, None] / posterior_precision) * noise
        return rotated @ self.basis.T


@dataclass(frozen=True)
class InverseCdf:
    """A distribution function, tabulated: ``edges`` and ``cdf`` have shape ``(num_cells + 1,)``."""

    edges: np.ndarray
    cdf: np.ndarray
    error: float

    def __call__(self, uniforms: np.ndarray) -> np.ndarray:
        """Quantiles by linear interpolation within cells, so that draws are continuous."""
        return np.interp(uniforms, self.cdf, self.edges)


def tabulate(regression: ConjugateRegression, tolerance: float) -> InverseCdf:
    """Distribution function of ``log sigma2``, its error at most ``tolerance`` everywhere.

    The number of cells doubles until the interpolated function moves by less than ``tolerance``.
    Its error falls fourfold with every doubling, so the last change bounds what is left.

    Raises:
        ArithmeticError: if a million cells do not suffice.
    """
    low, high = _support(regression)
    coarse = _cdf_on(regression, np.linspace(low, high, 513))
    while len(coarse[0]) <= _MAX_CELLS:
        edges, cdf = _cdf_on(regression, np.linspace(low, high, 2 * len(coarse[0]) - 1))
        error = float(np.max(np.abs(np.interp(edges, *coarse) - cdf)))
        if error < tolerance:
            return InverseCdf(edges, cdf, error)
        coarse = edges, cdf
    raise ArithmeticError(
        f"The distribution of sigma2 needs more than {_MAX_CELLS} cells for an error of {tolerance:g} "
        f"(reached {error:g}); ask for a larger tolerance."
    )


def _cdf_on(regression: ConjugateRegression, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    log_density = regression.log_density(edges)
    density = np.exp(log_density - log_density.max())
    cdf = np.concatenate([[0.0], np.cumsum(density[1:] + density[:-1])])
    return edges, cdf / cdf[-1]


def _support(regression: ConjugateRegression) -> tuple[float, float]:
    """The interval of ``log sigma2`` outside which the density is negligible."""
    low, high = -40.0, 40.0
    for _ in range(3):  # each pass zooms in; the last one places the ends to within a few percent
        edges = np.linspace(low, high, 257)
        log_density = regression.log_density(edges)
        inside = np.flatnonzero(log_density > log_density.max() - _LOG_TAIL)
        low, high = edges[max(inside[0] - 1, 0)], edges[min(inside[-1] + 1, len(edges) - 1)]
    return float(low), float(high)


@dataclass(frozen=True)
class ExactSampler:
    """Independent draws from the exact posterior of GLM 1 or 2.

    Attributes:
        task: ``glm/1`` or ``glm/2``; others raise a ValueError.
        tolerance: bound on the error of the distribution function of ``sigma2``, in probability.
    """

    task: Task
    tolerance: float = 1e-6
    name: str = "exact"

    def __post_init__(self) -> None:
        if not supports_exact(self.task):
            raise ValueError(
                f"Exact sampling needs a Gaussian response and normal coefficients: {', '.join(_EXACT_TASKS)}; "
                f"received task {self.task.name!r}. Use 'nuts_jit' or reference_draws instead."
            )

    def sample(self, rng_key: Array, dataset: Dataset, num_draws: int) -> SampleResult:
        """Exact draws of ``beta``, ``sigma2`` and, in GLM 2, ``intercept``.

        ``health["cdf_error"]`` states the largest error of the distribution function of
        ``sigma2``; given ``sigma2``, the coefficients are exact to rounding. ``health["log_evidence"]`` is that of the
        response given covariates and prior constants.
        """
        check_num_draws(num_draws)
        started = time.perf_counter()
        dataset = self.task.prepare(dataset)
        has_intercept = "intercept" in self.task.target
        regression = _regression(dataset, has_intercept)
        table = tabulate(regression, self.tolerance)
        generator = np.random.default_rng(np.ravel(jax.random.key_data(rng_key)))
        sigma2 = np.exp(table(generator.random(num_draws)))
        coefficients = regression.sample_coefficients(generator, sigma2)
        sites = {"beta": coefficients[:, int(has_intercept) :], "sigma2": sigma2}
        if has_intercept:
            sites["intercept"] = coefficients[:, 0]
        health = {
            "cdf_error": table.error,
            "num_cells": float(len(table.edges) - 1),
            "log_evidence": regression.log_evidence(table.edges),
        }
        return SampleResult(sites, 0.0, time.perf_counter() - started, health=health)


def _regression(dataset: Dataset, has_intercept: bool) -> ConjugateRegression:
    valid = np.asarray(dataset.row_mask, bool)
    design = np.asarray(dataset["x"], np.float64)[valid]
    constants = {name: float(value) for name, value in dataset.constants.items()}
    prior_scales = np.full(design.shape[1], constants["beta_scale"])
    if has_intercept:
        design = np.column_stack([np.ones(len(design)), design])
        prior_scales = np.append(constants["intercept_scale"], prior_scales)
    y = np.asarray(dataset["y"], np.float64)[valid]
    return ConjugateRegression.from_design(
        design, y, prior_scales, constants["noise_concentration"], constants["noise_rate"]
    )
