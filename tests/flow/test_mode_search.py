"""The mode search succeeds on simulated data sets of the GLM scenarios.

Scenarios 1, 5 and 6 are seen by the tests of the training targets, which discard a data set whose
mode was not found.
"""

from __future__ import annotations

import jax
import numpy as np
import pytest

from icl_bayes.baselines.gaussians import laplace_of
from icl_bayes.tasks import make_task

NUM_DATASETS = 400
slow = pytest.mark.slow


@pytest.mark.parametrize(
    "scenario",
    [7, *(pytest.param(scenario, marks=slow) for scenario in (1, 2, 3, 4, 5, 6))],
)
def test_the_mode_is_found_in_98_percent_of_data_sets(scenario: int) -> None:
    task = make_task(f"glm/{scenario}", covariates="gaussian")

    @jax.jit
    @jax.vmap
    def search(rng_key):
        _, dataset = task.simulate(rng_key, task.paper_num_rows)
        affine, info = laplace_of(task, dataset, 12)
        start = task.starting_points(dataset)[0]
        gain = task.log_joint(affine.shift, dataset) - task.log_joint(start, dataset)
        return info, gain, task.is_accepted(dataset)

    info, gain, accepted = jax.device_get(search(jax.random.split(jax.random.key(scenario), NUM_DATASETS)))
    assert accepted.mean() > (0.7 if scenario == 7 else 0.99)  # responses beyond float32 are not simulated
    found = info.is_finite & (info.decrement < 1e-2)
    assert found[accepted].mean() >= 0.98
    assert (gain[accepted & info.is_finite] > -1e-2).all()
    assert np.median(info.decrement[found]) < 1e-4
