"""The velocity field of one data set: network output, path and base put together."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from icl_bayes.flow.bases import Affine
from icl_bayes.flow.paths import Path
from icl_bayes.nets.model import InContextFlow, Memory, squash

Array = jax.Array
LogDensity = Callable[[Array], Array]


def residual_score(log_density_fn: LogDensity, affine: Affine, u: Array) -> Array:
    """Gradient of ``log density - log N(0, I)`` in base coordinates ``u``, ``(dim,)``.

    Zero everywhere when the density is Gaussian and the base matches it.
    """
    return jax.grad(lambda u: log_density_fn(affine.forward(u)))(u) + u


def score_inputs(
    log_density_fn: LogDensity, affine: Affine, path: Path, t: Array, x: Array, *, smoothing: bool
) -> Array:
    """What the velocity sees of the log joint, ``(kinds, dim)``, bounded.

    The velocity needs the conditional mean of the residual score over ``x_1 | x_t``, whose law is
    about N(denoised, spread^2 I) (see :mod:`icl_bayes.flow.paths`). The score at its center is the
    first-order answer; its mean over the symmetric points ``center +- sqrt(3) spread e_k`` also
    sees curvature, for ``2 dim`` more gradients, each cheaper than a layer.
    """
    center = path.denoised(t, x)
    at_center = squash(residual_score(log_density_fn, affine, center))
    if not smoothing:
        return at_center[None, :]
    offsets = jnp.sqrt(3.0) * path.spread(t) * jnp.eye(x.shape[0])
    points = jnp.concatenate([center[None, :] + offsets, center[None, :] - offsets])
    around = jax.vmap(lambda u: squash(residual_score(log_density_fn, affine, u)))(points)
    return jnp.stack([jnp.mean(around, axis=0), at_center])


def make_velocity(
    model: InContextFlow, memory: Memory, path: Path, affine: Affine, log_density_fn: LogDensity | None
) -> Callable[[Array, Array], Array]:
    """``(t (), x (dim,)) -> velocity (dim,)`` in base coordinates.

    Args:
        affine: the base of this data set.
        log_density_fn: log joint of theta; needed when the velocity sees the score, else ``None``.
    """
    sees_score = model.config.inputs == "theta_and_score"
    smoothing = model.config.score_smoothing
    if sees_score and log_density_fn is None:
        raise ValueError("This network's velocity sees the score, so it needs the log joint of the task.")

    def velocity(t: Array, x: Array) -> Array:
        scores = score_inputs(log_density_fn, affine, path, t, x, smoothing=smoothing) if sees_score else None
        out = model.output(t, x, memory, scores)
        if model.config.parametrization == "velocity":
            return out
        return path.drift(t) * x + path.gain(t) * out

    return velocity
