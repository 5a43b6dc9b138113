"""The Laplace approximation: a Gaussian at the mode, in unconstrained coordinates."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax

from icl_bayes.baselines.common import (
    all_finite,
    check_num_draws,
    constrain_draws,
    curvature_of,
    log_joint_of,
    prepared,
    verdict,
)
from icl_bayes.baselines.programs import ProgramCache
from icl_bayes.flow.bases import Affine, NewtonInfo, find_mode, laplace_approximation
from icl_bayes.tasks import Task
from icl_bayes.types import Array, Dataset, SampleResult

_MAX_DECREMENT = 1e-3  # nats between the point returned and the mode


def laplace_of(
    task: Task, dataset: Dataset, num_steps: int = 16, num_newton_steps: int = 8
) -> tuple[Affine, NewtonInfo]:
    """Mode and whitening of the log joint of ``task`` given ``dataset``; traceable.

    Args:
        num_steps: steps of Fisher scoring, which come close from anywhere but may end slowly.
        num_newton_steps: Newton steps that follow, quadratic near the mode; none if the task has no
            expected information, since then the first steps are Newton's already.
    """
    log_joint = partial(log_joint_of, task, dataset)
    curvature_fn = partial(curvature_of, task, dataset)
    start = task.starting_point(dataset)
    if not (num_newton_steps and task.has_fisher_information):
        return laplace_approximation(log_joint, task.dim, metric_fn=curvature_fn, num_steps=num_steps, start=start)
    near, _ = find_mode(log_joint, curvature_fn, start, num_steps=num_steps)
    return laplace_approximation(log_joint, task.dim, num_steps=num_newton_steps, start=near)


def laplace_health(info: NewtonInfo) -> tuple[list[str], list[str], dict[str, float]]:
    """Failures, warnings and numbers of a finished mode search."""
    failures, warnings = [], []
    decrement = float(info.decrement)
    if not bool(info.is_finite):
        failures.append("the mode search ended in values that are not finite")
    elif not decrement <= _MAX_DECREMENT:
        warnings.append(f"the mode search stopped {decrement:.2g} nats below the mode (limit {_MAX_DECREMENT:g})")
    return failures, warnings, {"newton_decrement": decrement}


@dataclass(frozen=True)
class LaplaceSampler:
    """Draws from the Gaussian with the mode and curvature of the log joint, then constrained.

    Attributes:
        task: the model; its coordinates decide how Gaussian the posterior is.
    """

    task: Task
    name: str = "laplace"
    programs: ProgramCache = field(default_factory=ProgramCache, init=False, repr=False, compare=False)

    def sample(self, rng_key: Array, dataset: Dataset, num_draws: int) -> SampleResult:
        """Independent draws; ``health`` holds the ``newton_decrement``, nats left to the mode."""
        check_num_draws(num_draws)
        dataset = prepared(self.task, dataset)

        def draw(rng_key: Array, dataset: Dataset) -> tuple[dict[str, Any], NewtonInfo]:
            affine, info = laplace_of(self.task, dataset)
            thetas = affine.forward(jax.random.normal(rng_key, (num_draws, self.task.dim)))
            return constrain_draws(self.task, thetas, dataset), info

        call = self.programs.run(num_draws, draw, rng_key, dataset)
        sites, info = call.outputs
        failures, warnings, health = laplace_health(info)
        if not all_finite(sites):
            failures.append("some draws are not finite")
        status, message = verdict(failures, warnings)
        return SampleResult(sites, call.seconds_compile, call.seconds_run, status, message, health)
