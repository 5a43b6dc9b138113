"""Rows -> means with standard errors, and a list of everything that has no score."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from icl_bayes.benchmark import published
from icl_bayes.benchmark.cases import method_label
from icl_bayes.benchmark.records import CASE_FIELDS, METHOD_FIELDS, PROTOCOL, REFERENCE_METHOD, Record, latest

PROBLEM_FIELDS = ("family", "scenario", "split", "n", "p")
GROUP_FIELDS = PROBLEM_FIELDS + METHOD_FIELDS
"""What is kept apart: averages run over data sets and seeds only."""


@dataclass(frozen=True)
class Summary:
    """One metric of one method, averaged over data sets and seeds. Unknown numbers are NaN.

    Attributes:
        family, scenario, split, n, p: the problem; blank (or 0) where averaged over.
        method, variant, checkpoint, solver, num_draws: who drew.
        metric: name of the score.
        mean, error: mean and its standard error (NaN for a single data set).
        floor: mean floor over the same data sets.
        excess, excess_error: mean of score minus floor, paired, and its standard error.
        num_scored: data sets averaged.
        num_warnings: those among them with status ``warning``.
        num_expected: data sets on which this method should have a score.
        seconds_run: median over data sets.
        seconds_compile: largest over data sets; later ones find the program compiled.
        ess: mean effective sample size.
        published: the paper's number beside it, ``None`` where there is none.
        scenarios: the scenarios averaged over, in order.
    """

    family: str
    scenario: str
    split: str
    n: int
    p: int
    method: str
    variant: str
    checkpoint: str
    solver: str
    num_draws: int
    metric: str
    mean: float
    error: float
    floor: float
    excess: float
    excess_error: float
    num_scored: int
    num_warnings: int
    num_expected: int
    seconds_run: float
    seconds_compile: float
    ess: float
    published: float | None
    scenarios: tuple[str, ...]

    @property
    def label(self) -> str:
        """Name of the method for people."""
        return method_label(self.method, self.variant, self.solver)

    @property
    def at_floor(self) -> bool:
        """Whether the score can't be told from the floor: excess within two standard errors."""
        return self.excess <= 2.0 * self.excess_error

    @property
    def who(self) -> tuple[Any, ...]:
        """The columns that name the method."""
        return tuple(getattr(self, name) for name in METHOD_FIELDS)

    @property
    def problem(self) -> tuple[Any, ...]:
        """The columns that name the problem."""
        return tuple(getattr(self, name) for name in PROBLEM_FIELDS)


@dataclass(frozen=True)
class Unscored:
    """A cell that should have a score and has none.

    Attributes:
        family, scenario, split, dataset, n, p, seed: the case.
        method: label of the method; that of the reference where the whole case is lost.
        reason: the recorded message, or that the cell was never run.
    """

    family: str
    scenario: str
    split: str
    dataset: str
    n: int
    p: int
    seed: int
    method: str
    reason: str


def current(records: Iterable[Record], protocol: str = PROTOCOL) -> list[Record]:
    """Rows of one version of the protocol, each score once (see `records.latest`)."""
    return [record for record in latest(records) if record.protocol == protocol]


def _values(record: Record | Summary, names: Sequence[str]) -> tuple[Any, ...]:
    return tuple(getattr(record, name) for name in names)


def _grouped(items: Iterable[Any], key: Callable[[Any], tuple[Any, ...]]) -> dict[tuple[Any, ...], list[Any]]:
    groups: dict[tuple[Any, ...], list[Any]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def _mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    array = np.asarray(values, float)
    error = float(array.std(ddof=1) / math.sqrt(len(array))) if len(array) > 1 else math.nan
    return float(array.mean()), error


def _nan_to(reduce: Callable[..., Any], values: Sequence[float]) -> float:
    array = np.asarray(values, float)
    array = array[~np.isnan(array)]
    return float(reduce(array)) if len(array) else math.nan


def summarize(records: Iterable[Record], *, by: Sequence[str] = GROUP_FIELDS) -> list[Summary]:
    """Means with standard errors, one per group and metric, in order of appearance.

    Args:
        records: rows, possibly of several runs; older duplicates and other protocols are left out.
        by: columns kept apart. Leave out ``n`` and ``p`` to average over tables of several sizes.

    Raises:
        ValueError: if ``by`` names a column that can't be grouped by.
    """
    unknown = sorted(set(by) - set(GROUP_FIELDS))
    if unknown:
        raise ValueError(f"Cannot group by {unknown}; choose from {list(GROUP_FIELDS)}.")
    rows = current(records)
    problem = tuple(name for name in PROBLEM_FIELDS if name in by)
    cases = _grouped(rows, lambda row: _values(row, problem))
    expected = {key: len({row.case for row in members}) for key, members in cases.items()}
    blank = {name: 0 if name in ("n", "p", "num_draws") else "" for name in GROUP_FIELDS if name not in by}
    summaries = []
    for group, members in _grouped(rows, lambda row: _values(row, by)).items():
        shared: dict[str, Any] = {**blank, **dict(zip(by, group, strict=True))}
        metrics = _grouped((row for row in members if not row.failed), lambda row: (row.metric,))
        for (metric,), scored in metrics.items():
            mean, error = _mean_and_error([row.value for row in scored])
            excess, excess_error = _mean_and_error([row.value - row.floor for row in scored])
            summaries.append(
                Summary(
                    **shared,
                    metric=metric,
                    mean=mean,
                    error=error,
                    floor=float(np.mean([row.floor for row in scored])),
                    excess=excess,
                    excess_error=excess_error,
                    num_scored=len(scored),
                    num_warnings=sum(row.status == "warning" for row in scored),
                    num_expected=expected[_values(scored[0], problem)],
                    seconds_run=_nan_to(np.median, [row.seconds_run for row in scored]),
                    seconds_compile=_nan_to(np.max, [row.seconds_compile for row in scored]),
                    ess=_nan_to(np.mean, [row.ess for row in scored]),
                    published=published.beside(
                        shared["family"],
                        shared["scenario"],
                        shared["split"],
                        shared["method"],
                        shared["variant"],
                        metric,
                        (shared["n"], shared["p"]),
                    ),
                    scenarios=tuple(sorted({row.scenario for row in scored})),
                )
            )
    return summaries


def across_scenarios(summaries: Iterable[Summary]) -> list[Summary]:
    """Means over scenarios, each scenario counting once; only where there are at least two.

    Checkpoints are no longer kept apart, since networks may be trained per scenario; a method with
    two checkpoints for one scenario is left out, as its mean would count that scenario twice. Networks
    may bring solvers of their own, too: these are kept apart only where a scenario has several, and a
    mean over different ones names none.
    """

    def key(row: Summary) -> tuple[Any, ...]:
        return (row.family, row.split, row.n, row.p, row.method, row.variant, row.num_draws, row.metric)

    def once(rows: list[Summary]) -> bool:
        return len({row.scenario for row in rows}) == len(rows)

    groups: list[list[Summary]] = []
    for rows in _grouped(summaries, key).values():
        groups += [rows] if once(rows) else _grouped(rows, lambda row: (row.solver,)).values()
    means = []
    for rows in groups:
        scenarios = [row.scenario for row in rows]
        if len(rows) < 2 or not once(rows):
            continue
        family, split, n, p, method, variant, num_draws, metric = key(rows[0])
        solvers = {row.solver for row in rows}
        solver = solvers.pop() if len(solvers) == 1 else ""
        means.append(
            Summary(
                family=family,
                scenario="mean",
                split=split,
                n=n,
                p=p,
                method=method,
                variant=variant,
                checkpoint="",
                solver=solver,
                num_draws=num_draws,
                metric=metric,
                mean=float(np.mean([row.mean for row in rows])),
                error=math.sqrt(sum(row.error**2 for row in rows)) / len(rows),
                floor=float(np.mean([row.floor for row in rows])),
                excess=float(np.mean([row.excess for row in rows])),
                excess_error=math.sqrt(sum(row.excess_error**2 for row in rows)) / len(rows),
                num_scored=sum(row.num_scored for row in rows),
                num_warnings=sum(row.num_warnings for row in rows),
                num_expected=sum(row.num_expected for row in rows),
                seconds_run=_nan_to(np.mean, [row.seconds_run for row in rows]),
                seconds_compile=_nan_to(np.max, [row.seconds_compile for row in rows]),
                ess=_nan_to(np.mean, [row.ess for row in rows]),
                published=published.mean_beside(family, scenarios, split, method, variant, metric, (n, p)),
                scenarios=tuple(sorted(scenarios)),
            )
        )
    return means


def unscored(records: Iterable[Record]) -> list[Unscored]:
    """Every cell without a score: failed, without reference, or never run although others were.

    A method is expected on all cases of a problem (family, scenario, split, n, p) on which it
    appears at all. A case whose reference failed is listed once.
    """
    rows = current(records)
    cells = {row.cell: row for row in rows}
    found = []
    for members in _grouped(rows, lambda row: _values(row, PROBLEM_FIELDS)).values():
        methods = dict.fromkeys(_values(row, METHOD_FIELDS) for row in members if row.method != REFERENCE_METHOD)
        for case, of_case in _grouped(members, lambda row: row.case).items():
            named = dict(zip(CASE_FIELDS, case, strict=True))
            named.pop("protocol")
            lost = next((row for row in of_case if row.failed and row.method == REFERENCE_METHOD), None)
            if lost is not None:
                found.append(Unscored(**named, method=REFERENCE_METHOD, reason=lost.message))
                continue
            for method in methods:
                row = cells.get((*case, *method))
                if row is not None and not row.failed:
                    continue
                label = method_label(method[0], method[1], method[3])
                found.append(Unscored(**named, method=label, reason=row.message if row else "not run"))
    return found
