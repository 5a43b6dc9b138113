"""Moves around modes: they leave the posterior as it is, cross where modes overlap, and mind no order of components."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from two_roots import data, on_grid, two_roots_task

from icl_bayes.baselines.gaussians import modes_of
from icl_bayes.baselines.mode_moves import mode_moves
from icl_bayes.flow import GaussianModes
from icl_bayes.tasks import make_task

NUM = 8000


@pytest.fixture(scope="module")
def roots():
    task = two_roots_task()
    dataset = data(task)
    points, log_joint, _ = on_grid(task, dataset)
    masses = np.exp(np.asarray(log_joint, float) - float(jnp.max(log_joint)))
    cumulated = np.cumsum(masses) / masses.sum()
    modes, _ = jax.jit(lambda one: modes_of(task, one))(dataset)
    return task, dataset, modes, np.asarray(points), cumulated


def moved(roots, modes, starts, num_moves=4):
    task, dataset = roots[:2]
    keys = jax.random.split(jax.random.key(1), len(starts))
    pilots = jnp.asarray(starts[:64]) + 0.1

    def run(modes: GaussianModes, starts):
        return mode_moves(jax.random.key(2), keys, task, dataset, modes, starts, pilots, num_moves, 2)

    return jax.device_get(jax.jit(run)(modes, starts))


def exact(roots, seed=0):
    *_, points, cumulated = roots
    return np.interp(np.random.default_rng(seed).uniform(size=NUM), cumulated, points)[:, None].astype(np.float32)


def pvalue(roots, draws):
    *_, points, cumulated = roots
    return stats.kstest(draws, lambda at: np.interp(at, points, cumulated)).pvalue


def test_exact_draws_stay_exact_and_move(roots) -> None:
    modes, starts = roots[2], exact(roots)
    positions, info = moved(roots, modes, starts)
    assert positions.shape == (2, NUM, 1)
    assert 0.6 < info.acceptance < 1.0
    assert pvalue(roots, positions[0, :, 0]) > 1e-3
    assert pvalue(roots, positions[1, :, 0]) > 1e-3
    assert abs(stats.spearmanr(np.abs(starts), np.abs(positions[1])).statistic) < 0.3
    assert np.mean(np.sign(positions[1]) != np.sign(starts)) > 0.003
    # Negative control: the test would have seen draws too wide by three tenths of their distance from the nearer mode.
    assert pvalue(roots, np.sign(starts[:, 0]) * (0.9 + 1.3 * (np.abs(positions[1, :, 0]) - 0.9))) < 1e-3


def test_exact_draws_stay_exact_however_wrong_the_gaussians_are(roots) -> None:
    """Nothing but speed depends on them: widths twice too large, masses turned around, one of them out of place."""
    modes = roots[2]
    parts = modes.parts
    wide = parts._replace(scale=2.0 * parts.scale, inverse=0.5 * parts.inverse, log_det=parts.log_det + jnp.log(2.0))
    wrong = GaussianModes(wide._replace(shift=parts.shift + 0.3), modes.log_weights, modes.rivals)
    positions, _ = moved(roots, wrong, exact(roots, 1))
    assert pvalue(roots, positions[1, :, 0]) > 1e-3


def test_exact_draws_stay_exact_where_coordinates_depend_on_the_draw(roots) -> None:
    """Half of the space belongs to a narrow Gaussian, half to a wide one: without the ratio of their shares draws would
    gather on one side."""
    modes = roots[2]
    parts, half = modes.parts, jnp.arange(len(modes.log_weights))[:, None]
    centers, widths = jnp.where(half == 0, 0.3, -1.5), jnp.where(half == 0, 0.25, 1.5)[..., None]
    own = parts._replace(shift=centers, scale=widths, inverse=1.0 / widths, log_det=jnp.log(widths[:, 0, 0]))
    log_weights = jnp.where(half[:, 0] < 2, jnp.log(0.5), -jnp.inf)
    positions, _ = moved(roots, GaussianModes(own, log_weights, modes.rivals), exact(roots, 4), num_moves=8)
    assert pvalue(roots, positions[1, :, 0]) > 1e-3


def test_draws_of_the_base_come_closer(roots) -> None:
    modes = roots[2]
    key = jax.random.key(3)
    which = modes.chosen_by(jax.random.uniform(key, (NUM,)))
    starts = jax.jit(jax.vmap(lambda index, z: modes.part(index).forward(1.5 * z)))(
        which, jax.random.normal(key, (NUM, 1))
    )
    positions, _ = moved(roots, modes, np.asarray(starts), 10)
    before, after = (
        stats.kstest(one, lambda at: np.interp(at, *roots[3:])).statistic
        for one in (np.asarray(starts)[:, 0], positions[1, :, 0])
    )
    assert after < 0.5 * before


def test_components_keep_the_places_that_they_had() -> None:
    """A chain in one order stays there: what is drawn in every order alike remains so."""
    task = make_task("gmm/2")
    dataset = jax.device_get(jax.jit(lambda key: task.simulate(key, jnp.asarray(25), 32)[1])(jax.random.key(4)))
    modes, _ = jax.jit(lambda one: modes_of(task, one))(dataset)
    center = task.relabel(modes.parts.shift[0], jnp.asarray([2, 0, 1]))
    starts = center + 0.02 * jax.random.normal(jax.random.key(0), (64, task.dim))
    keys = jax.random.split(jax.random.key(1), 64)
    run = jax.jit(lambda at: mode_moves(jax.random.key(2), keys, task, dataset, modes, at, at[:16], 1))
    positions, info = run(starts)
    assert info.acceptance > 0.5
    orders = jax.jit(jax.vmap(task.in_all_orders))(positions[0])
    nearest = np.asarray(jnp.argmin(jnp.sum((orders - center) ** 2, axis=2), axis=1))
    assert np.mean(nearest == 0) > 0.9
