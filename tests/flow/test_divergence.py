"""Gradients of divergences by what they do to draws, against quadrature and closed forms."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from icl_bayes.flow import Gap, gap_at, hellinger, log_normal
from icl_bayes.flow.divergence import MAX_PUSH

PARAMS = np.asarray([0.3, 0.9, 0.7])
GRID = np.linspace(-9.0, 9.0, 40_001)
NUM = 2000


def log_target(x):
    """Two normal laws side by side, normalized; ``x (1,)``."""
    parts = jnp.asarray([log_normal(x + 1.0), log_normal((x - 1.5) / 0.7) - jnp.log(0.7)])
    return jax.scipy.special.logsumexp(parts + jnp.log(0.5))


def smooth(params, z):
    return params[0] + params[1] * z + params[2] * jnp.tanh(z)


def kinked(params, z):
    return params[0] + params[1] * z + params[2] * jnp.where(z > 0.0, z, 0.0)


def slope_of(bend, params, z):
    return jax.jit(jax.vmap(jax.grad(lambda one: bend(params, one))))(z)


def distance(bend, divergence, params):
    """``E_q[F(p / q)]`` by quadrature over noise."""
    z = jnp.asarray(GRID)
    log_q = jax.jit(jax.vmap(lambda one: log_normal(one[None])))(z) - jnp.log(slope_of(bend, params, z))
    log_p = jax.jit(jax.vmap(lambda one: log_target(bend(params, one)[None])))(z)
    weight = jnp.exp(log_q) * slope_of(bend, params, z)
    return jnp.sum(weight * divergence(log_p - log_q)) * (GRID[1] - GRID[0])


def by_gaps(bend, factor, params):
    """The mean of ``c(p / q) gap . df`` over draws, likewise."""
    z = jnp.asarray(GRID)
    gaps = jax.jit(jax.vmap(lambda one: gap_at(lambda u: bend(params, u), log_normal, log_target, one[None])))(z)
    changes = jax.jit(jax.vmap(lambda one: jax.grad(lambda params: bend(params, one))(params)))(z)
    density = jnp.exp(jax.jit(jax.vmap(lambda one: log_normal(one[None])))(z))
    pushes = factor(-gaps.log_ratio) * gaps.gradient[:, 0]
    return jnp.sum((density * pushes)[:, None] * changes, axis=0) * (GRID[1] - GRID[0])


DIVERGENCES = {  # F and c of the log of p / q
    "reverse_kl": (lambda log_w: -log_w, jnp.ones_like),
    "forward_kl": (lambda log_w: jnp.exp(log_w) * log_w, jnp.exp),
    "hellinger": (lambda log_w: 1.0 - jnp.exp(0.5 * log_w), lambda log_w: 0.25 * jnp.exp(0.5 * log_w)),
}


@pytest.mark.parametrize("name", DIVERGENCES)
def test_gaps_give_the_gradient_of_a_divergence(name: str) -> None:
    divergence, factor = DIVERGENCES[name]
    with jax.enable_x64(True):
        params = jnp.asarray(PARAMS)
        expected = jax.jit(jax.grad(lambda params: distance(smooth, divergence, params)))(params)
        found = by_gaps(smooth, factor, params)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
    assert np.linalg.norm(expected) > 0.02


def test_of_a_kinked_map_gaps_do_not_tell_the_gradient() -> None:
    """Why the decoder must be smooth: all that moves the kink itself has another gradient."""
    divergence, factor = DIVERGENCES["hellinger"]
    step = 1e-3
    with jax.enable_x64(True):
        at = jax.jit(lambda params: distance(kinked, divergence, params))
        ends = [[float(at(jnp.asarray(PARAMS + sign * step * one))) for sign in (-1, 1)] for one in np.eye(3)]
        expected = np.asarray([(high - low) / (2.0 * step) for low, high in ends])
        found = np.asarray(by_gaps(kinked, factor, jnp.asarray(PARAMS)))
    assert found[0] > 1.2 * expected[0] > 0.0
    np.testing.assert_allclose(found[1:], expected[1:], rtol=1e-2)


def test_no_gap_where_the_laws_agree() -> None:
    matrix, shift = jnp.asarray([[1.2, 0.3], [-0.4, 0.8]]), jnp.asarray([0.5, -1.0])
    precision = jnp.linalg.inv(matrix @ matrix.T)
    target = lambda x: -0.5 * (x - shift) @ precision @ (x - shift)  # noqa: E731
    z = jax.random.normal(jax.random.key(0), (50, 2))
    gaps = jax.jit(jax.vmap(lambda one: gap_at(lambda z: shift + matrix @ z, log_normal, target, one)))(z)
    assert np.max(np.abs(gaps.gradient)) < 1e-4
    found = hellinger(gaps)
    assert float(found.value) == pytest.approx(0.0, abs=1e-6)
    assert np.max(np.abs(found.pushes)) < 1e-4


def shifted_gaps(delta: float) -> Gap:
    """At draws of N(delta, 1), as the flow's, and of N(0, 1), as the target's, a stratum each."""
    strata = norm.ppf((np.arange(NUM) + 0.5) / NUM)
    x = np.concatenate([strata + delta, strata])
    z = jnp.asarray(x - delta, jnp.float32)[:, None]
    return jax.jit(jax.vmap(lambda one: gap_at(lambda z: z + delta, log_normal, log_normal, one)))(z)


@pytest.mark.parametrize("delta", [0.3, 1.0, 2.5])
def test_hellinger_of_two_normal_laws(delta: float) -> None:
    """``1 - exp(-delta^2 / 8)``, and its derivative."""
    found = hellinger(shifted_gaps(delta))
    overlap = np.exp(-(delta**2) / 8.0)
    assert float(found.value) == pytest.approx(1.0 - overlap, rel=0.01)
    assert float(np.mean(found.pushes)) == pytest.approx(0.25 * delta * overlap, rel=0.01)


def test_draws_that_are_not_finite_push_nothing() -> None:
    gaps = shifted_gaps(1.0)
    whole = hellinger(gaps)
    for name, bad in (("log_ratio", np.inf), ("log_ratio", np.nan), ("gradient", np.nan)):
        spoiled = np.array(getattr(gaps, name))
        spoiled[3] = bad
        found = hellinger(gaps._replace(**{name: jnp.asarray(spoiled)}))
        assert np.all(np.isfinite(found.pushes))
        assert np.isfinite(float(found.value))
        np.testing.assert_array_equal(found.pushes[3], 0.0)
        np.testing.assert_allclose(np.delete(found.pushes, 3, 0), np.delete(whole.pushes, 3, 0), atol=1e-3)


def test_no_single_draw_is_the_whole_gradient() -> None:
    gaps = shifted_gaps(1.0)
    steep = gaps._replace(gradient=gaps.gradient.at[3].set(1e6))
    assert np.max(np.abs(hellinger(steep).pushes)) <= 0.25 * MAX_PUSH + 1e-4
