"""What the regression averages over, and what its examples are made of."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icl_bayes.flow import Pool
from icl_bayes.nets import ModelConfig
from icl_bayes.training import FlowConfig, NetworkConfig, TargetsConfig, TaskConfig, build_network
from icl_bayes.training.targets import make_targets
from training.conftest import MODEL, tiny_config

SIMPLE = {**MODEL, "base": "standard", "inputs": "theta", "parametrization": "velocity"}


def network(task: TaskConfig, layout: str, loss: str = "stable_target", **targets):
    settings = {"num_draws": 5, "metric": "prior", **targets}
    model, flow = ModelConfig(**SIMPLE, layout=layout), FlowConfig("cosine", loss)
    return build_network(NetworkConfig(task, model, flow, TargetsConfig(**settings)))


def rows_of(matrix) -> set[tuple[float, ...]]:
    return {tuple(row) for row in np.asarray(matrix).tolist()}


def test_components_stand_in_every_order_in_the_pool_and_in_random_ones_in_examples() -> None:
    net = network(TaskConfig("gmm", 2), "component", num_examples=200)
    task = net.task
    draws = jax.random.normal(jax.random.key(0), (5, task.dim))
    pool, examples = net._regressed_on(jax.random.key(1), Pool(draws, jnp.arange(5.0)))
    assert pool.draws.shape == (30, task.dim)
    everything = rows_of(pool.draws)
    assert len(everything) == 30
    swapped = jax.jit(jax.vmap(task.relabel, (0, None)))(pool.draws, jnp.asarray([1, 2, 0]))
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
    pool, examples = net._regressed_on(jax.random.key(1), Pool(draws, jnp.zeros(5)))
    np.testing.assert_array_equal(pool.draws, draws)
    np.testing.assert_array_equal(examples, draws)


def test_scores_are_those_of_the_draws_in_every_order() -> None:
    task_config = TaskConfig("gmm", 2)
    net = network(task_config, "component", "stein_target")
    make = jax.jit(make_targets(net.task, net.config.targets, base="standard", with_scores=True), static_argnums=2)
    targets = make(jax.random.key(0), jnp.asarray(9), 12)
    drawn = Pool(targets.theta, targets.log_weights, targets.scores)
    pool, _ = net._regressed_on(jax.random.key(1), drawn)
    exact = jax.jit(jax.vmap(jax.grad(net.task.log_joint), (0, None)))(pool.draws, targets.dataset)
    assert pool.scores is not None
    assert pool.scores.shape == (30, net.task.dim)
    np.testing.assert_allclose(pool.scores, exact, rtol=1e-3, atol=1e-3)


def test_noise_of_mixture_targets_is_taken_out() -> None:
    """The loss of one and the same untrained network, on the same draws, falls by what was noise."""
    nets = [
        network(TaskConfig("gmm", 2), "component", name, num_examples=64) for name in ("stable_target", "stein_target")
    ]
    make = make_targets(nets[0].task, nets[0].config.targets, base="standard", with_scores=True)
    params = nets[0].init(0)

    def losses(key):
        targets = make(key, jnp.asarray(25), 25)
        return jnp.stack([net.loss(params, jax.random.fold_in(key, 1), targets) for net in nets])

    stable, stein = np.mean(jax.jit(jax.vmap(losses))(jax.random.split(jax.random.key(0), 24)), axis=0)
    assert stein < stable - 0.4


def test_scores_are_those_of_the_base_s_coordinates() -> None:
    """A base that is the posterior, and a velocity that stays in it: what the loss shows is noise of targets."""
    model = ModelConfig(**{**SIMPLE, "base": "variational", "parametrization": "residual"})
    targets = TargetsConfig(num_draws=2, num_leapfrogs=2)
    nets = [
        build_network(NetworkConfig(TaskConfig("glm", 1, num_columns=2), model, FlowConfig("cosine", loss), targets))
        for loss in ("stable_target", "stein_target")
    ]
    make = make_targets(nets[0].task, targets, base="variational", with_scores=True)
    params = nets[0].init(0)

    def losses(key):
        drawn = make(key, jnp.asarray(60), 60)
        return jnp.stack([net.loss(params, jax.random.fold_in(key, 1), drawn) for net in nets])

    stable, stein = np.mean(jax.jit(jax.vmap(losses))(jax.random.split(jax.random.key(0), 64)), axis=0)
    assert stein < 0.5 * stable


def test_without_a_spread_of_the_task_the_metric_must_know_moments() -> None:
    network(TaskConfig("fa", 1), "single", "stein_target", metric="pilots")
    with pytest.raises(ValueError, match=r"stein_target needs moments of the posterior, which task 'fa/1' does not"):
        network(TaskConfig("fa", 1), "single", "stein_target", metric="prior")


def test_a_layout_of_components_needs_some() -> None:
    with pytest.raises(ValueError, match="is for models with exchangeable components"):
        network(TaskConfig("fa", 1), "component")
    assert tiny_config().targets.num_examples == 0
