"""Functions of the normal law's tails that single precision does not lose."""

from __future__ import annotations

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import log_ndtr, ndtr, ndtri
from numpy.polynomial import chebyshev
from scipy.special import erfcx

Array = jax.Array
_LOG_2 = 0.6931471805599453
_LOG_SQRT_2PI = 0.9189385332046727
_FAR = 5.0
_SMALLEST = 1e-37
_ROOT_HALF = 0.7071067811865476


@lru_cache(maxsize=2)
def _log_ratio(degree: int) -> tuple[float, ...]:
    """Coefficients, the highest first, of ``log(erfcx(x) / t)`` in ``2 t - 1``, where ``t = 2 / (2 + x)``."""
    nodes = chebyshev.chebpts1(degree + 1)
    t = 0.5 * (nodes + 1.0)
    fitted = chebyshev.chebfit(nodes, np.log(erfcx(2.0 / t - 2.0) / t), degree)
    return tuple(float(coefficient) for coefficient in chebyshev.cheb2poly(fitted)[::-1])


def log_erfcx(x: Array) -> Array:
    """``log(exp(x^2) erfc(x))`` for ``x >= 0``, by one polynomial, exact to rounding."""
    t = 2.0 / (2.0 + x)
    value = jnp.zeros_like(t)
    for coefficient in _log_ratio(30 if t.dtype == jnp.float64 else 11):
        value = value * (2.0 * t - 1.0) + coefficient
    return jnp.log(t) + value


@jax.custom_jvp
def log_upper_tail(x: Array) -> Array:
    """``log(1 - Phi(x))`` for ``x >= 0``.

    ``log_ndtr`` has three branches, each with error functions of its own: where it is part of every gradient of a log
    joint, programs are several times as large, and take as much longer to compile.
    """
    return log_erfcx(_ROOT_HALF * x) - 0.5 * x**2 - _LOG_2


@log_upper_tail.defjvp
def _log_upper_tail_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    value = log_upper_tail(*primals)
    return value, -jnp.exp(-0.5 * primals[0] ** 2 - _LOG_SQRT_2PI - value) * tangents[0]


def upper_tail_to_normal(log_survival: Array) -> Array:
    """``u > 0`` with ``log(1 - Phi(u)) = log_survival``, accurate far in the tail.

    ``ndtri`` alone loses the tail once the survival probability underflows, so its value is
    sharpened by Newton steps on the log survival function.
    """
    survival = jnp.exp(jnp.maximum(log_survival, -80.0))
    u = jnp.where(log_survival > -80.0, -ndtri(survival), jnp.sqrt(-2.0 * log_survival))

    def newton(u: Array, _: None) -> tuple[Array, None]:
        log_tail = log_ndtr(-u)
        hazard = jnp.exp(-0.5 * u**2 - _LOG_SQRT_2PI - log_tail)
        return u + (log_tail - log_survival) / hazard, None

    return jax.lax.scan(newton, u, None, length=3)[0]


@jax.custom_jvp
def normal_ramp(w: Array) -> Array:
    """Integral of the normal distribution function, ``w Phi(w) + phi(w)``: zero far left, ``w`` far right."""
    near = jnp.maximum(w, -_FAR)
    inner = near * ndtr(near) + jnp.exp(-0.5 * near**2 - _LOG_SQRT_2PI)
    # Far left both terms cancel; the continued fraction of Mills' ratio 1 / (x + rest) leaves phi(w) rest / (x + rest).
    x, rest = jnp.maximum(-w, _FAR), 0.0
    for numerator in (5.0, 4.0, 3.0, 2.0, 1.0):
        rest = numerator / (x + rest)
    outer = jnp.exp(-0.5 * x**2 - _LOG_SQRT_2PI) * rest / (x + rest)
    return jnp.where(w > -_FAR, inner, outer)


@normal_ramp.defjvp
def _normal_ramp_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return normal_ramp(*primals), ndtr(*primals) * tangents[0]


def inverse_normal_ramp(value: Array) -> Array:
    """``w`` with ``normal_ramp(w) = value > 0``.

    Newton's method on the logarithm, which is concave: from any start the iterates rise to the solution.
    """
    target = jnp.log(jnp.maximum(value, _SMALLEST))
    start = jnp.where(value > 0.4, value, -jnp.sqrt(-2.0 * jnp.minimum(target + 0.9, 0.0)))

    def newton(w: Array, _: None) -> tuple[Array, None]:
        ramp = jnp.maximum(normal_ramp(w), _SMALLEST)
        step = (target - jnp.log(ramp)) * ramp / jnp.maximum(ndtr(w), _SMALLEST)
        return w + jnp.clip(step, -2.0, 2.0), None

    return jax.lax.scan(newton, start, None, length=10)[0]
