"""Test sets from real tables, brought into the form of a scenario (protocol, point 3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import jax
import numpy as np

from icl_bayes.benchmark.cases import case_of
from icl_bayes.benchmark.settings import DataConfig
from icl_bayes.benchmark.suites import Suite, simulate_accepted, synthetic_suite
from icl_bayes.datasets import (
    Table,
    load_bundled,
    load_csv,
    load_suite336,
    openml336_names,
    prepare_features,
    prepare_glm,
    select_eligible,
)
from icl_bayes.datasets.bundled import bundled_names
from icl_bayes.tasks import Task
from icl_bayes.tasks.glm import SCENARIOS
from icl_bayes.types import Dataset

NUM_MOMENT_DATASETS = 1024
_MOMENT_SEED = 5005  # a validation seed: moments are part of the protocol, not of the test data
RESPONSE_KINDS = {"gaussian": "real", "bernoulli": "binary", "gamma": "positive"}
"""What a GLM's response law asks of a real table."""
FEATURES = "features"
"""The same of a model without response, to which all columns of a table are alike."""


def response_kind(task: Task) -> str:
    """The kind of response that a scenario asks of a real table, or :data:`FEATURES` where it has none."""
    family, _, scenario = task.name.partition("/")
    return RESPONSE_KINDS[SCENARIOS[int(scenario)].response] if family == "glm" else FEATURES


@lru_cache(maxsize=32)
def simulated_moments(task: Task, num_rows: int) -> tuple[float, float]:
    """Mean and variance, within a data set, of what a scenario simulates: medians over simulated data sets.

    Real responses (of a model without response: columns) are given these moments. Medians, since in GLM 7 averages
    belong to a few extreme data sets.
    """
    pairs, _ = simulate_accepted(task, jax.random.key(_MOMENT_SEED), NUM_MOMENT_DATASETS, num_rows)
    if response_kind(task) == FEATURES:
        values = np.asarray([one["x"] for _, one in pairs], np.float64)
        # Columns have either sign alike; the median over all of them is zero but for chance.
        return 0.0, float(np.median(values.var(axis=1)))
    responses = [np.exp(one["log_y"]) if "log_y" in one else one["y"] for _, one in pairs]
    values = np.asarray(responses, np.float64)
    return float(np.median(values.mean(axis=1))), float(np.median(values.var(axis=1)))


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


class _Preparation(NamedTuple):
    """How tables are brought into the form of one scenario.

    Attributes:
        served: tables that can be used.
        native: those of them that come first.
        prepare: ``(table, rng_seed) -> data set, what was done in words, whether the response was derived``.
        needs: what it takes of a table, in words.
    """

    served: Sequence[Table]
    native: Sequence[Table]
    prepare: Callable[[Table, int], tuple[Dataset, str, bool]]
    needs: str


def _glm_preparation(
    task: Task, tables: Sequence[Table], num_rows: int, moments: tuple[float, float], include_derived: bool
) -> _Preparation:
    kind, num_columns = response_kind(task), task.num_columns

    def prepare(table: Table, rng_seed: int) -> tuple[Dataset, str, bool]:
        dataset, info = prepare_glm(
            table,
            num_rows=num_rows,
            num_columns=num_columns,
            response_kind=kind,
            response_mean=moments[0],
            response_variance=moments[1],
            rng_seed=rng_seed,
        )
        return dataset, info.derivation, info.derived

    return _Preparation(
        select_eligible(tables, num_rows, num_columns, kind, include_derived=include_derived),
        select_eligible(tables, num_rows, num_columns, kind),
        prepare,
        f"at least {num_rows} rows, {num_columns} features and a {kind} response",
    )


def _feature_preparation(
    task: Task, tables: Sequence[Table], num_rows: int, moments: tuple[float, float]
) -> _Preparation:
    num_columns = task.num_columns

    def prepare(table: Table, rng_seed: int) -> tuple[Dataset, str, bool]:
        dataset, info = prepare_features(
            table,
            num_rows=num_rows,
            num_columns=num_columns,
            mean=moments[0],
            variance=moments[1],
            rng_seed=rng_seed,
        )
        return dataset, f"{', '.join(info.columns)}; moments of the whole table matched", False

    served = [one for one in tables if one.num_rows >= num_rows and one.num_columns + 1 >= num_columns]
    needs = f"at least {num_rows} rows and {num_columns} columns, the response counted as one"
    return _Preparation(served, served, prepare, needs)


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
    """Real tables in the form of a scenario: one data set per table.

    Tables with a response of the scenario's own kind come first; among equals the test seed decides. Tables that
    can't be used are named in the notes, never dropped in silence.

    Args:
        num_datasets: at most so many, 0 for all.
        in_order: take the tables in the order given.
    """
    moments = simulated_moments(task, num_rows)
    if response_kind(task) == FEATURES:
        preparation = _feature_preparation(task, tables, num_rows, moments)
    else:
        preparation = _glm_preparation(task, tables, num_rows, moments, include_derived)
    served = list(preparation.served)
    if not in_order:
        order = np.random.default_rng(seed).permutation(len(served))
        served = sorted((served[index] for index in order), key=lambda table: table not in preparation.native)
    cases, derivations, failures = [], {}, {}
    for table in served:
        if num_datasets and len(cases) == num_datasets:
            break
        try:
            dataset, derivation, derived = preparation.prepare(table, seed)
            prepared = task.prepare(dataset)
        except ValueError as error:
            failures[table.name] = str(error)
            continue
        name = f"{table.name} (derived)" if derived else table.name
        derivations[name] = derivation
        prepared = jax.tree.map(np.asarray, prepared)
        cases.append(case_of(task, prepared, split="real", name=name, seed=seed))
    warnings = [f"{task.name}: table {name!r} could not be used: {reason}" for name, reason in failures.items()]
    not_eligible = [table.name for table in tables if table not in served]
    if in_order:
        warnings += [
            f"{task.name}: table {name!r} does not serve, which takes {preparation.needs}" for name in not_eligible
        ]
    if num_datasets > len(cases):
        warnings.append(f"{task.name}: {len(cases)} of the {num_datasets} real data sets asked for exist")
    of_what = "column" if response_kind(task) == FEATURES else "response"
    notes = {
        f"{of_what}_mean": moments[0],
        f"{of_what}_variance": moments[1],
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
