"""Solving the flow's ODE from base (t = 0) to target.

Fixed-step solvers spend the same number of velocity evaluations on every draw, which keeps one
compiled program busy with all draws at once; ``dopri5`` is the paper's adaptive setting.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental.ode import odeint

Array = jax.Array
Velocity = Callable[[Array, Array], Array]

EVALUATIONS_PER_STEP = {"euler": 1, "midpoint": 2, "heun": 2, "rk4": 4}
METHODS = (*EVALUATIONS_PER_STEP, "dopri5")


@dataclass(frozen=True)
class Solver:
    """How the ODE is solved.

    Attributes:
        method: ``euler | midpoint | heun | rk4`` with fixed steps, or ``dopri5``.
        num_steps: number of equal steps (fixed-step methods).
        tolerance: absolute and relative, per draw batch (``dopri5``; the paper: 1e-7).
    """

    method: str = "midpoint"
    num_steps: int = 4
    tolerance: float = 1e-5

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"Unknown solver method {self.method!r}; choices: {sorted(METHODS)}.")
        if self.num_steps < 1:
            raise ValueError(f"num_steps must be at least 1; received {self.num_steps}.")

    @property
    def label(self) -> str:
        """Short name for tables, e.g. ``midpoint-4``."""
        return f"{self.method}-{self.tolerance:g}" if self.method == "dopri5" else f"{self.method}-{self.num_steps}"


class Solution(NamedTuple):
    """End of the ODE.

    Attributes:
        x: state at the final time, of the initial state's shape.
        num_evaluations: velocity evaluations spent; -1 where the adaptive solver does not say.
        is_finite: ``()`` boolean.
    """

    x: Array
    num_evaluations: int
    is_finite: Array


def _step(method: str, velocity_fn: Velocity, t: Array, x: Array, dt: Array) -> Array:
    k1 = velocity_fn(t, x)
    if method == "euler":
        return x + dt * k1
    if method == "midpoint":
        return x + dt * velocity_fn(t + 0.5 * dt, x + 0.5 * dt * k1)
    if method == "heun":
        return x + 0.5 * dt * (k1 + velocity_fn(t + dt, x + dt * k1))
    k2 = velocity_fn(t + 0.5 * dt, x + 0.5 * dt * k1)
    k3 = velocity_fn(t + 0.5 * dt, x + 0.5 * dt * k2)
    k4 = velocity_fn(t + dt, x + dt * k3)
    return x + dt / 6.0 * (k1 + 2.0 * k2 + 2.0 * k3 + k4)


def solve(velocity_fn: Velocity, x0: Array, solver: Solver, *, final_time: float = 1.0) -> Solution:
    """Integrate ``dx/dt = velocity_fn(t, x)`` from ``t = 0`` to ``final_time``.

    Args:
        velocity_fn: ``(t (), x) -> dx/dt`` of the shape of ``x``; batched draws are fine.
        x0: base noise, any shape.
    """
    if solver.method == "dopri5":
        times = jnp.asarray([0.0, final_time], x0.dtype)
        path = odeint(lambda x, t: velocity_fn(t, x), x0, times, rtol=solver.tolerance, atol=solver.tolerance)
        return Solution(path[-1], -1, jnp.all(jnp.isfinite(path[-1])))
    dt = jnp.asarray(final_time / solver.num_steps, x0.dtype)

    def step(x: Array, index: Array) -> tuple[Array, None]:
        return _step(solver.method, velocity_fn, index * dt, x, dt), None

    x, _ = jax.lax.scan(step, x0, jnp.arange(solver.num_steps, dtype=x0.dtype))
    return Solution(x, solver.num_steps * EVALUATIONS_PER_STEP[solver.method], jnp.all(jnp.isfinite(x)))
