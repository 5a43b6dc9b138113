"""One method on one case, as rows: what identifies it, what makes it scorable, what is recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from icl_bayes.benchmark.cases import Case, Method
from icl_bayes.benchmark.records import CELL_FIELDS, PROTOCOL, REFERENCE_METHOD, Record
from icl_bayes.evaluation.two_sample import ORDERED_METRICS
from icl_bayes.provenance import Provenance
from icl_bayes.tasks import Task
from icl_bayes.types import SampleResult

FLOOR = Method(None, REFERENCE_METHOD, "floor")
"""Label of a case's own reference rows: the floor, the reference's seconds, or why it failed."""


class UnscorableError(Exception):
    """A result can't be scored; the message is what gets recorded."""


def cell_fields(case: Case, method: Method, num_draws: int) -> dict[str, Any]:
    """The columns that identify a cell."""
    return {
        "protocol": PROTOCOL,
        "family": case.family,
        "scenario": case.scenario,
        "split": case.split,
        "dataset": case.name,
        "n": case.n,
        "p": case.p,
        "seed": case.seed,
        "method": method.name,
        "variant": method.variant,
        "checkpoint": method.checkpoint,
        "solver": method.solver,
        "num_draws": num_draws,
    }


def cell_key(case: Case, method: Method, num_draws: int) -> tuple[Any, ...]:
    """`Record.cell` of the rows that a cell will have."""
    fields = cell_fields(case, method, num_draws)
    return tuple(fields[name] for name in CELL_FIELDS)


def symmetrized(case: Case, sites: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """Draws with their exchangeable components, if the model has any, in random orders, each kept whole.

    Every method is treated alike: a method that finds one labelling of a mixture is not scored worse than one that
    finds all, nor a network that learned the symmetry better.
    """
    num = getattr(case.task, "num_exchangeable", 0)
    if not num:
        return sites
    num_draws = len(next(iter(sites.values())))
    generator = np.random.default_rng(case.random_seed)
    orders = generator.permuted(np.tile(np.arange(num), (num_draws, 1)), axis=1)
    return {name: values[np.arange(num_draws)[:, None], orders] for name, values in sites.items()}


def compared_components(case: Case) -> tuple[tuple[int, ...], ...]:
    """For each exchangeable component of the model the columns of the compared matrix that hold it; none without."""
    if not getattr(case.task, "num_exchangeable", 0):
        return ()
    assert isinstance(case.task, Task)
    return tuple(map(tuple, case.task.compared_components.tolist()))


def metrics_of(case: Case, metrics: Sequence[str]) -> tuple[str, ...]:
    """Those of the metrics that exist for a case."""
    is_exchangeable = bool(getattr(case.task, "num_exchangeable", 0))
    return tuple(name for name in metrics if is_exchangeable or name not in ORDERED_METRICS)


def compared_draws(case: Case, result: SampleResult, *, exactly: int | None = None, at_least: int = 1) -> np.ndarray:
    """The compared matrix ``(num_draws, D)`` of a result.

    Raises:
        UnscorableError: if the sampler reported failure, or draws are missing or not finite.
    """
    if result.status == "failed":
        raise UnscorableError(result.message or "the sampler reported failure without a message")
    matrix = np.asarray(case.task.compared_matrix(symmetrized(case, result.sites)), dtype=np.float64)
    if matrix.ndim != 2 or (len(matrix) != exactly if exactly is not None else len(matrix) < at_least):
        expected = f"{exactly}" if exactly is not None else f"at least {at_least}"
        raise UnscorableError(f"received draws of shape {matrix.shape}, expected {expected} rows")
    bad = int(np.sum(~np.isfinite(matrix).all(axis=1)))
    if bad:
        raise UnscorableError(f"{bad} of {len(matrix)} draws hold NaN or infinite values")
    return matrix


def with_duplicates(message: str, matrix: np.ndarray) -> str:
    """``message``, extended by the share of draws that repeat another one, if any do."""
    duplicates = 1.0 - len(np.unique(matrix, axis=0)) / len(matrix)
    note = f"{duplicates:.1%} of the draws are duplicates" if duplicates > 0.0 else ""
    return "; ".join(part for part in (message, note) if part)


def make_records(
    case: Case,
    method: Method,
    num_draws: int,
    result: SampleResult | None,
    provenance: Provenance,
    *,
    scores: Mapping[str, float],
    floor: Mapping[str, float],
    status: str,
    message: str,
) -> list[Record]:
    """One row per score; a failed cell passes ``{"": nan}``."""
    health: Mapping[str, Any] = result.health if result is not None else {}
    shared = {
        **cell_fields(case, method, num_draws),
        **asdict(provenance),
        "seconds_compile": float(result.seconds_compile) if result is not None else np.nan,
        "seconds_run": float(result.seconds_run) if result is not None else np.nan,
        "ess": float(health.get("ess", np.nan)),
        "khat": float(health.get("khat", np.nan)),
        "verdict": result.verdict if result is not None else "",
        "status": status,
        "message": message,
    }
    return [
        Record(**shared, metric=metric, value=float(value), floor=float(floor.get(metric, np.nan)))
        for metric, value in scores.items()
    ]
