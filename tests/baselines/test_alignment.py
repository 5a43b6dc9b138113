"""Aligned components: one order for all draws, and moves that stay exact in it."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_mean_within_mcse

from icl_bayes.baselines.alignment import align, alignment_of, is_aligned, supports_alignment
from icl_bayes.baselines.moves import NUM_PILOTS, Space, polish, step_sizes, tuned_moves
from icl_bayes.flow import identity_affine
from icl_bayes.tasks import Task, make_task
from icl_bayes.types import Array, Dataset


@functools.cache
def gmm(scenario: int) -> Task:
    return make_task(f"gmm/{scenario}")


def shuffled(task: Task, rng_key: Array, thetas: Array) -> Array:
    def one(key: Array, theta: Array) -> Array:
        return task.relabel(theta, jax.random.permutation(key, task.num_exchangeable))

    return jax.jit(jax.vmap(one))(jax.random.split(rng_key, len(thetas)), thetas)


@pytest.mark.parametrize("scenario", [1, 2])
def test_draws_around_one_mode_are_brought_together(scenario: int) -> None:
    task = gmm(scenario)
    mode_key, noise_key, order_key = jax.random.split(jax.random.key(0), 3)
    mode = 2.0 * jax.random.normal(mode_key, (task.dim,))
    thetas = mode + 0.1 * jax.random.normal(noise_key, (200, task.dim))
    mixed = shuffled(task, order_key, thetas)
    assert float(jnp.max(jnp.std(mixed, axis=0))) > 1.0
    alignment = alignment_of(task, mixed, mixed[0])
    aligned, back = jax.jit(jax.vmap(lambda theta: align(task, alignment, theta)))(mixed)
    assert float(jnp.max(jnp.std(aligned, axis=0))) < 0.13
    np.testing.assert_allclose(alignment.scale, 0.1, rtol=0.25)
    np.testing.assert_array_equal(jax.jit(jax.vmap(task.relabel))(aligned, back), mixed)
    assert bool(jnp.all(jax.jit(jax.vmap(lambda theta: is_aligned(task, alignment, theta)))(aligned)))
    elsewhere = task.relabel(aligned[0], jnp.roll(jnp.arange(task.num_exchangeable), 1))
    assert not bool(is_aligned(task, alignment, elsewhere))


def test_every_draw_has_one_nearest_order() -> None:
    """Also draws from nowhere near the centers: the regions of all orders cover everything, once."""
    task = gmm(2)
    thetas = jax.random.normal(jax.random.key(0), (100, task.dim))
    alignment = alignment_of(task, thetas, thetas[0])
    orders = jnp.asarray([[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]])
    copies = jax.jit(jax.vmap(lambda theta: jax.vmap(lambda order: task.relabel(theta, order))(orders)))(thetas)
    inside = jax.jit(jax.vmap(jax.vmap(lambda theta: is_aligned(task, alignment, theta))))(copies)
    np.testing.assert_array_equal(jnp.sum(inside, axis=1), 1)


@pytest.mark.parametrize("refuses", [True, False], ids=["as it is", "leaving the region"])
def test_moves_leave_the_law_in_a_region_invariant(refuses: bool) -> None:
    """A law on the half line whose density ends at zero abruptly; chains that walk out of it do not keep it."""
    rng = np.random.default_rng(0)
    starts = np.abs(rng.normal(size=(20_000, 1))).astype(np.float32)
    keys = jax.random.split(jax.random.key(1), len(starts))
    space = Space(lambda u: -0.5 * jnp.sum(u**2), lambda u: u[0] > 0.0)
    settings = step_sizes(jnp.ones(1), is_bound=refuses)
    (moved,), info = jax.jit(
        lambda starts: tuned_moves(jax.random.key(0), keys, space, settings, starts, starts[:NUM_PILOTS], 2)
    )(starts)
    moved = np.asarray(moved, np.float64)
    change = np.column_stack([moved, moved**2, moved**3]) - np.column_stack([starts, starts**2, starts**3])
    if refuses:
        assert np.all(moved > 0.0)
        assert 0.2 < float(info.acceptance) < 1.0
        assert_mean_within_mcse(change, np.zeros(3))
    else:
        with pytest.raises(AssertionError, match="standard errors"):
            assert_mean_within_mcse(change, np.zeros(3))


def test_polish_keeps_the_prior_of_a_mixture_without_rows_that_count() -> None:
    """Draws of the prior are exact for a data set whose only row is masked; they move, and their moments stay."""
    task = gmm(2)
    assert supports_alignment(task)
    dataset = Dataset(
        x=np.zeros((1, 3), np.float32),
        row_mask=np.zeros(1, bool),
        constants={name: np.float32(value) for name, value in task.constants.items()},
    )
    num = 4000
    keys = jax.random.split(jax.random.key(3), num + NUM_PILOTS)
    thetas = jax.jit(jax.vmap(lambda key: task.sample_prior(key, dataset)))(keys)
    program = jax.jit(
        lambda thetas: polish(
            jax.random.key(0), keys[:num], task, dataset, identity_affine(task.dim), thetas[:num], thetas[num:], 2
        )
    )
    (moved,), info = program(thetas)
    assert 0.4 < float(info.acceptance) < 1.0
    assert float(jnp.mean(jnp.any(moved != thetas[:num], axis=1))) > 0.8
    per_component = np.asarray(moved - thetas[:num], np.float64)[:, task.components].sum(axis=1)
    squares = np.asarray(moved**2 - thetas[:num] ** 2, np.float64)[:, task.components].sum(axis=1)
    assert_mean_within_mcse(np.concatenate([per_component, squares], axis=1), np.zeros(14))
