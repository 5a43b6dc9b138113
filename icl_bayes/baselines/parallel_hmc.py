"""One short Hamiltonian chain per wanted draw, all vectorized: the strongest cheap rival known.

Every chain starts from its own draw of a crude approximation and makes a few moves that leave
the posterior invariant. Moves run in the Laplace approximation's whitened coordinates, where
one step size, fixed by the dimension alone, serves all posteriors. Nothing is tuned on a
chain's own state, so every move is exactly invariant; what is left is the start's bias.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import blackjax
import jax
import jax.numpy as jnp
import numpy as np

from icl_bayes.baselines.common import all_finite, check_num_draws, constrain_draws, log_joint_of, verdict
from icl_bayes.baselines.gaussians import (
    ENDED,
    MAX_DECREMENT,
    GaussianInfo,
    gaussian_health,
    laplace_of,
    variational_of,
)
from icl_bayes.baselines.moves import NUM_PILOTS, Space, default_step_size, step_sizes, tuned_moves
from icl_bayes.baselines.programs import ProgramCache, TimedCall
from icl_bayes.flow.bases import Affine
from icl_bayes.tasks import Task
from icl_bayes.types import Array, Dataset, SampleResult

STARTS = ("laplace", "variational", "map", "prior", "em")
_EM_STEPS = 25
_MIN_ACCEPTANCE = 0.5
_TRAJECTORY = 1.8  # a little over a quarter period of a standard normal; the best of a small search on GLM 2 and 5


class MovedChains(NamedTuple):
    """Where chains ended, and how they got there.

    Attributes:
        positions: ``(num_chains, dim)``.
        acceptance: ``(num_chains,)``, share of the moves that were accepted.
    """

    positions: Array
    acceptance: Array


def parallel_moves(
    rng_key: Array,
    whitened_log_density: Callable[[Array], Array],
    starts: Array,
    *,
    num_moves: int,
    num_steps: int,
    step_size: float,
    jitter: float,
) -> MovedChains:
    """Independent HMC chains from every row of ``starts``; traceable.

    Args:
        whitened_log_density: ``(dim,)`` to ``()``, roughly standard normal near its mode.
        starts: ``(num_chains, dim)``.
        jitter: each move's step size is uniform within this fraction of ``step_size``, so that
            no direction's period resonates with the trajectory.

        num_moves: at least 1.
    """
    kernel = blackjax.hmc.build_kernel()
    num_chains, dim = starts.shape
    inverse_mass = jnp.ones(dim)

    def move(carry: tuple[Any, Array], rng_key: Array) -> tuple[tuple[Any, Array], None]:
        states, acceptance = carry
        step_key, kernel_key = jax.random.split(rng_key)
        step_sizes = step_size * jax.random.uniform(step_key, (num_chains,), minval=1.0 - jitter, maxval=1.0 + jitter)

        def one_chain(rng_key: Array, state: Any, step_size: Array) -> tuple[Any, Any]:
            return kernel(rng_key, state, whitened_log_density, step_size, inverse_mass, num_steps)

        states, info = jax.vmap(one_chain)(jax.random.split(kernel_key, num_chains), states, step_sizes)
        return (states, acceptance + info.is_accepted / num_moves), None

    states = jax.vmap(lambda start: blackjax.hmc.init(start, whitened_log_density))(starts)
    carry = (states, jnp.zeros(num_chains))
    (states, acceptance), _ = jax.lax.scan(move, carry, jax.random.split(rng_key, num_moves))
    return MovedChains(states.position, acceptance)


@dataclass(frozen=True)
class ParallelHmcSampler:
    """One short HMC chain per draw, preconditioned by the Laplace approximation.

    Where components may be permuted no Gaussian is of use. From ``prior`` and ``em`` chains then move in the task's
    coordinates, with a step size found on further EM modes.

    Attributes:
        task: the model.
        num_moves: transitions per chain; none returns the starts themselves.
        start: ``laplace`` (its draws), ``variational`` (draws of the closest Gaussian, in whose whitened
            coordinates the chains then move, too), ``map`` (the mode), ``prior`` (standard normal
            draws in the task's coordinates, in which the prior is about that) or ``em`` (modes that the EM algorithm
            finds from such draws, one for each).
        num_steps: leapfrog steps per move; 0 for as many as make a trajectory of length 1.8.
        step_size: in whitened coordinates; 0 for :func:`default_step_size` of the dimension.
        jitter: relative half-width of the random step sizes.
    """

    task: Task
    num_moves: int = 5
    start: str = "laplace"
    num_steps: int = 0
    step_size: float = 0.0
    jitter: float = 0.2
    name: str = ""
    programs: ProgramCache = field(default_factory=ProgramCache, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.start not in STARTS:
            raise ValueError(f"Unknown start {self.start!r} of parallel_hmc; choices: {', '.join(STARTS)}.")
        if self.start == "em" and self.task.em_step is None:
            raise ValueError(
                f"start=em of parallel_hmc is for mixtures; task {self.task.name!r} has no EM step. Use another of "
                f"{', '.join(STARTS[:-1])}."
            )
        if min(self.num_moves, self.num_steps, self.step_size) < 0:
            raise ValueError(
                "num_moves, num_steps and step_size must not be negative; received "
                f"{self.num_moves}, {self.num_steps} and {self.step_size}."
            )
        if not 0.0 <= self.jitter < 1.0:
            raise ValueError(f"jitter is a fraction, at least 0 and below 1; received {self.jitter}.")
        step_size = self.step_size or default_step_size(self.task.dim)
        num_steps = self.num_steps or math.ceil(_TRAJECTORY / step_size)
        suffix = "" if self.start == "laplace" else f":{self.start}"
        object.__setattr__(self, "step_size", step_size)
        object.__setattr__(self, "num_steps", num_steps)
        object.__setattr__(self, "name", self.name or f"parallel_hmc@{self.num_moves}{suffix}")

    def sample(self, rng_key: Array, dataset: Dataset, num_draws: int) -> SampleResult:
        """Independent draws, the chains' last states.

        ``health`` holds the mean ``acceptance`` of the moves, the share of chains that accepted
        none (``stuck``), and the ``newton_decrement`` of the Laplace approximation.
        """
        check_num_draws(num_draws)

        def draw(rng_key: Array, dataset: Dataset) -> Any:
            if self.start in ("prior", "em") and self.task.em_step is not None:
                return self._from_everywhere(rng_key, dataset, num_draws)
            affine, info = self._gaussian(dataset)
            start_key, move_key = jax.random.split(rng_key)
            return self._moved(move_key, dataset, affine, self._starts(start_key, affine, num_draws)), info

        return self._result(self.programs.run(num_draws, draw, rng_key, self.task.prepare(dataset)))

    def _from_everywhere(self, rng_key: Array, dataset: Dataset, num_draws: int) -> Any:
        """Chains without a Gaussian, from as many places as there are draws."""
        start_key, tune_key, move_key = jax.random.split(rng_key, 3)
        noise = jax.random.normal(start_key, (num_draws + NUM_PILOTS, self.task.dim))
        em_step = self.task.em_step
        assert em_step is not None

        def mode(theta: Array) -> Array:
            return jax.lax.fori_loop(0, _EM_STEPS, lambda _, theta: em_step(theta, dataset), theta)

        pilots = jax.vmap(mode)(noise[num_draws:])
        starts = jax.vmap(mode)(noise[:num_draws]) if self.start == "em" else noise[:num_draws]
        positions, acceptance = starts, jnp.ones(())
        if self.num_moves:
            keys = jax.random.split(move_key, num_draws)
            space = Space(partial(log_joint_of, self.task, dataset))
            settings = step_sizes(jnp.ones(self.task.dim))
            stretches, info = tuned_moves(tune_key, keys, space, settings, starts, pilots, self.num_moves)
            positions = stretches[-1]
            acceptance = info.acceptance
        rates = jnp.full(num_draws, acceptance)
        info = GaussianInfo(jnp.zeros(()), jnp.asarray(True), jnp.asarray(-jnp.inf))
        return (constrain_draws(self.task, positions, dataset), rates), info

    def _gaussian(self, dataset: Dataset) -> tuple[Affine, GaussianInfo]:
        """The approximation in whose whitened coordinates chains move."""
        return variational_of(self.task, dataset) if self.start == "variational" else laplace_of(self.task, dataset)

    def _starts(self, rng_key: Array, affine: Affine, num_draws: int) -> Array:
        noise = jax.random.normal(rng_key, (num_draws, self.task.dim))
        if self.start == "prior":
            return affine.backward(noise)
        return jnp.zeros_like(noise) if self.start == "map" else noise

    def _moved(self, rng_key: Array, dataset: Dataset, affine: Affine, starts: Array) -> Any:
        moved = MovedChains(starts, jnp.ones(len(starts)))
        if self.num_moves:
            moved = parallel_moves(
                rng_key,
                affine.pulled_back(lambda theta: self.task.log_joint(theta, dataset)),
                starts,
                num_moves=self.num_moves,
                num_steps=self.num_steps,
                step_size=self.step_size,
                jitter=self.jitter,
            )
        return constrain_draws(self.task, affine.forward(moved.positions), dataset), moved.acceptance

    def _result(self, call: TimedCall) -> SampleResult:
        (sites, acceptance), info = call.outputs
        # A poor Gaussian makes moves inefficient, never wrong: no failure of its own.
        limit = ENDED if self.start == "variational" else MAX_DECREMENT
        its_failures, its_warnings, health = gaussian_health(info, limit)
        failures, warnings = [], [*its_failures, *its_warnings]
        health |= {"acceptance": float(np.mean(acceptance)), "stuck": float(np.mean(acceptance == 0.0))}
        if not health["acceptance"] >= _MIN_ACCEPTANCE:
            warnings.append(
                f"moves are mostly rejected: acceptance {health['acceptance']:.2f} (limit {_MIN_ACCEPTANCE})"
            )
        if not all_finite(sites):
            failures.append("some draws are not finite")
        status, message = verdict(failures, warnings)
        return SampleResult(sites, call.seconds_compile, call.seconds_run, status, message, health)
