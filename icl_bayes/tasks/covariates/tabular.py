"""The prior that looks like everyday tables: mixed column types under a Gaussian copula."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from icl_bayes.tasks.covariates import marginals
from icl_bayes.tasks.covariates.base import (
    Array,
    check_arguments,
    check_count,
    check_range,
    draw_parameters,
    row_normals,
    standardise,
)
from icl_bayes.tasks.covariates.copula import correlate

KINDS = (
    "gaussian",
    "heavy_tailed",
    "skewed",
    "bounded",
    "bimodal",
    "zero_inflated",
    "binary",
    "ordinal",
    "categorical",
)
_KIND = {kind: index for index, kind in enumerate(KINDS)}


@dataclass(frozen=True)
class TabularCovariates:
    """Columns of mixed kinds, tied together by a Gaussian copula of random strength.

    Every column draws its kind from the weights below (they need not sum to one), its own
    shape parameters, and, for skewed and zero-inflated columns, its direction. Tables differ
    in how uniform they are: a table has a main kind, drawn from the same weights, which each
    column adopts with a probability drawn uniformly from ``(0, max_uniformity)``. So weights
    are the marginal frequencies of the kinds, yet all-binary or all-skewed tables occur.

    Attributes:
        gaussian_weight: normal columns.
        heavy_tailed_weight: Student-t columns, degrees of freedom log-uniform on
            ``(min_degrees, max_degrees)``.
        skewed_weight: half lognormal (log standard deviation uniform on 0.3 to
            ``max_log_scale``), half gamma-like (shape log-uniform on 0.5 to 5).
        bounded_weight: columns on an interval, from bell-shaped over uniform to U-shaped.
        bimodal_weight: two bells of random mass and distance.
        zero_inflated_weight: a point mass (30 to 85 % of the rows) and a one-sided tail.
        binary_weight: two levels, rate uniform on ``(min_level_share, 1 - min_level_share)``.
        ordinal_weight: three to ``max_levels`` ordered levels with random probabilities.
        categorical_weight: the same with codes in random order.
        max_uniformity: see above, in [0, 1].
        independent_share: probability that a table's columns are independent.
        max_strength: upper end of the random strength of dependence elsewhere, in [0, 1].
        min_degrees: smallest degrees of freedom, at least 2.
        max_degrees: largest degrees of freedom.
        max_log_scale: largest log standard deviation of a lognormal column.
        max_levels: largest number of levels, at least 3.
        min_level_share: smallest probability of a level.
    """

    name: ClassVar[str] = "tabular"
    gaussian_weight: float = 0.24
    heavy_tailed_weight: float = 0.12
    skewed_weight: float = 0.18
    bounded_weight: float = 0.10
    bimodal_weight: float = 0.08
    zero_inflated_weight: float = 0.06
    binary_weight: float = 0.10
    ordinal_weight: float = 0.06
    categorical_weight: float = 0.06
    max_uniformity: float = 0.8
    independent_share: float = 0.2
    max_strength: float = 1.0
    min_degrees: float = 2.0
    max_degrees: float = 8.0
    max_log_scale: float = 1.2
    max_levels: int = 10
    min_level_share: float = 0.05

    def __post_init__(self) -> None:
        for kind in KINDS:
            check_range(self.name, f"{kind}_weight", getattr(self, f"{kind}_weight"), 0.0)
        if not sum(getattr(self, f"{kind}_weight") for kind in KINDS) > 0.0:
            raise ValueError(f"Covariate prior '{self.name}' needs a positive weight for at least one of {KINDS}.")
        for option in ("max_uniformity", "independent_share", "max_strength"):
            check_range(self.name, option, getattr(self, option), 0.0, 1.0)
        check_range(self.name, "min_degrees", self.min_degrees, 2.0)
        check_range(self.name, "max_degrees", self.max_degrees, self.min_degrees)
        check_range(self.name, "max_log_scale", self.max_log_scale, 0.3, 3.0)
        check_count(self.name, "max_levels", self.max_levels, 3)
        check_range(self.name, "min_level_share", self.min_level_share, 0.0, 1.0 / self.max_levels)

    @property
    def weights(self) -> dict[str, float]:
        """Marginal frequency of each kind of column; sums to one."""
        raw = {kind: float(getattr(self, f"{kind}_weight")) for kind in KINDS}
        total = sum(raw.values())
        return {kind: weight / total for kind, weight in raw.items()}

    def sample(self, rng_key: Array, num_columns: int, row_mask: Array) -> Array:
        """One table ``(n, p)``; see :class:`~icl_bayes.tasks.covariates.CovariatePrior`."""
        num_rows = check_arguments(num_columns, row_mask)
        p = num_columns
        keys = jax.random.split(rng_key, p + 1)
        uniforms, normals = draw_parameters(
            keys[-1],
            uniforms=[(3,), (p + 1,), (p,), (), (3, p, 1), (2, p, self.max_levels)],
            normals=[(p, p)],
        )
        dependence, choice, adopts, uniformity, shapes, level_draws = uniforms
        noise = row_normals(keys[:-1], num_rows)
        scores = correlate(noise, dependence, normals[0], self.independent_share, self.max_strength)
        kinds = self._kinds(choice, adopts, uniformity)
        return standardise(self._columns(scores, kinds, shapes, level_draws, row_mask), row_mask, scores)

    def _kinds(self, choice: Array, adopts: Array, uniformity: Array) -> Array:
        """Kinds ``(p,)`` of the columns, as indices into ``KINDS``.

        All arguments are uniform draws: ``choice`` ``(p + 1,)``, the last entry for the main
        kind, ``adopts`` ``(p,)``, ``uniformity`` ``()``.
        """
        edges = np.cumsum(np.asarray(list(self.weights.values())))[:-1].astype(np.float32)
        kinds = jnp.sum(choice[:, None] >= edges[None, :], axis=1)
        return jnp.where(adopts < self.max_uniformity * uniformity, kinds[-1], kinds[:-1])

    def _columns(self, scores: Array, kinds: Array, shapes: Array, level_draws: Array, row_mask: Array) -> Array:
        """Raw columns ``(p, n)``: the scores mapped to the marginal that each column's kind asks for.

        ``shapes`` ``(3, p, 1)`` and ``level_draws`` ``(2, p, max_levels)`` are uniform draws.
        """
        first, second, third = shapes
        low, high = marginals.inner_range(scores, row_mask)
        kind = kinds[:, None]
        sign = jnp.where(third < 0.5, -1.0, 1.0)  # -f(-score) leans the other way and keeps the order

        columns = scores
        degrees = self.min_degrees * (self.max_degrees / self.min_degrees) ** first
        columns = jnp.where(kind == _KIND["heavy_tailed"], marginals.student_t(scores, degrees), columns)
        log_scale = 0.3 + (self.max_log_scale - 0.3) * first
        skewed = jnp.where(
            second < 0.5,
            marginals.lognormal(sign * scores, log_scale),
            marginals.gamma_like(sign * scores, 0.5 * 10.0**first),
        )
        columns = jnp.where(kind == _KIND["skewed"], sign * skewed, columns)
        columns = jnp.where(kind == _KIND["bounded"], marginals.bounded(scores, 0.4 + 1.4 * first), columns)
        columns = jnp.where(
            kind == _KIND["bimodal"], marginals.bimodal(scores, 2.0 + 4.0 * first, 1.6 * second - 0.8), columns
        )
        threshold = jnp.minimum(1.5 * first - 0.5, jnp.where(sign < 0.0, -low, high))
        exceeding = marginals.zero_inflated(sign * scores, threshold)
        columns = jnp.where(kind == _KIND["zero_inflated"], sign * exceeding, columns)

        binary = kinds == _KIND["binary"]
        nominal = kinds == _KIND["categorical"]
        several = 3 + jnp.floor((self.max_levels - 2) * first[:, 0]).astype(jnp.int32)
        num_levels = jnp.where(binary, 2, jnp.minimum(several, self.max_levels))
        share_draws, code_draws = level_draws
        cuts, codes = marginals.levels_from_draws(share_draws, code_draws, num_levels, nominal, self.min_level_share)
        levels = marginals.to_levels(scores, num_levels, cuts, codes, low, high)
        return jnp.where(kind >= _KIND["binary"], levels, columns)
