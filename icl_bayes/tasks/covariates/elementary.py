"""Covariate priors with one marginal shape: normal or uniform."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from icl_bayes.tasks.covariates.base import (
    Array,
    check_arguments,
    check_range,
    draw_parameters,
    row_normals,
    standardise,
)
from icl_bayes.tasks.covariates.copula import correlate
from icl_bayes.tasks.covariates.marginals import bounded


@dataclass(frozen=True)
class GaussianCovariates:
    """Normal columns, independent or with a random correlation matrix.

    Attributes:
        independent_share: probability that a data set's columns are independent; 1 makes all so.
        max_strength: upper end of the random strength of dependence elsewhere, in [0, 1].
    """

    name: ClassVar[str] = "gaussian"
    independent_share: float = 0.5
    max_strength: float = 1.0

    def __post_init__(self) -> None:
        check_range(self.name, "independent_share", self.independent_share, 0.0, 1.0)
        check_range(self.name, "max_strength", self.max_strength, 0.0, 1.0)

    def sample(self, rng_key: Array, num_columns: int, row_mask: Array) -> Array:
        """One table ``(n, p)``; see :class:`~icl_bayes.tasks.covariates.CovariatePrior`."""
        num_rows = check_arguments(num_columns, row_mask)
        scores = _scores(rng_key, num_columns, num_rows, self.independent_share, self.max_strength)
        return standardise(scores, row_mask, scores)


@dataclass(frozen=True)
class UniformCovariates:
    """Uniform columns, by default independent.

    Attributes:
        independent_share: probability that a data set's columns are independent; 1 makes all so.
        max_strength: upper end of the random strength of dependence elsewhere, in [0, 1].
    """

    name: ClassVar[str] = "uniform"
    independent_share: float = 1.0
    max_strength: float = 1.0

    def __post_init__(self) -> None:
        check_range(self.name, "independent_share", self.independent_share, 0.0, 1.0)
        check_range(self.name, "max_strength", self.max_strength, 0.0, 1.0)

    def sample(self, rng_key: Array, num_columns: int, row_mask: Array) -> Array:
        """One table ``(n, p)``; see :class:`~icl_bayes.tasks.covariates.CovariatePrior`."""
        num_rows = check_arguments(num_columns, row_mask)
        scores = _scores(rng_key, num_columns, num_rows, self.independent_share, self.max_strength)
        return standardise(bounded(scores, jnp.ones((num_columns, 1), jnp.float32)), row_mask, scores)


def _scores(rng_key: Array, num_columns: int, num_rows: int, independent_share: float, max_strength: float) -> Array:
    """Standard normal scores ``(p, n)`` with the dependence asked for."""
    keys = jax.random.split(rng_key, num_columns + 1)
    (draws,), (common,) = draw_parameters(keys[-1], [(3,)], [(num_columns, num_columns)])
    return correlate(row_normals(keys[:-1], num_rows), draws, common, independent_share, max_strength)
