"""Methods x data sets x seeds -> ``records.csv``, resumable at any point.

For every case the reference is drawn (or read from disk), split at random into the 1,000 draws
to compare with and 1,000 others that give the floor, and every method is sampled and scored.
While methods are sampled the scoring processes rest, so that the seconds recorded are those of
an otherwise idle machine; they score one case while the next one's reference is computed.
"""

from __future__ import annotations

import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from icl_bayes.baselines.programs import release_programs
from icl_bayes.benchmark.cases import Case, Method, Methods, ReferenceProvider, as_method, draw_key
from icl_bayes.benchmark.cells import (
    FLOOR,
    UnscorableError,
    cell_key,
    compared_components,
    compared_draws,
    make_records,
    metrics_of,
    with_duplicates,
)
from icl_bayes.benchmark.records import Record, RecordWriter, latest, read_records
from icl_bayes.benchmark.run_summary import RunSummary, escape_markup, print_summary, progress_bar
from icl_bayes.benchmark.scoring import ScorePool
from icl_bayes.benchmark.stored_draws import ReferenceStore, draws_path, save_result
from icl_bayes.evaluation.two_sample import METRICS, OTHER_METRICS
from icl_bayes.provenance import collect_provenance
from icl_bayes.types import SampleResult

if TYPE_CHECKING:
    from rich.console import Console

RECORDS_NAME = "records.csv"
FAILURES_NAME = "failures.log"


@dataclass(frozen=True)
class _Settings:
    num_draws: int
    metrics: tuple[str, ...]
    keep_draws: bool
    retry_failed: bool
    overlap: bool


@dataclass
class _Reference:
    """The reference of one case in use."""

    result: SampleResult
    compared: np.ndarray  # what methods are compared with
    others: np.ndarray  # as many other draws, which give the floor; none where the provider has no more
    floor: dict[str, float]
    failure: str = ""


class _Run:
    """State of one call of `run_benchmark`; rows are written by the calling thread only."""

    def __init__(
        self,
        writer: RecordWriter,
        pool: ScorePool,
        references: ReferenceStore,
        settings: _Settings,
        say: Callable[[str], None],
    ) -> None:
        self.writer, self.pool, self.references, self.settings, self.say = writer, pool, references, settings, say
        self.out_dir = writer.path.parent
        self.provenance = collect_provenance()
        # Answers are taken in the order of submission, so a case's floor is known before its methods' scores.
        self.pending: deque[tuple[Future[dict[str, float]] | None, Callable[[], None]]] = deque()
        self.on_file: dict[tuple[Any, ...], dict[str, Record]] = {}
        for record in latest(read_records(writer.path)):
            self.on_file.setdefault(record.cell, {})[record.metric] = record
        self.num_scored = self.num_skipped = self.num_without_reference = 0
        self.failures: list[Record] = []

    # ---------------------------------------------------------------- rows

    def _rows(self, case: Case, method: Method) -> dict[str, Record]:
        return self.on_file.get(cell_key(case, method, self.settings.num_draws), {})

    def _failure_on_file(self, case: Case, method: Method) -> Record | None:
        if self.settings.retry_failed:
            return None
        return next((row for row in self._rows(case, method).values() if row.failed), None)

    def _write(self, case: Case, method: Method, result: SampleResult | None, **outcome: Any) -> list[Record]:
        records = make_records(case, method, self.settings.num_draws, result, self.provenance, **outcome)
        self.writer.append(*records)
        return records

    def _fail(
        self, case: Case, method: Method, result: SampleResult | None, message: str, error: Exception | None = None
    ) -> None:
        scores = {"": np.nan}
        self.failures += self._write(case, method, result, scores=scores, floor={}, status="failed", message=message)
        self.say(f"  [red]failed[/red] {escape_markup(f'{case.identity}, {method.label}: {message}')}")
        if error is not None:
            with open(self.out_dir / FAILURES_NAME, "a", encoding="utf-8") as file:
                file.write(f"{case.identity} | {method.label}\n{''.join(traceback.format_exception(error))}\n")

    # ---------------------------------------------------------------- scoring processes

    def _submit(
        self,
        matrix: np.ndarray,
        reference: _Reference,
        case: Case,
        metrics: tuple[str, ...],
        finish: Callable[[Future[dict[str, float]]], None],
    ) -> None:
        components = compared_components(case)
        future = self.pool.submit(
            matrix, reference.compared, seed=case.random_seed, metrics=metrics, components=components
        )
        self.pending.append((future, lambda: finish(future)))

    def collect(self, *, wait: bool) -> None:
        """Write what has been scored, in the order of submission; with ``wait``, until nothing is left."""
        while self.pending:
            future, finish = self.pending[0]
            if future is not None:
                if not wait and not future.done():
                    return
                future.exception()  # waits; what it holds is dealt with in finish
            self.pending.popleft()
            finish()

    def salvage(self) -> None:
        """After a stop: write the scores that had been finished, and wait for nothing."""
        while self.pending:
            future, finish = self.pending.popleft()
            if future is not None and future.done() and not future.cancelled() and future.exception() is None:
                finish()

    # ---------------------------------------------------------------- one case

    def case(self, case: Case, methods: Sequence[Method], tick: Callable[[], None]) -> None:
        """Score every method that is not on file; ``tick`` is called once per method."""
        wanted: list[tuple[Method, tuple[str, ...]]] = []
        for method in methods:
            metrics = metrics_of(case, self.settings.metrics)
            missing = tuple(metric for metric in metrics if metric not in self._rows(case, method))
            failure = self._failure_on_file(case, method)
            if failure is None and missing:
                wanted.append((method, missing))
                continue
            tick()
            if failure is None:
                self.num_skipped += 1
            else:
                self.failures.append(failure)
        if not wanted:
            return
        reference = self._reference(case)
        if reference is None:
            self.num_without_reference += len(wanted)
            for _ in wanted:
                tick()
            return
        if not self.settings.overlap:
            self.collect(wait=True)
        sampled = [(method, missing, self._sample(case, method)) for method, missing in wanted]
        self._submit_floor(case, reference)
        line: list[str] = []
        for method, missing, draws in sampled:
            if draws is None:
                tick()
            else:
                self._submit_method(case, method, missing, *draws, reference, line, tick)
        self.pending.append(
            (None, lambda: self.say(escape_markup(f"{case.identity}: {', '.join(line) or 'nothing scored'}")))
        )
        self.collect(wait=False)

    def _reference(self, case: Case) -> _Reference | None:
        """The reference to compare with, or ``None`` once its failure is on file."""
        failure = self._failure_on_file(case, FLOOR)
        if failure is not None:
            self.failures.append(failure)
            return None
        num_draws = self.settings.num_draws
        result = None
        try:
            result = self.references.get(case)
            needed = num_draws if getattr(self.references.provider, "has_no_floor", False) else 2 * num_draws
            matrix = compared_draws(case, result, at_least=needed)
        except UnscorableError as error:
            self._fail(case, FLOOR, result, str(error))
            return None
        except Exception as error:  # a case without a reference must not end the run
            self._fail(case, FLOOR, result, f"{type(error).__name__}: {error}", error)
            return None
        order = np.random.default_rng(case.random_seed).permutation(len(matrix))
        known = {metric: row.value for metric, row in self._rows(case, FLOOR).items() if not row.failed}
        return _Reference(result, matrix[order[:num_draws]], matrix[order[num_draws:needed]], known)

    def _submit_floor(self, case: Case, reference: _Reference) -> None:
        metrics = metrics_of(case, self.settings.metrics)
        missing = tuple(metric for metric in metrics if metric not in reference.floor)
        if not missing or not len(reference.others):
            return

        def finish(future: Future[dict[str, float]]) -> None:
            error = future.exception()
            if error is not None:
                reference.failure = f"the floor could not be scored: {error}"
                self._fail(case, FLOOR, reference.result, reference.failure)
                return
            scores, result = future.result(), reference.result
            reference.floor.update(scores)
            self._write(case, FLOOR, result, scores=scores, floor=scores, status=result.status, message=result.message)

        self._submit(reference.others, reference, case, missing, finish)

    def _sample(self, case: Case, method: Method) -> tuple[SampleResult, np.ndarray] | None:
        """The method's draws, or ``None`` once its failure is on file."""
        assert method.sampler is not None
        result = None
        try:
            result = method.sampler.sample(draw_key(case, method), case.dataset, self.settings.num_draws)
            matrix = compared_draws(case, result, exactly=self.settings.num_draws)
        except UnscorableError as error:
            self._fail(case, method, result, str(error))
            return None
        except Exception as error:  # one method on one data set must not end the run
            self._fail(case, method, result, f"{type(error).__name__}: {error}", error)
            return None
        if self.settings.keep_draws:
            save_result(draws_path(self.out_dir, case, method), result)
        return result, matrix

    def _submit_method(
        self,
        case: Case,
        method: Method,
        metrics: tuple[str, ...],
        result: SampleResult,
        matrix: np.ndarray,
        reference: _Reference,
        line: list[str],
        tick: Callable[[], None],
    ) -> None:
        message = with_duplicates(result.message, matrix)

        def finish(future: Future[dict[str, float]]) -> None:
            tick()
            error = future.exception()
            if error is not None or reference.failure:
                self._fail(case, method, result, reference.failure or str(error))
                return
            scores = future.result()
            self._write(
                case, method, result, scores=scores, floor=reference.floor, status=result.status, message=message
            )
            self.num_scored += 1
            metric = metrics[0]
            if not line and metric in reference.floor:
                line.append(f"floor {metric} {reference.floor[metric]:.3f}")
            line.append(f"{method.label} {metric} {scores[metric]:.3f} in {_seconds(result.seconds_run)}")

        self._submit(matrix, reference, case, metrics, finish)


def run_benchmark(
    cases: Iterable[Case],
    methods: Methods,
    reference: ReferenceProvider,
    out_dir: str | Path,
    *,
    num_draws: int = 1000,
    metrics: Sequence[str] = METRICS,
    workers: int = 2,
    keep_draws: bool = False,
    retry_failed: bool = False,
    overlap: bool = False,
    console: Console | None = None,
) -> RunSummary:
    """Score methods on cases, appending each row to ``out_dir/records.csv`` as it is known.

    Running it again with the same ``out_dir`` does only what is missing. Whatever fails is
    recorded with its reason (tracebacks go to ``failures.log``) and the run goes on.

    Args:
        cases: data sets to score on.
        methods: methods, or a callable from a case to its methods; samplers with a ``name`` are
            accepted as they are.
        reference: draws a case's reference, at least ``2 * num_draws``; one with the attribute ``has_no_floor`` may
            have half of that, and then scores have no floor beside them.
        out_dir: where records, references and draws go.
        num_draws: draws compared.
        metrics: which scores.
        workers: scoring processes; zero scores in this process.
        keep_draws: keep the draws of every cell under ``out_dir/draws``.
        retry_failed: try cells again that are on file as failed.
        overlap: let scoring go on while methods are sampled. Faster where sampling happens on an
            accelerator or cores are plenty; elsewhere it falsifies the seconds recorded.
        console: where progress goes; standard error by default.

    Raises:
        ValueError: on duplicate cases or methods, or an unknown metric.
        KeyboardInterrupt: as received, after everything scored so far is on disk.
    """
    from rich.console import Console

    known = METRICS + OTHER_METRICS
    if not metrics or not set(metrics) <= set(known):
        raise ValueError(f"metrics must be some of {list(known)}; received {list(metrics)}.")
    plan = [(case, _methods_of(methods, case)) for case in cases]
    _refuse_duplicates("cases", [case.identity for case, _ in plan])
    settings = _Settings(num_draws, tuple(metrics), keep_draws, retry_failed, overlap)
    console = console or Console(stderr=True)
    progress = progress_bar(console)
    with RecordWriter(Path(out_dir) / RECORDS_NAME) as writer:
        pool = ScorePool(workers)
        run = _Run(writer, pool, ReferenceStore(out_dir, reference), settings, console.print)
        finished = False
        try:
            with progress:
                bar = progress.add_task("scoring", total=sum(len(own) for _, own in plan))
                left = Counter(id(case.task) for case, _ in plan)
                for case, own in plan:
                    run.case(case, own, lambda: progress.advance(bar))
                    left[id(case.task)] -= 1
                    if not left[id(case.task)]:
                        release_programs()  # those of all scenarios together are more than a process may hold
                run.collect(wait=True)
            finished = True
        finally:
            pool.close(now=not finished)
            if not finished:
                run.salvage()
                console.print(f"Stopped; scores so far are in {writer.path}. The same command goes on from there.")
    summary = RunSummary(writer.path, run.num_scored, run.num_skipped, run.num_without_reference, tuple(run.failures))
    print_summary(summary, console)
    return summary


def _methods_of(methods: Methods, case: Case) -> list[Method]:
    given: Sequence[Any] = methods(case) if callable(methods) else methods
    own = [as_method(method) for method in given]
    _refuse_duplicates("methods", [f"{method.label} {method.checkpoint}".strip() for method in own])
    return own


def _refuse_duplicates(what: str, names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"Some {what} would be recorded under the same name: {', '.join(twice)}.")


def _seconds(value: float) -> str:
    return f"{1e3 * value:.3g} ms" if value < 1.0 else f"{value:.3g} s"
