"""The usual reference provider: exact draws where they exist, checked NUTS elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

import jax

from icl_bayes.baselines.reference import reference_draws
from icl_bayes.benchmark.cases import Case, stable_hash
from icl_bayes.tasks import Task
from icl_bayes.types import SampleResult


@dataclass(frozen=True)
class TaskReference:
    """Draws the reference of any case that carries a `Task`.

    Attributes:
        num_draws: at least twice the draws to be compared.
        quick, num_particles: see :class:`icl_bayes.baselines.reference.ReferenceSampler`.
        name: part of the file name under which references are kept.
    """

    num_draws: int = 2000
    quick: bool = False
    num_particles: int = 2000
    name: str = "reference"

    def __call__(self, case: Case) -> SampleResult:
        """Reference draws, from a key of the case's own; status ``failed`` unless every check passed."""
        if not isinstance(case.task, Task):
            raise TypeError(f"{case.identity} carries a {type(case.task).__name__}, not a Task to draw a reference of.")
        rng_key = jax.random.fold_in(jax.random.key(case.random_seed), stable_hash("reference"))
        starts = None if case.theta is None else case.theta[None, :]
        return reference_draws(
            case.task,
            case.dataset,
            rng_key,
            self.num_draws,
            extra_starts=starts,
            quick=self.quick,
            num_particles=self.num_particles,
        )
