"""The velocity field of one data set: network output, path and base put together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from icl_bayes.flow.bases import Affine
from icl_bayes.flow.paths import Path
from icl_bayes.nets.model import squash

Array = jax.Array
LogDensity = Callable[[Array], Array]
Denoiser = Callable[[Array, Array, Array], tuple[Array, Array]]
"""``(x (dim,), alpha (), sigma ()) -> means`` of ``x_1``, each ``(dim,)``: with the view ``x = alpha x_1 + sigma x_0``,
and without."""

Scores = Callable[[Array, Array], Array]
"""``(theta (dim,), spread ()) -> (2, dim)``: gradients of the log joint, averaged around ``theta``, and there."""


def residual_score(log_density_fn: LogDensity, affine: Affine, u: Array) -> Array:
    """Gradient of ``log density - log N(0, I)`` in base coordinates ``u``, ``(dim,)``.

    Zero everywhere when the density is Gaussian and the base matches it.
    """
    return jax.grad(affine.pulled_back(log_density_fn))(u) + u


MIN_SIGMA = 1e-4
"""Of the noise that a denoised state is divided by."""


class Smoothing(NamedTuple):
    """How the residual score changes when it is averaged over N(u, I), about the base's center.

    The change at ``u`` is near ``constant + slope.T @ u``, and grows with the variance averaged over.

    Attributes:
        constant: ``(dim,)``.
        slope: ``(dim, dim)``.
    """

    constant: Array
    slope: Array


def smoothing_of(log_density_fn: LogDensity, affine: Affine) -> Smoothing:
    """Linear fit of the smoothing of the score, computed once per data set.

    The velocity needs the conditional mean of the residual score over ``x_1 | x_t``, whose law is
    about N(denoised, spread^2 I) (:mod:`icl_bayes.flow.paths`). The score at its center is only the
    first-order answer; what averaging adds depends on third and fourth derivatives of the log
    joint. It is found at the center and one standard deviation along every axis, by three-point
    Gauss-Hermite rules, from ``(2 dim + 1)^2`` gradients: nothing beside the draws' own.
    """
    dim = affine.shift.shape[0]
    eye = jnp.eye(dim)
    step = jnp.sqrt(3.0)
    offsets = jnp.concatenate([jnp.zeros((1, dim)), step * eye, -step * eye])
    centers = jnp.concatenate([jnp.zeros((1, dim)), eye, -eye])
    points = centers[:, None, :] + offsets[None, :, :]
    scores = jax.vmap(lambda u: squash(residual_score(log_density_fn, affine, u)))(points.reshape(-1, dim))
    scores = scores.reshape(points.shape)
    change = (jnp.sum(scores[:, 1:], axis=1) - 2.0 * dim * scores[:, 0]) / 6.0
    return Smoothing(change[0], 0.5 * (change[1 : dim + 1] - change[dim + 1 :]))


def score_inputs(
    log_density_fn: LogDensity, affine: Affine, path: Path, t: Array, x: Array, smoothing: Smoothing | None
) -> Array:
    """What the velocity sees of the log joint, ``(kinds, dim)``, bounded, the best estimate first."""
    center = path.denoised(t, x)
    score = squash(residual_score(log_density_fn, affine, center))
    if smoothing is None:
        return score[None, :]
    change = path.spread(t) ** 2 * (smoothing.constant + center @ smoothing.slope)
    return jnp.stack([score + squash(change), score])


def averaged_inputs(scores: Scores, affine: Affine, path: Path, t: Array, x: Array) -> Array:
    """What the velocity sees of the log joint where the task averages its gradient itself, ``(2, dim)``, bounded."""
    center = path.denoised(t, x)
    return squash(scores(affine.forward(center), path.spread(t)) @ affine.scale + center)


def denoised_inputs(denoiser: Denoiser, path: Path, t: Array, x: Array) -> Array:
    """What the velocity sees of a denoiser, ``(2, dim)``: the velocity of its mean, and where the data alone point."""
    alpha, sigma, alpha_dot, sigma_dot = path.coefficients(t)
    mean, center = denoiser(x, alpha, sigma)
    noise = (x - alpha * mean) / jnp.maximum(sigma, MIN_SIGMA)
    return jnp.stack([alpha_dot * mean + sigma_dot * noise, squash(center - mean)])


def make_velocity(
    model: Any,
    memory: Any,
    path: Path,
    affine: Affine,
    log_density_fn: LogDensity | None,
    denoiser: Denoiser | None = None,
    averaged: Scores | None = None,
) -> Callable[[Array, Array], Array]:
    """``(t (), x (dim,)) -> velocity (dim,)`` in base coordinates.

    Args:
        model, memory: :class:`InContextFlow` or :class:`ColumnFlow`, and what it made of the data set.
        affine: the base of this data set.
        log_density_fn: log joint of theta; needed when the velocity sees the score, else ``None``.
        denoiser: of the task, for a standard base; needed when the velocity sees what it returns, else ``None``.
        averaged: of a task that averages the gradient of its log joint itself, in the place of ``log_density_fn``.
    """
    sees_score = model.config.inputs == "theta_and_score"
    sees_denoised = model.config.inputs == "theta_and_denoised"
    if sees_denoised and denoiser is None:
        raise ValueError("This network's velocity corrects a denoiser, so it needs that of the task.")
    if sees_score and log_density_fn is None and averaged is None:
        raise ValueError("This network's velocity sees the score, so it needs the log joint of the task.")
    seen = log_density_fn if sees_score else None
    smoothing = smoothing_of(seen, affine) if seen is not None and model.config.smoothed_score else None

    # Whitened coordinates say nothing of where among several Gaussians a draw is.
    place = None
    if affine.rivals is not None:
        place = jnp.stack([affine.shift, jnp.log(jnp.diagonal(affine.scale))])

    def velocity(t: Array, x: Array) -> Array:
        scores = None
        if averaged is not None:
            scores = averaged_inputs(averaged, affine, path, t, x)
        elif seen is not None:
            scores = score_inputs(seen, affine, path, t, x, smoothing)
        elif sees_denoised and denoiser is not None:
            scores = denoised_inputs(denoiser, path, t, x)
        out = model.output(t, x, memory, scores) if place is None else model.output(t, x, memory, scores, place)
        if model.config.parametrization == "velocity":
            return out
        return path.drift(t) * x + path.gain(t) * out

    return velocity
