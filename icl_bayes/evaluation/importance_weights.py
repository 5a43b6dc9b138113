"""What importance weights say of the draws that they belong to: Pareto's k, effective size, evidence, distance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_MIN_TAIL = 5
MIN_DRAWS = 4 * _MIN_TAIL
_EQUAL = 1e-3
"""Of the largest weight: what others may fall short of it and count as equal. Single precision knows no better."""

_ROUNDING = 1e-5
"""Of the smallest weight in the tail: how far above it others count as equal. A law fitted to ties has any shape."""


@dataclass(frozen=True)
class WeightReport:
    """Of the weights ``w = p / q`` of draws from q, p known up to its evidence.

    Attributes:
        khat: shape of the generalized Pareto law fitted to the largest weights (Vehtari et al., 2024); from 0.7 on
            nothing that rests on the weights can be relied on. Infinite if a weight is not a number.
        ess: effective number of draws after reweighting.
        log_evidence, log_evidence_error: log of the mean weight, and its standard error by the delta method.
        var_log_weight: variance of the log weights, nats squared.
        total_variation: estimate of the distance of q from p, half the mean of ``|w / mean w - 1|``. The best
            classifier tells draws of both apart with accuracy ``0.5 + total_variation / 2``.
        log_weights: ``(num_draws,)``, smoothed and normalized to sum to one.
    """

    khat: float
    ess: float
    log_evidence: float
    log_evidence_error: float
    var_log_weight: float
    total_variation: float
    log_weights: np.ndarray


def report_weights(log_weights: np.ndarray) -> WeightReport:
    """Pareto smoothed importance sampling of unnormalized log weights ``(num_draws,)``.

    Raises:
        ValueError: for fewer than 20 draws, whose tail is too short to fit.
    """
    raw = np.asarray(log_weights, np.float64)
    if raw.ndim != 1 or len(raw) < MIN_DRAWS:
        raise ValueError(f"Weights of at least {MIN_DRAWS} draws are needed; received shape {raw.shape}.")
    # A draw where the target vanishes has weight zero; one where it is infinite makes all others void.
    if np.isnan(raw).any() or np.isposinf(raw).any() or not np.isfinite(raw).any():
        nothing = np.full(len(raw), -np.log(len(raw)))
        return WeightReport(np.inf, 1.0, np.nan, np.inf, np.inf, 1.0, nothing)
    smoothed, khat = smooth(raw)
    top = smoothed.max()
    weights = np.exp(smoothed - top)
    mean = weights.mean()
    relative = weights / mean
    error = float(relative.std(ddof=1) / np.sqrt(len(raw)))
    finite = raw[np.isfinite(raw)]
    return WeightReport(
        khat=khat,
        ess=float(len(raw) / np.mean(relative**2)),
        log_evidence=float(top + np.log(mean)),
        log_evidence_error=error,
        var_log_weight=float(np.var(finite)) if len(finite) == len(raw) else np.inf,
        total_variation=float(0.5 * np.mean(np.abs(relative - 1.0))),
        log_weights=smoothed - top - np.log(weights.sum()),
    )


def smooth(log_weights: np.ndarray) -> tuple[np.ndarray, float]:
    """Log weights whose largest ones are replaced by quantiles of a generalized Pareto law, and its shape k.

    None is raised above the largest one (Vehtari, Simpson, Gelman, Yao and Gabry, 2024, algorithm 1). Weights that
    hardly differ need no smoothing: k is then minus infinity.
    """
    num = len(log_weights)
    size = int(np.ceil(min(0.2 * num, 3.0 * np.sqrt(num))))
    order = np.argsort(log_weights, kind="stable")
    tail = order[-size:]
    top, cutoff = log_weights[tail[-1]], log_weights[order[-size - 1]]
    at_cutoff = np.exp(cutoff - top)
    excesses = np.exp(log_weights[tail] - top) - at_cutoff
    if size < _MIN_TAIL or excesses[-1] <= _EQUAL:
        return log_weights.copy(), -np.inf
    k, sigma = fit_pareto(np.maximum(excesses, max(_ROUNDING * at_cutoff, 1e-300)))
    smoothed = log_weights.copy()
    if np.isfinite(k):
        p = (np.arange(size) + 0.5) / size
        quantiles = -sigma * np.log1p(-p) if abs(k) < 1e-8 else sigma * np.expm1(-k * np.log1p(-p)) / k
        smoothed[tail] = np.minimum(top + np.log(at_cutoff + quantiles), top)
    return smoothed, float(k)


def fit_pareto(excesses: np.ndarray) -> tuple[float, float]:
    """Shape and scale of a generalized Pareto law, from sorted positive excesses.

    The profile posterior mean of Zhang and Stephens (2009), the shape then drawn towards 0.5 as by ten observations
    (Vehtari et al., 2024).
    """
    num = len(excesses)
    num_points = 30 + int(np.sqrt(num))
    quartile = excesses[int(num / 4.0 + 0.5) - 1]
    grid = 1.0 - np.sqrt(num_points / (np.arange(1, num_points + 1) - 0.5))
    theta = 1.0 / excesses[-1] + grid / (3.0 * quartile)
    shapes = np.mean(np.log1p(-theta[:, None] * excesses), axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        profile = num * (np.log(-theta / shapes) - shapes - 1.0)
    profile = np.where(np.isfinite(profile), profile, -np.inf)
    weights = np.exp(profile - profile.max())
    chosen = float(np.sum(theta * weights) / weights.sum())
    k = float(np.mean(np.log1p(-chosen * excesses)))
    sigma = -k / chosen
    return (k * num + 10.0 * 0.5) / (num + 10.0), sigma
