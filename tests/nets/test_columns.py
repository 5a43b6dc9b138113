"""The network of column tokens: symmetries on velocity and density, padding, and what it is before training."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import moved_weights

from icl_bayes.flow import affine_from_curvature, log_normal, make_path, value_and_log_det
from icl_bayes.nets import ColumnFlow, ModelConfig, make_velocity

CELLS, CONTEXT, DIM, N = 4, 5, 4, 6
SMALL = {"encoder": "columns", "layout": "column", "width": 8, "heads": 2, "feedforward": 12, "encoder_layers": 1}
CONFIG, DOUBLE = ModelConfig(**SMALL), ModelConfig(**SMALL, compute_dtype="float64")
GENERATOR = np.random.default_rng(0)
READ = (
    GENERATOR.normal(size=(N, DIM, CELLS)),
    GENERATOR.uniform(0.0, 0.3, size=(N, DIM)),
    np.column_stack([np.ones(DIM), GENERATOR.normal(size=(DIM, CONTEXT - 1))]),
    np.asarray([True] * 5 + [False]),
)
READ[1][5] = 0.0  # a masked row has no share
ROOT = GENERATOR.normal(size=(DIM, DIM))
PRECISION, MEAN = ROOT @ ROOT.T + np.eye(DIM), GENERATOR.normal(size=DIM)


def randomized(seed: int = 0) -> ColumnFlow:
    """Weights that are zero at initialization would hide mistakes."""
    model = nnx.jit(lambda: ColumnFlow(DOUBLE, CELLS, CONTEXT, rngs=nnx.Rngs(seed)))()
    nnx.update(model, moved_weights(nnx.state(model, nnx.Param), 0.3, seed))
    return model


def make_scores(mean, precision):
    def scores(theta, spread):
        score = -precision @ (theta - mean) - 0.3 * jnp.sinh(theta)
        return jnp.stack([(1.0 - 0.2 * spread) * score, score])

    return scores


def velocity_of(model: ColumnFlow, order=slice(None), rows=slice(None)):
    cells, shares, context, mask = READ
    memory = model.encode(cells[rows][:, order], shares[rows][:, order], context[order], mask[rows])
    precision = PRECISION[order][:, order]
    affine = affine_from_curvature(jnp.asarray(MEAN[order]), jnp.asarray(precision))
    scores = make_scores(MEAN[order], precision)
    return make_velocity(model, memory, make_path("cosine"), affine, None, averaged=scores), affine


def test_before_training_the_flow_is_its_base() -> None:
    model = nnx.jit(lambda: ColumnFlow(CONFIG, CELLS, CONTEXT, rngs=nnx.Rngs(0)))()
    times, x, path = jnp.asarray([0.0, 0.4, 1.0]), jnp.asarray([0.4, -1.3, 2.0, 0.1]), make_path("cosine")
    velocities = jax.jit(jax.vmap(lambda t: velocity_of(model)[0](t, x)))(times)
    np.testing.assert_allclose(velocities, jax.vmap(path.drift)(times)[:, None] * x, atol=1e-6)


def test_orders_of_rows_and_columns_do_not_matter() -> None:
    """In double precision, for the velocity and for the density of the flow's steps."""
    order, rows = np.asarray([2, 0, 3, 1]), np.asarray([4, 2, 0, 1, 3, 5])
    with jax.enable_x64():
        model = randomized()
        x = jnp.asarray([0.4, -1.3, 2.0, 0.1], jnp.float64)
        t = jnp.asarray(0.6, jnp.float64)

        def computed(x, *orders):
            """The velocity, and where a step ends with what density."""
            velocity, affine = velocity_of(model, *orders)
            end, log_det = value_and_log_det(lambda z: z + 0.5 * velocity(t, z), x)
            return velocity(t, x), affine.forward(end), log_normal(x) - log_det - affine.log_det

        velocity, theta, log_prob = jax.jit(computed)(x)
        found, theta_permuted, log_prob_permuted = jax.jit(lambda x: computed(x, order, rows))(x[order])
        assert not np.allclose(found, velocity)  # columns are told apart
        np.testing.assert_allclose(found, velocity[order], rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(theta_permuted, theta[order], rtol=1e-9)
        assert float(log_prob_permuted) == pytest.approx(float(log_prob), rel=1e-10)


def test_padding_does_not_matter() -> None:
    """Masked rows, and coordinates that do not exist."""
    with jax.enable_x64():
        model = randomized(1)
        cells, shares, context, mask = READ
        encode = jax.jit(model.encode)
        memory = encode(cells[:5], shares[:5], context, mask[:5])
        noisy = (cells.copy(), shares.copy())
        noisy[0][5], noisy[1][5] = 1e3, 0.0
        padded = encode(*noisy, context, mask)
        np.testing.assert_allclose(padded.tokens, memory.tokens, rtol=1e-10)
        wide = encode(
            np.concatenate([cells, np.full((N, 2, CELLS), 9.0)], axis=1),
            np.concatenate([shares, np.zeros((N, 2))], axis=1),
            np.concatenate([context, np.zeros((2, CONTEXT))]),
            mask,
        )
        np.testing.assert_allclose(wide.tokens[:DIM], memory.tokens, rtol=1e-9)
        x, scores = jnp.asarray(GENERATOR.normal(size=DIM)), jnp.asarray(GENERATOR.normal(size=(2, DIM)))
        t = jnp.asarray(0.3)
        output = jax.jit(model.output)
        own = output(t, x, memory, scores)
        beyond = output(t, jnp.pad(x, (0, 2), constant_values=5.0), wide, jnp.pad(scores, ((0, 0), (0, 2))))
        np.testing.assert_allclose(beyond[:DIM], own, rtol=1e-9)
        np.testing.assert_array_equal(beyond[DIM:], 0.0)


@pytest.mark.parametrize(
    "changes", [{"encoder": "inducing"}, {"layout": "single"}, {"base": "standard"}, {"parametrization": "velocity"}]
)
def test_what_does_not_go_together_is_refused(changes: dict[str, str]) -> None:
    settings = {"encoder": "columns", "layout": "column", **changes}
    with pytest.raises(ValueError, match=r"layout=column"):
        ModelConfig(**settings)
