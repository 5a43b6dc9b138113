"""Priors whose kind is data: one program for every choice of prior of every coefficient.

The kinds of all coefficients, their locations, scales and shapes are arrays of the data set, so that a program that is
compiled once, and one network, serve all of them.
"""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax.scipy.special import gammaln
from numpyro.distributions import constraints

from icl_bayes.tasks.coordinates import (
    SOFTPLUS_SHARPNESS,
    Coordinate,
    log_gamma_from_normal,
    normal_from_log_gamma,
    register,
)
from icl_bayes.types import Array

KINDS = ("normal", "student_t", "laplace", "half_normal", "half_student_t", "gamma")
"""In the order of their codes. Those from ``half_normal`` on are positive, and their location is zero."""
POSITIVE = KINDS[3:]
DEFAULT_SHAPE = 4.0
"""In the place of the shape of kinds that have none."""
_LOG_2PI = 1.8378770664093453
_LOG_2 = 0.6931471805599453
_SQRT_2 = 1.4142135623730951


def code_of(kind: str) -> int:
    """The number that stands for a kind.

    Raises:
        ValueError: for an unknown one, listing the choices.
    """
    if kind not in KINDS:
        raise ValueError(f"Unknown prior {kind!r}; choices: {', '.join(KINDS)}.")
    return KINDS.index(kind)


class MixedPrior(dist.Distribution):
    """Independent priors of several kinds.

    Args:
        kind: codes, see :data:`KINDS`.
        loc: location; of no effect for positive kinds.
        scale: standard deviation of a normal law, scale of the others; of ``gamma`` the reciprocal rate.
        shape: degrees of freedom (``student_t``, ``half_student_t``) or concentration (``gamma``); of no effect else.
    """

    arg_constraints: ClassVar = {
        "kind": constraints.real,
        "loc": constraints.real,
        "scale": constraints.positive,
        "shape_parameter": constraints.positive,
    }
    support = constraints.real  # pyright: ignore[reportAssignmentType]  # NumPyro: "as a class attribute or as a property"

    def __init__(self, kind: Any, loc: Any, scale: Any, shape: Any, *, validate_args: Any = None) -> None:
        parts = jnp.broadcast_arrays(*(jnp.asarray(part) for part in (kind, loc, scale, shape)))
        self.kind, self.loc, self.scale, self.shape_parameter = parts
        super().__init__(batch_shape=self.loc.shape, validate_args=validate_args)

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        shape = tuple(sample_shape) + self.batch_shape
        keys = jax.random.split(key, 4)
        normal = jax.random.normal(keys[0], shape)
        student = jax.random.t(keys[1], jnp.broadcast_to(self.shape_parameter, shape), shape)
        laplace = jax.random.laplace(keys[2], shape)
        gamma = jax.random.gamma(keys[3], jnp.broadcast_to(self.shape_parameter, shape), shape)
        standard = self._choose(normal, student, laplace, jnp.abs(normal), jnp.abs(student), gamma)
        return jnp.where(self.kind < code_of("half_normal"), self.loc, 0.0) + self.scale * standard

    def log_prob(self, value: Any, intermediates: Any = None) -> Array:
        """Minus infinity for values of positive kinds that are not."""
        del intermediates
        is_positive = self.kind >= code_of("half_normal")
        z = (value - jnp.where(is_positive, 0.0, self.loc)) / self.scale
        shape = self.shape_parameter
        normal = -0.5 * z**2 - 0.5 * _LOG_2PI
        normalizer = gammaln(0.5 * (shape + 1.0)) - gammaln(0.5 * shape) - 0.5 * jnp.log(shape * jnp.pi)
        student = normalizer - 0.5 * (shape + 1.0) * jnp.log1p(z**2 / shape)
        laplace = -jnp.abs(z) - _LOG_2
        positive = jnp.where(z > 0.0, z, 1.0)
        gamma = (shape - 1.0) * jnp.log(positive) - positive - gammaln(shape)
        standard = self._choose(normal, student, laplace, normal + _LOG_2, student + _LOG_2, gamma)
        return jnp.where(is_positive & (z <= 0.0), -jnp.inf, standard - jnp.log(self.scale))

    def _choose(self, *by_kind: Array) -> Array:
        return jnp.select([self.kind == code for code in range(len(KINDS) - 1)], list(by_kind[:-1]), by_kind[-1])


def _constrain(fn: Any, u: Array) -> tuple[Array, Array]:
    """On the prior's own scale: real kinds linearly, half ones through a softplus, gamma by its cube root."""
    prior = MixedPrior(fn.kind, fn.loc, fn.scale, fn.shape_parameter)
    laplace = fn.kind == code_of("laplace")
    real_scale = fn.scale * jnp.where(laplace, _SQRT_2, 1.0)
    scaled = SOFTPLUS_SHARPNESS * u
    half = fn.scale * jax.nn.softplus(scaled) / SOFTPLUS_SHARPNESS
    log_gamma, log_slope = log_gamma_from_normal(fn.shape_parameter, 1.0 / fn.scale, u)
    is_gamma, is_real = fn.kind == code_of("gamma"), fn.kind < code_of("half_normal")
    value = jnp.where(is_real, fn.loc + real_scale * u, jnp.where(is_gamma, jnp.exp(log_gamma), half))
    half_slope = jnp.log(fn.scale) + jax.nn.log_sigmoid(scaled)
    log_det = jnp.where(is_real, jnp.log(real_scale), jnp.where(is_gamma, log_gamma + log_slope, half_slope))
    return value, jnp.sum(prior.log_prob(value) + log_det)


def _unconstrain(fn: Any, value: Array) -> Array:
    is_gamma, is_real = fn.kind == code_of("gamma"), fn.kind < code_of("half_normal")
    real_scale = fn.scale * jnp.where(fn.kind == code_of("laplace"), _SQRT_2, 1.0)
    positive = jnp.where(is_real, 1.0, value)
    scaled = SOFTPLUS_SHARPNESS * positive / fn.scale
    half = (scaled + jnp.log(-jnp.expm1(-scaled))) / SOFTPLUS_SHARPNESS
    gamma = normal_from_log_gamma(fn.shape_parameter, 1.0 / fn.scale, jnp.log(positive))
    return jnp.where(is_real, (value - fn.loc) / real_scale, jnp.where(is_gamma, gamma, half))


register(MixedPrior, Coordinate("mixed_prior", _constrain, _unconstrain))
