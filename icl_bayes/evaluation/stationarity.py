"""Whether chains that started at approximate draws have reached their target: drift, and memory of the starts.

Chains under moves that leave a law invariant either are distributed by it or drift towards it. A bias that decays as
the correlation r with an earlier state does leaves the drift since then times ``r / (1 - r)`` still to come. Drift and
correlation are measured between chains, one draw of each, so that they need neither long chains nor a second set of
them; unlike R-hat they serve a single draw per chain. What neither sees is a region that no chain enters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_LIMIT_Z = 4.5
"""Of some dozens of features: by chance, one data set in several thousand."""
_ERRORS = 2.0


@dataclass(frozen=True)
class Stationarity:
    """What two stretches of moves did to features of draws.

    Attributes:
        drift: largest change of a mean over both stretches, in standard deviations.
        late_z: largest change of a mean over the second stretch, in its standard errors.
        memory: largest correlation of a feature with its start.
        left: largest bias that may be left in a feature, in standard deviations: (drift + 2 errors) r / (1 - r), since
            the start or over the second stretch, whichever says less. The first is sharper where chains forget fast,
            the second where what decayed fast is what was wrong.
    """

    drift: float
    late_z: float
    memory: float
    left: float

    @property
    def is_drifting(self) -> bool:
        """Whether the second stretch still changed something beyond chance."""
        return not self.late_z <= _LIMIT_Z


def stationarity(start: np.ndarray, middle: np.ndarray, end: np.ndarray) -> Stationarity:
    """Compare features ``(num_chains, k)`` of the same chains at three times.

    Raises:
        ValueError: for other shapes, or fewer than 20 chains.
    """
    shapes = {np.shape(start), np.shape(middle), np.shape(end)}
    if len(shapes) != 1 or np.ndim(end) != 2 or len(end) < 20:
        raise ValueError(
            f"Features of at least 20 chains, three arrays (num_chains, k), are needed; received {shapes}."
        )
    start, middle, end = (np.asarray(one, np.float64) for one in (start, middle, end))
    if not all(np.isfinite(one).all() for one in (start, middle, end)):
        return Stationarity(np.inf, np.inf, 1.0, np.inf)
    spread = end.std(axis=0) + 1e-12
    drift, memory, left = _extrapolated(start, end, spread)
    _, _, left_late = _extrapolated(middle, end, spread)
    late = end - middle
    late_error = np.maximum(late.std(axis=0) / np.sqrt(len(end)), 1e-9 * spread)
    return Stationarity(
        drift=float(drift.max()),
        late_z=float(np.max(np.abs(late.mean(axis=0)) / late_error)),
        memory=float(memory.max()),
        left=float(np.minimum(left, left_late).max()),
    )


def _extrapolated(before: np.ndarray, after: np.ndarray, spread: np.ndarray) -> tuple[np.ndarray, ...]:
    """Drift, correlation, and bound on the drift to come, ``(k,)`` each."""
    change = after - before
    drift = np.abs(change.mean(axis=0)) / spread
    covariance = np.mean((before - before.mean(axis=0)) * (after - after.mean(axis=0)), axis=0)
    memory = np.clip(covariance / (spread * (before.std(axis=0) + 1e-12)), 0.0, 1.0 - 1e-9)
    # Chains that are stuck show no drift and no error of it either; by their memory they still have one.
    error = np.maximum(change.std(axis=0) / spread, np.sqrt(2.0 * (1.0 - memory))) / np.sqrt(len(after))
    return drift, memory, (drift + _ERRORS * error) * memory / (1.0 - memory)


def smooth_features(thetas: np.ndarray, log_joint: np.ndarray, *, like: np.ndarray) -> np.ndarray:
    """``(num, 4 dim + 1)``: coordinates and their squares, as they are and whitened, and the log joint.

    Args:
        thetas: ``(num, dim)``.
        log_joint: ``(num,)``.
        like: ``(num_like, dim)``, draws whose mean and covariance whiten.
    """
    like = np.asarray(like, np.float64)
    centred = np.asarray(thetas, np.float64) - like.mean(axis=0)
    values, vectors = np.linalg.eigh(np.atleast_2d(np.cov(like.T)))
    whitened = centred @ (vectors / np.sqrt(np.maximum(values, 1e-12 * values.max())))
    scaled = centred / (like.std(axis=0) + 1e-12)
    return np.column_stack([scaled, scaled**2, whitened, whitened**2, log_joint])


def mean_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Largest distance of the means of two sets of features ``(num, k)``, in standard deviations of the first."""
    spread = np.std(first, axis=0) + 1e-12
    return float(np.max(np.abs(np.mean(first, axis=0) - np.mean(second, axis=0)) / spread))
