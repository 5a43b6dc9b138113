"""Test sets: data sets simulated from a scenario, and real tables brought into its form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from icl_bayes.baselines.programs import register_holder
from icl_bayes.benchmark.cases import Case, case_of
from icl_bayes.benchmark.settings import TEST_SEED, DataConfig
from icl_bayes.datasets import (
    Table,
    load_bundled,
    load_csv,
    load_suite336,
    openml336_names,
    prepare_glm,
    select_eligible,
)
from icl_bayes.datasets.bundled import bundled_names
from icl_bayes.tasks import Task, make_task
from icl_bayes.tasks.glm import SCENARIOS
from icl_bayes.types import Array, Dataset

NUM_MOMENT_DATASETS = 1024
_MOMENT_SEED = 5005  # a validation seed: moments are part of the protocol, not of the test data
_MAX_ATTEMPTS = 50
_AT_ONCE = 64
RESPONSE_KINDS = {"gaussian": "real", "bernoulli": "binary", "gamma": "positive"}
"""What a GLM's response law asks of a real table."""


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
    """The task under test, with the paper's prior constants; one object per setting, so that programs are shared."""
    return make_task(f"{family}/{scenario}", num_columns=num_columns, covariates=covariates, hyperprior="fixed")


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
    """Simulated data sets of a scenario; its covariate prior is the task's."""
    pairs, rejected = simulate_accepted(task, jax.random.key(seed), num_datasets, num_rows)
    cases = tuple(
        case_of(task, dataset, split="synthetic", name=f"{index:03d}", seed=seed, theta=theta)
        for index, (theta, dataset) in enumerate(pairs)
    )
    simulated = num_datasets + rejected
    notes = {"simulated": simulated, "rejected": rejected, "covariates": task.options["covariates"]}
    warnings = ()
    if rejected:
        share = 100.0 * rejected / simulated
        warnings = (
            f"{task.name}: {rejected} of {simulated} simulated data sets ({share:.1f} %) were discarded by rule",
        )
    return Suite(cases, notes, warnings)


@lru_cache(maxsize=32)
def response_moments(task: Task, num_rows: int) -> tuple[float, float]:
    """Mean and variance of a scenario's response: medians over simulated data sets.

    Real responses are given these moments. Medians, since in GLM 7 averages belong to a few extreme data sets.
    """

    pairs, _ = simulate_accepted(task, jax.random.key(_MOMENT_SEED), NUM_MOMENT_DATASETS, num_rows)
    responses = [np.exp(one["log_y"]) if "log_y" in one else one["y"] for _, one in pairs]
    values = np.asarray(responses, np.float64)
    return float(np.median(values.mean(axis=1))), float(np.median(values.var(axis=1)))


def response_kind(task: Task) -> str:
    """The kind of response that a GLM scenario asks of a real table."""
    family, _, scenario = task.name.partition("/")
    if family != "glm":
        raise ValueError(f"Real tables are prepared for GLM scenarios; received task {task.name!r}.")
    return RESPONSE_KINDS[SCENARIOS[int(scenario)].response]


def load_tables(data: DataConfig) -> tuple[tuple[Table, ...], dict[str, str]]:
    """The real tables of a source, and for those that could not be had the reason why.

    Raises:
        ValueError: for an unknown table name, listing those there are.
    """
    cache_dir = data.cache_dir or None
    if data.source == "csv":
        return (load_csv(data.path, target=data.target, features=data.features or None),), {}
    names = openml336_names() if data.source == "openml336" else bundled_names()
    unknown = [name for name in data.tables if name not in names]
    if unknown:
        raise ValueError(
            f"data.tables: {data.source} has no table(s) {', '.join(unknown)}; choices: {', '.join(names)}."
        )
    if data.source == "openml336":
        tables, missing = load_suite336(cache_dir=cache_dir)
    else:
        tables, missing = tuple(load_bundled(name) for name in names), {}
    if not data.tables:
        return tables, missing
    chosen = {table.name: table for table in tables}
    return (
        tuple(chosen[name] for name in data.tables if name in chosen),
        {name: reason for name, reason in missing.items() if name in data.tables},
    )


def real_suite(
    task: Task,
    tables: Sequence[Table],
    *,
    num_datasets: int,
    num_rows: int,
    seed: int,
    include_derived: bool = True,
    in_order: bool = False,
) -> Suite:
    """Real tables in the form of a scenario (protocol, point 3): one data set per table.

    Tables with a response of the scenario's own kind come first; among equals the test seed decides. Tables that
    can't be used are named in the notes, never dropped in silence.

    Args:
        num_datasets: at most so many, 0 for all.
        in_order: take the tables in the order given.
    """
    kind, num_columns = response_kind(task), task.num_columns
    served = select_eligible(tables, num_rows, num_columns, kind, include_derived=include_derived)
    if not in_order:
        native = select_eligible(tables, num_rows, num_columns, kind)
        order = np.random.default_rng(seed).permutation(len(served))
        served = sorted((served[index] for index in order), key=lambda table: table not in native)
    mean, variance = response_moments(task, num_rows)
    cases, derivations, failures = [], {}, {}
    for table in served:
        if num_datasets and len(cases) == num_datasets:
            break
        try:
            dataset, info = prepare_glm(
                table,
                num_rows=num_rows,
                num_columns=num_columns,
                response_kind=kind,
                response_mean=mean,
                response_variance=variance,
                rng_seed=seed,
            )
            prepared = task.prepare(dataset)
        except ValueError as error:
            failures[table.name] = str(error)
            continue
        name = f"{table.name} (derived)" if info.derived else table.name
        derivations[name] = info.derivation
        prepared = jax.tree.map(np.asarray, prepared)
        cases.append(case_of(task, prepared, split="real", name=name, seed=seed))
    warnings = [f"{task.name}: table {name!r} could not be used: {reason}" for name, reason in failures.items()]
    not_eligible = [table.name for table in tables if table not in served]
    if in_order:
        needed = f"at least {num_rows} rows, {num_columns} features and a {kind} response"
        warnings += [f"{task.name}: table {name!r} does not serve, which takes {needed}" for name in not_eligible]
    if num_datasets > len(cases):
        warnings.append(f"{task.name}: {len(cases)} of the {num_datasets} real data sets asked for exist")
    notes = {
        "response_mean": mean,
        "response_variance": variance,
        "tables": derivations,
        "not usable": failures,
        "not eligible": not_eligible,
    }
    return Suite(tuple(cases), notes, tuple(warnings))


def make_suite(
    task: Task, data: DataConfig, tables: Sequence[Table], *, num_datasets: int, num_rows: int, seed: int
) -> Suite:
    """The test set of one scenario as asked for; ``tables`` as from :func:`load_tables`, empty for ``synthetic``."""
    if data.source == "synthetic":
        return synthetic_suite(task, num_datasets=num_datasets, num_rows=num_rows, seed=seed)
    return real_suite(
        task,
        tables,
        num_datasets=num_datasets,
        num_rows=num_rows,
        seed=seed,
        include_derived=data.include_derived,
        in_order=bool(data.tables),
    )


def seed_kind(seed: int) -> str:
    """``test`` or ``validation``: what results under this seed may be used for."""
    return "test" if seed >= TEST_SEED else "validation"
