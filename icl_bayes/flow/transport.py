"""From base noise to draws along a path: the ODE in general, and a solver that knows the path.

Along ``x_t = alpha x_1 + sigma x_0`` the marginal velocity is a known function of the state and of the denoised state
``D(t, x) = E[x_1 | x_t = x]`` alone; with ``y = x / sigma`` and ``tau = alpha / sigma`` the ODE is ``dy / dtau = D``.
Where a target is much narrower than the base, the velocity turns fast towards the end while ``D`` hardly changes.
``exponential`` integrates what is known of the path exactly and takes only ``D`` as linear, through the last two
evaluations: the second-order multistep method of DPM-Solver++ (Lu et al., 2022), with ``D`` linear in the angle
``psi = atan2(alpha, sigma)``, in which the integral has a closed form up to both ends of every path.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from icl_bayes.flow.ode import Solution, Solver, Velocity, solve
from icl_bayes.flow.paths import Path

Array = jax.Array
_TINY = 1e-30


def transport(path: Path, velocity: Velocity, noise: Array, solver: Solver, at_origin: Array | None = None) -> Solution:
    """Carry base noise along the velocity of one data set.

    Args:
        path: that the velocity belongs to.
        velocity: of one draw, ``(t (), x (dim,)) -> (dim,)``.
        noise: ``(dim,)`` or ``(num_draws, dim)``.
        at_origin: ``velocity(0, 0)``, ``(dim,)``, where it is known; under a ``vmap`` over draws it would be evaluated
            for each of them.
    """
    velocity_fn = velocity if noise.ndim == 1 else jax.vmap(velocity, (None, 0))
    if solver.method == "exponential":
        # What it takes from the start is the denoised state there, the same for all draws.
        return _solve_exponential(path, velocity_fn, noise, solver, path.start_velocity(velocity, noise, at_origin))
    start = None if solver.weighs_start else path.start_velocity(velocity, noise, at_origin)
    return solve(velocity_fn, noise, solver, final_time=path.final_time, start_velocity=start)


def trace_back(path: Path, velocity: Velocity, x: Array, solver: Solver, *, finer: int = 1) -> Array:
    """About the noise that a draw ``x (dim,)`` comes from: the ODE from its end to its start.

    Args:
        velocity: of one draw.
        solver: of the draws, in whose own time the midpoint rule goes back.
        finer: times as many steps.
    """
    end, exponent = path.final_time, solver.exponent

    def backwards(s: Array, x: Array) -> Array:
        """From the solver's end, where its steps are the shortest."""
        left = s / end
        return -exponent * left ** (exponent - 1.0) * velocity(end * (1.0 - left**exponent), x)

    return solve(backwards, x, Solver("midpoint", finer * solver.num_steps), final_time=end).x


class _Steps(NamedTuple):
    """Of every step, ``(num_steps,)`` each.

    Attributes:
        time: at which ``D`` is evaluated, where the step starts.
        of_velocity, of_state: their sum, times velocity and state, is ``D``.
        keep, reach: a step is ``keep x + reach D + bend (D - D of the step before)``.
        bend: zero in the first step.
    """

    time: Array
    of_velocity: Array
    of_state: Array
    keep: Array
    reach: Array
    bend: Array


def _steps(path: Path, solver: Solver, dtype: jnp.dtype) -> _Steps:
    left = 1.0 - jnp.arange(solver.num_steps + 1) / solver.num_steps
    times = path.final_time * (1.0 - left**solver.exponent)
    alpha, sigma, alpha_dot, sigma_dot = jax.vmap(path.coefficients)(times)
    psi, cosine = jnp.arctan2(alpha, sigma), jnp.maximum(sigma / jnp.hypot(alpha, sigma), _TINY)
    turn, keep = jnp.diff(psi), sigma[1:] / sigma[:-1]
    # The integral of psi - psi_i over tau, times the sigma that the step ends with.
    first_moment = turn * alpha[1:] + sigma[1:] * jnp.log(cosine[1:] / cosine[:-1])
    bend = jnp.concatenate([jnp.zeros(1), first_moment[1:] / turn[:-1]])
    wronskian = (alpha_dot * sigma - alpha * sigma_dot)[:-1]
    steps = _Steps(
        times[:-1], sigma[:-1] / wronskian, -sigma_dot[:-1] / wronskian, keep, alpha[1:] - keep * alpha[:-1], bend
    )
    return jax.tree.map(lambda leaf: leaf.astype(dtype), steps)


def _solve_exponential(
    path: Path, velocity_fn: Velocity, x0: Array, solver: Solver, start_velocity: Array | None
) -> Solution:
    x0 = jnp.asarray(x0)
    steps = _steps(path, solver, x0.dtype)

    def advance(state: tuple[Array, Array], step: _Steps, velocity: Array) -> tuple[Array, Array]:
        x, before = state
        denoised = step.of_velocity * velocity + step.of_state * x
        return step.keep * x + step.reach * denoised + step.bend * (denoised - before), denoised

    def evaluate(state: tuple[Array, Array], step: _Steps) -> tuple[tuple[Array, Array], None]:
        return advance(state, step, velocity_fn(step.time, state[0])), None

    state = (x0, jnp.zeros_like(x0))
    if start_velocity is not None:
        state = advance(state, jax.tree.map(lambda leaf: leaf[0], steps), start_velocity)
        steps = jax.tree.map(lambda leaf: leaf[1:], steps)
    (x, _), _ = jax.lax.scan(evaluate, state, steps)
    return Solution(x, len(steps.time), jnp.all(jnp.isfinite(x)))
