"""Fitting the flow's own map to its target: the gradient of their squared Hellinger distance.

Regression on a velocity says little about where the few draws go that end up beside the target: what they cost is as
small as they are rare. A divergence between the law ``q`` of draws and the target ``p`` counts such draws at what they
are worth, and takes the map as it is run, with its solver and number of steps.

Let ``gap(x)`` be the gradient in ``x`` of ``log q - log p``. A change ``df`` of the map changes ``KL(q || p)`` by the
mean of ``gap(x) . df(z)`` over draws ``x = f(z)`` (path gradients: Roeder et al., 2017; for flows Vaitl et al., 2022),
and every divergence ``E_q[F(p / q)]`` by that of ``c(p / q) gap(x) . df(z)`` with ``c(w) = w^2 F''(w)``. Where the two
laws agree the gap is zero at every draw, not on average alone, so that there the gradient has no noise.

For the squared Hellinger distance, ``1 - integral of sqrt(p q)``, that is ``c = sqrt(w) / 4``; over draws of both laws
in equal parts the weight is ``sech((log q - log p) / 2) / 4``, between 0 and 1/4 for all of them: neither draws where
the target has next to nothing nor target draws that the flow seldom reaches can outweigh the others.

All of this holds for maps with continuous derivatives. A kink, such as a ReLU's, makes the density of draws jump, and
no gradient at a draw tells of that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from icl_bayes.flow.density import Map, value_and_jacobian

Array = jax.Array
LogDensity = Callable[[Array], Array]
"""``(dim,) -> ()``."""

MAX_PUSH = 20.0
"""Norm of a weighted gap beyond which it is cut, lest a single draw be the whole gradient."""


class Gap(NamedTuple):
    """Of one draw of the flow.

    Attributes:
        log_ratio: ``()``, log density of the draw minus log target, up to the target's constant.
        gradient: ``(dim,)``, of the log ratio in the draw.
    """

    log_ratio: Array
    gradient: Array


def gap_at(map_fn: Map, log_noise: LogDensity, log_target: LogDensity, z: Array) -> Gap:
    """The gap at the draw that noise ``z (dim,)`` leads to.

    Args:
        map_fn: noise to draw, with continuous derivatives.
        log_noise: log density of the noise.
        log_target: of a draw, up to a constant.
    """

    def log_ratio(z: Array) -> tuple[Array, Array]:
        x, jacobian = value_and_jacobian(map_fn, z)
        return log_noise(z) - jnp.linalg.slogdet(jacobian)[1] - log_target(x), jacobian

    (value, jacobian), slope = jax.value_and_grad(log_ratio, has_aux=True)(z)
    return Gap(value, jnp.linalg.solve(jacobian.T, slope))


class Hellinger(NamedTuple):
    """An estimate of the squared Hellinger distance.

    Attributes:
        value: ``()``, between 0 (the same law) and 1.
        pushes: ``(num, dim)``: the mean of ``pushes . df(z)`` is the change of the value with a change ``df`` of the
            map. A draw whose gap is not finite has none.
    """

    value: Array
    pushes: Array


def hellinger(gaps: Gap) -> Hellinger:
    """From the gaps ``(num,)`` at draws of flow and target, as many of the one as of the other.

    The target's constant is taken to be where the median log ratio is zero, which takes no overlap for granted.
    """
    finite = jnp.isfinite(gaps.log_ratio) & jnp.all(jnp.isfinite(gaps.gradient), axis=1)
    log_ratio = jnp.where(finite, gaps.log_ratio, jnp.nan)
    overlap = 1.0 / jnp.cosh(0.5 * jnp.clip(log_ratio - jnp.nanmedian(log_ratio), -100.0, 100.0))
    overlap = jnp.where(finite, overlap, 0.0)
    pushes = 0.25 * overlap[:, None] * jnp.where(finite[:, None], gaps.gradient, 0.0)
    sizes = jnp.linalg.norm(pushes, axis=1, keepdims=True)
    return Hellinger(1.0 - jnp.mean(overlap), pushes / jnp.maximum(1.0, sizes / (0.25 * MAX_PUSH)))
