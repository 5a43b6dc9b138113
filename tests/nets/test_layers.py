"""Layer norm and softmax beside their plain formulas, values and derivatives."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icl_bayes.nets import layers


def plain_norm(tokens: jax.Array) -> jax.Array:
    mean, variance = jnp.mean(tokens, axis=-1, keepdims=True), jnp.var(tokens, axis=-1, keepdims=True)
    return (tokens - mean) / jnp.sqrt(variance + 1e-6)


CASES = {"norm": (layers.normalized, plain_norm), "softmax": (layers.softmax, jax.nn.softmax)}


@pytest.mark.parametrize("name", CASES)
def test_agrees_with_the_plain_formula(name: str) -> None:
    ours, plain = CASES[name]
    x = 3.0 + 2.0 * jax.random.normal(jax.random.key(0), (5, 7, 16))
    weight = jax.random.normal(jax.random.key(1), x.shape)
    chex.assert_trees_all_close(ours(x), plain(x), atol=2e-6, rtol=2e-5)
    forward = [jax.jvp(fn, (x,), (weight,))[1] for fn in (ours, plain)]
    chex.assert_trees_all_close(*forward, atol=5e-6, rtol=1e-4)
    backward = [jax.jit(jax.grad(lambda value, fn=fn: jnp.sum(weight * fn(value))))(x) for fn in (ours, plain)]
    chex.assert_trees_all_close(*backward, atol=5e-6, rtol=1e-4)


def test_statistics_of_half_precision_are_those_of_single() -> None:
    x = (100.0 + jax.random.normal(jax.random.key(0), (8, 64))).astype(jnp.bfloat16)
    found = layers.normalized(x)
    assert found.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(found, np.float32), plain_norm(x.astype(jnp.float32)), atol=0.02)


def test_softmax_holds_what_would_overflow_and_what_is_masked() -> None:
    found = layers.softmax(jnp.asarray([[1e4, 1e4, -1e30], [-1e30, 0.0, -1e30]]))
    np.testing.assert_allclose(found, [[0.5, 0.5, 0.0], [0.0, 1.0, 0.0]])


def test_sums_are_the_same_on_other_backends(monkeypatch: pytest.MonkeyPatch) -> None:
    x = jax.random.normal(jax.random.key(0), (4, 16))
    expected = layers.normalized(x), layers.softmax(x)
    monkeypatch.setattr(layers.jax, "default_backend", lambda: "gpu")
    chex.assert_trees_all_close((layers.normalized(x), layers.softmax(x)), expected, atol=1e-6)
