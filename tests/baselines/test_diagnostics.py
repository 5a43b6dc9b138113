"""Health of chains with known faults and known autocorrelation."""

from __future__ import annotations

import numpy as np
import pytest

from icl_bayes.baselines.diagnostics import (
    ChainLimits,
    chain_health,
    halves_disagreement,
    judge_chains,
    thinned_efficiency,
)


@pytest.fixture
def iid() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(4, 1000, 3))


def autoregressive(correlation: float, num_chains: int = 4, length: int = 8000) -> np.ndarray:
    generator = np.random.default_rng(1)
    chains = np.empty((num_chains, length, 1))
    state = generator.normal(size=(num_chains, 1))
    for i in range(length):
        state = correlation * state + np.sqrt(1.0 - correlation**2) * generator.normal(size=state.shape)
        chains[:, i] = state
    return chains


def judge(chains: np.ndarray, diverging: np.ndarray | None = None) -> tuple[list[str], list[str]]:
    diverging = np.zeros(chains.shape[:2], bool) if diverging is None else diverging
    return judge_chains(chain_health(chains, diverging), ChainLimits())


def test_independent_draws_are_healthy(iid: np.ndarray) -> None:
    assert judge(iid) == ([], [])


@pytest.mark.parametrize(
    ("fault", "expected"),
    [("shifted", "not mixed"), ("constant", "not mixed"), ("drift", "not mixed"), ("nan", "not mixed")],
)
def test_faulty_chains_fail(iid: np.ndarray, fault: str, expected: str) -> None:
    chains = iid.copy()
    if fault == "shifted":
        chains[0, :, 1] += 2.0
    elif fault == "constant":
        chains[2] = 0.3
    elif fault == "drift":
        chains = chains[:1] + np.linspace(0.0, 4.0, 1000)[:, None]  # a single chain is compared with itself
    else:
        chains[1, 5, 0] = np.nan
    failures, _ = judge(chains)
    assert any(expected in failure for failure in failures)


def test_divergences_warn_and_then_fail(iid: np.ndarray) -> None:
    diverging = np.zeros(iid.shape[:2], bool)
    diverging[0, :20] = True  # 0.5 %
    assert judge(iid, diverging) == ([], ["divergent transitions: 0.50% (limit 0.10%)"])
    diverging[0] = True
    assert any("divergent" in failure for failure in judge(iid, diverging)[0])


def test_slow_chains_have_few_effective_draws() -> None:
    failures, warnings = judge(autoregressive(0.995, num_chains=1, length=2000))
    assert any("effective draws" in text for text in failures + warnings)


def test_too_few_draws_cannot_be_judged() -> None:
    _, warnings = judge(np.zeros((1, 3, 2)))
    assert warnings[0] == "too few draws per chain to check convergence"


@pytest.mark.parametrize("thinning", [1, 3, 10])
def test_thinned_efficiency_of_an_autoregressive_chain(thinning: int) -> None:
    correlation = 0.8**thinning
    expected = (1.0 - correlation) / (1.0 + correlation)
    assert thinned_efficiency(autoregressive(0.8), thinning) == pytest.approx(expected, abs=0.1 * max(expected, 0.3))


def test_halves_agree_or_not(iid: np.ndarray) -> None:
    assert halves_disagreement(iid) < 4.0
    shifted, wider = iid.copy(), iid.copy()
    shifted[:2, :, 2] += 0.3
    wider[:2, :, 0] *= 1.3
    assert halves_disagreement(shifted) > 4.5
    assert halves_disagreement(wider) > 4.5
    assert halves_disagreement(autoregressive(0.9)) < 4.0  # dependence enters the standard errors
    with pytest.raises(ValueError, match="at least 4 chains; received 2"):
        halves_disagreement(iid[:2])
