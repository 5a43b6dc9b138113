"""One compiled call of training: which data it sees, dropout, and several devices."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from helpers import moved_weights

from icl_bayes.training import FlowConfig, NetworkConfig, TargetsConfig, build_network, step
from icl_bayes.training.network import batch_loss
from icl_bayes.training.step import data_mesh, init_state, make_batch_fn, make_pool_fn, make_train_chunk, visiting_order
from training.conftest import simple_config, tiny_config

DEVICES = """
import json, sys
sys.path.insert(0, sys.argv[1])
import jax, numpy as np
from training.conftest import simple_config
from icl_bayes.training import build_network
from icl_bayes.training.step import data_mesh, init_state, make_train_chunk
config = simple_config(batch_size=8, passes=2)
network, all_devices = build_network(config), data_mesh()
for mesh in (jax.sharding.Mesh(all_devices.devices[:1], all_devices.axis_names), all_devices):
    chunk = make_train_chunk(network, config.training, mesh, 16)
    state, info = chunk(init_state(network, config.training))
    state, info = chunk(state)
    leaves = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(state.params)])
    print(json.dumps({"devices": mesh.devices.size, "loss": info.loss.tolist(), "weights": leaves.tolist()}))
"""


def paper_like(dropout: float) -> NetworkConfig:
    """The recipe of the paper, tiny: standard base, plain joint draws, velocities, dropout."""
    model = {"base": "standard", "inputs": "theta", "parametrization": "velocity", "encoder": "transformer"}
    return tiny_config(
        model={**model, "dropout": dropout},
        flow=FlowConfig("linear", "flow_matching"),
        targets=TargetsConfig(num_draws=1, num_moves=0),
    )


def test_every_pass_sees_the_whole_pool_in_an_order_of_its_own() -> None:
    order = np.asarray(visiting_order(jax.random.key(0), 12, 4, 3))
    assert order.shape == (9, 4)
    passes = order.reshape(3, 12)
    np.testing.assert_array_equal(np.sort(passes, axis=1), np.tile(np.arange(12), (3, 1)))
    assert len({tuple(one) for one in passes}) == 3


def test_passes_share_simulations_between_steps() -> None:
    config = simple_config(steps_per_call=4, passes=4)
    network, mesh = build_network(config), data_mesh()
    state, info = make_train_chunk(network, config.training, mesh, 16)(init_state(network, config.training))
    assert int(state.step) == 4
    # One batch serves all four steps, so its mean acceptance is the same; the losses see new noise each time.
    np.testing.assert_allclose(info.acceptance, np.asarray(info.acceptance)[0], rtol=1e-5)
    assert len(set(np.asarray(info.loss).tolist())) == 4


def test_data_sets_of_a_call_are_the_same_however_many_are_simulated_together(monkeypatch: pytest.MonkeyPatch) -> None:
    config = simple_config(steps_per_call=6, passes=1)
    network, mesh = build_network(config), data_mesh()
    together = jax.jit(make_pool_fn(network, config.training, mesh, 16))(jax.random.key(0))
    assert together.theta.shape[0] == 48
    for rows in (1, 300):  # a batch of eight has 128: one batch at once, and two
        monkeypatch.setattr(step, "ROWS_AT_ONCE", rows)
        apart = jax.jit(make_pool_fn(network, config.training, mesh, 16))(jax.random.key(0))
        for one, other in zip(jax.tree.leaves(together), jax.tree.leaves(apart), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_runs_that_differ_in_seed_or_schedule_share_their_program() -> None:
    """Compiled once for all of them, where JAX keeps programs."""

    def program(**settings) -> str:
        config = simple_config(**settings)
        network = build_network(config)
        chunk = make_train_chunk(network, config.training, data_mesh(), 16)
        state = jax.eval_shape(lambda: init_state(network, config.training))
        return chunk.program.lower(state, *jax.eval_shape(chunk.inputs, state.step)).as_text()

    assert program(seed=3, learning_rate=0.02, num_steps=40, warmup_fraction=0.3) == program()


def test_passes_must_divide_the_steps_of_a_call() -> None:
    with pytest.raises(ValueError, match="multiple of training.passes"):
        tiny_config(steps_per_call=2, passes=3)


def test_dropout_trains_under_vmap_and_rests_at_inference() -> None:
    config = paper_like(dropout=0.5)
    network, mesh = build_network(config), data_mesh()
    params = moved_weights(network.init(0), 0.3)
    batch = jax.jit(make_batch_fn(network, config.training, mesh), static_argnums=1)
    targets = batch(jax.random.split(jax.random.key(2), 4), 16)
    rested = build_network(paper_like(dropout=0.0))
    loss = {
        name: float(jax.jit(lambda w, net=net: batch_loss(net, w, jax.random.key(3), targets))(params))
        for name, net in {"dropout": network, "none": rested}.items()
    }
    assert np.isfinite(loss["dropout"])
    assert abs(loss["dropout"] / loss["none"] - 1.0) > 1e-3
    dataset = jax.tree.map(lambda leaf: leaf[0], targets.dataset)
    noise = np.random.default_rng(0).normal(size=(5, network.task.dim)).astype(np.float32)
    solver = config.flow.make_solver()
    draws = [jax.jit(lambda w, net=net: net.draw(w, dataset, noise, solver).theta)(params) for net in (network, rested)]
    np.testing.assert_array_equal(*draws)
    state, info = make_train_chunk(network, config.training, mesh, 16)(init_state(network, config.training))
    assert np.isfinite(info.loss).all()
    assert int(state.step) == config.training.steps_per_call


def test_several_devices_compute_what_one_does() -> None:
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4".strip()
    command = [sys.executable, "-c", DEVICES, str(Path(__file__).parents[1])]
    environment = {**os.environ, "XLA_FLAGS": flags}
    out = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1200, check=True).stdout
    one, four = (json.loads(line) for line in out.splitlines()[-2:])
    assert (one["devices"], four["devices"]) == (1, 4)
    # The same data and keys; sums over the batch are taken in another order, and Adam divides by small numbers.
    np.testing.assert_allclose(four["loss"], one["loss"], rtol=1e-3)
    np.testing.assert_allclose(four["weights"], one["weights"], atol=2e-3)
