"""Coordinates in which a posterior is close to Gaussian.

Networks, Newton iterations and Markov chains all live in an unconstrained vector ``theta``.
How a site is unconstrained matters more than network size, for two reasons:

* *tails*: the log of an exponentially distributed coefficient has a heavy left tail that ruins
  Laplace approximations and flows alike;
* *ridges*: collinear covariates make a likelihood that is tight across, and wide along, a straight
  line of the coefficients. A map that is curved where the posterior has its mass bends that line,
  and no affine base follows a thin bent ridge.

So each site uses

* a scaling to unit prior standard deviation where the prior lives on the whole line (normal, multivariate normal,
  Laplace): ridges stay straight, at the price of a kink of the Laplace prior at zero;
* a map that is linear over the bulk and bends only close to the boundary, where its density falls as a normal one
  does (exponential: the ramp of the normal distribution);
* the Gaussianizing map, exact (half-normal, log-normal, uniform) or a smooth approximation
  (gamma, inverse gamma: the cube-root law of Wilson and Hilferty, 1931), for scales and bounded sites;
* NumPyro's own bijector for everything else.

The maps under which Laplace and exponential priors are exactly standard normal remain available as
the override ``"gaussianizing"``.

Every map is elementwise or comes with its own Jacobian, and may depend on the values of
earlier sites, so hierarchical priors become non-centred by themselves.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax.lax import erf_inv as erfinv
from jax.scipy.special import erf, gammaln, log_ndtr, ndtr, ndtri
from jax.typing import ArrayLike
from numpyro.distributions.transforms import biject_to

from icl_bayes.tasks.normal_tails import inverse_normal_ramp, normal_ramp, upper_tail_to_normal

Array = jax.Array
_LOG_2 = 0.6931471805599453
_LOG_SQRT_2PI = 0.9189385332046727
_LOG_SQRT_PI_INVERSE = -0.5723649429247001
_SQRT_2 = 1.4142135623730951
SOFTPLUS_SHARPNESS = 6.0  # bends within a sixth of the prior scale (4 to 12 tried on collinear tables)
RAMP_SHARPNESS = 8.0  # 2 to 14 tried: sharper ones suit many rows better and few rows worse
_CUBE_SHARPNESS = 8.0  # softplus(8 w) / 8 equals w to 4e-5 at the bulk of the gamma law, w = 1


@dataclass(frozen=True)
class Coordinate:
    """A change of variables for one site.

    Attributes:
        name: stored in checkpoints.
        constrain: ``(distribution, u) -> (value, log_density)``, where ``log_density`` is the
            prior density of ``u``, summed: ``log p(value) + log |d value / d u|``.
        unconstrain: ``(distribution, value) -> u``.
        shape: shape of ``u`` for a given distribution.
    """

    name: str
    constrain: Callable[[Any, Array], tuple[Array, Array]]
    unconstrain: Callable[[Any, Array], Array]
    shape: Callable[[Any], tuple[int, ...]] = lambda fn: tuple(fn.shape())


def standard_normal_log_prob(u: Array) -> Array:
    """Log density of independent standard normals, summed over all entries, ``()``."""
    return -0.5 * jnp.sum(u**2) - u.size * _LOG_SQRT_2PI


def _gaussianizing(name: str, forward: Callable[[Any, Array], Array], inverse: Callable[[Any, Array], Array]):
    """A map under which the prior is exactly standard normal: its density needs no Jacobian."""
    return Coordinate(name, lambda fn, u: (forward(fn, u), standard_normal_log_prob(u)), inverse)


def _scaled_laplace_constrain(fn: _Broadcast, u: Array) -> tuple[Array, Array]:
    """Unit prior standard deviation; the density has a kink at ``u = 0``."""
    log_density = -_SQRT_2 * jnp.sum(jnp.abs(u)) - 0.5 * _LOG_2 * u.size
    return fn.loc + fn.scale * _SQRT_2 * u, log_density


def _scaled_laplace_unconstrain(fn: _Broadcast, value: Array) -> Array:
    return (value - fn.loc) / (fn.scale * _SQRT_2)


def _ramp_constrain(fn: _Broadcast, u: Array) -> tuple[Array, Array]:
    """``normal_ramp(s u) / (s rate)``: linear from a fraction 1/s of the prior mean upwards.

    A posterior that is cut off at zero falls there as ``Phi(s u)``, no slower than a base that is normal; with a
    softplus it falls as an exponential, whose far draws a flow from a normal base lacks.
    """
    scaled = RAMP_SHARPNESS * u
    z = normal_ramp(scaled) / RAMP_SHARPNESS
    return z / fn.rate, jnp.sum(log_ndtr(scaled) - z)


def _ramp_unconstrain(fn: _Broadcast, value: Array) -> Array:
    return inverse_normal_ramp(RAMP_SHARPNESS * fn.rate * value) / RAMP_SHARPNESS


def _softplus_half_normal_constrain(fn: _Broadcast, u: Array) -> tuple[Array, Array]:
    """``scale softplus(s u) / s``: linear from a fraction 1/s of the prior scale upwards."""
    scaled = SOFTPLUS_SHARPNESS * u
    z = jax.nn.softplus(scaled) / SOFTPLUS_SHARPNESS
    log_density = 0.5 * _LOG_2 + _LOG_SQRT_PI_INVERSE - 0.5 * z**2 + jax.nn.log_sigmoid(scaled)
    return fn.scale * z, jnp.sum(log_density)


def _softplus_half_normal_unconstrain(fn: _Broadcast, value: Array) -> Array:
    scaled = SOFTPLUS_SHARPNESS * value / fn.scale
    return (scaled + jnp.log(-jnp.expm1(-scaled))) / SOFTPLUS_SHARPNESS


def _laplace_forward(fn: _Broadcast, u: Array) -> Array:
    # One branch per side of the median, so that the derivative at u = 0 is the right one: Newton
    # iterations start there, where sign(u) |.| would give zero and a maximum(u, 0) half of it.
    upper = -_LOG_2 - log_ndtr(-jnp.where(u >= 0, u, 0.0))
    lower = _LOG_2 + log_ndtr(jnp.where(u >= 0, 0.0, u))
    return fn.loc + fn.scale * jnp.where(u >= 0, upper, lower)


def _laplace_inverse(fn: _Broadcast, value: Array) -> Array:
    z = (value - fn.loc) / fn.scale
    return jnp.sign(z) * upper_tail_to_normal(-jnp.abs(z) - _LOG_2)


def _exponential_inverse(fn: _Broadcast, value: Array) -> Array:
    z = value * fn.rate
    # P(X > x) = exp(-z): the upper tail is read from exp(-z), the lower one from 1 - exp(-z).
    lower = -upper_tail_to_normal(jnp.log(-jnp.expm1(-jnp.minimum(z, _LOG_2))))
    return jnp.where(z < _LOG_2, lower, upper_tail_to_normal(-jnp.maximum(z, _LOG_2)))


def _half_normal_forward(fn: _Broadcast, u: Array) -> Array:
    # P(|X| > x) = Phi(-u): read from the survival in the upper half, from the cdf in the lower.
    upper = upper_tail_to_normal(log_ndtr(-jnp.where(u >= 0, u, 0.0)) - _LOG_2)
    lower = _SQRT_2 * erfinv(ndtr(jnp.where(u >= 0, 0.0, u)))
    return fn.scale * jnp.where(u >= 0, upper, lower)


def _half_normal_inverse(fn: _Broadcast, value: Array) -> Array:
    z = value / fn.scale
    lower = ndtri(erf(jnp.minimum(z, 0.7) / _SQRT_2))
    return jnp.where(z < 0.6744897501960817, lower, upper_tail_to_normal(_LOG_2 + log_ndtr(-z)))


def _cotangent_of_tail(u: Array, share: float) -> Array:
    """``1 / tan(share pi P(tail))`` of the tail beyond ``u > 0``; its leading term where the tail is tiny."""
    near = 1.0 / jnp.tan(share * jnp.pi * ndtr(-jnp.where(u < 4.0, u, 4.0)))
    far = jnp.exp(-log_ndtr(-jnp.where(u < 4.0, 4.0, u))) / (share * jnp.pi)
    return jnp.where(u < 4.0, near, far)


def _cauchy_forward(fn: _Broadcast, u: Array) -> Array:
    is_outer = jnp.abs(u) > 0.5  # not by maximum(), whose derivative is halved where both agree
    outer = jnp.sign(u) * _cotangent_of_tail(jnp.abs(jnp.where(is_outer, u, 1.0)), 1.0)
    inner = jnp.tan(jnp.pi * (ndtr(jnp.where(is_outer, 0.0, u)) - 0.5))
    return fn.loc + fn.scale * jnp.where(is_outer, outer, inner)


def _cauchy_inverse(fn: _Broadcast, value: Array) -> Array:
    z = (value - fn.loc) / fn.scale
    tail = jnp.arctan(1.0 / jnp.maximum(jnp.abs(z), 0.5)) / jnp.pi
    inner = ndtri(0.5 + jnp.arctan(jnp.clip(z, -0.5, 0.5)) / jnp.pi)
    return jnp.where(jnp.abs(z) > 0.5, jnp.sign(z) * upper_tail_to_normal(jnp.log(tail)), inner)


def _half_cauchy_forward(fn: _Broadcast, u: Array) -> Array:
    upper = _cotangent_of_tail(jnp.where(u > 0, u, 1.0), 0.5)
    lower = jnp.tan(0.5 * jnp.pi * ndtr(jnp.where(u > 0, 0.0, u)))
    return fn.scale * jnp.where(u > 0, upper, lower)


def _half_cauchy_inverse(fn: _Broadcast, value: Array) -> Array:
    z = value / fn.scale
    tail = 2.0 / jnp.pi * jnp.arctan(1.0 / jnp.maximum(z, 1.0))
    lower = -upper_tail_to_normal(jnp.log(2.0 / jnp.pi * jnp.arctan(jnp.minimum(z, 1.0))))
    return jnp.where(z > 1.0, upper_tail_to_normal(jnp.log(tail)), lower)


def _softplus_log(w: Array) -> Array:
    """``log(softplus(w))``, which tends to ``w`` where the softplus itself underflows."""
    safe = jnp.maximum(w, -15.0)
    return jnp.where(w < -15.0, w, jnp.log(jax.nn.softplus(safe)))


def log_gamma_from_normal(concentration: Array, rate: ArrayLike, u: Array) -> tuple[Array, Array]:
    """Wilson-Hilferty: log of a Gamma variate from a normal one, and log |d log X / d u|."""
    w = 1.0 - 1.0 / (9.0 * concentration) + u / (3.0 * jnp.sqrt(concentration))
    log_root = _softplus_log(_CUBE_SHARPNESS * w) - jnp.log(_CUBE_SHARPNESS)
    log_x = jnp.log(concentration / rate) + 3.0 * log_root
    log_slope = jax.nn.log_sigmoid(_CUBE_SHARPNESS * w) - log_root - 0.5 * jnp.log(concentration)
    return log_x, log_slope


def normal_from_log_gamma(concentration: Array, rate: ArrayLike, log_x: Array) -> Array:
    """Inverse of :func:`log_gamma_from_normal`."""
    root = jnp.exp((log_x - jnp.log(concentration / rate)) / 3.0) * _CUBE_SHARPNESS
    w = jnp.where(root > 15.0, root, jnp.log(jnp.expm1(jnp.minimum(root, 15.0)))) / _CUBE_SHARPNESS
    return (w - 1.0 + 1.0 / (9.0 * concentration)) * 3.0 * jnp.sqrt(concentration)


def _log_gamma_log_density(concentration: Array, rate: Array, log_x: Array) -> Array:
    """Density of ``log X`` for ``X ~ Gamma(concentration, rate)``."""
    return concentration * (jnp.log(rate) + log_x) - rate * jnp.exp(log_x) - gammaln(concentration)


def _gamma_constrain(fn: _Broadcast, u: Array) -> tuple[Array, Array]:
    log_x, log_slope = log_gamma_from_normal(fn.concentration, fn.rate, u)
    return jnp.exp(log_x), jnp.sum(_log_gamma_log_density(fn.concentration, fn.rate, log_x) + log_slope)


def _gamma_unconstrain(fn: _Broadcast, value: Array) -> Array:
    return normal_from_log_gamma(fn.concentration, fn.rate, jnp.log(value))


def _inverse_gamma_constrain(fn: _Broadcast, u: Array) -> tuple[Array, Array]:
    # The sign makes the map increasing; densities in log X and in -log X agree.
    log_x, log_slope = log_gamma_from_normal(fn.concentration, fn.rate, -u)
    return jnp.exp(-log_x), jnp.sum(_log_gamma_log_density(fn.concentration, fn.rate, log_x) + log_slope)


def _inverse_gamma_unconstrain(fn: _Broadcast, value: Array) -> Array:
    return -normal_from_log_gamma(fn.concentration, fn.rate, -jnp.log(value))


def _bijector_constrain(fn: Any, u: Array) -> tuple[Array, Array]:
    transform = biject_to(fn.support)
    value = transform(u)
    log_det = transform.log_abs_det_jacobian(u, value)
    return value, jnp.sum(fn.log_prob(value)) + jnp.sum(log_det)


_BIJECTOR = Coordinate(
    "bijector",
    _bijector_constrain,
    lambda fn, value: biject_to(fn.support).inv(value),
    lambda fn: tuple(biject_to(fn.support).inverse_shape(tuple(fn.shape()))),
)


def _multivariate_normal_inverse(fn: _MultivariateNormal, value: Array) -> Array:
    difference = value - fn.loc
    factor = jnp.broadcast_to(fn.scale_tril, (*difference.shape, difference.shape[-1]))
    return jax.scipy.linalg.solve_triangular(factor, difference[..., None], lower=True)[..., 0]


_MULTIVARIATE_NORMAL = _gaussianizing(
    "multivariate_normal",
    lambda fn, u: fn.loc + jnp.einsum("...ij,...j->...i", fn.scale_tril, u),
    _multivariate_normal_inverse,
)

_REGISTRY: dict[type, Coordinate] = {
    dist.Normal: _gaussianizing(
        "normal", lambda fn, u: fn.loc + fn.scale * u, lambda fn, value: (value - fn.loc) / fn.scale
    ),
    dist.LogNormal: _gaussianizing(
        "log_normal",
        lambda fn, u: jnp.exp(fn.loc + fn.scale * u),
        lambda fn, value: (jnp.log(value) - fn.loc) / fn.scale,
    ),
    dist.Laplace: Coordinate("scaled_laplace", _scaled_laplace_constrain, _scaled_laplace_unconstrain),
    dist.Exponential: Coordinate("ramp_exponential", _ramp_constrain, _ramp_unconstrain),
    dist.HalfNormal: _gaussianizing("half_normal", _half_normal_forward, _half_normal_inverse),
    dist.Cauchy: _gaussianizing("cauchy", _cauchy_forward, _cauchy_inverse),
    dist.HalfCauchy: _gaussianizing("half_cauchy", _half_cauchy_forward, _half_cauchy_inverse),
    dist.Uniform: _gaussianizing(
        "uniform",
        lambda fn, u: fn.low + (fn.high - fn.low) * ndtr(u),
        lambda fn, value: ndtri((value - fn.low) / (fn.high - fn.low)),
    ),
    dist.Gamma: Coordinate("gamma_cube_root", _gamma_constrain, _gamma_unconstrain),
    dist.InverseGamma: Coordinate("inverse_gamma_cube_root", _inverse_gamma_constrain, _inverse_gamma_unconstrain),
}

_GAUSSIANIZING: dict[type, Coordinate] = {
    dist.Laplace: _gaussianizing("laplace", _laplace_forward, _laplace_inverse),
    dist.Exponential: _gaussianizing("exponential", lambda fn, u: -log_ndtr(-u) / fn.rate, _exponential_inverse),
}
_SOFTPLUS: dict[type, Coordinate] = {
    dist.HalfNormal: Coordinate(
        "softplus_half_normal", _softplus_half_normal_constrain, _softplus_half_normal_unconstrain
    ),
}


def register(law: type, coordinate: Coordinate) -> None:
    """Make a coordinate the one of all sites with a law; its map reads the law's parameters, as broadcast arrays."""
    _REGISTRY[law] = coordinate


_OVERRIDES = ("bijector", "gaussianizing", "softplus")


def resolve(fn: Any, override: str | None = None) -> tuple[Coordinate, Any]:
    """The coordinate for a site's distribution, and the distribution its map reads.

    Args:
        fn: the site's NumPyro distribution, possibly expanded or made independent.
        override: ``"bijector"`` to use NumPyro's own transform, ``"gaussianizing"`` for the map under
            which a Laplace or exponential prior is standard normal, ``"softplus"`` for one that is linear over the
            bulk of a half-normal prior, or ``None``.

    Raises:
        ValueError: for an unknown override.
    """
    if override == _BIJECTOR.name:
        return _BIJECTOR, fn
    if override is not None and override not in _OVERRIDES:
        choices = ", ".join(map(repr, _OVERRIDES))
        raise ValueError(f"Unknown coordinate {override!r}; choices: None (automatic), {choices}.")
    shape = tuple(fn.shape())
    inner = fn
    while isinstance(inner, (dist.Independent, dist.ExpandedDistribution)):
        inner = inner.base_dist
    if isinstance(inner, dist.MultivariateNormal):
        return _MULTIVARIATE_NORMAL, _MultivariateNormal(inner, shape)
    coordinate = _REGISTRY.get(type(inner))
    if override == "gaussianizing":
        coordinate = _GAUSSIANIZING.get(type(inner), coordinate)
    if override == "softplus":
        coordinate = _SOFTPLUS.get(type(inner), coordinate)
    if coordinate is None:
        return _BIJECTOR, fn
    return coordinate, _Broadcast(inner, shape)


class _Broadcast:
    """A base distribution's parameters, broadcast to the full shape of the site; those it lacks are not set."""

    loc: Array
    scale: Array
    rate: Array
    concentration: Array
    low: Array
    high: Array

    def __init__(self, fn: Any, shape: tuple[int, ...]) -> None:
        self._shape = shape
        for name in fn.arg_constraints:
            setattr(self, name, jnp.broadcast_to(getattr(fn, name), shape))

    def shape(self) -> tuple[int, ...]:
        return self._shape

    @classmethod
    def joined(cls, laws: list[_Broadcast]) -> _Broadcast:
        """The parameters of laws of one kind, one after the other."""
        found = cls.__new__(cls)
        names = [name for name in vars(laws[0]) if name != "_shape"]
        for name in names:
            setattr(found, name, jnp.concatenate([jnp.ravel(getattr(law, name)) for law in laws]))
        found._shape = (sum(math.prod(law.shape()) for law in laws),)
        return found


def joined(resolved: list[tuple[Coordinate, Any]]) -> tuple[Coordinate, Any]:
    """One coordinate for several sites ``resolved`` to the same elementwise one, which reads their laws in a row.

    Raises:
        ValueError: for sites whose coordinates differ, or are not elementwise.
    """
    names = sorted({coordinate.name for coordinate, _ in resolved})
    laws = [fn for _, fn in resolved]
    if len(names) > 1 or not all(isinstance(fn, _Broadcast) for fn in laws):
        raise ValueError(f"Only sites with one elementwise coordinate can be mapped together; received {names}.")
    return resolved[0][0], _Broadcast.joined(laws)


class _MultivariateNormal:
    """Location ``(..., k)`` and Cholesky factor ``(..., k, k)``, which broadcast to the full shape of the site."""

    def __init__(self, fn: dist.MultivariateNormal, shape: tuple[int, ...]) -> None:
        self.loc, self.scale_tril = jnp.asarray(fn.loc), jnp.asarray(fn.scale_tril)
        self._shape = shape

    def shape(self) -> tuple[int, ...]:
        return self._shape
