"""The velocity field: what it is before training, its symmetries, and what it sees of the likelihood."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from icl_bayes.flow import PATHS, Solver, affine_from_curvature, identity_affine, make_path, solve
from icl_bayes.nets import InContextFlow, ModelShape, make_velocity, residual_score, squash
from icl_bayes.nets.layers import Folded
from icl_bayes.nets.velocity import score_inputs, smoothing_of

DIM = 3
MEAN = np.asarray([1.0, -2.0, 0.5], np.float32)
PRECISION = np.asarray([[4.0, 1.0, 0.0], [1.0, 3.0, -0.5], [0.0, -0.5, 1.5]], np.float32)
MATCHING = affine_from_curvature(MEAN, PRECISION)
X = np.asarray([0.4, -1.3, 2.0], np.float32)


def gaussian(theta):
    return -0.5 * (theta - MEAN) @ PRECISION @ (theta - MEAN)


def skewed(theta):
    return gaussian(theta) - jnp.sum(jnp.exp(theta))


@pytest.mark.parametrize("layout", ["single", "coordinate"])
def test_decoder_blocks_are_the_identity_at_initialization(layout: str, fresh_model, features) -> None:
    model = fresh_model(layout=layout)
    memory = model.encode(*features)
    tokens = np.random.default_rng(0).normal(size=(model.num_tokens, 8)).astype(np.float32)
    condition = np.random.default_rng(1).normal(size=8).astype(np.float32)
    for block, keys_values in zip(model.blocks, memory.blocks, strict=True):
        np.testing.assert_array_equal(block(tokens, keys_values, memory.mask, condition), tokens)
    np.testing.assert_array_equal(model.head(tokens, condition), 0.0)


@pytest.mark.parametrize("inputs", ["theta", "theta_and_score"])
def test_a_gaussian_posterior_is_transported_exactly_before_training(inputs: str, fresh_model, features) -> None:
    """With the matching base the flow must leave N(0, I) alone: the velocity is the path's drift."""
    model = fresh_model(inputs=inputs, parametrization="residual", base="laplace")
    times = np.float32([0.0, 0.3, 0.95])
    for path in PATHS.values():
        velocity = make_velocity(model, model.encode(*features), path, MATCHING, gaussian)
        moved = jax.jit(jax.vmap(velocity, (0, None)))(times, X)
        expected = jax.jit(jax.vmap(path.drift))(times)[:, None] * X
        np.testing.assert_allclose(moved, expected, atol=1e-4, err_msg=path.name)
    plain = make_velocity(fresh_model(parametrization="velocity"), model.encode(*features), path, MATCHING, None)
    np.testing.assert_array_equal(plain(jnp.asarray(0.3), X), 0.0)


def test_before_training_the_score_is_the_first_order_answer(fresh_model, features) -> None:
    model = fresh_model(inputs="theta_and_score", parametrization="residual", smoothed_score=False)
    path, t = make_path("cosine"), jnp.asarray(0.4)
    velocity = make_velocity(model, model.encode(*features), path, MATCHING, skewed)
    center = path.denoised(t, X)
    score = squash(residual_score(skewed, MATCHING, center))
    assert np.abs(score).max() > 0.05
    np.testing.assert_allclose(velocity(t, X), path.drift(t) * X + path.gain(t) * score, rtol=1e-4)


def test_the_residual_score_vanishes_for_the_matching_gaussian_only() -> None:
    np.testing.assert_allclose(residual_score(gaussian, MATCHING, X), 0.0, atol=1e-4)
    assert np.abs(residual_score(gaussian, identity_affine(DIM), X)).max() > 1.0
    # In base coordinates: the gradient of log density minus log N(0, I) along u.
    step = 1e-2 * np.eye(DIM, dtype=np.float32)
    excess = lambda u: float(skewed(MATCHING.forward(u)) + 0.5 * u @ u)  # noqa: E731
    differences = [(excess(X + e) - excess(X - e)) / 2e-2 for e in step]
    np.testing.assert_allclose(residual_score(skewed, MATCHING, X), differences, rtol=5e-3, atol=5e-3)


def quartic(theta):
    """Third and fourth derivatives that are constant: the linear fit of the smoothing is then exact."""
    u = MATCHING.backward(theta)
    return -0.5 * jnp.sum(u**2) - 0.02 * jnp.sum(u) ** 3 / 3.0 - 0.004 * jnp.sum(u**4)


def test_the_smoothed_score_is_the_mean_around_the_denoised_point() -> None:
    path, t = make_path("cosine"), jnp.asarray(0.4)
    x = 0.3 * X
    smoothing = smoothing_of(quartic, MATCHING)
    smoothed, center = score_inputs(quartic, MATCHING, path, t, x, smoothing)
    np.testing.assert_allclose(center, score_inputs(quartic, MATCHING, path, t, x, None)[0], rtol=1e-5)
    num = 400_000
    noise = np.random.default_rng(0).normal(size=(num // 2, DIM)).astype(np.float32)
    points = path.denoised(t, x) + float(path.spread(t)) * np.concatenate([noise, -noise])
    scores = np.asarray(jax.jit(jax.vmap(lambda u: residual_score(quartic, MATCHING, u)))(points))
    mean, error = scores.mean(axis=0), scores.std(axis=0) / np.sqrt(num)
    # Squashing bends the estimate by a share of order (score / 3)^2 / 2.
    assert np.abs(mean - center).min() > 10 * error.max(), "smoothing should matter here"
    np.testing.assert_allclose(smoothed, mean, atol=5 * error.max() + 0.02 * np.abs(mean).max())
    at_end = score_inputs(quartic, MATCHING, path, jnp.asarray(1.0), x, smoothing)
    np.testing.assert_allclose(at_end[0], at_end[1], atol=1e-5)  # nothing is left to average over


def test_squashing_is_linear_near_zero_and_bounded_far_out() -> None:
    small = np.asarray([1e-3, -0.02], np.float32)
    np.testing.assert_allclose(squash(small), small, rtol=1e-4)
    assert np.abs(squash(np.float32([1e3, -1e9, 1e30]))).max() <= 3.0
    np.testing.assert_array_equal(squash(np.float32([np.nan, np.inf, -np.inf])), 0.0)
    slope = jax.jit(jax.vmap(jax.grad(lambda r: jnp.sum(squash(r)))))(np.float32([0.0, 5.0, 1e20, np.nan]))
    assert np.isfinite(slope).all()


def test_a_velocity_that_sees_the_score_needs_the_log_joint(fresh_model, features) -> None:
    model = fresh_model(inputs="theta_and_score")
    with pytest.raises(ValueError, match="needs the log joint of the task"):
        make_velocity(model, model.encode(*features), make_path("linear"), MATCHING, None)


def test_before_training_a_velocity_follows_the_denoiser(fresh_model, features) -> None:
    """Of a normal target, whose conditional mean is known: the flow then takes the base to the target exactly."""
    center, sd = jnp.asarray(MEAN), 0.3

    def denoiser(x, alpha, sigma):
        precision = sigma**2 / sd**2 + alpha**2
        return (sigma**2 / sd**2 * center + alpha * x) / precision, center

    model = fresh_model(inputs="theta_and_denoised", parametrization="velocity", base="standard")
    path = make_path("cosine")
    velocity = make_velocity(model, model.encode(*features), path, identity_affine(DIM), None, denoiser)
    solution = solve(lambda t, x: jax.vmap(velocity, (None, 0))(t, x), X[None], Solver("midpoint", 200))
    np.testing.assert_allclose(solution.x[0], center + sd * X, atol=5e-3)
    with pytest.raises(ValueError, match="needs that of the task"):
        make_velocity(model, model.encode(*features), path, identity_affine(DIM), None)


def permuted(model: InContextFlow, order: list[int]) -> InContextFlow:
    """The same network with its coordinate tokens exchanged."""
    copy = nnx.clone(model)
    copy.token_type[...] = copy.token_type[...][jnp.asarray(order)]
    return copy


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_folded_memory_gives_the_same_attention(dtype: str, tiny_model) -> None:
    attend = tiny_model(encoder="inducing", compute_dtype=dtype).blocks[0].cross_attend
    generator = np.random.default_rng(0)
    queries = jnp.asarray(generator.normal(size=(5, 8)), dtype)
    keys, values = jnp.asarray(generator.normal(size=(2, 2, 3, 4)), dtype)
    mask = np.arange(3) != 1
    folded = np.asarray(attend.fold(keys, values)(queries, mask), np.float32)
    plain = np.asarray(attend(queries, keys, values, mask), np.float32)
    np.testing.assert_allclose(folded, plain, atol=1e-5 if dtype == "float32" else 0.1)
    everything = np.asarray(attend(queries, keys, values, np.ones(3, bool)), np.float32)
    assert np.max(np.abs(everything - folded)) > 0.1, "The mask matters."


@pytest.mark.parametrize(("encoder", "is_folded"), [("inducing", True), ("transformer", False)])
def test_memories_for_many_draws_give_the_same_output(encoder: str, is_folded: bool, tiny_model, features) -> None:
    """Short memories are folded, long ones left as they are: nine rows and two heads exceed the width of eight."""
    model = tiny_model(encoder=encoder)
    few, many = model.encode(*features), model.encode(*features, for_many_draws=True)
    assert [isinstance(block, Folded) for block in many.blocks] == [is_folded] * len(model.blocks)
    assert not any(isinstance(block, Folded) for block in few.blocks)
    t = jnp.asarray(0.3)
    np.testing.assert_allclose(model.output(t, X, many), model.output(t, X, few), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("inputs", ["theta", "theta_and_score"])
def test_tokens_per_coordinate_make_the_decoder_equivariant(inputs: str, tiny_model, features) -> None:
    """Permuting coordinates, with what marks them, permutes the output; one token for all can't do that."""
    order, t = [2, 0, 1], jnp.asarray(0.6)
    scores = np.random.default_rng(3).normal(size=(2, DIM)).astype(np.float32) if inputs != "theta" else None
    model = tiny_model(layout="coordinate", inputs=inputs)
    memory = model.encode(*features)
    before = np.asarray(model.output(t, X, memory, scores))
    other = permuted(model, order)
    moved = other.output(t, X[order], memory, None if scores is None else scores[:, order])
    np.testing.assert_allclose(moved, before[order], atol=1e-5)
    assert np.abs(model.output(t, X[order], memory, scores) - before[order]).max() > 1e-2, "Tokens differ in type."


def test_components_are_treated_alike(tiny_model, features) -> None:
    """Permuting components permutes the output, nothing else being changed; permuting one site alone does more."""
    shape = ModelShape(dim=6, row_features=4, context_features=2, components=((0, 3), (1, 4), (2, 5)))
    model, t = tiny_model(shape=shape, layout="component"), jnp.asarray(0.6)
    memory, x = model.encode(*features), np.linspace(-1.0, 2.0, 6, dtype=np.float32)
    before = np.asarray(model.output(t, x, memory))
    order = [2, 0, 1, 5, 3, 4]
    np.testing.assert_allclose(model.output(t, x[order], memory), before[order], atol=1e-5)
    torn = [2, 0, 1, 3, 4, 5]
    assert np.abs(model.output(t, x[torn], memory) - before[torn]).max() > 1e-2
    with pytest.raises(ValueError, match="is for models with exchangeable components"):
        tiny_model(layout="component")


def test_velocities_and_losses_broadcast_nothing_silently(tiny_model, features, strict_rank_promotion: None) -> None:
    for settings in (
        {"encoder": "transformer", "layout": "coordinate"},
        {"encoder": "inducing", "inputs": "theta_and_score", "base": "laplace", "parametrization": "residual"},
    ):

        def velocities(model, x):
            velocity = make_velocity(model, model.encode(*features), make_path("cosine"), MATCHING, strict_gaussian)
            return jax.vmap(velocity, (None, 0))(jnp.asarray(0.3), x)

        assert nnx.eval_shape(velocities, tiny_model(**settings), np.stack([X, 2 * X])).shape == (2, DIM)


def strict_gaussian(theta):
    return -0.5 * jnp.sum((theta - MEAN) ** 2)


def test_bfloat16_keeps_weights_and_output_in_float32(tiny_model, features, velocity_at) -> None:
    full, half = tiny_model(encoder="transformer"), tiny_model(encoder="transformer", compute_dtype="bfloat16")
    assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(half, nnx.Param))} == {np.dtype(np.float32)}
    x = np.stack([X, -X])
    outputs = [np.asarray(velocity_at(model, *features, x)) for model in (full, half)]
    assert outputs[1].dtype == np.float32
    error = np.abs(outputs[1] - outputs[0]).max() / np.abs(outputs[0]).max()
    assert 0 < error < 0.1


def test_dropout_acts_in_training_only(features) -> None:
    from icl_bayes.nets import ModelConfig, ModelShape

    config = ModelConfig(width=8, heads=2, feedforward=12, dropout=0.5, base="standard", inputs="theta")
    model = InContextFlow(config, ModelShape(DIM, 4, 2), rngs=nnx.Rngs(0, dropout=1))
    tokens = lambda: np.asarray(model.encoder(*features)[0])  # noqa: E731
    model.eval()
    np.testing.assert_array_equal(tokens(), tokens())
    model.train()
    assert np.abs(tokens() - tokens()).max() > 1e-3
