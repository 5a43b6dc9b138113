"""Densities of discrete maps: exact for what was drawn, and the ODE's in the limit."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icl_bayes.flow import (
    MAX_RESIDUAL,
    Solver,
    invert,
    log_normal,
    make_path,
    solve,
    transport,
    value_and_log_det,
)

MATRIX = np.asarray([[-0.3, 1.1], [-1.4, 0.5]])


def linear(t, x):
    return (1.0 + 2.0 * t) * jnp.asarray(MATRIX, x.dtype) @ x


def bent(t, x):
    """No linear map, and not one coordinate after the other."""
    return jnp.stack([jnp.sin(1.5 * x[1]) + 0.3 * t, jnp.tanh(x[0] - x[1])]) - 0.4 * x


def flow_of(velocity, solver: Solver):
    if solver.method == "exponential":
        return lambda z: transport(make_path("cosine"), velocity, z, solver).x
    return lambda z: solve(velocity, z, solver).x


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("midpoint", 2), ("rk4", 4)])
def test_log_determinant_tends_to_the_divergence_at_the_order_of_the_method(method: str, order: int) -> None:
    exact = 2.0 * np.trace(MATRIX)  # the integral of 1 + 2 t, times the trace
    steps = {1: (8, 16, 32, 64), 2: (4, 8, 16, 32), 4: (2, 4, 8)}[order]
    with jax.enable_x64(True):
        z = jnp.asarray([0.3, -1.2])
        errors = [abs(float(value_and_log_det(flow_of(linear, Solver(method, n)), z)[1]) - exact) for n in steps]
    slope = -np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert slope == pytest.approx(order, abs=0.5), errors


COARSE = [
    Solver("midpoint", 2),
    Solver("multistep", 3),
    Solver("midpoint", 3, exponent=2.0),
    Solver("exponential", 5, exponent=2.0),
]


@pytest.mark.parametrize("solver", COARSE, ids=lambda solver: solver.label)
def test_density_of_coarse_steps_integrates_to_one(solver: Solver) -> None:
    """Over the plane, at points found by inverting the map, not at draws."""
    flow = flow_of(bent, solver)
    edges = np.linspace(-7.0, 7.0, 241)
    grid = np.stack(np.meshgrid(edges, edges, indexing="ij"), axis=-1).reshape(-1, 2).astype(np.float32)

    def density(point):
        found = invert(flow, point, point, num_steps=12)
        return jnp.exp(log_normal(found.z) - found.log_det), found.residual

    values, residuals = jax.jit(jax.vmap(density))(grid)
    values = np.where(residuals < MAX_RESIDUAL, values, 0.0)  # where no noise leads to there is no mass
    total = values.sum() * (edges[1] - edges[0]) ** 2
    assert total == pytest.approx(1.0, abs=0.002)


def test_inverse_leads_back_and_knows_the_determinant() -> None:
    flow = flow_of(bent, Solver("midpoint", 3))
    noise = jax.random.normal(jax.random.key(0), (50, 2))
    values, log_dets = jax.jit(jax.vmap(lambda z: value_and_log_det(flow, z)))(noise)
    np.testing.assert_allclose(values, jax.jit(jax.vmap(flow))(noise), atol=1e-6)
    found = jax.jit(jax.vmap(lambda value: invert(flow, value, value)))(values)
    np.testing.assert_allclose(found.z, noise, atol=1e-3)
    np.testing.assert_allclose(found.log_det, log_dets, atol=1e-3)


def test_a_point_that_no_noise_leads_to_has_a_residual() -> None:
    found = invert(jnp.tanh, jnp.asarray([3.0]), jnp.asarray([0.5]))
    assert found.residual > 1.0
