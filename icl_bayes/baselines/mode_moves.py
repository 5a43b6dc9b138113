"""Hamiltonian moves around modes: each in the whitened coordinates of the mode that a draw belongs to.

A draw ``theta`` first gets a mode ``k``, and an order of its components, by their shares ``r_k(theta)`` of the
Gaussians around the modes (:mod:`icl_bayes.flow.gaussian_modes`), then moves in its coordinates under the posterior
times ``r_k``, and forgets the mode. The pair has the law ``p(theta) r_k(theta)``, which both steps leave invariant, and
so the draw has the posterior's. Where modes overlap, draws pass from one to another; where they are narrow, steps are
as long as the mode allows.
"""

from __future__ import annotations

import blackjax
import jax
import jax.numpy as jnp

from icl_bayes.baselines.moves import JITTER, LADDER, NUM_LEAPFROGS, MoveInfo, default_step_size, in_stretches
from icl_bayes.flow import GaussianModes
from icl_bayes.tasks import Task
from icl_bayes.types import Array, Dataset


def mode_moves(
    rng_key: Array,
    keys: Array,
    task: Task,
    dataset: Dataset,
    modes: GaussianModes,
    starts: Array,
    pilots: Array,
    num_moves: int | Array,
    num_stretches: int = 1,
) -> tuple[Array, MoveInfo]:
    """``num_stretches`` times ``num_moves`` moves from every row of ``starts`` ``(num, dim)``; traceable.

    Args:
        rng_key: for the choice of a step size.
        keys: ``(num,)``, one for each draw.
        modes: found from the data.
        pilots: ``(num_pilots, dim)``, other draws, with which the step size is chosen that takes them farthest.
        num_moves: at least 1; may be traced.

    Returns:
        ``(num_stretches, num, dim)``, and how the moves went.
    """
    ladder = default_step_size(task.dim) * jnp.asarray(LADDER)
    pilot_keys = jax.random.split(rng_key, len(pilots))

    def squared_jump(step_size: Array) -> Array:
        jumps = jax.vmap(lambda key, theta: _move(key, task, dataset, modes, step_size, theta)[1])(pilot_keys, pilots)
        return jnp.mean(jnp.where(jnp.isfinite(jumps), jumps, 0.0))

    step_size = ladder[jnp.argmax(jax.lax.map(squared_jump, ladder))]

    def step(key: Array, theta: Array) -> tuple[Array, Array]:
        moved, _, rate = _move(key, task, dataset, modes, step_size, theta)
        return moved, rate

    positions, rate = in_stretches(step, lambda theta: theta, keys, starts, num_moves, num_stretches)
    return positions, MoveInfo(rate, step_size)


def _move(
    rng_key: Array, task: Task, dataset: Dataset, modes: GaussianModes, step_size: Array, theta: Array
) -> tuple[Array, Array, Array]:
    """Where a move leads, how far in the coordinates of its mode (squared), and its acceptance rate."""
    mode_key, jitter_key, kernel_key, last_key = jax.random.split(rng_key, 4)
    step_size = step_size * jax.random.uniform(jitter_key, minval=JITTER[0], maxval=JITTER[1])
    orders = task.in_all_orders(theta)
    before = modes.log_shares(orders)
    chosen = jax.random.categorical(mode_key, before.ravel())
    mode, order = chosen // len(orders), chosen % len(orders)
    affine = modes.part(mode)
    # On the way the posterior alone counts, which costs less and moves draws as far. The move is reversible under it,
    # so that accepting it with the ratio of the mode's shares makes it one under the posterior times the share (Liu,
    # 2001, surrogate transition).
    log_density = affine.pulled_back(lambda theta: task.log_joint(theta, dataset))
    start = affine.backward(orders[order])
    state = blackjax.hmc.init(start, log_density)
    kernel = blackjax.hmc.build_kernel()
    state, info = kernel(kernel_key, state, log_density, step_size, jnp.ones(task.dim), NUM_LEAPFROGS)
    ordered = affine.forward(state.position)
    gain = modes.log_shares(task.in_all_orders(ordered))[mode, 0] - before[mode, order]
    is_taken = jnp.log(jax.random.uniform(last_key)) < gain
    relabelled = (
        task.relabel(ordered, jnp.argsort(jnp.asarray(task.orders)[order])) if task.num_exchangeable else ordered
    )
    moved = jnp.where(is_taken, relabelled, theta)
    jump = jnp.where(is_taken, jnp.sum((state.position - start) ** 2), 0.0)
    return moved, jump, jnp.where(is_taken, info.acceptance_rate, 0.0)
