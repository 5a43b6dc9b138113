"""Training on the distance of draws from posteriors: what it brings, and what is refused."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icl_bayes.nets.layers import smooth_relu
from icl_bayes.training import FlowConfig, TargetsConfig, build_network
from icl_bayes.training.network import batch_loss
from icl_bayes.training.step import data_mesh, init_state, make_batch_fn, make_train_chunk
from training.conftest import tiny_config

FLOW = FlowConfig("cosine", "hellinger", solver="multistep", solver_steps=3)
STANDARD = {"base": "standard", "inputs": "theta", "parametrization": "velocity", "activation": "smooth_relu"}


def config(model: dict | None = None, flow: FlowConfig = FLOW, **training):
    targets = TargetsConfig(num_draws=6, num_examples=4, num_leapfrogs=3, metric="prior")
    return tiny_config(model={**STANDARD, **(model or {})}, flow=flow, targets=targets, **training)


def test_distance_falls_in_training() -> None:
    """From a map that changes nothing, whose draws are those of the prior's coordinates."""
    settings = config(num_steps=160, steps_per_call=80, passes=8, batch_size=16, learning_rate=5e-3)
    network = build_network(settings)
    chunk = make_train_chunk(network, settings.training, data_mesh(), 16)
    state = init_state(network, settings.training)
    state, early = chunk(state)
    first = float(np.mean(early.loss[:5]))
    state, late = chunk(state)
    last = float(np.mean(late.loss[-20:]))
    assert 0.1 < first < 1.0
    assert last < 0.6 * first, (first, last)


def test_the_distance_is_small_where_the_base_is_nearly_the_posterior() -> None:
    """A fresh network leaves a base as it is: one with the posterior's moments, or the prior's."""
    values = {}
    for base in ("pilots", "standard"):
        settings = config({"base": base}) if base == "standard" else pilots_config()
        network = build_network(settings)
        batch = jax.jit(make_batch_fn(network, settings.training, data_mesh()), static_argnums=1)
        targets = batch(jax.random.split(jax.random.key(0), 8), 16)
        loss = jax.jit(lambda params, key, targets, network=network: batch_loss(network, params, key, targets))
        values[base] = float(loss(network.init(0), jax.random.key(1), targets))
    assert 0.0 <= values["pilots"] < 0.25 * values["standard"]


def pilots_config():
    model = {"base": "pilots", "inputs": "theta", "parametrization": "residual", "activation": "smooth_relu"}
    return tiny_config(model=model, flow=FLOW, targets=TargetsConfig(num_draws=6, num_leapfrogs=3, metric="pilots"))


def test_smooth_relu_is_a_relu_from_afar() -> None:
    x = jnp.linspace(-50.0, 50.0, 201)
    np.testing.assert_allclose(smooth_relu(x), jax.nn.relu(x), atol=0.26)
    np.testing.assert_allclose(smooth_relu(x)[jnp.asarray([0, -1])], [0.0, 50.0], atol=0.01)
    kink = jax.grad(smooth_relu)(1e-3) - jax.grad(smooth_relu)(-1e-3)
    assert 0.0 < float(kink) < 0.01


@pytest.mark.parametrize(
    ("model", "flow"),
    [
        ({"activation": "relu"}, FLOW),
        ({"base": "gaussian"}, FLOW),
        ({}, FlowConfig("cosine", "hellinger", solver="dopri5")),
    ],
)
def test_what_has_no_such_distance_is_refused(model: dict, flow: FlowConfig) -> None:
    with pytest.raises(ValueError, match=r"flow\.loss=hellinger needs the density of a smooth map"):
        config(model, flow)


def test_unknown_activations_are_refused_with_the_choices() -> None:
    with pytest.raises(ValueError, match=r"model\.activation must be one of .*relu.*smooth_relu.*'tanh'"):
        config({"activation": "tanh"})
