"""Polish: a few Hamiltonian moves from every draw, which leave the posterior invariant.

Exact draws stay exact, others come closer; what moves can't mend is the weight of separated modes. Chains move in the
whitened coordinates of the network's base, with one step size for all, found on draws set aside for that purpose: it
depends on no draw that is moved, so that every move is exactly invariant.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import blackjax
import jax
import jax.numpy as jnp

from icl_bayes.baselines.parallel_hmc import default_step_size
from icl_bayes.types import Array

NUM_PILOTS = 64
"""Draws set aside to find the step size."""
NUM_LEAPFROGS = 5
LADDER = (1.0, 0.7, 0.5, 0.35, 0.25, 0.18, 0.125, 0.09, 0.0625)
"""Step sizes tried, relative to the one for a standard normal posterior."""
JITTER = (0.4, 1.2)
"""Range of the random factor of every move's step size: no period resonates, and narrow places are met too."""


class PolishInfo(NamedTuple):
    """How the moves went.

    Attributes:
        acceptance: ``()``, mean acceptance rate; one where nothing was moved.
        step_size: ``()``, in whitened coordinates; zero where nothing was moved.
    """

    acceptance: Array
    step_size: Array


def _move(log_density_fn: Callable[[Array], Array], rng_key: Array, state: Any, step_size: Array) -> tuple[Any, Array]:
    jitter_key, kernel_key = jax.random.split(rng_key)
    step_size = step_size * jax.random.uniform(jitter_key, minval=JITTER[0], maxval=JITTER[1])
    ones = jnp.ones_like(state.position)
    kernel = blackjax.hmc.build_kernel()
    state, info = kernel(kernel_key, state, log_density_fn, step_size, ones, NUM_LEAPFROGS)
    return state, info.acceptance_rate


def find_step_size(rng_key: Array, log_density_fn: Callable[[Array], Array], pilots: Array) -> Array:
    """The step size of :data:`LADDER` with which the pilots jump farthest, ``()``.

    Args:
        log_density_fn: ``(dim,)`` to ``()``, in whitened coordinates.
        pilots: ``(num, dim)``.
    """
    states = jax.vmap(lambda start: blackjax.hmc.init(start, log_density_fn))(pilots)
    keys = jax.random.split(rng_key, len(pilots))

    def squared_jump(step_size: Array) -> Array:
        moved, _ = jax.vmap(lambda key, state: _move(log_density_fn, key, state, step_size))(keys, states)
        return jnp.mean(jnp.sum((moved.position - pilots) ** 2, axis=1))

    ladder = default_step_size(pilots.shape[1]) * jnp.asarray(LADDER)
    return ladder[jnp.argmax(jax.lax.map(squared_jump, ladder))]


def polish(
    rng_key: Array, keys: Array, log_density_fn: Callable[[Array], Array], starts: Array, pilots: Array, num_moves: int
) -> tuple[Array, PolishInfo]:
    """``num_moves`` HMC moves from every row of ``starts`` ``(num, dim)``; traceable.

    Args:
        rng_key: for the step size.
        keys: ``(num,)``, one for each draw, so that its moves depend on no other.
        log_density_fn: ``(dim,)`` to ``()``, in whitened coordinates.
        pilots: ``(num_pilots, dim)``, draws like ``starts``, not among them.
    """
    step_size = find_step_size(rng_key, log_density_fn, pilots)

    def chain(key: Array, start: Array) -> tuple[Array, Array]:
        state = blackjax.hmc.init(start, log_density_fn)
        state, rates = jax.lax.scan(
            lambda state, key: _move(log_density_fn, key, state, step_size), state, jax.random.split(key, num_moves)
        )
        return state.position, jnp.mean(rates)

    positions, rates = jax.vmap(chain)(keys, starts)
    return positions, PolishInfo(jnp.mean(rates), step_size)
