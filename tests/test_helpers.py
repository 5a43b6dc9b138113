"""The shared assertion accepts correct draws of any shape and rejects wrong ones."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import assert_mean_within_mcse, effective_sample_size


def autoregressive(rng: np.random.Generator, correlation: float, shape: tuple[int, ...]) -> np.ndarray:
    """Chains ``(chain, draw)`` with standard normal margins and geometric autocorrelation."""
    noise = rng.normal(size=shape) * np.sqrt(1 - correlation**2)
    chains = np.empty(shape)
    chains[:, 0] = rng.normal(size=shape[0])
    for step in range(1, shape[1]):
        chains[:, step] = correlation * chains[:, step - 1] + noise[:, step]
    return chains


def test_independent_draws_pass_and_shifted_ones_fail():
    draws = np.random.default_rng(0).normal(size=(4000, 3, 2)) + np.arange(6.0).reshape(3, 2)
    expected = np.arange(6.0).reshape(3, 2)
    assert_mean_within_mcse(draws, expected)
    shifted = expected.copy()
    shifted[2, 1] += 0.12  # 7.6 standard errors of one component out of six
    with pytest.raises(AssertionError, match=r"mean\[2, 1\]"):
        assert_mean_within_mcse(draws, shifted)


def test_skewed_draws_show_a_wrong_sign():
    draws = np.random.default_rng(1).exponential(size=4000)
    assert_mean_within_mcse(draws, 1.0)
    with pytest.raises(AssertionError, match="expected -1"):
        assert_mean_within_mcse(draws, -1.0)


def test_dependent_draws_widen_the_tolerance_by_their_effective_number():
    correlation = 0.9
    chains = autoregressive(np.random.default_rng(2), correlation, (8, 5000))
    ess = effective_sample_size(chains)
    assert ess == pytest.approx(chains.size * (1 - correlation) / (1 + correlation), rel=0.25)
    naive = chains.std() / np.sqrt(chains.size)
    assert_mean_within_mcse(chains, chains.mean() + 6 * naive, has_chain_axis=True)
    with pytest.raises(AssertionError, match="standard errors"):
        assert_mean_within_mcse(chains, chains.mean() + 6 * 5 * naive, has_chain_axis=True)


def test_chains_that_disagree_or_drift_have_no_effective_draws():
    rng = np.random.default_rng(3)
    apart = rng.normal(size=(2, 1000)) + np.array([[-5.0], [5.0]])
    drifting = rng.normal(size=(1, 1000)) + np.linspace(-5, 5, 1000)
    assert effective_sample_size(apart) < 10
    assert effective_sample_size(drifting) < 10
    with pytest.raises(AssertionError, match="effective sample size"):
        assert_mean_within_mcse(apart, 0.0, has_chain_axis=True)


def test_constant_draws_must_equal_the_expectation():
    draws = np.full((200, 2), 0.1, np.float32)
    assert_mean_within_mcse(draws, [0.1, 0.1])
    with pytest.raises(AssertionError, match="mean"):
        assert_mean_within_mcse(draws, [0.1, 0.1001])
    stuck = np.repeat([[0.0], [1.0]], 500, axis=1)
    with pytest.raises(AssertionError, match="effective sample size 0"):
        assert_mean_within_mcse(stuck, 0.5, has_chain_axis=True)


def test_an_estimated_expectation_brings_its_own_error():
    draws = np.random.default_rng(4).normal(size=4000)
    far = draws.mean() + 0.3
    with pytest.raises(AssertionError):
        assert_mean_within_mcse(draws, far)
    assert_mean_within_mcse(draws, far, expected_se=0.1)


@pytest.mark.parametrize(
    ("draws", "expected", "error", "match"),
    [
        (np.zeros((100, 3)), np.zeros(2), ValueError, "can't be compared"),
        (np.zeros((5, 1)), np.zeros(1), ValueError, "at least 8 draws"),
        (np.array([np.nan, 1.0] * 50), 0.0, AssertionError, "not finite"),
        (np.random.default_rng(5).normal(size=50), 0.0, AssertionError, "below 100"),
    ],
)
def test_misuse_says_what_is_wrong(draws, expected, error, match):
    with pytest.raises(error, match=match):
        assert_mean_within_mcse(draws, expected)


def test_strict_rank_promotion_rejects_silent_broadcasting(strict_rank_promotion):
    import jax.numpy as jnp

    with pytest.raises(ValueError, match="rank_promotion"):
        jnp.ones((4,)) + jnp.ones((4, 1))
