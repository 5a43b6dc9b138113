"""Solving the flow's ODE from base (t = 0) to target.

Fixed-step solvers spend the same number of velocity evaluations on every draw, which keeps one
compiled program busy with all draws at once; ``dopri5`` is the paper's adaptive setting.

``multistep`` is the midpoint rule at one evaluation per step: the point at which the velocity is
evaluated is reached with the velocity of the step before. The idea of multistep samplers of
diffusion models (Lu et al., DPM-Solver++, 2022), here in the flow's own time. ``exponential``, which
also knows the path, is in :mod:`icl_bayes.flow.transport`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.ode import odeint

Array = jax.Array
Velocity = Callable[[Array, Array], Array]


class _Tableau(NamedTuple):
    """An explicit method whose every stage starts from the one before it.

    Attributes:
        times: of the stages, in steps.
        reach: how far, in steps, stage ``i`` carries the point at which stage ``i + 1`` is evaluated;
            the last stage of a step carries the first of the next from where the step ends.
        weights: of the stages in the step; they sum to one.
        first_reach: if positive, the velocity at the start is evaluated before the first step, and
            carries its first stage so far.
    """

    times: tuple[float, ...]
    reach: tuple[float, ...]
    weights: tuple[float, ...]
    first_reach: float = 0.0


_TABLEAUS = {
    "euler": _Tableau((0.0,), (0.0,), (1.0,)),
    "midpoint": _Tableau((0.0, 0.5), (0.5, 0.0), (0.0, 1.0)),
    "multistep": _Tableau((0.5,), (0.5,), (1.0,), first_reach=0.5),
    "heun": _Tableau((0.0, 1.0), (1.0, 0.0), (0.5, 0.5)),
    "rk4": _Tableau((0.0, 0.5, 0.5, 1.0), (0.5, 0.5, 1.0, 0.0), (1 / 6, 1 / 3, 1 / 3, 1 / 6)),
}
METHODS = (*_TABLEAUS, "exponential", "dopri5")


@dataclass(frozen=True)
class Solver:
    """How the ODE is solved.

    Attributes:
        method: ``euler | midpoint | multistep | exponential | heun | rk4`` with fixed steps, or ``dopri5``.
        num_steps: number of steps (fixed-step methods).
        exponent: steps are equal in s where ``t = 1 - (1 - s)^exponent``: above one they get shorter towards the
            target, which a posterior much narrower than the base asks for (fixed-step methods).
        tolerance: absolute and relative, per draw batch (``dopri5``; the paper: 1e-7).
    """

    method: str = "midpoint"
    num_steps: int = 4
    tolerance: float = 1e-5
    exponent: float = 1.0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"Unknown solver method {self.method!r}; choices: {sorted(METHODS)}.")
        if self.num_steps < 1:
            raise ValueError(f"num_steps must be at least 1; received {self.num_steps}.")
        if self.method == "exponential" and self.num_steps == 1:
            raise ValueError(
                "The exponential solver needs at least 2 steps: with one, every draw is the posterior mean. "
                "Ask for more, or for another method, e.g. midpoint."
            )
        if self.exponent < 1.0 or (self.exponent != 1.0 and self.method == "dopri5"):
            raise ValueError(
                f"exponent must be at least 1, and 1 for dopri5, which chooses its own steps; received {self.exponent}."
            )

    @property
    def weighs_start(self) -> bool:
        """Whether the velocity at t = 0 moves draws directly, not only to where the next one is evaluated."""
        if self.method in ("dopri5", "exponential"):
            return True
        tableau = _TABLEAUS[self.method]
        return tableau.first_reach == 0.0 and tableau.weights[0] > 0.0

    @property
    def label(self) -> str:
        """Short name for tables, e.g. ``midpoint-4``."""
        if self.method == "dopri5":
            return f"{self.method}-{self.tolerance:g}"
        return f"{self.method}-{self.num_steps}" + (f"^{self.exponent:g}" if self.exponent != 1.0 else "")


class Solution(NamedTuple):
    """End of the ODE.

    Attributes:
        x: state at the final time, of the initial state's shape.
        num_evaluations: velocity evaluations spent on every draw; -1 where the adaptive solver does not say.
        is_finite: ``()`` boolean.
    """

    x: Array
    num_evaluations: int
    is_finite: Array


class _Stages(NamedTuple):
    """Stages of all steps, in the order they are evaluated, each ``(num_evaluations,)``."""

    time: Array
    reach: Array
    weight: Array
    ends_step: Array


class _Progress(NamedTuple):
    """State at the start of a step, where the velocity is wanted next, and the move of the step so far."""

    x: Array
    point: Array
    move: Array


def _stages(tableau: _Tableau, num_steps: int, dt: float, dtype: jnp.dtype) -> _Stages:
    """Times in ``[0, num_steps dt]``; reach and weight include ``dt``."""
    per_step = len(tableau.times)
    starts = np.repeat(np.arange(num_steps), per_step)
    times, reach, weights = (np.tile(np.asarray(one), num_steps) for one in tableau[:3])
    ends = np.tile(np.arange(per_step) == per_step - 1, num_steps)
    times = starts + times
    if tableau.first_reach > 0.0:
        first = [(0.0, times), (tableau.first_reach, reach), (0.0, weights), (False, ends)]
        times, reach, weights, ends = (np.concatenate([[value], rest]) for value, rest in first)
    as_array = partial(jnp.asarray, dtype=dtype)
    return _Stages(as_array(times * dt), as_array(reach * dt), as_array(weights * dt), jnp.asarray(ends))


def _advance(progress: _Progress, stage: _Stages, velocity: Array) -> _Progress:
    move = progress.move + stage.weight * velocity
    x = jnp.where(stage.ends_step, progress.x + move, progress.x)
    return _Progress(x, x + stage.reach * velocity, jnp.where(stage.ends_step, 0.0, move))


def _warped(velocity_fn: Velocity, exponent: float, final_time: float) -> Velocity:
    """The velocity in a time that runs slower towards the end, from 0 to ``final_time`` as well."""

    def warped(t: Array, x: Array) -> Array:
        left = 1.0 - t / final_time
        return exponent * left ** (exponent - 1.0) * velocity_fn(final_time * (1.0 - left**exponent), x)

    return warped


def solve(
    velocity_fn: Velocity,
    x0: Array,
    solver: Solver,
    *,
    final_time: float = 1.0,
    start_velocity: Array | None = None,
) -> Solution:
    """Integrate ``dx/dt = velocity_fn(t, x)`` from ``t = 0`` to ``final_time``.

    Args:
        velocity_fn: ``(t (), x) -> dx/dt`` of the shape of ``x``; batched draws are fine.
        x0: base noise, any shape.
        start_velocity: used for ``velocity_fn(0, x0)``, where there is a cheaper way to it (see
            :meth:`icl_bayes.flow.Path.start_velocity`); the adaptive solver has no use for it.
    """
    if solver.method == "exponential":
        raise ValueError("The exponential solver needs the path of the velocity: use icl_bayes.flow.transport.")
    if solver.method == "dopri5":
        times = jnp.asarray([0.0, final_time], x0.dtype)
        path = odeint(lambda x, t: velocity_fn(t, x), x0, times, rtol=solver.tolerance, atol=solver.tolerance)
        return Solution(path[-1], -1, jnp.all(jnp.isfinite(path[-1])))
    # One loop over stages, not over steps: the velocity is compiled once whatever the method.
    x0 = jnp.asarray(x0)
    if solver.exponent != 1.0:
        velocity_fn = _warped(velocity_fn, solver.exponent, final_time)
        start_velocity = None if start_velocity is None else solver.exponent * start_velocity
    stages = _stages(_TABLEAUS[solver.method], solver.num_steps, final_time / solver.num_steps, x0.dtype)
    progress = _Progress(x0, x0, jnp.zeros_like(x0))
    if start_velocity is not None:
        progress = _advance(progress, jax.tree.map(lambda leaf: leaf[0], stages), start_velocity)
        stages = jax.tree.map(lambda leaf: leaf[1:], stages)

    def evaluate(progress: _Progress, stage: _Stages) -> tuple[_Progress, None]:
        return _advance(progress, stage, velocity_fn(stage.time, progress.point)), None

    progress, _ = jax.lax.scan(evaluate, progress, stages)
    return Solution(progress.x, len(stages.time), jnp.all(jnp.isfinite(progress.x)))
