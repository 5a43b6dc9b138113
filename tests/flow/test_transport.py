"""The solver that knows the path: exact where the denoised state is constant, of second order where it is not."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icl_bayes.flow import PATHS, Solver, make_path, solve, transport, value_and_log_det

NOISE = np.linspace(-2.5, 2.5, 11).astype(np.float32)[:, None]
MEAN = 0.7


def normal_target(path, sd):
    """Velocity from N(0, 1) to N(MEAN, sd^2)."""

    def velocity(t, x):
        alpha, sigma, alpha_dot, sigma_dot = path.coefficients(t)
        spread = (alpha * alpha_dot * sd**2 + sigma * sigma_dot) / (alpha**2 * sd**2 + sigma**2)
        return alpha_dot * MEAN + spread * (x - alpha * MEAN)

    return velocity


def error(path, solver: Solver, sd: float) -> float:
    found = transport(path, normal_target(path, sd), jnp.asarray(NOISE), solver).x
    return float(np.abs(np.asarray(found) - (MEAN + sd * NOISE)).max()) / sd


@pytest.mark.parametrize("name", ["linear", "cosine"])
@pytest.mark.parametrize("steps", [2, 5])
def test_a_point_is_reached_in_any_number_of_steps(name: str, steps: int) -> None:
    path = make_path(name)

    def velocity(t, x):
        alpha, sigma, alpha_dot, sigma_dot = path.coefficients(t)
        return alpha_dot * MEAN + sigma_dot / sigma * (x - alpha * MEAN)

    found = transport(path, velocity, jnp.asarray(NOISE), Solver("exponential", steps, exponent=2.0)).x
    # The linear path keeps a trace of the noise, 1e-4 of it.
    np.testing.assert_allclose(found, np.broadcast_to(MEAN, NOISE.shape), atol=3e-4)


@pytest.mark.parametrize(("exponent", "steps"), [(1.0, (32, 64, 128, 256)), (2.0, (16, 32, 64, 128))])
def test_errors_fall_with_the_square_of_the_number_of_steps(exponent: float, steps: tuple[int, ...]) -> None:
    errors = [error(make_path("cosine"), Solver("exponential", num, exponent=exponent), 0.4) for num in steps]
    slope = -np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert slope > 1.6, errors
    assert errors[-1] < 2e-3


@pytest.mark.parametrize("name", PATHS)
def test_it_converges_on_every_path(name: str) -> None:
    path = make_path(name)
    if not path.starts_at_noise:  # the base that its marginals start from is not quite N(0, 1)
        velocity, solver = normal_target(path, 0.4), Solver("exponential", 200)
        fine = solve(jax.vmap(velocity, (None, 0)), jnp.asarray(NOISE), Solver("rk4", 400), final_time=path.final_time)
        found = transport(path, velocity, jnp.asarray(NOISE), solver).x
        np.testing.assert_allclose(found, fine.x, atol=5e-3)
        return
    assert error(path, Solver("exponential", 200, exponent=2.0), 0.4) < 2e-3


def test_a_narrow_target_takes_half_the_evaluations_of_the_midpoint_rule() -> None:
    path = make_path("cosine")
    exponential, midpoint = Solver("exponential", 7, exponent=2.0), Solver("midpoint", 6, exponent=2.0)
    assert error(path, exponential, 0.05) < error(path, midpoint, 0.05)
    evaluations = [
        transport(path, normal_target(path, 0.05), jnp.asarray(NOISE), solver).num_evaluations
        for solver in (exponential, midpoint)
    ]
    assert evaluations == [6, 11], "Without the one at the start, which serves all draws."


def test_one_draw_or_many_and_the_density_of_the_map() -> None:
    path, solver, sd = make_path("cosine"), Solver("exponential", 40, exponent=2.0), 0.3
    velocity = normal_target(path, sd)
    together = transport(path, velocity, jnp.asarray(NOISE), solver).x
    alone, log_det = value_and_log_det(lambda z: transport(path, velocity, z, solver).x, jnp.asarray(NOISE[3]))
    np.testing.assert_allclose(together[3], alone, rtol=1e-5)
    assert float(log_det) == pytest.approx(np.log(sd), abs=0.01)


def test_the_general_solver_says_that_it_needs_a_path() -> None:
    with pytest.raises(ValueError, match="needs the path"):
        solve(normal_target(make_path("cosine"), 1.0), jnp.asarray(NOISE), Solver("exponential", 2))


@pytest.mark.parametrize("method", ["multistep", "exponential"])
def test_a_known_velocity_at_the_origin_saves_its_evaluation_and_changes_nothing(method: str) -> None:
    path = make_path("cosine")
    velocity = normal_target(path, 0.3)
    zero = jnp.zeros(())

    def ends(at_origin):
        return transport(path, velocity, jnp.asarray(NOISE), Solver(method, 3), at_origin).x

    known = velocity(zero, jnp.zeros(1))
    np.testing.assert_allclose(ends(known), ends(None), rtol=1e-6)
    assert np.max(np.abs(ends(known + 1.0) - ends(None))) > 1e-3, "The given velocity is used."
