"""Calibration over simulated data sets: are posteriors right on average over the prior, whatever they are of?

The parameter that generated a data set is an exact draw of its posterior. If draws are from the posterior too, its rank
among them is uniform in every coordinate (simulation-based calibration; Talts et al., 2018), central intervals cover
what they say, and so do balls around any point (TARP; Lemos et al., 2023; blind to shifts, about which points lie on
all sides). All three are tests of uniformity, done by the distance of an empirical distribution function from the
diagonal with bands that hold at all points together (Säilynoja, Bürkner and Vehtari, 2022).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

NUM_SIMULATED = 20_000
GRID = 100
"""Points at which distribution functions are compared."""


@dataclass(frozen=True)
class Uniformity:
    """Whether numbers are uniform on (0, 1).

    Attributes:
        grid: ``(k,)``.
        difference: ``(k,)``, empirical distribution function minus the diagonal.
        p_value: of the smallest pointwise binomial tail probability, against simulations; at least 1 / 20001.
    """

    grid: np.ndarray
    difference: np.ndarray
    p_value: float


def uniformity(values: np.ndarray) -> Uniformity:
    """Test ``(num,)`` values for uniformity on (0, 1).

    Raises:
        ValueError: for fewer than 20 values, or values outside the interval.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or len(values) < 20:
        raise ValueError(f"At least 20 values are needed to test for uniformity; received shape {values.shape}.")
    if not np.all((values >= 0.0) & (values <= 1.0)):
        raise ValueError("Values to be tested for uniformity must lie between 0 and 1.")
    num = len(values)
    grid = np.arange(1, GRID) / GRID
    counts = np.searchsorted(np.sort(values), grid, side="right")
    smallest = _tail_probabilities(num)[np.arange(len(grid)), counts].min()
    p_value = (1.0 + np.sum(_smallest_simulated(num) <= smallest * (1.0 + 1e-9))) / (1.0 + NUM_SIMULATED)
    return Uniformity(grid, counts / num - grid, float(p_value))


def simultaneous_band(num: int, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper limits ``(k,)`` of the difference that :func:`uniformity` returns, all points together.

    Args:
        num: number of values.
        level: probability with which uniform values leave the band anywhere; at least 1 / 2000, to be simulated.

    Raises:
        ValueError: for a level outside ``(1 / 2000, 1)``.
    """
    from scipy.stats import binom

    if not 1.0 / 2000.0 <= level < 1.0:
        raise ValueError(f"level must be at least 1/2000 and below 1; received {level}.")
    grid = np.arange(1, GRID) / GRID
    pointwise = np.quantile(_smallest_simulated(num), level)
    lower, upper = binom.ppf(0.5 * pointwise, num, grid), binom.isf(0.5 * pointwise, num, grid)
    return lower / num - grid, upper / num - grid


@lru_cache(maxsize=8)
def _tail_probabilities(num: int) -> np.ndarray:
    """Two-sided binomial tail probability of every count, ``(k, num + 1)``."""
    from scipy.stats import binom

    grid, counts = np.arange(1, GRID)[:, None] / GRID, np.arange(num + 1)[None]
    return np.minimum(1.0, 2.0 * np.minimum(binom.cdf(counts, num, grid), binom.sf(counts - 1, num, grid)))


@lru_cache(maxsize=8)
def _smallest_simulated(num: int) -> np.ndarray:
    """The smallest tail probability along the grid of uniform samples of this size, ``(NUM_SIMULATED,)``, sorted."""
    generator, tails = np.random.default_rng(num), _tail_probabilities(num)
    columns, smallest = np.arange(GRID - 1), np.empty(NUM_SIMULATED)
    for first in range(0, NUM_SIMULATED, 1000):
        bins = generator.multinomial(num, np.full(GRID, 1.0 / GRID), size=1000)
        counts = np.cumsum(bins, axis=1)[:, :-1]
        smallest[first : first + 1000] = tails[columns, counts].min(axis=1)
    return np.sort(smallest)


def fractional_ranks(truth: np.ndarray, draws: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Ranks of the truth among draws, ``(num, dim)``, spread to (0, 1): exactly uniform if it is one of them.

    Args:
        truth: ``(num, dim)``, what generated each data set.
        draws: ``(num, num_draws, dim)``, of its posterior, independent.
        generator: breaks ties, and spreads a rank over its interval.

    Raises:
        ValueError: for shapes that don't agree.
    """
    truth, draws = np.asarray(truth), np.asarray(draws)
    if draws.ndim != 3 or truth.shape != (draws.shape[0], draws.shape[2]):
        raise ValueError(
            f"truth must have shape (num, dim), draws (num, num_draws, dim); received {truth.shape} and {draws.shape}."
        )
    below = np.sum(draws < truth[:, None], axis=1)
    ties = np.sum(draws == truth[:, None], axis=1)
    return (below + generator.uniform(size=truth.shape) * (ties + 1.0)) / (draws.shape[1] + 1.0)


def central_coverage(ranks: np.ndarray) -> np.ndarray:
    """Probability of the smallest central interval that holds the truth, from its fractional ranks, any shape."""
    return np.abs(2.0 * np.asarray(ranks) - 1.0)


def tarp_ranks(truth: np.ndarray, draws: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Share of the draws that lie nearer to a random point than the truth does, ``(num,)`` (Lemos et al., 2023).

    The point is the truth of another data set, so that it knows nothing of this one; distances are in coordinates
    standardized by the spread of truths.

    Args:
        truth, draws, generator: see :func:`fractional_ranks`.
    """
    truth, draws = np.asarray(truth, np.float64), np.asarray(draws, np.float64)
    num = len(truth)
    others = (np.arange(num) + 1 + generator.integers(num - 1, size=num)) % num
    scale = truth.std(axis=0) + 1e-12
    points = truth[others]
    to_truth = np.sum(((truth - points) / scale) ** 2, axis=1)
    to_draws = np.sum(((draws - points[:, None]) / scale) ** 2, axis=2)
    return fractional_ranks(to_truth[:, None], to_draws[:, :, None], generator)[:, 0]


@dataclass(frozen=True)
class SymmetricDivergence:
    """Average error of posteriors over simulated data, in nats, without a reference.

    As the truth is an exact posterior draw, ``E_p[log w] - E_q[log w] = KL(p|q) + KL(q|p)`` for weights ``w`` of log
    joint over density, averaged over data sets. It says nothing of a single one.

    Attributes:
        value, error: the sum of both divergences, averaged, and its standard error.
        log_evidence_below, log_evidence_above: averages of ``E_q[log w]`` and ``E_p[log w]``, between which the average
            log evidence lies.
        error_below, error_above: their standard errors, most of which is the variation of data sets that both share.
        num_datasets: averaged over.
    """

    value: float
    error: float
    log_evidence_below: float
    error_below: float
    log_evidence_above: float
    error_above: float
    num_datasets: int


def symmetric_divergence(at_truth: np.ndarray, at_draws: np.ndarray) -> SymmetricDivergence:
    """From log weights at the truth ``(num,)`` and at draws ``(num, num_draws)``.

    Raises:
        ValueError: for other shapes, or fewer than two data sets.
    """
    at_truth, at_draws = np.asarray(at_truth, np.float64), np.asarray(at_draws, np.float64)
    if at_truth.ndim != 1 or at_draws.ndim != 2 or len(at_truth) != len(at_draws) or len(at_truth) < 2:
        raise ValueError(
            "Log weights must have shapes (num,) at truths and (num, num_draws) at draws, of at least two data sets; "
            f"received {at_truth.shape} and {at_draws.shape}."
        )
    below = at_draws.mean(axis=1)

    def average(values: np.ndarray) -> tuple[float, float]:
        return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))

    return SymmetricDivergence(*average(at_truth - below), *average(below), *average(at_truth), len(below))
