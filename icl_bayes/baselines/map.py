"""The posterior mode, repeated: what the published code reports as its Laplace approximation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from icl_bayes.baselines.common import check_num_draws, verdict
from icl_bayes.baselines.gaussians import GaussianInfo, gaussian_health, laplace_of
from icl_bayes.baselines.programs import ProgramCache
from icl_bayes.tasks import Task
from icl_bayes.types import Array, Dataset, SampleResult


@dataclass(frozen=True)
class MapSampler:
    """The point mass at the mode of the log joint in unconstrained coordinates.

    Attributes:
        task: the model; a mode depends on its coordinates.
    """

    task: Task
    name: str = "map"
    programs: ProgramCache = field(default_factory=ProgramCache, init=False, repr=False, compare=False)

    def sample(self, rng_key: Array, dataset: Dataset, num_draws: int) -> SampleResult:
        """``num_draws`` copies of the mode; ``rng_key`` is accepted and not used."""
        del rng_key
        check_num_draws(num_draws)
        dataset = self.task.prepare(dataset)

        def find_mode(dataset: Dataset) -> tuple[dict[str, Any], GaussianInfo]:
            affine, info = laplace_of(self.task, dataset)
            return self.task.constrain(affine.shift, dataset), info

        call = self.programs.run("mode", find_mode, dataset)
        mode, info = call.outputs
        sites = {name: np.broadcast_to(value, (num_draws, *np.shape(value))) for name, value in mode.items()}
        failures, warnings, health = gaussian_health(info)
        status, message = verdict(failures, warnings)
        return SampleResult(sites, call.seconds_compile, call.seconds_run, status, message, health)
