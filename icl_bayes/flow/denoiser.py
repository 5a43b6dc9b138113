"""What a draw was before noise was added, by importance sampling: for tasks that have no denoiser of their own."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp

from icl_bayes.flow.mode_search import LogDensity
from icl_bayes.flow.variational import gaussian_points

Array = jax.Array

NUM_POINTS = (256, 256)
"""Of each set, which is fitted to the sets before it. Networks correct what these give: with others, train again."""
MAX_DENOISED = 8
"""Dimensions in which so many points say something."""
LEAST_SHARE = 0.05
"""Of the variance of a set of points along every axis that the next one keeps at least."""
LOWEST = -1e6
"""Log weight, relative to the largest one, of a point where the log density is not finite."""


def importance_denoiser(log_density_fn: LogDensity, dim: int) -> Callable[[Array, Array, Array], tuple[Array, Array]]:
    """``(x (dim,), alpha (), sigma ()) -> mean (dim,), pointer (dim,)`` of ``x_1`` given ``x = alpha x_1 + sigma x_0``.

    If the density were N(0, I), ``x_1`` would be Gaussian given ``x``. Fixed points of that Gaussian are weighted by
    the ratio of the density to N(0, I); points of a Gaussian of their weighted mean and variances follow, and so on.
    All are weighted against the mixture of the Gaussians that they come from (Owen and Zhou, 2000), which makes their
    mean that of ``x_1`` given ``x``, the better the less noise there is. ``pointer - mean`` is the gradient of the log
    ratio at the mean: where points are too sparse to meet the density's narrow parts, it still says where they lie.

    Args:
        log_density_fn: ``(dim,) -> ()``, unnormalized, in coordinates in which the prior is about standard normal.
        dim: at most :data:`MAX_DENOISED`.

    Raises:
        ValueError: for more dimensions than that.
    """
    if dim > MAX_DENOISED:
        raise ValueError(
            f"Denoising by importance sampling is for at most {MAX_DENOISED} dimensions; received {dim}. Use "
            "model.inputs=theta_and_score."
        )
    noises = [jnp.asarray(gaussian_points(dim, num)) for num in NUM_POINTS]

    def log_ratio(u: Array) -> Array:
        return log_density_fn(u) + 0.5 * jnp.sum(u**2)

    def denoise(x: Array, alpha: Array, sigma: Array) -> tuple[Array, Array]:
        variance = alpha**2 + sigma**2
        center, spread = alpha * x / variance, sigma / jnp.sqrt(variance)

        # In units of that Gaussian: points z, of which x_1 is center + spread z.
        def log_target(z: Array) -> Array:
            return log_ratio(center + spread * z) - 0.5 * jnp.sum(z**2)

        shift, scale = jnp.zeros(dim), jnp.ones(dim)
        shifts, scales, points, targets = [], [], [], []
        for noise in noises:
            shifts.append(shift)
            scales.append(scale)
            points.append(shift + scale * noise)
            targets.append(jax.vmap(log_target)(points[-1]))
            weights = _weights(points, targets, shifts, scales)
            shift = weights @ jnp.concatenate(points)
            spread_out = weights @ (jnp.concatenate(points) - shift) ** 2
            scale = jnp.sqrt(spread_out + LEAST_SHARE * scale**2)
        mean = center + spread * shift
        slope = jax.grad(log_ratio)(mean)
        return mean, mean + jnp.where(jnp.isfinite(slope), slope, 0.0)

    return denoise


def _weights(points: list[Array], log_targets: list[Array], shifts: list[Array], scales: list[Array]) -> Array:
    """Of all points against the mixture of the Gaussians that they come from, ``(num,)``, summing to one."""
    joined = jnp.concatenate(points)
    log_proposals = [
        jnp.log(len(own)) - 0.5 * jnp.sum(((joined - shift) / scale) ** 2, axis=1) - jnp.sum(jnp.log(scale))
        for own, shift, scale in zip(points, shifts, scales, strict=True)
    ]
    log_weights = jnp.concatenate(log_targets) - logsumexp(jnp.stack(log_proposals), axis=0)
    finite = jnp.isfinite(log_weights)
    best = jnp.max(jnp.where(finite, log_weights, -jnp.inf), initial=LOWEST)
    return jax.nn.softmax(jnp.where(finite, log_weights, best + LOWEST))
