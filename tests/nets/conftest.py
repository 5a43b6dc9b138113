"""Tiny networks with weights away from their initialization, where zero gates would hide everything."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from icl_bayes.nets import InContextFlow, ModelConfig, ModelShape

SHAPE = ModelShape(dim=3, row_features=4, context_features=2)
TINY = {
    "width": 8,
    "heads": 2,
    "feedforward": 12,
    "encoder_layers": 2,
    "decoder_blocks": 2,
    "inducing_points": 3,
    "time_features": 2,
    "mlp_rows": 9,
    "base": "standard",
    "inputs": "theta",
}


@functools.cache
def _built(seed: int, shape: ModelShape, settings: tuple[tuple[str, object], ...]) -> InContextFlow:
    config = ModelConfig(**{**TINY, **dict(settings)})
    graph, params, rest = nnx.split(
        nnx.eval_shape(lambda: InContextFlow(config, shape, rngs=nnx.Rngs(0, dropout=1))), nnx.Param, ...
    )
    generator = np.random.default_rng(seed)

    def weight(path, leaf):
        offset = 1.0 if "scale" in jax.tree_util.keystr(path) else 0.0  # of a layer norm
        return jnp.asarray(offset + generator.normal(0.0, 0.4, leaf.shape), leaf.dtype)

    def state(leaf):
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return jax.random.key(0) if is_key else jnp.zeros(leaf.shape, leaf.dtype)

    params = jax.tree_util.tree_map_with_path(weight, params)
    model = nnx.merge(graph, params, jax.tree.map(state, rest))
    model.eval()
    return model


@pytest.fixture(scope="session")
def tiny_model():
    """``**settings -> InContextFlow`` with random weights, in evaluation mode."""
    return lambda seed=0, shape=SHAPE, **settings: _built(seed, shape, tuple(sorted(settings.items())))


@pytest.fixture(scope="session")
def fresh_model():
    """``**settings -> InContextFlow`` as initialized."""

    def build(**settings) -> InContextFlow:
        model = InContextFlow(ModelConfig(**{**TINY, **settings}), SHAPE, rngs=nnx.Rngs(0, dropout=1))
        model.eval()
        return model

    return build


@pytest.fixture(scope="session")
def features():
    """Rows ``(9, 4)``, context ``(2,)`` and a mask without two of the rows."""
    generator = np.random.default_rng(2)
    rows = generator.normal(size=(9, SHAPE.row_features)).astype(np.float32)
    context = generator.normal(size=SHAPE.context_features).astype(np.float32)
    return rows, context, np.asarray([True] * 4 + [False] + [True] * 3 + [False])


@nnx.jit
def _velocity_at(model: InContextFlow, rows, context, row_mask, x):
    memory = model.encode(rows, context, row_mask)
    return jax.vmap(lambda t, x: model.output(t, x, memory))(jnp.linspace(0.1, 0.9, len(x)), x)


@pytest.fixture(scope="session")
def velocity_at():
    """``(model, rows, context, row_mask, x (k, dim)) -> (k, dim)`` at ``k`` times."""
    return _velocity_at
