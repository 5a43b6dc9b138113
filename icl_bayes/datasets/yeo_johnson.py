"""The power transformation of Yeo and Johnson (2000), with its exponent by maximum likelihood.

For ``y >= 0`` the transformed value is ``((1 + y)^k - 1) / k`` and for ``y < 0`` it is
``-((1 - y)^(2 - k) - 1) / (2 - k)``, with logarithms where the exponent is zero.
"""

from __future__ import annotations

import numpy as np

EXPONENT_BOUNDS = (-10.0, 10.0)
"""Where the exponent is sought. Data far from zero and nearly symmetric barely determine it,
and would otherwise run off to where floating point numbers end."""


def yeo_johnson(values: np.ndarray, exponent: float) -> np.ndarray:
    """Transform ``(n,)`` numbers with a given exponent; increasing in the values, identity at exponent 1."""
    values = np.asarray(values, float)
    above = values >= 0.0
    transformed = np.empty_like(values)
    transformed[above] = _power(np.log1p(values[above]), exponent)
    transformed[~above] = -_power(np.log1p(-values[~above]), 2.0 - exponent)
    return transformed


def gaussianise(values: np.ndarray) -> tuple[np.ndarray, float]:
    """Transform with the most likely exponent and standardise.

    Args:
        values: ``(n,)`` finite numbers, at least two of them different.

    Returns:
        ``(n,)`` values with mean 0 and standard deviation 1 (dividing by n), and the exponent.

    Raises:
        ValueError: if all values are equal.
    """
    from scipy.optimize import fminbound

    values = np.asarray(values, float)
    if values.size == 0 or values.min() == values.max():
        raise ValueError(f"A Yeo-Johnson transformation needs at least two different values; received {values[:3]}.")
    if values.max() < 0.0:  # the transformation mirrors onto itself
        mirrored, exponent = gaussianise(-values)
        return -mirrored, 2.0 - exponent
    logs = np.sign(values) * np.log1p(np.abs(values))
    # With values on one side of zero, a factor (1 + y)^k is common to all and drops out on
    # standardising: taking it out first keeps large values from cancelling to a constant.
    centre = logs.mean() if values.min() >= 0.0 else 0.0

    def transform(exponent: float) -> np.ndarray:
        if values.min() >= 0.0:
            return _power(logs - centre, exponent)
        return yeo_johnson(values, exponent)

    def negative_log_likelihood(exponent: float) -> float:
        spread = np.log(transform(exponent).var()) + 2.0 * exponent * centre
        return 0.5 * values.size * spread - (exponent - 1.0) * logs.sum()

    exponent = float(fminbound(negative_log_likelihood, *EXPONENT_BOUNDS, xtol=1e-9))  # pyright: ignore[reportArgumentType]
    return standardise(transform(exponent)), exponent


def standardise(values: np.ndarray) -> np.ndarray:
    """Shift and scale each column (axis 0) to mean 0 and standard deviation 1, dividing by n."""
    centred = values - values.mean(axis=0)
    return centred / np.sqrt((centred**2).mean(axis=0))


def _power(logs: np.ndarray, exponent: float) -> np.ndarray:
    """``(exp(exponent * logs) - 1) / exponent``, continuous at exponent zero."""
    return logs if abs(exponent) < 1e-12 else np.expm1(exponent * logs) / exponent
