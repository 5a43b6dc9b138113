"""Calibration tests pass exact posteriors and fail wrong ones, at the rates that they state."""

from __future__ import annotations

import numpy as np
import pytest

from icl_bayes.evaluation.calibration import (
    central_coverage,
    fractional_ranks,
    simultaneous_band,
    symmetric_divergence,
    tarp_ranks,
    uniformity,
)

NUM, NUM_DRAWS, DIM = 2000, 100, 3
NOISE = 0.6


def conjugate(generator: np.random.Generator, narrow: float = 1.0, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Truths from N(0, 1), data from N(theta, NOISE^2), and draws of the posterior, perhaps distorted."""
    truth = generator.normal(size=(NUM, DIM))
    data = truth + NOISE * generator.normal(size=truth.shape)
    mean, sd = data / (1.0 + NOISE**2), NOISE / np.sqrt(1.0 + NOISE**2)
    draws = mean[:, None] + shift * sd + narrow * sd * generator.normal(size=(NUM, NUM_DRAWS, DIM))
    return truth, draws


def p_values(truth: np.ndarray, draws: np.ndarray) -> dict[str, float]:
    """The smallest of the coordinates, times their number, for every test."""
    generator = np.random.default_rng(1)
    ranks = fractional_ranks(truth, draws, generator)
    return {
        "ranks": DIM * min(uniformity(one).p_value for one in ranks.T),
        "coverage": DIM * min(uniformity(one).p_value for one in central_coverage(ranks).T),
        "tarp": uniformity(tarp_ranks(truth, draws, generator)).p_value,
    }


def test_an_exact_posterior_passes() -> None:
    assert min(p_values(*conjugate(np.random.default_rng(0))).values()) > 0.01


@pytest.mark.parametrize(
    ("distortion", "failing"),
    [
        ({"narrow": 0.9}, ("ranks", "coverage", "tarp")),
        ({"shift": 0.2}, ("ranks",)),
        ({"narrow": 1.2}, ("coverage",)),
    ],
    ids=["ten percent too narrow", "a fifth of an sd off", "too wide"],
)
def test_a_wrong_posterior_fails(distortion: dict, failing: tuple[str, ...]) -> None:
    found = p_values(*conjugate(np.random.default_rng(0), **distortion))
    for name in failing:
        assert found[name] < 0.01, (name, found)


@pytest.mark.parametrize("num", [50, 400])
def test_false_alarms_are_as_rare_as_stated(num: int) -> None:
    generator = np.random.default_rng(3)
    repeats, level = 2000, 0.05
    lower, upper = simultaneous_band(num, level)
    alarms, outside = 0, 0
    for _ in range(repeats):
        found = uniformity(generator.uniform(size=num))
        alarms += found.p_value <= level
        outside += bool(np.any((found.difference < lower) | (found.difference > upper)))
    error = np.sqrt(level * (1.0 - level) / repeats)
    assert alarms / repeats < level + 3.0 * error
    assert alarms / repeats > 0.5 * level, "Counts are discrete, but not as much as that."
    assert outside / repeats < level + 3.0 * error
    assert outside / repeats > 0.4 * level


def test_ranks_break_ties_evenly() -> None:
    generator = np.random.default_rng(0)
    ranks = fractional_ranks(np.zeros((4000, 1)), np.zeros((4000, 9, 1)), generator)
    assert uniformity(ranks[:, 0]).p_value > 0.01
    extreme = fractional_ranks(np.full((5, 1), 9.0), np.zeros((5, 9, 1)), generator)
    assert np.all((extreme > 0.9) & (extreme <= 1.0))


def test_the_divergence_is_that_of_gaussians() -> None:
    """Posterior N(m, 1) against N(m + 0.3, 1.2^2): both divergences are known."""
    generator = np.random.default_rng(0)
    num, evidence = 4000, -7.0
    mean = generator.normal(size=num)

    def log_normal(x: np.ndarray, center: np.ndarray, sd: float) -> np.ndarray:
        return -0.5 * ((x - center) / sd) ** 2 - np.log(sd) - 0.5 * np.log(2.0 * np.pi)

    def log_weight(x: np.ndarray, center: np.ndarray) -> np.ndarray:
        return evidence + log_normal(x, center, 1.0) - log_normal(x, center + 0.3, 1.2)

    truth = mean + generator.normal(size=num)
    draws = mean[:, None] + 0.3 + 1.2 * generator.normal(size=(num, 50))
    found = symmetric_divergence(log_weight(truth, mean), log_weight(draws, mean[:, None]))
    forward = np.log(1.2) + (1.0 + 0.3**2) / (2.0 * 1.2**2) - 0.5
    backward = -np.log(1.2) + (1.2**2 + 0.3**2) / 2.0 - 0.5
    assert abs(found.value - (forward + backward)) < 4.0 * found.error
    assert found.error < 0.02
    assert found.log_evidence_below < evidence < found.log_evidence_above
    # The evidence is the same of all data sets here, so that errors are those of either divergence alone.
    assert abs(found.log_evidence_above - (evidence + forward)) < 4.0 * found.error_above
    assert abs(found.log_evidence_below - (evidence - backward)) < 4.0 * found.error_below
    assert max(found.error_above, found.error_below) < 0.02
    assert found.num_datasets == num


def test_wrong_shapes_are_refused() -> None:
    generator = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"received \(5, 2\) and \(5, 7, 3\)"):
        fractional_ranks(np.zeros((5, 2)), np.zeros((5, 7, 3)), generator)
    with pytest.raises(ValueError, match="At least 20 values"):
        uniformity(np.full(5, 0.5))
    with pytest.raises(ValueError, match="between 0 and 1"):
        uniformity(np.full(50, 1.5))
    with pytest.raises(ValueError, match="level must be"):
        simultaneous_band(100, 0.0)
    with pytest.raises(ValueError, match="Log weights must have shapes"):
        symmetric_divergence(np.zeros(3), np.zeros((2, 4)))
