"""Regression losses whose minimizer is the marginal velocity of a path.

One example is one draw: ``(dim,)`` vectors and a scalar time. Batches come from ``vmap``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from icl_bayes.flow.paths import Path

Array = jax.Array
Velocity = Callable[[Array, Array], Array]
"""``(t (), x (dim,)) -> velocity (dim,)``."""

LOSSES = ("flow_matching", "target_score", "stable_target")


class Example(NamedTuple):
    """One regression example.

    Attributes:
        t: ``()`` time.
        x0: ``(dim,)`` base noise.
        x1: ``(dim,)`` a draw of the target, in the coordinates of the base.
        residual_score: ``(dim,)``, gradient of ``log target - log N(0, I)`` at ``x1``; zeros when
            the likelihood is not available.
    """

    t: Array
    x0: Array
    x1: Array
    residual_score: Array


class Pool(NamedTuple):
    """Draws of the target that stand for its whole law.

    Attributes:
        draws: ``(num_draws, dim)``, in the coordinates of the base.
        log_weights: ``(num_draws,)``, up to a constant.
    """

    draws: Array
    log_weights: Array


def stratified_times(rng_key: Array, num: int, final_time: float = 1.0) -> Array:
    """``num`` times in (0, final_time), one per stratum in random order, ``(num,)``."""
    offset_key, order_key = jax.random.split(rng_key)
    offsets = jax.random.uniform(offset_key, (num,))
    return final_time * jax.random.permutation(order_key, (jnp.arange(num) + offsets) / num)


def flow_matching_loss(path: Path, velocity_fn: Velocity, example: Example, pool: Pool | None = None) -> Array:
    """Squared error to the conditional velocity (Lipman et al., 2023), mean over coordinates, ``()``."""
    del pool
    x, target = path.interpolate(example.t, example.x0, example.x1)
    return jnp.mean((velocity_fn(example.t, x) - target) ** 2)


def target_score_loss(path: Path, velocity_fn: Velocity, example: Example, pool: Pool | None = None) -> Array:
    """Squared error to the velocity built from the target's score at ``x1``, ``()``.

    Because ``v = drift x + gain E[residual score at x_1 | x_t]`` (see :mod:`icl_bayes.flow.paths`), the
    residual score is as valid a regression target as the conditional velocity, and its
    conditional variance vanishes for Gaussian posteriors, where flow matching's does not (the
    flow-matching form of target score matching; De Bortoli et al., 2024).
    """
    del pool
    x, _ = path.interpolate(example.t, example.x0, example.x1)
    target = path.drift(example.t) * x + path.gain(example.t) * example.residual_score
    return jnp.mean((velocity_fn(example.t, x) - target) ** 2)


def stable_target_loss(path: Path, velocity_fn: Velocity, example: Example, pool: Pool | None = None) -> Array:
    """Squared error to the mean of the conditional velocities of a whole pool given ``x_t``, ``()``.

    What flow matching regresses on is one draw of the conditional velocity given ``x_t``. Several draws of the same
    target, each weighted by how well it explains ``x_t``, have a mean with a fraction of that variance (Xu, Tong and
    Jaakkola, 2023). The pool should hold ``x1`` itself; the bias is of the order of one over its size.
    """
    if pool is None:
        raise ValueError("The loss stable_target needs a pool of draws beside the example.")
    x, _ = path.interpolate(example.t, example.x0, example.x1)
    alpha, sigma, alpha_dot, sigma_dot = path.coefficients(example.t)
    distances = jnp.sum(((x[None, :] - alpha * pool.draws) / sigma) ** 2, axis=1)
    mean = jax.nn.softmax(pool.log_weights - 0.5 * distances) @ pool.draws
    return jnp.mean((velocity_fn(example.t, x) - alpha_dot * mean - sigma_dot / sigma * (x - alpha * mean)) ** 2)


_LOSS_FUNCTIONS = {
    "flow_matching": flow_matching_loss,
    "target_score": target_score_loss,
    "stable_target": stable_target_loss,
}


def make_loss(name: str) -> Callable[..., Array]:
    """``(path, velocity_fn, example, pool) -> ()`` by name; an unknown name is a ValueError that lists the choices.

    The pool may be left out where the loss has no use for it.
    """
    if name not in LOSSES:
        raise ValueError(f"Unknown loss {name!r}; choices: {sorted(LOSSES)}.")
    return _LOSS_FUNCTIONS[name]
