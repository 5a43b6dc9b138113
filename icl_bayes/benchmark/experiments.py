"""Evaluations whole: build cases and methods, run them, write records, tables, figures and a report."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from icl_bayes.benchmark.cases import Case, Method, ReferenceProvider, method_label, slug
from icl_bayes.benchmark.methods import MethodRegistry
from icl_bayes.benchmark.plot_style import to_png
from icl_bayes.benchmark.posterior_plots import marginal_plot, pair_plot
from icl_bayes.benchmark.real_suites import load_tables, make_suite
from icl_bayes.benchmark.records import REFERENCE_METHOD, Record, merge_records, read_records
from icl_bayes.benchmark.references import TaskReference
from icl_bayes.benchmark.render import print_tables, to_markdown
from icl_bayes.benchmark.report import ReportFigure, score_figures, write_report
from icl_bayes.benchmark.run_summary import RunSummary
from icl_bayes.benchmark.runner import RECORDS_NAME, run_benchmark
from icl_bayes.benchmark.settings import EvaluationConfig, EvaluationSettings
from icl_bayes.benchmark.stored_draws import draws_path, load_result, reference_path
from icl_bayes.benchmark.suites import Suite, seed_kind, task_under_test
from icl_bayes.benchmark.tables import score_tables, unscored_table
from icl_bayes.tasks import Task

if TYPE_CHECKING:
    from rich.console import Console

SUITE_NAME, TABLES_NAME, REPORT_NAME, FIGURES_NAME = "suite.json", "tables.md", "report.html", "figures"
REFERENCE = TaskReference()


@dataclass(frozen=True)
class Outcome:
    """What an evaluation left behind.

    Attributes:
        out: the directory.
        records: all rows on file.
        report: path of the HTML report, ``None`` when nothing could be scored.
        summary: of the run; ``None`` after a merge.
    """

    out: Path
    records: tuple[Record, ...]
    report: Path | None
    summary: RunSummary | None = None


@dataclass
class Plan:
    """Cases with what has to be said about them, by problem."""

    cases: list[Case] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def add(self, problem: str, suite: Suite) -> None:
        """Take up the suite of one problem, such as ``glm/5 synthetic``."""
        self.cases += suite.cases
        self.notes[problem] = suite.notes
        self.warnings += suite.warnings


def plan_cases(settings: EvaluationSettings) -> Plan:
    """The cases of an evaluation.

    Raises:
        ValueError: for unknown scenarios or tables, or when no data set serves any scenario.
    """
    plan = Plan()
    data = settings.data
    tables, missing = load_tables(data) if data.source != "synthetic" else ((), {})
    plan.warnings += [f"table {name!r} could not be had: {reason}" for name, reason in missing.items()]
    tasks = [
        task_under_test(settings.family, scenario, settings.num_columns, data.covariates)
        for scenario in settings.scenarios
    ]
    for task in tasks:
        suite = make_suite(
            task,
            data,
            tables,
            num_datasets=settings.num_datasets,
            num_rows=settings.num_rows or task.paper_num_rows,
            seed=settings.seed,
        )
        plan.add(f"{task.name} {data.split}", suite)
    if not plan.cases:
        reasons = "; ".join(plan.warnings) or "no table is large enough or has a response of the right kind"
        task = tasks[-1]
        rows = settings.num_rows or task.paper_num_rows
        raise ValueError(
            f"No data set serves scenario(s) {', '.join(settings.scenarios)} with {rows} rows and "
            f"{task.num_columns} columns: {reasons}."
        )
    return plan


def evaluate(settings: EvaluationSettings, console: Console) -> Outcome:
    """Score methods on test sets as asked for; running it again does only what is missing.

    Raises:
        ValueError: for unknown scenarios, methods, metrics or tables, before anything is computed.
        CheckpointError: for a network that can't be loaded.
    """
    registry = MethodRegistry(settings.method_list, settings.baseline, settings.networks)
    for scenario in settings.scenarios:  # so that a missing network is known before anything is computed
        registry.of(task_under_test(settings.family, scenario, settings.num_columns, settings.data.covariates))
    plan = plan_cases(settings)
    out = Path(settings.out)
    return run_plan(
        plan,
        registry,
        out,
        settings.evaluation,
        console,
        title=f"{settings.family.upper()} posteriors: methods compared",
        introduction=_introduction(settings),
        about={"seed": settings.seed, "settings": settings.as_dict()},
    )


def _introduction(settings: EvaluationSettings) -> str:
    what = {
        "synthetic": "data sets simulated from the scenario"
        + (f" ({settings.data.covariates} covariates)" if settings.family == "glm" else ""),
        "bundled": "bundled real tables",
        "openml336": "tables of OpenML suite 336",
        "csv": f"the table {Path(settings.data.path).name}",
    }[settings.data.source]
    sizes = [
        f"{letter} = {value or 'the paper' + chr(39) + 's'}"
        for letter, value in (("n", settings.num_rows), ("p", settings.num_columns))
    ]
    return f"Scored on {what}, {', '.join(sizes)}, seed {settings.seed} (a {seed_kind(settings.seed)} seed)."


def run_plan(
    plan: Plan,
    methods: MethodRegistry,
    out: Path,
    scoring: EvaluationConfig,
    console: Console,
    *,
    title: str,
    introduction: str,
    about: Mapping[str, Any],
    reference: ReferenceProvider | None = None,
) -> Outcome:
    """Run a plan and write everything that follows from its records.

    Where draws are kept, the report shows marginals of the first case of every problem.
    """
    for warning in [*plan.warnings, *methods.notes]:
        console.print(f"Note: {warning}", highlight=False, markup=False)
    out.mkdir(parents=True, exist_ok=True)
    _remember(out, plan, methods, about)
    summary = run_benchmark(
        plan.cases,
        methods,
        reference or TaskReference(num_particles=scoring.num_particles),
        out,
        num_draws=scoring.num_draws,
        metrics=scoring.metrics,
        workers=scoring.workers,
        keep_draws=scoring.keep_draws,
        retry_failed=scoring.retry_failed,
        overlap=scoring.overlap,
        console=console,
    )
    figures = posterior_figures(out, plan.cases, methods) if scoring.keep_draws else []
    notes = [*plan.warnings, *methods.notes]
    return publish(out, console, title=title, introduction=introduction, figures=figures, notes=notes, summary=summary)


def _remember(out: Path, plan: Plan, methods: MethodRegistry, about: Mapping[str, Any]) -> None:
    """Keep how the test sets came about beside the records; what earlier runs covered stays.

    Raises:
        ValueError: if the directory holds scores of other data under the names of these.
    """
    path = out / SUITE_NAME
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    data = _joined(known.get("data", {}), {case.identity: case.digest for case in plan.cases}, out)
    problems = dict(known.get("problems", {}))
    for problem, notes in plan.notes.items():
        # A run on some of the data sets does not forget the rest.
        problems[problem] = max(notes, problems.get(problem, {}), key=_extent)
    content = {**about, "notes": [*plan.warnings, *methods.notes], "problems": problems, "data": data}
    _write_whole(path, json.dumps(content, indent=2, sort_keys=True) + "\n")


def _extent(notes: Mapping[str, Any]) -> int:
    """How many data sets the notes of a problem are about."""
    return int(notes.get("simulated", len(notes.get("tables", ()))))


def _joined(known: Mapping[str, str], new: Mapping[str, str], where: Path) -> dict[str, str]:
    """Fingerprints of data by the names of their cases; records are told apart by these names alone."""
    clashes = sorted(name for name in known.keys() & new.keys() if known[name] != new[name])
    if clashes:
        raise ValueError(
            f"{where} holds scores of other data under the same name ({clashes[0]}, {len(clashes)} in all): another "
            "table, target, features or covariate prior. Scores of different data can't share a directory; choose "
            "another with out=DIR."
        )
    return {**known, **new}


def _write_whole(path: Path, content: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(content, encoding="utf-8")
    os.replace(temporary, path)


def publish(
    out: Path,
    console: Console,
    *,
    title: str,
    introduction: str = "",
    figures: Sequence[ReportFigure] = (),
    notes: Sequence[str] = (),
    summary: RunSummary | None = None,
) -> Outcome:
    """Tables (terminal, markdown), figures (PNG) and the HTML report of the records in a directory."""
    records = tuple(read_records(out / RECORDS_NAME))
    if all(record.failed or record.method == REFERENCE_METHOD for record in records):
        console.print("Nothing could be scored, so there is no report.")
        return Outcome(out, records, None, summary)
    print_tables(score_tables(records, compact=True), console)
    tables = score_tables(records)
    lost = unscored_table(records)
    text = "\n".join(to_markdown(table) for table in [*tables, *([lost] if lost else [])])
    listed = "".join(f"- {note}\n" for note in notes)
    _write_whole(out / TABLES_NAME, f"# {title}\n\n{introduction}\n\n{listed}\n{text}")
    scores = score_figures(records) if any(record.metric == "c2st" for record in records) else []
    rendered = [
        ReportFigure(one.title, one.image if isinstance(one.image, bytes) else to_png(one.image), one.caption)
        for one in [*figures, *scores]
    ]
    _write_figures(out / FIGURES_NAME, rendered)
    more = f" {' '.join(f'{note}.' for note in notes)}" if notes else ""
    report = write_report(
        records,
        out / REPORT_NAME,
        title=title,
        introduction=introduction + more,
        figures=rendered,
        with_score_figures=False,
    )
    console.print(f"Records: {out / RECORDS_NAME}", soft_wrap=True, highlight=False)
    console.print(f"Tables:  {out / TABLES_NAME}", soft_wrap=True, highlight=False)
    console.print(f"Figures: {out / FIGURES_NAME}", soft_wrap=True, highlight=False)
    console.print(f"Report:  {report}", soft_wrap=True, highlight=False)
    return Outcome(out, records, report, summary)


def _write_figures(folder: Path, figures: Iterable[ReportFigure]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for figure in figures:
        assert isinstance(figure.image, bytes)
        words = re.findall(r"[A-Za-z0-9.+-]+", figure.title)
        (folder / f"{slug('_'.join(words))}.png").write_bytes(figure.image)


def merge_runs(root: Path, console: Console, *, title: str) -> Outcome | None:
    """Join the records of the jobs of a sweep, ``root/jobs/*``, and publish them; ``None`` if there are none.

    Raises:
        ValueError: if jobs scored different data under the same name.
    """
    parts = sorted((root / "jobs").glob(f"*/{RECORDS_NAME}"))
    if not parts:
        return None
    merged: dict[str, Any] = {"problems": {}, "notes": [], "data": {}}
    for part in parts:
        stored = part.with_name(SUITE_NAME)
        if stored.is_file():
            content = json.loads(stored.read_text(encoding="utf-8"))
            merged["problems"] |= content.get("problems", {})
            merged["data"] = _joined(merged["data"], content.get("data", {}), root)
            merged["notes"] += [note for note in content.get("notes", ()) if note not in merged["notes"]]
    merge_records(parts, root / RECORDS_NAME)
    _write_whole(root / SUITE_NAME, json.dumps(merged, indent=2, sort_keys=True) + "\n")
    introduction = f"Records of {len(parts)} runs, joined."
    return publish(root, console, title=title, introduction=introduction, notes=merged["notes"])


# ---------------------------------------------------------------- figures of posteriors

_SHOWN_IN_MARGINALS, _SHOWN_IN_PAIRS = 6, 2


def posterior_figures(
    out: Path, cases: Sequence[Case], methods: Callable[[Case], Sequence[Method]]
) -> list[ReportFigure]:
    """Stored draws beside the reference: marginals of the first case of every problem, pairs for the first of all.

    Of methods that differ in effort only the last is shown, and no more than six; point masses are left out.
    """
    first: dict[tuple[str, str, str], Case] = {}
    for case in cases:
        first.setdefault((case.family, case.scenario, case.split), case)
    figures = []
    for case in first.values():
        draws = _stored_matrices(out, case, methods(case))
        if len(draws) < 2:
            continue
        assert isinstance(case.task, Task)
        names = case.task.site_names("compared")
        about = f"{case.family.upper()} {case.scenario} on {case.name} ({case.split} data, n = {case.n})"
        shown = dict(list(draws.items())[: _SHOWN_IN_MARGINALS + 1])
        figures.append(
            ReportFigure(
                f"Posterior of {about}",
                marginal_plot(shown, names, reference="reference"),
                "Marginal densities of the compared coordinates; the grey area is the reference.",
            )
        )
        if len(figures) == 1:
            few = dict(list(draws.items())[: _SHOWN_IN_PAIRS + 1])
            caption = "Regions that hold half and nine tenths of the draws; the grey area is the reference."
            figures.append(ReportFigure(f"Pairs: {about}", pair_plot(few, names, reference="reference"), caption))
    return figures


def _stored_matrices(out: Path, case: Case, methods: Sequence[Method]) -> dict[str, np.ndarray]:
    """Compared draws by label, the reference first; empty without a reference on file."""
    try:
        draws = {"reference": case.task.compared_matrix(load_result(reference_path(out, case, REFERENCE.name)).sites)}
    except (FileNotFoundError, ValueError):
        return {}
    for method in methods:
        if method.name == "map":
            continue
        with contextlib.suppress(FileNotFoundError, ValueError):
            result = load_result(draws_path(out, case, method))
            draws[method_label(method.name, method.variant)] = case.task.compared_matrix(result.sites)
    return draws
