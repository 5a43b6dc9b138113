"""What must not be rounded is not, whatever the surroundings ask for."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import pytest
from training.conftest import tiny_config

from icl_bayes.tasks import make_task
from icl_bayes.training import TrainingConfig, build_network
from icl_bayes.training.network import batch_loss
from icl_bayes.training.step import data_mesh, make_batch_fn

HIGHEST = (jax.lax.Precision.HIGHEST, jax.lax.Precision.HIGHEST)


def products(jaxpr) -> Iterator:
    """Precisions of all matrix products, also within calls and loops."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            yield equation.params["precision"]
        for value in equation.params.values():
            for one in value if isinstance(value, tuple | list) else (value,):
                inner = getattr(one, "jaxpr", one)
                if hasattr(inner, "eqns"):
                    yield from products(inner)


@pytest.mark.parametrize("name", ["glm/1", "efa/1", "gmm/2"])
def test_log_joint_and_its_gradient_are_float32_under_any_default(name: str) -> None:
    task = make_task(name)
    with jax.default_matmul_precision("bfloat16"):
        traced = jax.make_jaxpr(jax.value_and_grad(task.log_joint))(jnp.zeros(task.dim), task.example)
    assert set(products(traced.jaxpr)) <= {HIGHEST}


def test_training_rounds_the_network_alone() -> None:
    rounded = build_network(tiny_config(matmul_precision="bfloat16"))
    plain = build_network(tiny_config())

    def found(network) -> set:
        config = network.config.training
        params = network.init(0)
        batch = make_batch_fn(network, config, data_mesh())
        shapes = jax.eval_shape(lambda key: batch(jax.random.split(key, 4), 16), jax.random.key(0))
        loss = jax.make_jaxpr(lambda params, key, targets: batch_loss(network, params, key, targets))
        return set(products(loss(params, jax.random.key(0), shapes).jaxpr))

    assert found(plain) == {HIGHEST}
    assert found(rounded) == {HIGHEST, jax.lax.DotAlgorithmPreset.BF16_BF16_F32}


def test_unknown_precision_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must be one of \['bfloat16', 'float32', 'tensorfloat32'\]; received 'half'"):
        TrainingConfig(matmul_precision="half")
