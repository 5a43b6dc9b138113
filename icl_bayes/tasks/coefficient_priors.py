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
    upper_tail_to_normal,
)
from icl_bayes.tasks.normal_tails import log_upper_tail
from icl_bayes.types import Array

KINDS = ("normal", "student_t", "laplace", "half_normal", "half_student_t", "gamma", "root_inverse_gamma")
"""In the order of their codes. Those from ``half_normal`` on are positive, and their location is zero."""
POSITIVE = KINDS[3:]
DEFAULT_SHAPE = 4.0
"""In the place of the shape of kinds that have none."""
_LOG_2PI = 1.8378770664093453
_LOG_2 = 0.6931471805599453


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
        scale: standard deviation of a normal law, scale of the others; of ``gamma`` the reciprocal rate; of
            ``root_inverse_gamma``, the square root of an inverse gamma variable, that of its scale.
        shape: degrees of freedom (``student_t``, ``half_student_t``) or concentration (``gamma``,
            ``root_inverse_gamma``); of no effect else.
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
        keys = jax.random.split(key, 3)
        normal = jax.random.normal(keys[0], shape)
        laplace = jax.random.laplace(keys[1], shape)
        # One gamma variable serves all kinds: its sampler is by far the longest part of the program.
        half_degrees = 0.5 * self.shape_parameter
        concentration = jnp.where(self._is_student, half_degrees, self.shape_parameter)
        gamma = jax.random.gamma(keys[2], jnp.broadcast_to(concentration, shape), shape)
        student = normal * jnp.sqrt(half_degrees / gamma)
        root = jax.lax.rsqrt(gamma)
        standard = self._choose(normal, student, laplace, jnp.abs(normal), jnp.abs(student), gamma, root)
        return jnp.where(self.kind < code_of("half_normal"), self.loc, 0.0) + self.scale * standard

    def log_prob(self, value: Any, intermediates: Any = None) -> Array:
        """Minus infinity for values of positive kinds that are not."""
        del intermediates
        is_positive = self.kind >= code_of("half_normal")
        z = (value - jnp.where(is_positive, 0.0, self.loc)) / self.scale
        shape = self.shape_parameter
        normal = -0.5 * z**2 - 0.5 * _LOG_2PI
        # In one call, which makes programs smaller.
        arguments = jnp.stack([jnp.where(self._is_student, 0.5 * shape, shape), 0.5 * (shape + 1.0)])
        log_gamma, log_gamma_above = gammaln(arguments)
        normalizer = log_gamma_above - log_gamma - 0.5 * jnp.log(shape * jnp.pi)
        student = normalizer - 0.5 * (shape + 1.0) * jnp.log1p(z**2 / shape)
        laplace = -jnp.abs(z) - _LOG_2
        positive = jnp.where(z > 0.0, z, 1.0)
        gamma = (shape - 1.0) * jnp.log(positive) - positive - log_gamma
        root = _LOG_2 - (2.0 * shape + 1.0) * jnp.log(positive) - positive**-2 - log_gamma
        standard = self._choose(normal, student, laplace, normal + _LOG_2, student + _LOG_2, gamma, root)
        return jnp.where(is_positive & (z <= 0.0), -jnp.inf, standard - jnp.log(self.scale))

    @property
    def _is_student(self) -> Array:
        return (self.kind == code_of("student_t")) | (self.kind == code_of("half_student_t"))

    def _choose(self, *by_kind: Array) -> Array:
        return jnp.select([self.kind == code for code in range(len(KINDS) - 1)], list(by_kind[:-1]), by_kind[-1])


def _constrain(fn: Any, u: Array) -> tuple[Array, Array]:
    """On the prior's own scale, nearly straight where a posterior may be narrow.

    Normal and Student t laws linearly; Laplace's as a standard normal, which leaves no kink; half laws, and gamma ones
    of a concentration up to 1, whose density is highest at zero, through a softplus; other gamma laws by the cube root.
    """
    scale, shape = fn.scale, fn.shape_parameter
    is_laplace, is_gamma = fn.kind == code_of("laplace"), fn.kind == code_of("gamma")
    is_root, is_real = fn.kind == code_of("root_inverse_gamma"), fn.kind < code_of("half_normal")
    scaled = SOFTPLUS_SHARPNESS * u
    half = scale * jax.nn.softplus(scaled) / SOFTPLUS_SHARPNESS
    log_gamma, log_slope = log_gamma_from_normal(shape, 1.0, jnp.where(is_root, -u, u))
    laplace, laplace_slope = _laplace_from_normal(u)
    value = jnp.where(is_real, fn.loc + scale * jnp.where(is_laplace, laplace, u), half)
    log_det = jnp.where(is_real, jnp.where(is_laplace, laplace_slope, 0.0), jax.nn.log_sigmoid(scaled))
    is_curved = is_gamma & (shape > 1.0)
    value = jnp.where(is_curved, scale * jnp.exp(log_gamma), value)
    log_det = jnp.where(is_curved, log_gamma + log_slope, log_det)
    value = jnp.where(is_root, scale * jnp.exp(-0.5 * log_gamma), value)
    log_det = jnp.where(is_root, -0.5 * log_gamma + log_slope - _LOG_2, log_det)
    prior = MixedPrior(fn.kind, fn.loc, scale, shape)
    log_density = jnp.where(is_laplace, -0.5 * u**2 - 0.5 * _LOG_2PI, prior.log_prob(value) + log_det + jnp.log(scale))
    return value, jnp.sum(log_density)


def _laplace_from_normal(u: Array) -> tuple[Array, Array]:
    """A standard Laplace variable from a standard normal one, and the logarithm of the slope."""
    return _laplace_quantile(u), _log_laplace_slope(u)


def _log_laplace_slope(u: Array) -> Array:
    return -0.5 * u**2 - 0.5 * _LOG_2PI - log_upper_tail(jnp.abs(u))


@jax.custom_jvp
def _laplace_quantile(u: Array) -> Array:
    return jnp.sign(u) * (-_LOG_2 - log_upper_tail(jnp.abs(u)))


@_laplace_quantile.defjvp
def _laplace_quantile_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    # In closed form: at zero, where searches begin, sign(u) |.| would have no slope.
    return _laplace_quantile(*primals), jnp.exp(_log_laplace_slope(*primals)) * tangents[0]


def _unconstrain(fn: Any, value: Array) -> Array:
    is_laplace, is_gamma = fn.kind == code_of("laplace"), fn.kind == code_of("gamma")
    is_root, is_real = fn.kind == code_of("root_inverse_gamma"), fn.kind < code_of("half_normal")
    z = (value - jnp.where(is_real, fn.loc, 0.0)) / fn.scale
    laplace = jnp.sign(z) * upper_tail_to_normal(-jnp.abs(z) - _LOG_2)
    positive = jnp.where(is_real, 1.0, z)
    scaled = SOFTPLUS_SHARPNESS * positive
    half = (scaled + jnp.log(-jnp.expm1(-scaled))) / SOFTPLUS_SHARPNESS
    of_log = normal_from_log_gamma(fn.shape_parameter, 1.0, jnp.where(is_root, -2.0, 1.0) * jnp.log(positive))
    found = jnp.where(is_real, jnp.where(is_laplace, laplace, z), half)
    found = jnp.where(is_gamma & (fn.shape_parameter > 1.0), of_log, found)
    return jnp.where(is_root, -of_log, found)


register(MixedPrior, Coordinate("mixed_prior", _constrain, _unconstrain))
