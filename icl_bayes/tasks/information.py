"""Expected (Fisher) information of observation laws, in stable coordinates of their parameters.

Fisher scoring needs, per observation, parameters whose dependence on ``theta`` is smooth and
their expected information, which is positive semi-definite everywhere, unlike a Hessian.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from icl_bayes.tasks.distributions import CountByLogMean, InformativeLaw, LogGamma, PoissonByLogMean

Array = jax.Array


def log_shape_information(a: Array) -> Array:
    """``a^2 trigamma(a) - a``, information on log a of a gamma law with known mean."""
    large = jnp.maximum(a, 8.0)
    series = 0.5 + 1.0 / (6.0 * large) - 1.0 / (30.0 * large**3)
    small = jnp.minimum(a, 8.0)
    return jnp.where(a > 8.0, series, small**2 * _trigamma(small) - small)


def _trigamma(x: Array) -> Array:
    """Six steps of the recurrence, then the asymptotic series: ten times cheaper than ``polygamma(1, x)``."""
    steps = sum(1.0 / (x + k) ** 2 for k in range(6))
    inverse = 1.0 / (x + 6.0)
    square = inverse**2
    return steps + inverse * (1.0 + inverse * (0.5 + inverse * (1.0 / 6.0 - square * (1.0 / 30.0 - square / 42.0))))


def _arrays(*parameters: Any) -> tuple[Array, ...]:
    """Parameters of a law, which programs make of arrays; the types that NumPyro gives them are wider."""
    return cast(tuple[Array, ...], parameters)


def observation_parameters(fn: Any) -> tuple[Array, ...] | None:
    """Orthogonal parameters of an observation law, each of the law's batch shape.

    Returns ``None`` for laws without an entry; callers then fall back on the Hessian.
    """
    match fn:
        case InformativeLaw():
            return fn.orthogonal_parameters()
        case dist.Normal():
            loc, scale = _arrays(fn.loc, fn.scale)
            return loc, jnp.log(scale)
        case dist.BernoulliLogits():
            return _arrays(fn.logits)
        case LogGamma():
            return fn.log_mean, jnp.log(fn.concentration)
        case PoissonByLogMean():
            return (fn.log_mean,)
        case CountByLogMean():
            return fn.log_mean, -jnp.log(fn.overdispersion)
        case dist.BinomialLogits():
            return _arrays(fn.logits)
        case _:
            return None


def observation_information(fn: Any) -> tuple[Array, ...]:
    """Expected information on each of :func:`observation_parameters` (diagonal, by orthogonality)."""
    match fn:
        case InformativeLaw():
            return fn.information()
        case dist.Normal():
            (scale,) = _arrays(fn.scale)
            return 1.0 / scale**2, jnp.full(jnp.shape(scale), 2.0)
        case dist.BernoulliLogits():
            probability = jax.nn.sigmoid(fn.logits)
            return (probability * (1.0 - probability),)
        case LogGamma():
            return fn.concentration, log_shape_information(fn.concentration)
        case PoissonByLogMean():
            return (fn.mean,)
        case CountByLogMean():
            mean = fn.mean
            share = fn.overdispersion * mean / (1.0 + fn.overdispersion * mean)
            # Of the concentration there is no closed form: that of the gamma law it tends to, less for small counts.
            return mean * (1.0 - share), share**2 * log_shape_information(1.0 / fn.overdispersion)
        case dist.BinomialLogits():
            (logits,) = _arrays(fn.logits)
            probability = jax.nn.sigmoid(logits)
            return _arrays(fn.total_count * probability * (1.0 - probability))
        case _:
            raise TypeError(f"No expected information is known for {type(fn).__name__}.")


def expected_information(observed: Callable[[Array], list[tuple[Any, Array]]], theta: Array) -> Array:
    """Expected information of all observations at ``theta (dim,)`` plus the identity, ``(dim, dim)``.

    Args:
        observed: ``theta`` to the observation laws and their masks or weights.
    """

    def parameters(theta: Array) -> list[tuple[Array, ...] | None]:
        return [observation_parameters(fn) for fn, _ in observed(theta)]

    dim = theta.shape[0]
    jacobians = jax.jacfwd(parameters)(theta)
    total = jnp.eye(dim)
    for (fn, mask), jacobian in zip(observed(theta), jacobians, strict=True):
        for information, columns in zip(observation_information(fn), jacobian, strict=True):
            weight = jnp.where(mask > 0, jnp.broadcast_to(information, mask.shape) * mask, 0.0)
            flat = jnp.broadcast_to(columns, (*mask.shape, dim)).reshape(-1, dim)
            # A masked row may carry an infinite slope; zero weight alone would give NaN.
            flat = jnp.where(weight.reshape(-1, 1) > 0, flat, 0.0)
            total = total + flat.T @ (weight.reshape(-1, 1) * flat)
    return total
