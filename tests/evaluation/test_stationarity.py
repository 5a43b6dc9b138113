"""Drift and memory of chains, on autoregressions whose bias after any number of moves is known."""

from __future__ import annotations

import numpy as np
import pytest

from icl_bayes.evaluation.stationarity import mean_distance, smooth_features, stationarity

NUM, MOVES = 1000, 5


def autoregression(
    generator: np.random.Generator, rho: np.ndarray, shift: float, width: float = 1.0
) -> list[np.ndarray]:
    """States ``(NUM, k)`` at the start, after 5 and after 10 moves, of chains that end at standard normal laws."""
    state = shift + generator.normal(size=(NUM, len(rho)))
    states = [state]
    for _ in range(2):
        for _ in range(MOVES):
            state = rho * state + np.sqrt(1.0 - rho**2) * generator.normal(size=state.shape)
        states.append(state)
    return states


@pytest.mark.parametrize("rho", [0.3, 0.8, 0.95])
def test_exact_draws_do_not_drift(rho: float) -> None:
    alarms = sum(
        stationarity(*autoregression(np.random.default_rng(seed), np.full(20, rho), 0.0)).is_drifting
        for seed in range(200)
    )
    assert alarms <= 1


def test_whitening_by_some_of_the_draws_alone_would_look_like_drift() -> None:
    """Of two dozen dimensions: draws that set the scales have smaller squares than others of the same law."""
    alarms = {"all": 0, "the last": 0}
    for seed in range(50):
        states = autoregression(np.random.default_rng(seed), np.full(24, 0.6), 0.0)
        heights = [-0.5 * np.sum(state**2, axis=1) for state in states]
        for name, like in (("all", np.concatenate(states)), ("the last", states[-1])):
            pairs = zip(states, heights, strict=True)
            found = stationarity(*(smooth_features(state, height, like=like) for state, height in pairs))
            alarms[name] += found.is_drifting
    assert alarms["all"] == 0
    assert alarms["the last"] > 25


@pytest.mark.parametrize("rho", [0.6, 0.8, 0.9, 0.97])
@pytest.mark.parametrize("shift", [0.0, 0.3, 1.0])
def test_the_bias_that_is_left_is_bounded(rho: float, shift: float) -> None:
    """The largest of ten features, each of which keeps ``shift * rho**10``."""
    true = shift * rho ** (2 * MOVES)
    bounds = [
        stationarity(*autoregression(np.random.default_rng(seed), np.full(10, rho), shift)).left for seed in range(100)
    ]
    assert np.mean(np.asarray(bounds) >= true) >= 0.95
    memory = rho ** (2 * MOVES) + 0.03  # as it is estimated
    assert np.median(bounds) <= 3.0 * true + 0.3 * memory / (1.0 - memory), "and not by much"


def test_memory_is_the_correlation_with_the_start() -> None:
    found = stationarity(*autoregression(np.random.default_rng(0), np.array([0.2, 0.95]), 0.5))
    assert found.memory == pytest.approx(0.95 ** (2 * MOVES), abs=0.05)
    assert found.drift == pytest.approx(0.5, abs=0.1)


def test_what_does_not_mix_is_noticed() -> None:
    generator = np.random.default_rng(0)
    stuck = generator.normal(size=(NUM, 3))
    assert stationarity(stuck, stuck, stuck).left > 1.0, "No drift, but nothing forgotten either."
    # Two modes that chains do not cross; within each they mix at once.
    mode = np.where(generator.uniform(size=(NUM, 1)) < 0.3, 4.0, -4.0)
    apart = [mode + generator.normal(size=(NUM, 1)) for _ in range(3)]
    assert stationarity(*apart).left > 0.3
    late = [stuck, stuck, stuck + 0.2]
    assert stationarity(*late).is_drifting
    assert stationarity(stuck, stuck, np.where(stuck > 3.0, np.nan, stuck)).is_drifting


def test_features_see_shifts_widths_and_correlations() -> None:
    generator = np.random.default_rng(1)
    root = np.linalg.cholesky(np.array([[1.0, 0.9], [0.9, 1.0]]))
    exact, other = generator.normal(size=(4000, 2)) @ root.T, generator.normal(size=(4000, 2)) @ root.T
    height = np.zeros(4000)
    features = smooth_features(exact, height, like=exact)
    assert features.shape == (4000, 9)
    assert mean_distance(features, smooth_features(other, height, like=exact)) < 0.1
    wrong = {
        "shifted": other + np.array([0.0, 0.3]),
        "too wide": 1.2 * other,
        "uncorrelated": generator.normal(size=(4000, 2)),
    }
    for name, draws in wrong.items():
        assert mean_distance(features, smooth_features(draws, height, like=exact)) > 0.25, name


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 20 chains"):
        stationarity(*[np.zeros((5, 2))] * 3)
