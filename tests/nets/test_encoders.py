"""What a network reads of a data set: its rows as a set, and nothing of its padding."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from icl_bayes.nets import InContextFlow

X = np.random.default_rng(7).normal(size=(4, 3)).astype(np.float32)
SETS = ("transformer", "inducing")
every_set_encoder = pytest.mark.parametrize("encoder", SETS)


def close(one, other, tolerance: float = 2e-5) -> None:
    np.testing.assert_allclose(one, other, atol=tolerance, rtol=tolerance)


@nnx.jit
def base_of(model: InContextFlow, rows, context, row_mask):
    memory = model.encode(rows, context, row_mask)
    return memory.shift[-1], memory.scale[-1]


@every_set_encoder
def test_the_order_of_rows_does_not_matter(encoder: str, tiny_model, features, velocity_at) -> None:
    model, (rows, context, mask) = tiny_model(encoder=encoder), features
    order = np.random.default_rng(0).permutation(len(rows))
    before = velocity_at(model, rows, context, mask, X)
    close(velocity_at(model, rows[order], context, mask[order], X), before)
    assert np.abs(velocity_at(model, 1.5 * rows, context, mask, X) - before).max() > 1e-2, "Rows are read at all."
    assert np.abs(velocity_at(model, rows, context + 1.0, mask, X) - before).max() > 1e-2, "The context is read."


@pytest.mark.parametrize("encoder", [*SETS, "mlp"])
def test_padded_rows_do_not_matter(encoder: str, tiny_model, features, velocity_at) -> None:
    model, (rows, context, mask) = tiny_model(encoder=encoder), features
    before = velocity_at(model, rows, context, mask, X)
    garbage = np.where(mask[:, None], rows, np.float32(1e4))
    close(velocity_at(model, garbage, context, mask, X), before)
    if encoder in SETS:
        longer = np.concatenate([rows, np.full((5, rows.shape[1]), 3.0, np.float32)])
        close(velocity_at(model, longer, context, np.concatenate([mask, np.zeros(5, bool)]), X), before)


def test_the_mlp_reads_rows_in_order(tiny_model, features, velocity_at) -> None:
    """Negative control of the first test: the paper's ablation is no set function."""
    model, (rows, context, _) = tiny_model(encoder="mlp"), features
    everything = np.ones(len(rows), bool)
    before = velocity_at(model, rows, context, everything, X)
    assert np.abs(velocity_at(model, rows[::-1].copy(), context, everything, X) - before).max() > 1e-2


def test_the_mlp_takes_fewer_rows_and_refuses_more(tiny_model, features) -> None:
    model, (rows, context, mask) = tiny_model(encoder="mlp"), features
    memory = model.encode(rows[:5], context, mask[:5])
    assert memory.mask.shape == (1,)
    with pytest.raises(ValueError, match=r"built for 9 rows; received 12\. Use encoder=transformer"):
        model.encode(np.zeros((12, 4), np.float32), context, np.ones(12, bool))


def test_the_gaussian_base_reads_rows_as_a_set(fresh_model, features) -> None:
    model, (rows, context, mask) = fresh_model(base="gaussian", encoder_layers=1), features
    shift, scale = base_of(model, rows, context, mask)
    order = np.random.default_rng(1).permutation(len(rows))
    for other in (
        base_of(model, rows[order], context, mask[order]),
        base_of(model, np.where(mask[:, None], rows, 1e3).astype(np.float32), context, mask),
    ):
        close(other[0], shift, 5e-4)
        close(other[1], scale, 5e-4)
    np.testing.assert_array_equal(np.tril(scale, -1), 0.0)
    assert (np.diag(scale) > 0).all()
    assert np.abs(base_of(model, 1.5 * rows, context, mask)[0] - shift).max() > 1e-3


def test_other_bases_leave_the_noise_as_it_is(tiny_model, features) -> None:
    memory = nnx.jit(lambda model: model.encode(*features))(tiny_model(encoder="inducing"))
    np.testing.assert_array_equal(memory.shift, np.zeros((1, 3)))
    np.testing.assert_array_equal(memory.scale, np.eye(3)[None])


@pytest.mark.parametrize("encoder", [*SETS, "mlp"])
def test_keys_and_values_are_those_of_the_encoders_tokens(encoder: str, tiny_model, features) -> None:
    """Encoding once gives what every decoder block would compute from the tokens itself."""
    model = tiny_model(encoder=encoder)
    memory = model.encode(*features)
    tokens, mask = model.encoder(*features)
    np.testing.assert_array_equal(memory.mask, mask)
    for block, stored in zip(model.blocks, memory.blocks, strict=True):
        for once, direct in zip(stored, block.memory_key_value(tokens), strict=True):
            close(once, direct, 1e-6)
    one = model.blocks[0].cross_attend(tokens[:1], *memory.blocks[0], mask)
    scale = np.sqrt(model.config.width // model.config.heads)
    close(one, attention(model.blocks[0], tokens[:1], tokens, mask, scale), 1e-5)


def attention(block, queries, tokens, mask, scale: float) -> np.ndarray:
    """Multi-head attention written out head by head."""
    query, key, value = (
        np.asarray(layer(t)).reshape(len(t), 2, -1)
        for layer, t in (
            (block.cross_attend.query, queries),
            (block.memory_key_value.key, tokens),
            (block.memory_key_value.value, tokens),
        )
    )
    mixed = []
    for head in range(2):
        weights = np.exp(query[:, head] @ key[:, head].T / scale) * np.asarray(mask)
        mixed.append(weights / weights.sum(axis=1, keepdims=True) @ value[:, head])
    return np.asarray(block.cross_attend.out(jnp.asarray(np.concatenate(mixed, axis=1))))


def test_memory_holds_no_trace_of_time_or_theta(tiny_model, features, velocity_at) -> None:
    """Any number of draws and times against one memory equal one encoding each."""
    model = tiny_model()
    together = velocity_at(model, *features, X)
    times = jnp.linspace(0.1, 0.9, len(X))
    for i, t in enumerate(times):
        close(model.output(t, X[i], model.encode(*features)), together[i])
    assert np.abs(np.diff(together, axis=0)).max() > 1e-2


def test_inducing_memory_has_a_fixed_size(tiny_model, features) -> None:
    rows, context, mask = features
    for copies in (1, 3):
        memory = jax.eval_shape(
            lambda rows, mask: tiny_model(encoder="inducing").encode(rows, context, mask),
            np.tile(rows, (copies, 1)),
            np.tile(mask, copies),
        )
        assert memory.mask.shape == (3,)
