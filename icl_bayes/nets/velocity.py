"""The velocity field of one data set: network output, path and base put together."""

from __future__ import annotations

from collections.abc import Callable

import jax

from icl_bayes.flow.bases import Affine
from icl_bayes.flow.paths import Path
from icl_bayes.nets.model import InContextFlow, Memory

Array = jax.Array
LogDensity = Callable[[Array], Array]


def residual_score(log_density_fn: LogDensity, affine: Affine, u: Array) -> Array:
    """Gradient of ``log density - log N(0, I)`` in base coordinates ``u``, ``(dim,)``.

    Zero everywhere when the density is Gaussian and the base matches it.
    """
    return jax.grad(lambda u: log_density_fn(affine.forward(u)))(u) + u


def make_velocity(
    model: InContextFlow, memory: Memory, path: Path, affine: Affine, log_density_fn: LogDensity | None
) -> Callable[[Array, Array], Array]:
    """``(t (), x (dim,)) -> velocity (dim,)`` in base coordinates.

    Args:
        affine: the base of this data set.
        log_density_fn: log joint of theta; needed when the velocity sees the score, else ``None``.
    """
    sees_score = model.config.inputs == "theta_and_score"
    if sees_score and log_density_fn is None:
        raise ValueError("This network's velocity sees the score, so it needs the log joint of the task.")

    def velocity(t: Array, x: Array) -> Array:
        score = residual_score(log_density_fn, affine, path.denoised(t, x)) if sees_score else None
        out = model.output(t, x, memory, score)
        if model.config.parametrization == "velocity":
            return out
        return path.drift(t) * x + path.gain(t) * out

    return velocity
