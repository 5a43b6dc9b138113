"""Health of Markov chains: R-hat, effective sample size, divergences, in numbers and in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpyro.diagnostics import autocorrelation, effective_sample_size, split_gelman_rubin

_FAILED_R_HAT = 1.1
_FAILED_DIVERGENCES = 0.05
_FAILED_ESS = 10.0


@dataclass(frozen=True)
class ChainLimits:
    """What chains must meet to be called healthy.

    Attributes:
        r_hat: largest split R-hat of any coordinate.
        ess: smallest effective sample size of any coordinate, over all chains.
        divergences: largest share of divergent transitions.
    """

    r_hat: float = 1.01
    ess: float = 100.0
    divergences: float = 1e-3


def chain_health(chains: Any, diverging: Any) -> dict[str, float]:
    """Worst R-hat and effective sample size over coordinates, and the share of divergences.

    Args:
        chains: ``(chain, draw, dim)``; one chain is compared with itself, split in halves.
        diverging: ``(chain, draw)`` boolean.
    """
    if not np.isfinite(chains).all():
        return {"r_hat": np.inf, "ess": 0.0, "divergences": float(np.mean(diverging))}
    chains = np.asarray(chains, np.float64)
    if chains.shape[1] < 4:
        return {"r_hat": np.nan, "ess": float(chains.shape[0]), "divergences": float(np.mean(diverging))}
    moved = np.all(np.ptp(chains, axis=1) > 0)
    return {
        "r_hat": float(np.max(split_gelman_rubin(chains))) if moved else np.inf,
        "ess": float(np.min(effective_sample_size(chains))) if moved else 0.0,
        "divergences": float(np.mean(diverging)),
    }


def judge_chains(health: dict[str, float], limits: ChainLimits) -> tuple[list[str], list[str]]:
    """Failures and warnings, in words, of what :func:`chain_health` found."""
    failures, warnings = [], []
    r_hat, ess, divergences = health["r_hat"], health["ess"], health["divergences"]
    if np.isnan(r_hat):
        warnings.append("too few draws per chain to check convergence")
    elif r_hat > limits.r_hat:
        worse = failures if r_hat > _FAILED_R_HAT else warnings
        worse.append(f"chains have not mixed: R-hat {r_hat:.3f} (limit {limits.r_hat:g})")
    if ess < limits.ess:
        worse = failures if ess < _FAILED_ESS else warnings
        worse.append(f"few effective draws: {ess:.0f} (limit {limits.ess:.0f})")
    if divergences > limits.divergences:
        worse = failures if divergences > _FAILED_DIVERGENCES else warnings
        worse.append(f"divergent transitions: {divergences:.2%} (limit {limits.divergences:.2%})")
    return failures, warnings


def thinned_efficiency(chains: np.ndarray, thinning: int) -> float:
    """Effective draws per draw kept when every ``thinning``-th is kept, worst coordinate.

    Reads the autocorrelation at multiples of ``thinning`` from all draws: far less noisy than
    the effective sample size of the draws kept.

    Args:
        chains: ``(chain, draw, dim)``, before thinning.
    """
    chains = np.asarray(chains, np.float64)
    correlation = np.mean([autocorrelation(chain, axis=0, bias=True) for chain in chains], axis=0)
    lags = correlation[thinning : chains.shape[1] // 2 : thinning]
    # As in Geyer's rule, the sum stops where the correlation is lost in its own noise.
    noise = 2.0 / np.sqrt(chains.shape[0] * chains.shape[1])
    counted = np.logical_and.accumulate(lags > noise, axis=0)
    return float(np.min(1.0 / (1.0 + 2.0 * np.sum(lags * counted, axis=0))))


def halves_disagreement(chains: np.ndarray) -> float:
    """Largest z-score between two halves of the chains, over coordinates, of mean and variance.

    The first half of the chains is compared with the second; standard errors come from the
    effective sample sizes of values and squares. About 3 is expected of a dozen comparisons.
    """
    chains = np.asarray(chains, np.float64)
    if chains.shape[0] < 4 or chains.shape[0] % 2:
        raise ValueError(f"Comparing halves needs an even number of at least 4 chains; received {chains.shape[0]}.")
    centred = chains - chains.mean(axis=(0, 1))
    scores = []
    for values in (centred, centred**2):
        first, second = np.split(values, 2, axis=0)
        error = sum(half.var(axis=(0, 1)) / effective_sample_size(half) for half in (first, second))
        scores.append(np.abs(first.mean(axis=(0, 1)) - second.mean(axis=(0, 1))) / np.sqrt(error))
    return float(np.max(scores))
