"""Test sets simulated from a scenario. Those from real tables are in :mod:`icl_bayes.benchmark.real_suites`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from icl_bayes.baselines.programs import register_holder
from icl_bayes.benchmark.cases import Case, case_of
from icl_bayes.benchmark.settings import TEST_SEED
from icl_bayes.tasks import Task, make_task
from icl_bayes.types import Array, Dataset

PAPER_COLUMNS = 5
"""Covariates of the published GLM scenarios."""
_MAX_ATTEMPTS = 50
_AT_ONCE = 64


@dataclass(frozen=True)
class Suite:
    """Cases of one scenario, and what has to be said about how they came about.

    Attributes:
        cases: the data sets.
        notes: facts for the record, such as ``{"simulated": 50, "rejected": 3}``, or the tables left out.
        warnings: the same, where a reader should know, in words.
    """

    cases: tuple[Case, ...]
    notes: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@lru_cache(maxsize=32)
def task_under_test(family: str, scenario: str, num_columns: int, covariates: str = "tabular") -> Task:
    """The task under test, with the paper's prior constants; one object per setting, so that programs are shared.

    Args:
        num_columns: of a GLM, 0 for the paper's.
    """
    options = {"num_columns": num_columns or PAPER_COLUMNS, "covariates": covariates, "hyperprior": "fixed"}
    return make_task(f"{family}/{scenario}", **options)


@lru_cache(maxsize=32)
def _simulator(task: Task, num_rows: int) -> Callable[[Array, Array, Array], tuple[Array, Dataset, Array]]:
    """Compiled ``(rng_key, indices (64,), trials (64,)) -> thetas, data sets, whether each is kept``.

    Always 64 at a time: another width could round differently and give another data set its name.
    """

    def attempt(rng_key: Array, index: Array, trial: Array) -> tuple[Array, Dataset, Array]:
        key = jax.random.fold_in(jax.random.fold_in(rng_key, index), trial)
        theta, dataset = task.simulate(key, num_rows)
        finite = jnp.all(jnp.asarray([jnp.all(jnp.isfinite(value)) for value in dataset.rows.values()]))
        return theta, dataset, task.is_accepted(dataset) & finite

    indices = jnp.arange(_AT_ONCE)
    program = jax.jit(jax.vmap(attempt, (None, 0, 0))).lower(jax.random.key(0), indices, indices)
    # It runs a few times for milliseconds, so the time to compile is all that counts.
    options: dict[str, Any] = {"xla_backend_optimization_level": 0}  # jax declares str and bool, and takes numbers
    return program.compile(compiler_options=options)


class _Simulators:
    """Lets go of the simulators with all other programs (:func:`icl_bayes.baselines.programs.release_programs`)."""

    def release(self) -> None:
        _simulator.cache_clear()


_SIMULATORS = _Simulators()
register_holder(_SIMULATORS)

Pair = tuple[np.ndarray, Dataset]


def simulate_accepted(task: Task, rng_key: Array, num_datasets: int, num_rows: int) -> tuple[list[Pair], int]:
    """Pairs ``(theta, dataset)`` whose data pass the task's rule, and how many were discarded.

    Data set ``i`` comes from ``fold_in(rng_key, i)`` alone, so a longer list begins with a shorter one.

    Raises:
        ValueError: if a data set is discarded fifty times in a row.
    """
    simulate = _simulator(task, num_rows)
    kept: list[Pair] = []
    rejected = 0
    for first in range(0, num_datasets, _AT_ONCE):
        found: dict[int, Pair] = {}
        wanted = min(_AT_ONCE, num_datasets - first)
        for trial in range(_MAX_ATTEMPTS):
            trials = jnp.full(_AT_ONCE, trial)
            *drawn, accepted = jax.device_get(simulate(rng_key, first + jnp.arange(_AT_ONCE), trials))
            for slot in set(range(wanted)) - set(found):
                if accepted[slot]:
                    found[slot] = jax.tree.map(lambda leaf, slot=slot: np.asarray(leaf[slot]), tuple(drawn))
                else:
                    rejected += 1
            if len(found) == wanted:
                break
        else:
            raise ValueError(
                f"Task {task.name!r}: {wanted - len(found)} of {wanted} simulated data sets were discarded "
                f"{_MAX_ATTEMPTS} times by its rule; use another covariate prior or fewer columns."
            )
        kept += [found[slot] for slot in range(wanted)]
    return kept, rejected


def synthetic_suite(task: Task, *, num_datasets: int, num_rows: int, seed: int) -> Suite:
    """Simulated data sets of a scenario; its covariate prior, if it has one, is the task's."""
    pairs, rejected = simulate_accepted(task, jax.random.key(seed), num_datasets, num_rows)
    cases = tuple(
        case_of(task, dataset, split="synthetic", name=f"{index:03d}", seed=seed, theta=theta)
        for index, (theta, dataset) in enumerate(pairs)
    )
    simulated = num_datasets + rejected
    notes = {"simulated": simulated, "rejected": rejected}
    if "covariates" in task.options:
        notes["covariates"] = task.options["covariates"]
    warnings = ()
    if rejected:
        share = 100.0 * rejected / simulated
        warnings = (
            f"{task.name}: {rejected} of {simulated} simulated data sets ({share:.1f} %) were discarded by rule",
        )
    return Suite(cases, notes, warnings)


def seed_kind(seed: int) -> str:
    """``test`` or ``validation``: what results under this seed may be used for."""
    return "test" if seed >= TEST_SEED else "validation"
