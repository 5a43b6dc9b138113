"""Probability paths between a base (t = 0, noise) and a target (t = 1, data).

Time runs from noise at ``t = 0`` to data at ``t = 1``, everywhere in this package. A path is
``x_t = alpha(t) x_1 + sigma(t) x_0`` with ``x_0 ~ N(0, I)`` independent of ``x_1``.

If the target is ``N(0, I)`` tilted by ``exp(h)``, the marginal velocity of every such path is

    v(t, x) = drift(t) x + gain(t) E[grad h(x_1) | x_t = x],

with ``drift`` the velocity that transports N(0, I) to itself. A network that predicts the
expectation is exact at initialization for a Gaussian posterior, and the conditional mean it
regresses on is small when the posterior is nearly Gaussian. :meth:`Path.drift`,
:meth:`Path.gain` and :meth:`Path.denoised` give the pieces.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

Array = jax.Array


class Coefficients(NamedTuple):
    """``alpha, sigma`` and their time derivatives, each of the shape of ``t``."""

    alpha: Array
    sigma: Array
    alpha_dot: Array
    sigma_dot: Array


@dataclass(frozen=True)
class Path:
    """An interpolation between base and target.

    Attributes:
        name: see :data:`PATHS`.
        coefficients: ``t -> Coefficients``.
        final_time: where sampling stops (1 unless the path is singular there).
        starts_at_noise: whether ``alpha(0)`` is exactly zero.
    """

    name: str
    coefficients: Callable[[Array], Coefficients]
    final_time: float = 1.0
    starts_at_noise: bool = True

    def interpolate(self, t: Array, x0: Array, x1: Array) -> tuple[Array, Array]:
        """``x_t`` and the conditional velocity ``d x_t / d t``; ``t`` is ``()``, the rest ``(dim,)``."""
        alpha, sigma, alpha_dot, sigma_dot = self.coefficients(t)
        return alpha * x1 + sigma * x0, alpha_dot * x1 + sigma_dot * x0

    def drift(self, t: Array) -> Array:
        """Factor of ``x`` in the velocity that maps N(0, I) to N(0, I)."""
        alpha, sigma, alpha_dot, sigma_dot = self.coefficients(t)
        return (alpha * alpha_dot + sigma * sigma_dot) / (alpha**2 + sigma**2)

    def gain(self, t: Array) -> Array:
        """Factor of the conditional mean of ``grad h`` in the velocity."""
        alpha, sigma, alpha_dot, sigma_dot = self.coefficients(t)
        return (alpha_dot * sigma - alpha * sigma_dot) * sigma / (alpha**2 + sigma**2)

    def denoised(self, t: Array, x: Array) -> Array:
        """``E[x_1 | x_t = x]`` if the target were N(0, I)."""
        alpha, sigma, _, _ = self.coefficients(t)
        return alpha * x / (alpha**2 + sigma**2)

    def spread(self, t: Array) -> Array:
        """Standard deviation of ``x_1 | x_t`` if the target were N(0, I)."""
        alpha, sigma, _, _ = self.coefficients(t)
        return sigma / jnp.sqrt(alpha**2 + sigma**2)

    def start_velocity(
        self, velocity_fn: Callable[[Array, Array], Array], x0: Array, at_origin: Array | None = None
    ) -> Array | None:
        """Velocities at ``t = 0`` of draws ``x0 (num_draws, dim)`` from one evaluation, if the path allows it.

        At ``t = 0`` a state is noise alone and says nothing about ``x_1``, so that
        ``v(0, x) = alpha'(0) E[x_1] + sigma'(0) / sigma(0) x``: the velocity at the origin gives all others.
        Exact for the true velocity; a trained network follows it as nearly as it was trained.
        ``None`` where the path starts with a trace of the target.

        Args:
            velocity_fn: ``(t (), x (dim,)) -> (dim,)``.
            at_origin: ``velocity_fn(0, 0)``, where it is known.
        """
        if not self.starts_at_noise:
            return None
        zero = jnp.zeros(())
        _, sigma, _, sigma_dot = self.coefficients(zero)
        at_origin = velocity_fn(zero, jnp.zeros(x0.shape[-1:])) if at_origin is None else at_origin
        return at_origin + sigma_dot / sigma * x0


def _linear(minimal_sigma: float) -> Callable[[Array], Coefficients]:
    def coefficients(t: Array) -> Coefficients:
        one = jnp.ones_like(t)
        return Coefficients(t, 1.0 - (1.0 - minimal_sigma) * t, one, -(1.0 - minimal_sigma) * one)

    return coefficients


def _cosine(t: Array) -> Coefficients:
    half_pi = 0.5 * jnp.pi
    sine, cosine = jnp.sin(half_pi * t), jnp.cos(half_pi * t)
    return Coefficients(sine, cosine, half_pi * cosine, -half_pi * sine)


def _variance_preserving(beta_min: float, beta_max: float) -> Callable[[Array], Coefficients]:
    def coefficients(t: Array) -> Coefficients:
        s = 1.0 - t  # diffusion time, zero at the data
        log_alpha = -0.25 * s**2 * (beta_max - beta_min) - 0.5 * s * beta_min
        beta = beta_min + s * (beta_max - beta_min)
        alpha = jnp.exp(log_alpha)
        sigma = jnp.sqrt(-jnp.expm1(2.0 * log_alpha))
        alpha_dot = 0.5 * beta * alpha
        return Coefficients(alpha, sigma, alpha_dot, -alpha * alpha_dot / sigma)

    return coefficients


PATHS: dict[str, Path] = {
    # The paper's optimal-transport path, x_t = (1 - (1 - 1e-4) t) x_0 + t x_1.
    "linear": Path("linear", _linear(1e-4)),
    # Constant variance: with a base that matches it a Gaussian posterior needs no motion at all.
    "cosine": Path("cosine", _cosine),
    # The paper's appendix L: linear beta schedule 0.1 to 20, cut 1e-5 before the data.
    "variance_preserving": Path(
        "variance_preserving", _variance_preserving(0.1, 20.0), 1.0 - 1e-5, starts_at_noise=False
    ),
}


def make_path(name: str) -> Path:
    """A path by name; an unknown name is a ValueError that lists the choices."""
    if name not in PATHS:
        raise ValueError(f"Unknown path {name!r}; choices: {sorted(PATHS)}.")
    return PATHS[name]
