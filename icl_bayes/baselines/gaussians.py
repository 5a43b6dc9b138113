"""Gaussian approximations of a task's posterior given a data set: Laplace's, the closest one, and that of its moments.

The first two start from the best of the modes that are reached from the task's starting points. All are
functions of the data alone, traceable, and serve as baselines, as bases of the flow, and as the metric
of Hamiltonian moves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from icl_bayes.baselines.common import (
    all_finite,
    check_num_draws,
    constrain_draws,
    curvature_of,
    log_joint_of,
    verdict,
)
from icl_bayes.baselines.programs import ProgramCache
from icl_bayes.flow import (
    Affine,
    GaussianModes,
    affine_from_curvature,
    find_mode,
    find_modes,
    laplace_approximation,
    pilot_gaussian,
    variational_gaussian,
)
from icl_bayes.flow.pilots import MAX_DIM as MAX_PILOT_DIM
from icl_bayes.tasks import Task
from icl_bayes.types import Array, Dataset, SampleResult

DISTINCT = 3.0
"""Standard deviations of the best mode's Gaussian beyond which another mode counts as another."""
ENDED = 0.1
"""Nats promised by a further step up to which a search has arrived somewhere."""
NEAR_A_MODE = 1.0
"""Nats promised by a further step up to which the end of another search stands for a mode of its own; searches
for wide modes end slowly, and a warning too many is better than one too few."""
MAX_DECREMENT = 1e-3
"""Nats between the point returned and the mode."""
MAX_RIVAL = -4.6
"""Log mass of a second mode, relative to the one taken, above which it is reported: one percent."""


class GaussianInfo(NamedTuple):
    """Health of a Gaussian approximation.

    Attributes:
        decrement: ``()``, nats that a further step still promised.
        is_finite: ``()`` boolean.
        rival: ``()``, log mass of the best distinct mode relative to the one taken, by their Laplace
            evidence; minus infinity if none was met.
    """

    decrement: Array
    is_finite: Array
    rival: Array


class BestMode(NamedTuple):
    """The mode with the largest Laplace evidence: its Gaussian, and :class:`GaussianInfo` of the search."""

    affine: Affine
    info: GaussianInfo


def ascend(task: Task, dataset: Dataset, start: Array, num_steps: int) -> tuple[Affine, Array, Array]:
    """Fisher scoring (or damped Newton) from one start ``(dim,)``.

    Returns:
        The Gaussian of the metric at the end, its Laplace evidence ``()`` (minus infinity where the search
        failed) and the nats that a further step promised ``()``.
    """
    mode = find_mode(
        partial(log_joint_of, task, dataset), partial(curvature_of, task, dataset), start, num_steps=num_steps
    )
    usable = mode.info.is_finite
    metric = jnp.where(usable, mode.metric, jnp.eye(task.dim))
    affine = affine_from_curvature(jnp.where(usable, mode.theta, 0.0), metric)
    return affine, jnp.where(usable, mode.value + affine.log_det, -jnp.inf), mode.info.decrement


def best_mode(task: Task, dataset: Dataset, num_steps: int = 12, num_starts: int | None = None) -> BestMode:
    """The search of :func:`ascend` from each of the task's starting points, or the first few; the best end is taken."""
    starts = task.starting_points(dataset)[:num_starts]
    if len(starts) == 1:
        affine, evidence, decrement = ascend(task, dataset, starts[0], num_steps)
        return BestMode(affine, GaussianInfo(decrement, jnp.isfinite(evidence), jnp.asarray(-jnp.inf)))
    affines, evidence, decrements = jax.vmap(lambda start: ascend(task, dataset, start, num_steps))(starts)
    chosen = jnp.argmax(evidence)
    best: Affine = jax.tree.map(lambda leaf: leaf[chosen], affines)
    distance = jnp.linalg.norm(best.backward(affines.shift), axis=1)
    others = jnp.where((distance > DISTINCT) & (decrements < NEAR_A_MODE), evidence - evidence[chosen], -jnp.inf)
    is_finite = jnp.isfinite(evidence[chosen])
    return BestMode(best, GaussianInfo(decrements[chosen], is_finite, jnp.max(others)))


def laplace_of(
    task: Task, dataset: Dataset, num_steps: int = 16, num_newton_steps: int = 8, num_starts: int | None = None
) -> tuple[Affine, GaussianInfo]:
    """The Laplace approximation: mode and inverse Hessian of the log joint.

    Args:
        num_steps: steps of Fisher scoring, which come close from anywhere but may end slowly.
        num_newton_steps: Newton steps that follow, quadratic near the mode.
        num_starts: how many of the task's starting points are tried, by default all.
    """
    near = best_mode(task, dataset, num_steps, num_starts)
    affine, info = laplace_approximation(
        partial(log_joint_of, task, dataset), task.dim, num_steps=num_newton_steps, start=near.affine.shift
    )
    return affine, GaussianInfo(info.decrement, info.is_finite, near.info.rival)


def variational_of(
    task: Task,
    dataset: Dataset,
    num_steps: int = 12,
    num_variational_steps: int = 24,
    num_starts: int | None = None,
) -> tuple[Affine, GaussianInfo]:
    """The Gaussian closest to the posterior, from the mode reached by Fisher scoring.

    Args:
        num_steps: steps of Fisher scoring.
        num_variational_steps: at most so many steps of :func:`icl_bayes.flow.variational_gaussian`.
        num_starts: how many of the task's starting points are tried, by default all.
    """
    near = best_mode(task, dataset, num_steps, num_starts)
    affine, info = variational_gaussian(
        partial(log_joint_of, task, dataset), near.affine, num_steps=num_variational_steps
    )
    return affine, GaussianInfo(info.decrement, info.is_finite & near.info.is_finite, near.info.rival)


def pilots_of(task: Task, dataset: Dataset, num_rounds: int = 3) -> tuple[Affine, GaussianInfo]:
    """The Gaussian with the posterior's moments, over all of its modes; for tasks of few dimensions."""
    affine, info = pilot_gaussian(partial(log_joint_of, task, dataset), task.dim, num_rounds=num_rounds)
    return affine, GaussianInfo(jnp.zeros(()), info.is_finite, jnp.asarray(-jnp.inf))


def warped_of(task: Task, dataset: Dataset, num_rounds: int = 3) -> tuple[Affine, GaussianInfo]:
    """The same in coordinates with a sharp peak and long tails, as far as the posterior has them."""
    log_joint = partial(log_joint_of, task, dataset)
    affine, info = pilot_gaussian(log_joint, task.dim, num_rounds=num_rounds, is_warped=True)
    return affine, GaussianInfo(jnp.zeros(()), info.is_finite, jnp.asarray(-jnp.inf))


def mode_starts_of(task: Task) -> Callable[[Dataset], Array]:
    """Where the modes of a task's posteriors are looked for; a ValueError for a task that does not say."""
    if task.mode_starts is None:
        raise ValueError(
            f"model.base=modes is for tasks that look for their modes, such as mixtures; {task.name!r} does not. Use "
            "model.base=variational, pilots or standard."
        )
    return task.mode_starts


def modes_of(task: Task, dataset: Dataset, num_steps: int = 24) -> tuple[GaussianModes, GaussianInfo]:
    """The Gaussians around the modes of a posterior; for tasks that know where to look for them.

    Args:
        num_steps: at most so many steps of :func:`icl_bayes.flow.variational_gaussian`.

    Raises:
        ValueError: for a task that doesn't.
    """
    starts = mode_starts_of(task)(dataset)
    modes, info = find_modes(partial(log_joint_of, task, dataset), starts, task.in_all_orders, num_steps=num_steps)
    return modes, GaussianInfo(info.decrement, info.is_finite, jnp.asarray(-jnp.inf))


GAUSSIANS = {"laplace": laplace_of, "variational": variational_of, "pilots": pilots_of, "warped": warped_of}
"""By the name of the base that they are."""
_NAMES = {
    "laplace": "laplace",
    "variational": "vi_fixed_point",
    "pilots": "importance_moments",
    "warped": "importance_warped",
}


def gaussian_health(
    info: GaussianInfo, max_decrement: float = MAX_DECREMENT
) -> tuple[list[str], list[str], dict[str, float]]:
    """Failures, warnings and numbers of a finished Gaussian approximation."""
    failures, warnings = [], []
    decrement, rival = float(info.decrement), float(info.rival)
    if not bool(info.is_finite):
        failures.append("the mode search ended in values that are not finite")
    elif not decrement <= max_decrement:
        warnings.append(f"the search stopped {decrement:.2g} nats short of its end (limit {max_decrement:g})")
    if rival > MAX_RIVAL:
        warnings.append(f"a second mode holds an estimated {np.exp(rival):.2g} of the mass of the one taken")
    return failures, warnings, {"newton_decrement": decrement, "rival_mass": float(np.exp(rival))}


@dataclass(frozen=True)
class GaussianSampler:
    """Draws from a Gaussian approximation in unconstrained coordinates, then constrained.

    Attributes:
        task: the model; its coordinates decide how Gaussian the posterior is.
        kind: ``laplace`` (mode and inverse Hessian of the log joint), ``variational`` (the Gaussian closest to the
            posterior), ``pilots`` (the one with its moments) or ``warped`` (the same in coordinates with a sharp peak
            and long tails, as far as the posterior has them). Informed networks start from the last three.
    """

    task: Task
    kind: str = "laplace"
    name: str = ""
    programs: ProgramCache = field(default_factory=ProgramCache, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.kind not in GAUSSIANS:
            raise ValueError(
                f"Unknown kind {self.kind!r} of a Gaussian approximation; choices: {', '.join(GAUSSIANS)}."
            )
        if self.kind in ("pilots", "warped") and self.task.dim > MAX_PILOT_DIM:
            raise ValueError(
                f"Moments by importance sampling are for tasks of at most {MAX_PILOT_DIM} dimensions; "
                f"{self.task.name!r} has {self.task.dim}. Use vi_fixed_point."
            )
        object.__setattr__(self, "name", self.name or _NAMES[self.kind])

    def sample(self, rng_key: Array, dataset: Dataset, num_draws: int) -> SampleResult:
        """Independent draws; ``health`` holds ``newton_decrement``, nats left to the end of the search."""
        check_num_draws(num_draws)
        dataset = self.task.prepare(dataset)
        approximation = GAUSSIANS[self.kind]

        def draw(rng_key: Array, dataset: Dataset) -> tuple[dict[str, Any], GaussianInfo]:
            affine, info = approximation(self.task, dataset)
            thetas = affine.forward(jax.random.normal(rng_key, (num_draws, self.task.dim)))
            return constrain_draws(self.task, thetas, dataset), info

        call = self.programs.run(num_draws, draw, rng_key, dataset)
        sites, info = call.outputs
        limit = MAX_DECREMENT if self.kind == "laplace" else ENDED
        failures, warnings, health = gaussian_health(info, limit)
        if not all_finite(sites):
            failures.append("some draws are not finite")
        status, message = verdict(failures, warnings)
        return SampleResult(sites, call.seconds_compile, call.seconds_run, status, message, health)
