"""Observation laws whose textbook form loses its digits in float32."""

from __future__ import annotations

from typing import ClassVar, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax.scipy.special import gammaln
from numpyro.distributions import constraints
from numpyro.distributions.util import validate_sample

_SWITCH = 8.0
"""Concentration above which Stirling's series is used as it is; below, after five steps of the recurrence."""


def _steps_up(a: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """``a`` up to the switch, ``b`` where the series is used, ``log a / b``, and ``a (a + 1) ... (a + 4)``."""
    small = jnp.where(a > _SWITCH, _SWITCH, a)
    b = jnp.where(a > _SWITCH, a, small + 5.0)
    log_ratio = jnp.where(a > _SWITCH, 0.0, jnp.log(jnp.maximum(small / b, jnp.finfo(b.dtype).tiny)))
    return small, b, log_ratio, small * (small + 1.0) * (small + 2.0) * (small + 3.0) * (small + 4.0)


@jax.custom_jvp
def log_gamma_constant(a: jax.Array) -> jax.Array:
    """``a log a - a - log Gamma(a)`` for ``a > 0``, without cancellation for large ``a``.

    Stirling's series at ``b``, which is ``a`` or, if that is small, ``a + 5``. Less than half the time of
    ``gammaln`` and ``digamma``, which take half of the simulation of gamma regressions.
    """
    is_large = a > _SWITCH
    small, b, log_ratio, rising = _steps_up(a)
    inverse = 1.0 / b
    series = inverse * (1.0 / 12.0 - inverse**2 * (1.0 / 360.0 - inverse**2 / 1260.0))
    # Divided by five so that the smallest concentrations stay above the smallest float.
    scaled = b / 5.0
    root = jnp.sqrt(scaled)
    log_rest = jnp.log(jnp.where(is_large, root, rising / (scaled**4 * root)))
    log_two_pi = jnp.log(2.0 * jnp.pi)
    offset = jnp.where(is_large, 0.5 * jnp.log(5.0), 5.0 - 4.5 * jnp.log(5.0)) - 0.5 * log_two_pi
    return small * log_ratio + log_rest - series + offset


@log_gamma_constant.defjvp
def _log_gamma_constant_jvp(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    """``log a - digamma(a)``, in the same manner: what differentiation of the value would give has no digits."""
    (a,), (tangent,) = primals, tangents
    small, b, log_ratio, rising = _steps_up(a)
    slope = 24.0 + small * (100.0 + small * (105.0 + small * (40.0 + 5.0 * small)))  # of the rising factorial
    inverse = 1.0 / b
    square = inverse**2
    series = inverse * (0.5 + inverse * (1.0 / 12.0 - square * (1.0 / 120.0 - square / 252.0)))
    derivative = log_ratio + jnp.where(a > _SWITCH, 0.0, slope / rising) + series
    return log_gamma_constant(a), derivative * tangent


_LARGEST_EXPONENT = 80.0


def _excess_and_slope(z: jax.Array) -> tuple[jax.Array, jax.Array]:
    """``exp(z) - 1 - z`` and ``exp(z) - 1``, accurate near zero; a straight line where float32 has no exponential."""
    near = jnp.clip(z, -0.5, 0.5)
    ratio = jnp.full_like(near, 1.0 / 10.0)
    for order in range(9, 2, -1):  # (exp(z) - 1 - z) / (z^2 / 2) by nested multiplication
        ratio = (1.0 + near * ratio) / order
    excess = 0.5 * near**2 * (1.0 + near * ratio)
    beyond = jnp.maximum(z - _LARGEST_EXPONENT, 0.0)
    slope = jnp.exp(jnp.minimum(z, _LARGEST_EXPONENT)) - 1.0
    far = slope - jnp.minimum(z, _LARGEST_EXPONENT) + slope * beyond
    is_near = jnp.abs(z) < 0.5
    return jnp.where(is_near, excess, far), jnp.where(is_near, excess + near, slope)


@jax.custom_jvp
def exponential_excess(z: jax.Array) -> jax.Array:
    """``exp(z) - 1 - z``, accurate near zero."""
    return _excess_and_slope(z)[0]


@exponential_excess.defjvp
def exponential_excess_jvp(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    excess, slope = _excess_and_slope(*primals)
    return excess, slope * tangents[0]


@runtime_checkable
class InformativeLaw(Protocol):
    """An observation law that knows its own expected information (:mod:`icl_bayes.tasks.information`)."""

    def orthogonal_parameters(self) -> tuple[jax.Array, ...]:
        """Parameters, each of the batch shape."""
        ...

    def information(self) -> tuple[jax.Array, ...]:
        """Expected information on each of them."""
        ...


class LogGamma(dist.Distribution):
    """Law of ``log Y`` for ``Y ~ Gamma(concentration, rate = concentration / exp(log_mean))``.

    Concentrations from 1e-6 to 1e12 occur in gamma regression with a log link (scenario 7 of
    the paper). There, ``a log(rate) + a log y - rate y - log Gamma(a)`` cancels
    catastrophically in float32, and ``Y`` itself underflows; this form does neither.
    """

    arg_constraints: ClassVar = {"concentration": constraints.positive, "log_mean": constraints.real}
    support = constraints.real  # pyright: ignore[reportAssignmentType]  # NumPyro: "as a class attribute or as a property"

    def __init__(self, concentration, log_mean, *, validate_args=None):
        self.concentration, self.log_mean = jnp.broadcast_arrays(jnp.asarray(concentration), jnp.asarray(log_mean))
        super().__init__(batch_shape=self.concentration.shape, validate_args=validate_args)

    def sample(self, key: jax.Array, sample_shape=()):
        shape = tuple(sample_shape) + self.batch_shape
        standard = jax.random.loggamma(key, jnp.broadcast_to(self.concentration, shape))
        return standard - jnp.log(self.concentration) + self.log_mean

    @validate_sample
    def log_prob(self, value):
        """Density of ``log Y`` (not of ``Y``), shape ``batch_shape``."""
        z = value - self.log_mean
        return log_gamma_constant(self.concentration) - self.concentration * exponential_excess(z)


def log_relative_excess(c: jax.Array, y: jax.Array, mean: jax.Array) -> jax.Array:
    """``log((c + y) / (c + mean))``, accurate both where ``y`` is near ``mean`` and where it is far below.

    Far below, ``log1p((y - mean) / (c + mean))`` has lost the digits of ``1 + ...``, which a count multiplies: of
    24,000 where a million were expected, by tens of nats in single precision.
    """
    relative = (y - mean) / (c + mean)
    is_near = jnp.abs(relative) < 0.5
    near = jnp.log1p(jnp.where(is_near, relative, 0.0))
    return jnp.where(is_near, near, jnp.log(jnp.where(is_near, 1.0, (c + y) / (c + mean))))


class CountByLogMean(dist.Distribution):
    """Counts with mean ``mu = exp(log_mean)`` and variance ``mu + overdispersion mu^2``: a negative binomial law.

    It tends to the Poisson law as the overdispersion tends to zero, where the textbook form, a difference of two
    large logarithms of gamma functions, has no digits left in float32. Written by ``c = 1 / overdispersion``,
    ``(c + y) log(1 + (y - mu) / (c + mu)) - y + y log mu - log y! + K(c) - K(c + y)`` with ``K`` of
    :func:`log_gamma_constant`.
    """

    arg_constraints: ClassVar = {"log_mean": constraints.real, "overdispersion": constraints.positive}
    support = constraints.nonnegative_integer  # pyright: ignore[reportAssignmentType]

    def __init__(self, log_mean, overdispersion, *, validate_args=None):
        self.log_mean, self.overdispersion = jnp.broadcast_arrays(jnp.asarray(log_mean), jnp.asarray(overdispersion))
        super().__init__(batch_shape=self.log_mean.shape, validate_args=validate_args)

    @property
    def mean(self) -> jax.Array:
        return jnp.exp(jnp.clip(self.log_mean, -_LARGEST_EXPONENT, _LARGEST_EXPONENT))

    def sample(self, key: jax.Array, sample_shape=()):
        shape = tuple(sample_shape) + self.batch_shape
        gamma_key, poisson_key = jax.random.split(key)
        log_factor = jax.random.loggamma(gamma_key, jnp.broadcast_to(1.0 / self.overdispersion, shape))
        rate = jnp.exp(jnp.minimum(log_factor + jnp.log(self.overdispersion) + self.log_mean, _LARGEST_LOG_RATE))
        return jax.random.poisson(poisson_key, rate, shape)

    @validate_sample
    def log_prob(self, value):
        c = 1.0 / self.overdispersion
        mean = self.mean
        excess = (c + value) * log_relative_excess(c, value, mean)
        of_counts = value * self.log_mean - value - gammaln(value + 1.0)
        return excess + of_counts + log_gamma_constant(c) - log_gamma_constant(c + value)


class PoissonByLogMean(dist.Distribution):
    """The Poisson law of a mean ``exp(log_mean)``, whose logarithm stays exact where the mean underflows."""

    arg_constraints: ClassVar = {"log_mean": constraints.real}
    support = constraints.nonnegative_integer  # pyright: ignore[reportAssignmentType]

    def __init__(self, log_mean, *, validate_args=None):
        self.log_mean = jnp.asarray(log_mean)
        super().__init__(batch_shape=self.log_mean.shape, validate_args=validate_args)

    @property
    def mean(self) -> jax.Array:
        return jnp.exp(jnp.clip(self.log_mean, -_LARGEST_EXPONENT, _LARGEST_EXPONENT))

    def sample(self, key: jax.Array, sample_shape=()):
        rate = jnp.exp(jnp.minimum(self.log_mean, _LARGEST_LOG_RATE))
        return jax.random.poisson(key, rate, tuple(sample_shape) + self.batch_shape)

    @validate_sample
    def log_prob(self, value):
        return value * self.log_mean - self.mean - gammaln(value + 1.0)


_LARGEST_LOG_RATE = 20.0
"""Of counts that are simulated: beyond, they would overflow whole numbers."""
