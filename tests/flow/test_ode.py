"""The solver's order, cost, and failures, on fields whose flow is known."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm

from icl_bayes.flow import METHODS, Solver, make_path, solve

MATRIX = np.asarray([[-0.3, 1.1], [-1.4, 0.2]], np.float32)
START = np.asarray([[1.0, -0.5], [0.3, 2.0], [-1.2, 0.1]], np.float32)
ORDERS = {"euler": 1, "midpoint": 2, "multistep": 2, "heun": 2, "rk4": 4}
EVALUATIONS = {"euler": 5, "midpoint": 10, "multistep": 6, "heun": 10, "rk4": 20}
"""Of five steps."""
STEPS = {
    "euler": (8, 16, 32, 64),
    "midpoint": (4, 8, 16, 32),
    "multistep": (8, 16, 32, 64),
    "heun": (4, 8, 16, 32),
    "rk4": (2, 4, 8),
}


def velocity(t, x):
    """Linear in ``x`` and dependent on time, so that a stage at the wrong time costs the order."""
    return (1.0 + 2.0 * t) * x @ jnp.asarray(MATRIX, jnp.result_type(x)).T


def flow(time: float) -> np.ndarray:
    return START @ expm((time + time**2) * MATRIX.astype(float)).T


def error(solver: Solver) -> float:
    solution = jax.jit(lambda x: solve(velocity, x, solver, final_time=0.8).x)(START)
    return float(np.max(np.abs(np.asarray(solution, np.float64) - flow(0.8))))


@pytest.mark.parametrize("method", ORDERS)
def test_errors_fall_with_the_order_of_the_method(method: str) -> None:
    errors = [error(Solver(method, steps)) for steps in STEPS[method]]
    slope = -np.polyfit(np.log(STEPS[method]), np.log(errors), 1)[0]
    assert slope == pytest.approx(ORDERS[method], abs=0.35), errors


@pytest.mark.parametrize("method", ["midpoint", "multistep", "rk4"])
def test_the_order_does_not_depend_on_how_steps_are_spaced(method: str) -> None:
    errors = [error(Solver(method, steps, exponent=2.0)) for steps in STEPS[method]]
    slope = -np.polyfit(np.log(STEPS[method]), np.log(errors), 1)[0]
    assert slope == pytest.approx(ORDERS[method], abs=0.35), errors


def test_late_steps_serve_a_narrow_target() -> None:
    """From N(0, 1) to N(0, 0.05^2) along the cosine path, whose velocity is known: most of the motion is at the end."""
    path, sd = make_path("cosine"), 0.05

    def narrow(t, x):
        alpha, sigma, alpha_dot, sigma_dot = path.coefficients(t)
        return (alpha * alpha_dot * sd**2 + sigma * sigma_dot) / (alpha**2 * sd**2 + sigma**2) * x

    noise = np.linspace(-2.0, 2.0, 9).astype(np.float32)[:, None]
    errors = {}
    for exponent in (1.0, 2.0):
        solution = solve(narrow, noise, Solver("midpoint", 12, exponent=exponent))
        errors[exponent] = float(np.abs(np.asarray(solution.x) - sd * noise).max()) / sd
    assert errors[2.0] < 0.5 * errors[1.0]
    # The velocity at the start may be given from outside, in the flow's own time.
    zero = jnp.zeros(())
    given = solve(narrow, noise, Solver("midpoint", 12, exponent=2.0), start_velocity=narrow(zero, noise))
    np.testing.assert_allclose(given.x, solution.x, rtol=1e-5, atol=1e-6)


def test_the_adaptive_solver_keeps_its_tolerance() -> None:
    errors = [error(Solver("dopri5", tolerance=tolerance)) for tolerance in (1e-2, 1e-5)]
    assert errors[1] < 3e-5
    assert errors[0] < 3e-2
    assert errors[0] > errors[1], "A looser tolerance must be used, not ignored."


@pytest.mark.parametrize("method", sorted({*METHODS} - {"exponential"}))
def test_any_shape_is_solved_and_draws_do_not_influence_each_other(method: str) -> None:
    solver = Solver(method, 3, tolerance=1e-6)
    run = lambda x: solve(velocity, x, solver).x  # noqa: E731
    together = run(START)
    one = run(START[1])
    assert one.shape == (2,)
    np.testing.assert_allclose(together[1], one, rtol=1e-4 if method == "dopri5" else 1e-6)


@pytest.mark.parametrize("method", ORDERS)
def test_evaluations_are_counted_as_they_happen(method: str) -> None:
    calls = []

    def counting(t, x):
        calls.append(1)
        return velocity(t, x)

    solution = solve(counting, START, Solver(method, 5))
    assert len(calls) == 1, "The velocity is compiled once, whatever the method."
    assert solution.num_evaluations == EVALUATIONS[method]
    assert bool(solution.is_finite)

    with jax.disable_jit():
        calls.clear()
        solve(counting, START, Solver(method, 5))
    assert len(calls) == solution.num_evaluations


@pytest.mark.parametrize("method", ORDERS)
@pytest.mark.parametrize("steps", [1, 3])
def test_a_known_start_velocity_saves_the_first_evaluation_and_changes_nothing(method: str, steps: int) -> None:
    solver = Solver(method, steps)
    whole = solve(velocity, START, solver)
    known = velocity(0.0, START)
    saved = solve(velocity, START, solver, start_velocity=known)
    assert saved.num_evaluations == whole.num_evaluations - 1
    np.testing.assert_allclose(saved.x, whole.x, rtol=1e-6)
    misled = solve(velocity, START, solver, start_velocity=known + 0.1)
    assert np.max(np.abs(misled.x - whole.x)) > 1e-3, "The given velocity is used."


@pytest.mark.parametrize("method", ORDERS)
def test_draws_keep_their_type(method: str) -> None:
    assert solve(velocity, jnp.asarray(START, jnp.bfloat16), Solver(method, 2)).x.dtype == jnp.bfloat16


WEIGHS_START = {"midpoint": False, "multistep": False, "euler": True, "heun": True, "rk4": True}


@pytest.mark.parametrize(("method", "expected"), WEIGHS_START.items())
def test_midpoint_rules_alone_give_the_start_no_weight(method: str, expected: bool) -> None:
    assert Solver(method, 2).weighs_start == expected
    known = velocity(0.0, START)
    misled = solve(velocity, START, Solver(method, 1), start_velocity=known + 1.0)
    through_later = solve(lambda t, x: velocity(t, START), START, Solver(method, 1), start_velocity=known + 1.0)
    honest = solve(lambda t, x: velocity(t, START), START, Solver(method, 1))
    assert (np.max(np.abs(through_later.x - honest.x)) > 0.1) == expected
    assert np.max(np.abs(misled.x - honest.x)) > 0.1


def test_multistep_reaches_its_midpoints_with_the_velocity_before() -> None:
    """Two steps by hand: midpoints at a quarter and three quarters, predicted from the last velocity known."""
    h = 0.5
    first = velocity(0.25, START + 0.5 * h * velocity(0.0, START))
    middle = START + h * first
    by_hand = middle + h * velocity(0.75, middle + 0.5 * h * first)
    np.testing.assert_allclose(solve(velocity, START, Solver("multistep", 2)).x, by_hand, rtol=1e-6)
    one = [solve(velocity, START, Solver(method, 1)).x for method in ("multistep", "midpoint")]
    np.testing.assert_allclose(*one, rtol=1e-6, err_msg="A single step has no step before it.")


def test_non_finite_ends_are_reported_not_hidden() -> None:
    blow_up = lambda t, x: jnp.where(t > 0.5, jnp.nan, 1.0) * x  # noqa: E731
    assert not bool(solve(blow_up, START, Solver("euler", 4)).is_finite)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"method": "ralston"},
            r"Unknown solver method 'ralston'; choices: \['dopri5', 'euler', 'exponential',",
        ),
        ({"num_steps": 0}, "num_steps must be at least 1; received 0"),
        ({"method": "exponential", "num_steps": 1}, "every draw is the posterior mean"),
        ({"exponent": 0.5}, "exponent must be at least 1"),
        ({"method": "dopri5", "exponent": 2.0}, "dopri5, which chooses its own steps"),
    ],
)
def test_misuse_lists_the_choices(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Solver(**settings)


def test_labels_tell_solvers_apart() -> None:
    assert Solver("rk4", 8).label == "rk4-8"
    assert Solver("midpoint", 6, exponent=2.0).label == "midpoint-6^2"
    assert Solver("dopri5", tolerance=1e-7).label == "dopri5-1e-07"
