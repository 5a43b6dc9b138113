"""What the regression averages over, and what its examples are made of."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icl_bayes.nets import ModelConfig
from icl_bayes.training import FlowConfig, NetworkConfig, TargetsConfig, TaskConfig, build_network
from training.conftest import MODEL, tiny_config

SIMPLE = {**MODEL, "base": "standard", "inputs": "theta", "parametrization": "velocity"}


def network(task: TaskConfig, layout: str, **targets):
    settings = {"num_draws": 5, "metric": "prior", **targets}
    return build_network(
        NetworkConfig(
            task, ModelConfig(**SIMPLE, layout=layout), FlowConfig("cosine", "stable_target"), TargetsConfig(**settings)
        )
    )


def rows_of(matrix) -> set[tuple[float, ...]]:
    return {tuple(row) for row in np.asarray(matrix).tolist()}


def test_components_stand_in_every_order_in_the_pool_and_in_random_ones_in_examples() -> None:
    net = network(TaskConfig("gmm", 2), "component", num_examples=200)
    task = net.task
    draws = jax.random.normal(jax.random.key(0), (5, task.dim))
    pool, examples = net._regressed_on(jax.random.key(1), draws, jnp.arange(5.0))
    assert pool.draws.shape == (30, task.dim)
    everything = rows_of(pool.draws)
    assert len(everything) == 30
    swapped = jax.vmap(task.relabel, (0, None))(pool.draws, jnp.asarray([1, 2, 0]))
    assert rows_of(swapped) == everything
    # Each draw keeps its weight in all orders, and every example is a draw of the pool in some order.
    weight_of = dict(zip(map(tuple, np.asarray(pool.draws).tolist()), np.asarray(pool.log_weights), strict=True))
    for draw, weight in zip(draws, range(5), strict=True):
        assert weight_of[tuple(np.asarray(task.relabel(draw, jnp.asarray([2, 1, 0]))).tolist())] == weight
    assert rows_of(examples) <= everything
    heaviest = [one for one in np.asarray(examples).tolist() if weight_of[tuple(one)] == 4]
    assert len({tuple(one) for one in heaviest}) == 6
    assert len(heaviest) / 200 == pytest.approx(np.exp(4) / np.exp(np.arange(5)).sum(), abs=0.12)


def test_without_components_the_pool_is_the_draws() -> None:
    net = network(TaskConfig("fa", 1), "single")
    draws = jax.random.normal(jax.random.key(0), (5, 3))
    pool, examples = net._regressed_on(jax.random.key(1), draws, jnp.zeros(5))
    np.testing.assert_array_equal(pool.draws, draws)
    np.testing.assert_array_equal(examples, draws)


def test_a_layout_of_components_needs_some() -> None:
    with pytest.raises(ValueError, match="is for models with exchangeable components"):
        network(TaskConfig("fa", 1), "component")
    assert tiny_config().targets.num_examples == 0
