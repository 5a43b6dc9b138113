"""Convergence checks on chains whose autocorrelation is known, and on chains that must fail."""

from __future__ import annotations

import numpy as np
import pytest

from icl_bayes.evaluation.diagnostics import bulk_ess, ess, moment_differences, split_r_hat, thin_to_independent


def autoregressive(seed: int, coefficient: float, chains: int = 4, length: int = 2000, dim: int = 2) -> np.ndarray:
    """Stationary AR(1) chains with standard normal marginals, ``(chain, draw, dim)``."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(chains, length, dim)) * np.sqrt(1 - coefficient**2)
    values = np.empty_like(noise)
    values[:, 0] = rng.normal(size=(chains, dim))
    for step in range(1, length):
        values[:, step] = coefficient * values[:, step - 1] + noise[:, step]
    return values


def test_r_hat_passes_agreement_and_catches_disagreement():
    good = autoregressive(0, 0.3)
    assert np.all(split_r_hat(good) < 1.01)
    one_elsewhere = good + np.array([0.0, 0.0, 0.0, 1.0])[:, None, None] * np.array([1.0, 0.0])
    values = split_r_hat(one_elsewhere)
    assert values[0] > 1.05
    assert values[1] < 1.01
    drifting = good[:1] + np.linspace(0, 2, good.shape[1])[None, :, None]
    assert np.all(split_r_hat(drifting) > 1.05)


def test_r_hat_sees_different_spread_through_heavy_tails():
    rng = np.random.default_rng(1)
    cauchy = rng.standard_cauchy(size=(4, 2000, 1))
    cauchy[3] += 2.0  # lost in the variance of the plain statistic
    assert split_r_hat(cauchy)[0] > 1.05


def test_constant_coordinate_never_counts_as_converged():
    chains = autoregressive(0, 0.0)
    chains[..., 1] = 2.5
    assert split_r_hat(chains)[1] == np.inf
    assert ess(chains)[1] == 0.0
    assert bulk_ess(chains)[1] == 0.0
    assert bulk_ess(chains)[0] > 0.0


@pytest.mark.parametrize("coefficient", [0.0, 0.5, 0.9])
def test_ess_of_autoregressive_chains(coefficient):
    chains = autoregressive(2, coefficient, length=5000, dim=4)
    expected = chains.shape[0] * chains.shape[1] * (1 - coefficient) / (1 + coefficient)
    # The estimator's own spread: about sqrt(2 x window / N) with a window of a few correlation lengths.
    spread = 4 * np.sqrt(8 / (1 - coefficient) / (chains.shape[0] * chains.shape[1]))
    for values in (ess(chains), bulk_ess(chains)):
        assert np.all(np.abs(values / expected - 1) < spread)


def test_thinning_keeps_few_correlated_and_all_independent_draws():
    independent = thin_to_independent(autoregressive(3, 0.0))
    assert independent.stride <= 2  # the estimate itself varies about 1
    chains = autoregressive(4, 0.8)
    thinned = thin_to_independent(chains)
    # Lag k has correlation 0.8^k, and k draws apart (1 - r) / (1 + r) >= 0.9 needs r <= 0.053, so k near 13;
    # estimation error lets it stop a little earlier.
    assert 6 <= thinned.stride <= 20
    assert thinned.ess >= 0.9 * len(thinned.draws)
    np.testing.assert_array_equal(thinned.draws, chains.reshape(-1, 2)[thinned.indices])


def test_thinning_notices_alternating_chains():
    # Sign flips make the mean better than independent while the spread mixes slowly.
    sign = np.where(np.arange(4000) % 2, 1.0, -1.0)[None, :, None]
    chains = np.abs(autoregressive(5, 0.95, length=4000, dim=1)) * sign
    assert ess(chains)[0] > 0.9 * chains.shape[0] * chains.shape[1]
    assert thin_to_independent(chains).stride > 5


def test_thinning_refuses_chains_that_are_too_short():
    with pytest.raises(ValueError, match="Run longer chains"):
        thin_to_independent(autoregressive(6, 0.99, length=300), min_draws=200)


def test_moment_differences_at_both_ends():
    rng = np.random.default_rng(7)
    reference = rng.gamma(2.0, size=(2000, 5))
    same = moment_differences(rng.gamma(2.0, size=(1500, 5)), reference)
    assert same.largest_z < 4.0  # ten near-normal statistics
    np.testing.assert_allclose(same.sd_ratio, 1.0, atol=0.15)
    shifted = moment_differences(rng.gamma(2.0, size=(1500, 5)) + np.array([0.5, 0, 0, 0, 0]), reference)
    assert shifted.mean_z[0] > 5.0
    assert np.abs(shifted.mean_z[1:]).max() < 4.0
    assert shifted.mean_shift[0] == pytest.approx(0.5 / np.sqrt(2.0), abs=0.15)
    wider = moment_differences(rng.gamma(2.0, size=(1500, 5)) * 1.5, reference)
    assert np.all(wider.sd_z > 4.0)
    few = moment_differences(rng.gamma(2.0, size=(1500, 5)) + 0.5, reference, draws_ess=10.0)
    assert few.largest_z < shifted.mean_z[0]


MISUSE = [
    (lambda: split_r_hat(np.zeros((10, 2))), r"\(chain, draw, dim\).*\(10, 2\)"),
    (lambda: ess(np.zeros((2, 3, 1))), "at least 4 draws each; received 3"),
    (lambda: bulk_ess(np.full((2, 8, 1), np.nan)), "NaN or infinite"),
    (lambda: moment_differences(np.zeros((5, 2)), np.zeros((5, 3))), "same dim"),
    (lambda: moment_differences(np.zeros((5, 2)), np.ones((5, 2))), "constant"),
]


@pytest.mark.parametrize(("call", "match"), MISUSE)
def test_misuse_is_named(call, match):
    with pytest.raises(ValueError, match=match):
        call()
