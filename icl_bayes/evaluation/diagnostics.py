"""Checks that a set of draws must pass before anything is measured against it.

Chains have shape ``(chain, draw, dim)`` in compared, constrained units. The convergence
statistics are NumPyro's, applied as recommended today: on split chains, and after rank
normalisation for the bulk effective sample size, so that heavy tails can't hide a problem.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


def _as_chains(chains: np.ndarray, at_least: int = 4) -> np.ndarray:
    chains = np.asarray(chains, dtype=np.float64)
    if chains.ndim != 3:
        raise ValueError(f"chains must have shape (chain, draw, dim); received shape {chains.shape}.")
    if chains.shape[1] < at_least:
        raise ValueError(f"chains need at least {at_least} draws each; received {chains.shape[1]}.")
    if not np.isfinite(chains).all():
        raise ValueError("chains hold NaN or infinite values; discard the run or reparameterise the model.")
    return chains


def _split(chains: np.ndarray) -> np.ndarray:
    half = chains.shape[1] // 2
    return np.concatenate([chains[:, :half], chains[:, -half:]])


def _rank_normalise(chains: np.ndarray) -> np.ndarray:
    from scipy.special import ndtri
    from scipy.stats import rankdata

    flat = chains.reshape(-1, chains.shape[-1])
    ranks = rankdata(flat, axis=0)
    return ndtri((ranks - 0.375) / (len(flat) + 0.25)).reshape(chains.shape)


def _constant(chains: np.ndarray) -> np.ndarray:
    return np.ptp(chains, axis=(0, 1)) == 0.0


def split_r_hat(chains: np.ndarray) -> np.ndarray:
    """Split R-hat, ``(dim,)``; the larger of the plain and the rank-normalised statistic.

    Near 1 when chains agree. A coordinate that never moves gives ``inf``: it has not been sampled.
    """
    from numpyro.diagnostics import split_gelman_rubin

    chains = _as_chains(chains)
    with np.errstate(divide="ignore", invalid="ignore"):
        values = np.maximum(split_gelman_rubin(chains), split_gelman_rubin(_rank_normalise(chains)))
    # One chain that is stuck has no variance within; numpyro then divides by zero.
    return np.where(_constant(chains) | np.isnan(values), np.inf, values)


def ess(chains: np.ndarray) -> np.ndarray:
    """Effective sample size of the mean, ``(dim,)``, on split chains; zero for a constant coordinate.

    Antithetic chains may exceed the number of draws N; values are capped at N log10 N, as Stan does.
    """
    from numpyro.diagnostics import effective_sample_size

    chains = _as_chains(chains)
    with np.errstate(divide="ignore", invalid="ignore"):
        values = np.asarray(effective_sample_size(_split(chains)))
    # In strongly antithetic chains the estimated autocorrelation time drops to zero or below it,
    # and NumPyro's quotient then changes sign.
    size = chains.shape[0] * chains.shape[1]
    cap = size * np.log10(size)
    values = np.where(np.isnan(values), 0.0, np.where(values < 0.0, cap, np.minimum(values, cap)))
    return np.where(_constant(chains), 0.0, values)


def bulk_ess(chains: np.ndarray) -> np.ndarray:
    """Rank-normalised effective sample size on split chains, ``(dim,)``: meaningful without moments."""
    constant = _constant(_as_chains(chains))
    return np.where(constant, 0.0, ess(_rank_normalise(_as_chains(chains))))


@dataclass(frozen=True)
class IndependentDraws:
    """Near-independent draws left after thinning.

    Attributes:
        draws: ``(num_draws, dim)``, chain after chain.
        indices: ``(num_draws,)`` positions of the draws kept, counted through the chains one
            after the other, so that other sites of the same run can be thinned alike.
        stride: every ``stride``-th draw of each chain was kept.
        ess: smallest bulk effective sample size over coordinates and their squared deviations.
    """

    draws: np.ndarray
    indices: np.ndarray
    stride: int
    ess: float


def thin_to_independent(
    chains: np.ndarray, *, min_ratio: float = 0.9, min_draws: int = 100, max_stride: int | None = None
) -> IndependentDraws:
    """Thin chains by the smallest stride at which draws are nearly independent.

    Nearly independent means an effective sample size of at least ``min_ratio`` times the
    number kept, in every coordinate and for its squared deviation from the median as well:
    chains that alternate about the centre look better than independent on the mean alone.

    Args:
        chains: ``(chain, draw, dim)``.
        min_ratio: required ratio of effective to kept draws.
        min_draws: fewest draws worth returning.
        max_stride: largest stride tried; by default as far as ``min_draws`` allows.

    Raises:
        ValueError: if no stride gives ``min_draws`` near-independent draws; run longer chains.
    """
    chains = _as_chains(chains)
    num_chains, length, dim = chains.shape
    centred = chains - np.median(chains, axis=(0, 1))
    both = np.concatenate([chains, centred**2], axis=-1)
    positions = np.arange(num_chains * length).reshape(num_chains, length)
    best = 0.0
    for stride in range(1, (max_stride or length) + 1):
        kept = both[:, ::stride]
        count = num_chains * kept.shape[1]
        if count < min_draws or kept.shape[1] < 4:
            break
        smallest = float(bulk_ess(kept).min())
        best = max(best, smallest / count)
        if smallest >= min_ratio * count:
            return IndependentDraws(
                draws=kept[..., :dim].reshape(count, dim),
                indices=positions[:, ::stride].reshape(count),
                stride=stride,
                ess=smallest,
            )
    raise ValueError(
        f"No thinning of {num_chains} chains of {length} draws leaves {min_draws} near-independent ones: "
        f"the best ratio of effective to kept draws was {best:.2f}, {min_ratio} is asked for. Run longer chains."
    )


@dataclass(frozen=True)
class MomentDifferences:
    """How far the first two moments of two independent sets lie apart, per coordinate ``(dim,)``.

    Attributes:
        mean_shift: difference of means in units of the reference's standard deviation.
        mean_z: difference of means in Monte Carlo standard errors.
        sd_ratio: standard deviation of the draws over that of the reference.
        sd_z: difference of log standard deviations in Monte Carlo standard errors.
    """

    mean_shift: np.ndarray
    mean_z: np.ndarray
    sd_ratio: np.ndarray
    sd_z: np.ndarray

    @property
    def largest_z(self) -> float:
        """Largest absolute deviation in standard errors; about 3 at most when the laws agree."""
        return float(max(np.abs(self.mean_z).max(), np.abs(self.sd_z).max()))


def _log_sd_error(values: np.ndarray, size: float) -> np.ndarray:
    """Standard error of the log standard deviation; by the fourth moment, so heavy tails count."""
    centred = values - values.mean(axis=0)
    kurtosis = np.mean(centred**4, axis=0) / np.mean(centred**2, axis=0) ** 2
    return np.sqrt(np.maximum(kurtosis - 1.0, 0.0) / (4.0 * size))


def moment_differences(
    draws: np.ndarray,
    reference: np.ndarray,
    *,
    draws_ess: float | None = None,
    reference_ess: float | None = None,
) -> MomentDifferences:
    """Compare means and standard deviations of two independent sets of draws.

    Args:
        draws: ``(num_draws, dim)``.
        reference: ``(num_reference, dim)``.
        draws_ess: effective size of ``draws``; the number of rows when independent.
        reference_ess: the same of ``reference``.

    Raises:
        ValueError: on shapes that don't agree or a coordinate that never moves.
    """
    draws, reference = np.asarray(draws, np.float64), np.asarray(reference, np.float64)
    if draws.ndim != 2 or reference.ndim != 2 or draws.shape[1] != reference.shape[1]:
        raise ValueError(
            f"Both sets need shape (num_draws, dim) with the same dim; received {draws.shape} and {reference.shape}."
        )
    sd, reference_sd = draws.std(axis=0, ddof=1), reference.std(axis=0, ddof=1)
    if not (np.all(sd > 0) and np.all(reference_sd > 0)):
        raise ValueError("A coordinate is constant, so its moments can't be compared; check the sampler.")
    size = float(draws_ess if draws_ess is not None else len(draws))
    reference_size = float(reference_ess if reference_ess is not None else len(reference))
    shift = draws.mean(axis=0) - reference.mean(axis=0)
    error = np.sqrt(sd**2 / size + reference_sd**2 / reference_size)
    log_ratio = np.log(sd / reference_sd)
    log_error = np.hypot(_log_sd_error(draws, size), _log_sd_error(reference, reference_size))
    return MomentDifferences(
        mean_shift=shift / reference_sd, mean_z=shift / error, sd_ratio=sd / reference_sd, sd_z=log_ratio / log_error
    )
