"""Draws in batches: what is computed stays the same, and where batches are no help there are none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training.conftest import simple_config

import icl_bayes
from icl_bayes import batches
from icl_bayes.baselines.moves import Space, step_sizes, tuned_moves
from icl_bayes.baselines.parallel_hmc import parallel_moves
from icl_bayes.batches import MANY_ROWS, draws_at_once, over_draws
from icl_bayes.flow import Solver
from icl_bayes.training import build_network
from icl_bayes.types import Dataset

on_cpu = pytest.mark.skipif(jax.default_backend() != "cpu", reason="batches are for a CPU")


@on_cpu
@pytest.mark.parametrize(("num_draws", "size"), [(1000, 50), (1064, 56), (500, 50), (64, 64), (997, 997), (20, 20)])
def test_all_draws_fit_into_batches_of_one_size(num_draws: int, size: int) -> None:
    assert draws_at_once(num_draws, MANY_ROWS) == size
    assert draws_at_once(num_draws, MANY_ROWS - 1) == num_draws


@on_cpu
def test_batches_hold_every_draw_once_and_in_order() -> None:
    sizes = []

    def both(keys: jax.Array, tree: dict[str, jax.Array]) -> dict[str, jax.Array]:
        sizes.append(len(keys))
        return {"noise": jax.vmap(jax.random.normal)(keys), "twice": 2.0 * tree["x"]}

    keys, x = jax.random.split(jax.random.key(0), 150), jnp.arange(300.0).reshape(150, 2)
    found = over_draws(both, (keys, {"x": x}), MANY_ROWS)
    assert set(sizes) == {50}
    np.testing.assert_array_equal(found["twice"], 2.0 * x)
    np.testing.assert_array_equal(found["noise"], jax.vmap(jax.random.normal)(keys))


def log_density(u: jax.Array) -> jax.Array:
    return jnp.sum(u - jnp.exp(u))


def moves() -> np.ndarray:
    starts, keys = jax.random.normal(jax.random.key(1), (100, 2)), jax.random.split(jax.random.key(2), 100)
    space = Space(log_density, padded_rows=MANY_ROWS)
    settings, rng_key = step_sizes(jnp.ones(2)), jax.random.key(3)
    program = jax.jit(lambda keys, starts: tuned_moves(rng_key, keys, space, settings, starts, starts[:64], 2, 2)[0])
    return np.asarray(program(keys, starts))


def chains() -> np.ndarray:
    starts, how = jax.random.normal(jax.random.key(1), (100, 2)), {"num_moves": 3, "num_steps": 2, "step_size": 0.8}
    how |= {"jitter": 0.2, "padded_rows": MANY_ROWS}
    moved = jax.jit(lambda key, starts: parallel_moves(key, log_density, starts, **how))(jax.random.key(3), starts)
    return np.column_stack([moved.positions, moved.acceptance])


def mixture_network() -> np.ndarray:
    """From a base of several modes."""
    net = icl_bayes.load("gmm/2")
    x = np.random.default_rng(1).normal(size=(MANY_ROWS, 3)) + np.repeat([[0.0], [4.0]], MANY_ROWS // 2, axis=0)
    network, solver = net.network, Solver("midpoint", 2)
    noise = network.draw_noise(jax.random.split(jax.random.key(4), 100))
    dataset = net.task.prepare(Dataset(x=x.astype(np.float32)))
    program = jax.jit(lambda params, dataset, noise: network.draw(params, dataset, noise, solver).theta)
    return np.asarray(program(net.params, dataset, noise))


def regression_network(with_log_prob: bool) -> np.ndarray:
    network, solver = build_network(simple_config()), Solver("midpoint", 2)
    params = jax.tree.map(lambda leaf: leaf + 0.1 * jnp.cos(jnp.arange(leaf.size).reshape(leaf.shape)), network.init(0))
    x = np.random.default_rng(0).normal(size=(MANY_ROWS, 2)).astype(np.float32)
    dataset = network.task.prepare(Dataset(x=x, y=x @ np.float32([1.0, -0.5])))
    noise = network.draw_noise(jax.random.split(jax.random.key(4), 100))

    def draw(params: Any, dataset: Dataset, noise: jax.Array) -> tuple[jax.Array, jax.Array]:
        base = network.find_base(params, dataset)
        found = network.draw_from(params, dataset, *base, noise, solver, with_log_prob=with_log_prob)
        return found.theta, jnp.broadcast_to(found.log_prob, 100)

    return np.column_stack(jax.jit(draw)(params, dataset, noise))


@on_cpu
@pytest.mark.parametrize(
    "draw",
    [
        moves,
        chains,
        pytest.param(mixture_network, marks=pytest.mark.slow),
        lambda: regression_network(False),
        lambda: regression_network(True),
    ],
    ids=["moves", "chains", "network from modes", "network", "network with density"],
)
def test_draws_are_the_same_in_batches(draw: Callable[[], np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    counts = []

    def counted(num_draws: int, padded_rows: int) -> int:
        counts.append(draws_at_once(num_draws, padded_rows))
        return counts[-1]

    monkeypatch.setattr(batches, "draws_at_once", counted)
    in_batches = draw()
    assert 50 in counts, "The control: there were batches."
    monkeypatch.setattr(batches, "draws_at_once", lambda num_draws, padded_rows: num_draws)
    np.testing.assert_allclose(in_batches, draw(), atol=2e-4, equal_nan=True)
