"""One order of exchangeable components for all draws, so that each coordinate has a center and a scale.

The posterior of a mixture has one copy of every mode for each order of its components. Of these copies a draw has
exactly one that lies nearest to given centers; those nearest copies are draws of the posterior restricted to a region,
and a chain that refuses to leave the region leaves that law invariant. There, moments are those of components and not
of their permutations.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from icl_bayes.tasks import Task
from icl_bayes.types import Array

MAX_COMPONENTS = 6
"""All orders are compared."""
_ROUNDS = 2
_MIN_SCALE = 0.01


class Alignment(NamedTuple):
    """Centers and scales of aligned draws, each ``(dim,)``; the region is where no other order is nearer."""

    center: Array
    scale: Array


def supports_alignment(task: Task) -> bool:
    """Whether a task has components that may be permuted, and few enough of them."""
    return 1 < task.num_exchangeable <= MAX_COMPONENTS


def _nearest(task: Task, alignment: Alignment, theta: Array) -> Array:
    """Index of the order in which ``theta`` ``(dim,)`` lies nearest, ``()``."""
    where, orders = task.components, task.orders
    parts, center, scale = theta[where], alignment.center[where], alignment.scale[where]
    # (i, j): component j of theta in the place of component i.
    costs = jnp.sum(((parts[None, :, :] - center[:, None, :]) / scale[:, None, :]) ** 2, axis=2)
    totals = jnp.sum(costs[jnp.arange(task.num_exchangeable), orders], axis=1)
    return jnp.argmin(totals)


def align(task: Task, alignment: Alignment, theta: Array) -> tuple[Array, Array]:
    """``theta`` ``(dim,)`` in the order in which it lies nearest, and the order that leads back."""
    order = jnp.asarray(task.orders)[_nearest(task, alignment, theta)]
    return task.relabel(theta, order), jnp.argsort(order)


def is_aligned(task: Task, alignment: Alignment, theta: Array) -> Array:
    """Whether ``theta`` lies in the region, ``()``."""
    return _nearest(task, alignment, theta) == 0


def alignment_of(task: Task, thetas: Array, start: Array) -> Alignment:
    """From draws ``(num_draws, dim)``; the first round aligns them with one of them.

    Args:
        start: ``(dim,)``, the draw to begin with.
    """
    alignment = Alignment(start, jnp.ones(task.dim))
    for _ in range(_ROUNDS):
        aligned = jax.vmap(lambda theta, alignment=alignment: align(task, alignment, theta)[0])(thetas)
        alignment = Alignment(jnp.mean(aligned, axis=0), jnp.maximum(jnp.std(aligned, axis=0), _MIN_SCALE))
    return alignment
