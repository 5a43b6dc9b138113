"""Training on the distance of draws from posteriors: what it brings, and what is refused."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import moved_weights

from icl_bayes.nets.layers import smooth_relu
from icl_bayes.training import FlowConfig, TargetsConfig, build_network
from icl_bayes.training.network import batch_loss
from icl_bayes.training.step import data_mesh, make_batch_fn
from training.conftest import tiny_config

FLOW = FlowConfig("cosine", "hellinger", solver="multistep", solver_steps=3)
PILOTS = {"base": "pilots", "inputs": "theta", "parametrization": "residual", "activation": "smooth_relu"}


def config(model: dict | None = None, flow: FlowConfig = FLOW):
    targets = TargetsConfig(num_draws=6, num_examples=64, num_leapfrogs=3, metric="pilots")
    return tiny_config(model={**PILOTS, **(model or {})}, flow=flow, targets=targets)


@pytest.fixture(scope="module")
def measured():
    """Fresh weights, others away from them, and loss and gradient on a few data sets."""
    network = build_network(config())
    fresh = network.init(0)
    batch = jax.jit(make_batch_fn(network, network.config.training, data_mesh()), static_argnums=1)
    targets = batch(jax.random.split(jax.random.key(0), 8), 16)
    of = jax.jit(jax.value_and_grad(lambda params, key: batch_loss(network, params, key, targets)))
    return fresh, moved_weights(fresh, 0.1), of


def test_the_distance_falls_along_its_gradient_by_what_the_gradient_says(measured) -> None:
    """With other draws than those that the gradient is taken at."""
    _, params, of = measured
    _, gradient = of(params, jax.random.key(1))
    promised = 0.02  # small enough for the slope to last, large beside the noise of the draws
    step = promised / float(optax.tree.norm(gradient)) ** 2
    ends = [jax.tree.map(lambda leaf, g, s=s: leaf + s * step * g, params, gradient) for s in (0.5, -0.5)]
    before, after = (float(of(end, jax.random.key(2))[0]) for end in ends)
    assert before - after == pytest.approx(promised, rel=0.3), (before, after)


def test_the_distance_of_a_base_with_the_posteriors_moments_is_small(measured) -> None:
    """Which fresh weights leave as it is."""
    fresh, moved, of = measured
    at_base, away = (float(of(params, jax.random.key(1))[0]) for params in (fresh, moved))
    assert 0.0 <= at_base < 0.03
    assert away > 2.0 * at_base


def test_smooth_relu_is_a_relu_from_afar() -> None:
    x = jnp.linspace(-50.0, 50.0, 201)
    np.testing.assert_allclose(smooth_relu(x), jax.nn.relu(x), atol=0.26)
    np.testing.assert_allclose(smooth_relu(x)[jnp.asarray([0, -1])], [0.0, 50.0], atol=0.01)
    kink = jax.jit(jax.grad(smooth_relu))(1e-3) - jax.jit(jax.grad(smooth_relu))(-1e-3)
    assert 0.0 < float(kink) < 0.01


@pytest.mark.parametrize(
    ("model", "flow"),
    [
        ({"activation": "relu"}, FLOW),
        ({"base": "gaussian"}, FLOW),
        ({}, FlowConfig("cosine", "hellinger", solver="dopri5")),
        ({}, FlowConfig("cosine", "hellinger", balanced=True)),
    ],
)
def test_what_has_no_such_distance_is_refused(model: dict, flow: FlowConfig) -> None:
    with pytest.raises(ValueError, match=r"flow\.loss=hellinger needs the density of a smooth map"):
        config(model, flow)


def test_unknown_activations_are_refused_with_the_choices() -> None:
    with pytest.raises(ValueError, match=r"model\.activation must be one of .*relu.*smooth_relu.*'tanh'"):
        config({"activation": "tanh"})
