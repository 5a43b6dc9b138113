"""Polish: a few Hamiltonian moves from every draw, which leave the posterior invariant.

Exact draws stay exact, others come closer; what moves can't mend is the weight of separated modes. Chains move in the
whitened coordinates of the network's base or, where components may be permuted, in those of draws whose components are
aligned, with one step size for all. Whatever moves depend on is found on draws set aside for that purpose, the pilots,
and on no draw that is moved, so that every move is exactly invariant.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import blackjax
import jax
import jax.numpy as jnp

from icl_bayes.baselines.alignment import align, alignment_of, is_aligned, supports_alignment
from icl_bayes.flow import Affine
from icl_bayes.tasks import Task
from icl_bayes.types import Array, Dataset

NUM_PILOTS = 64
"""Draws set aside."""
NUM_LEAPFROGS = 5
LADDER = (1.0, 0.7, 0.5, 0.35, 0.25, 0.18, 0.125, 0.09, 0.0625)
"""Step sizes tried, relative to the one for a standard normal posterior."""
JITTER = (0.4, 1.2)
"""Range of the random factor of every move's step size: no period resonates, and narrow places are met too."""


LogDensity = Callable[[Array], Array]


class MoveInfo(NamedTuple):
    """How the moves went.

    Attributes:
        acceptance: ``()``, mean acceptance rate; one where nothing was moved.
        step_size: ``()``, relative to the scales; zero where nothing was moved.
    """

    acceptance: Array
    step_size: Array


NOT_MOVED = MoveInfo(jnp.ones(()), jnp.zeros(()))


class Setting(NamedTuple):
    """How chains move.

    Attributes:
        step_size: ``()``.
        scale: ``(dim,)``, standard deviations by which coordinates are rescaled.
        is_bound: ``()``, whether proposals outside the region are refused.
    """

    step_size: Array
    scale: Array
    is_bound: Array


class Space(NamedTuple):
    """Where chains move.

    Attributes:
        log_density_fn: ``(dim,)`` to ``()``.
        is_inside: ``(dim,)`` to ``()``, whether a state lies in the region to which chains may be bound.
        distance: ``(start (dim,), end (dim,))`` to ``()``, what long moves make large.
    """

    log_density_fn: LogDensity
    is_inside: Callable[[Array], Array] = lambda theta: jnp.asarray(True)
    distance: Callable[[Array, Array], Array] = lambda start, end: jnp.sum((end - start) ** 2)


def default_step_size(dim: int) -> float:
    """Leapfrog step in whitened coordinates: acceptance near 0.9 in any dimension."""
    return 0.95 * dim**-0.25


def step_sizes(scale: Array, *, is_bound: bool = False) -> Setting:
    """The settings of :data:`LADDER` with one scale ``(dim,)``, stacked."""
    ladder = default_step_size(len(scale)) * jnp.asarray(LADDER)
    return Setting(ladder, jnp.tile(scale, (len(ladder), 1)), jnp.full(len(ladder), is_bound))


def _move(space: Space, setting: Setting, rng_key: Array, state: Any) -> tuple[Any, Array]:
    jitter_key, kernel_key = jax.random.split(rng_key)
    step_size = setting.step_size * jax.random.uniform(jitter_key, minval=JITTER[0], maxval=JITTER[1])
    kernel = blackjax.hmc.build_kernel()
    proposed, info = kernel(kernel_key, state, space.log_density_fn, step_size, setting.scale**2, NUM_LEAPFROGS)
    # A law restricted to a region is zero outside, where every proposal is refused.
    stays = ~setting.is_bound | space.is_inside(proposed.position)
    state = jax.tree.map(lambda new, old: jnp.where(stays, new, old), proposed, state)
    return state, jnp.where(stays, info.acceptance_rate, 0.0)


def find_setting(rng_key: Array, space: Space, settings: Setting, pilots: Any) -> Setting:
    """The one of the stacked settings with which the pilots, states of HMC, move farthest."""
    keys = jax.random.split(rng_key, len(pilots.position))

    def squared_jump(setting: Setting) -> Array:
        moved, _ = jax.vmap(lambda key, state: _move(space, setting, key, state))(keys, pilots)
        jumps = jax.vmap(space.distance)(pilots.position, moved.position)
        return jnp.mean(jnp.where(jnp.isfinite(jumps), jumps, 0.0))

    best = jnp.argmax(jax.lax.map(squared_jump, settings))
    return jax.tree.map(lambda leaf: leaf[best], settings)


def tuned_moves(
    rng_key: Array,
    keys: Array,
    space: Space,
    settings: Setting,
    starts: Array,
    pilots: Array,
    num_moves: int | Array,
    num_stretches: int = 1,
) -> tuple[Array, MoveInfo]:
    """``num_stretches`` times ``num_moves`` HMC moves from every row of ``starts`` ``(num, dim)``; traceable.

    Args:
        rng_key: for the choice of a setting.
        keys: ``(num,)``, one for each draw, so that its moves depend on no other.
        settings: stacked, to choose from.
        pilots: ``(num_pilots, dim)``, draws like ``starts``, not among them.
        num_moves: at least 1; one program serves any number if it is traced, too.

    Returns:
        Positions after every stretch, ``(num_stretches, num, dim)``, and how the moves went.
    """
    # At once, so that the density is compiled once.
    both = jnp.concatenate([pilots, starts])
    states = jax.vmap(lambda start: blackjax.hmc.init(start, space.log_density_fn))(both)
    setting = find_setting(rng_key, space, settings, jax.tree.map(lambda leaf: leaf[: len(pilots)], states))
    states = jax.tree.map(lambda leaf: leaf[len(pilots) :], states)
    positions, rate = in_stretches(
        lambda key, state: _move(space, setting, key, state),
        lambda state: state.position,
        keys,
        states,
        num_moves,
        num_stretches,
    )
    return positions, MoveInfo(rate, setting.step_size)


def in_stretches(
    move_fn: Callable[[Array, Any], tuple[Any, Array]],
    position_fn: Callable[[Any], Array],
    keys: Array,
    states: Any,
    num_moves: int | Array,
    num_stretches: int,
) -> tuple[Array, Array]:
    """Moves of many states, in stretches of equal length; traceable.

    Args:
        move_fn: ``(rng_key, state) -> state, acceptance rate ()``.
        position_fn: ``state -> (dim,)``.
        keys, states: one for each chain, stacked.

    Returns:
        Positions after every stretch, ``(num_stretches, num, dim)``, and the mean acceptance rate ``()``.
    """

    def chain(key: Array, start: Any) -> tuple[Array, Array]:
        def move(i: Array, carry: tuple[Any, Array]) -> tuple[Any, Array]:
            state, rate = move_fn(jax.random.fold_in(key, i), carry[0])
            return state, carry[1] + rate

        def stretch(carry: tuple[Any, Array], index: Array) -> tuple[tuple[Any, Array], Array]:
            carry = jax.lax.fori_loop(index * num_moves, (index + 1) * num_moves, move, carry)
            return carry, position_fn(carry[0])

        (_, rates), positions = jax.lax.scan(stretch, (start, jnp.zeros(())), jnp.arange(num_stretches))
        return positions, rates / (num_stretches * num_moves)

    positions, rates = jax.vmap(chain, out_axes=(1, 0))(keys, states)
    return positions, jnp.mean(rates)


def polish(
    rng_key: Array,
    keys: Array,
    task: Task,
    dataset: Dataset,
    affine: Affine,
    starts: Array,
    pilots: Array,
    num_moves: int | Array,
    num_stretches: int = 1,
) -> tuple[Array, MoveInfo]:
    """Moves of draws ``starts (num, dim)``; traceable.

    Args:
        rng_key: for the choice of a setting.
        keys: ``(num,)``, see :func:`tuned_moves`.
        affine: whitening, where components may not be permuted; found without ``starts``.
        pilots: ``(num_pilots, dim)``, other draws, on which moves are tuned.
        num_moves, num_stretches: see :func:`tuned_moves`.

    Returns:
        ``(num_stretches, num, dim)``, and how the moves went.
    """
    if not supports_alignment(task):
        space = Space(affine.pulled_back(lambda theta: task.log_joint(theta, dataset)))
        settings = step_sizes(jnp.ones(task.dim))
        starts, pilots = affine.backward(starts), affine.backward(pilots)
        moved, info = tuned_moves(rng_key, keys, space, settings, starts, pilots, num_moves, num_stretches)
        return affine.forward(moved), info

    log_densities = jax.vmap(lambda theta: task.log_joint(theta, dataset))(pilots)
    alignment = alignment_of(task, pilots, pilots[jnp.argmax(log_densities)])

    def aligned(theta: Array) -> tuple[Array, Array]:
        return align(task, alignment, theta)

    space = Space(
        lambda theta: task.log_joint(theta, dataset),
        lambda theta: is_aligned(task, alignment, theta),
        lambda start, end: jnp.sum(((aligned(end)[0] - start) / alignment.scale) ** 2),
    )
    # Scales of their own for every component, within one order; or, where orders mix, the same for all components,
    # with which moves and permutations commute, so that they need no bounds.
    common = jnp.sqrt(jnp.mean(alignment.scale[task.components] ** 2, axis=0))
    shared = jnp.zeros(task.dim).at[task.components].set(common)
    settings = jax.tree.map(
        lambda *leaves: jnp.concatenate(leaves), step_sizes(alignment.scale, is_bound=True), step_sizes(shared)
    )
    (starts, back), (pilots, _) = jax.vmap(aligned)(starts), jax.vmap(aligned)(pilots)
    moved, info = tuned_moves(rng_key, keys, space, settings, starts, pilots, num_moves, num_stretches)
    return jax.vmap(jax.vmap(task.relabel), (0, None))(moved, back), info
