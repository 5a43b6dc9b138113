"""Tables of scores, as data: what stands in them is decided here, how they look in `render`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from icl_bayes.benchmark import published
from icl_bayes.benchmark.aggregate import Summary, Unscored, across_scenarios, current, summarize, unscored
from icl_bayes.benchmark.cases import method_label
from icl_bayes.benchmark.records import METHOD_FIELDS, REFERENCE_METHOD, Record

TABLE_METRICS = ("c2st", "c2st_auc", "c2st_ordered", "mmd", "w1", "w2", "c2st_sbibm")
COMPACT_METRICS = ("c2st", "mmd", "w2", "c2st_sbibm")
METRIC_NAMES = {
    "c2st": "C2ST",
    "c2st_auc": "C2ST (AUC)",
    "c2st_ordered": "C2ST, components in order",
    "mmd": "MMD",
    "w1": "W1",
    "w2": "W2",
    "c2st_sbibm": "C2ST as in sbibm",
}
"""Names of metrics for people."""

AT_FLOOR = "at_floor"
MISSING = "missing"
FLOOR_ROW = "floor"
PUBLISHED = "published"
_DASH = "–"


@dataclass(frozen=True)
class Cell:
    """One entry: its text, and at most one reason to look different (``at_floor``, ``missing``, ...)."""

    text: str
    role: str = ""


@dataclass(frozen=True)
class Table:
    """A table ready to be rendered.

    Attributes:
        title: what it shows.
        columns: headers; the first column holds names, the others numbers.
        rows: one `Cell` per column each.
        notes: lines to print below.
        text_only: no column holds numbers, so all are aligned to the left.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    text_only: bool = False


def format_number(value: float) -> str:
    """Three decimals, or three significant digits where numbers are large."""
    if math.isnan(value):
        return _DASH
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.3g}"


def format_seconds(value: float) -> str:
    """Seconds with a unit that keeps the number readable."""
    if math.isnan(value):
        return _DASH
    if value < 1e-3:
        return f"{1e6 * value:.0f} µs"
    if value < 0.9995:
        return f"{1e3 * value:.3g} ms"
    return f"{value:.3g} s" if value < 600 else f"{value / 60:.0f} min"


def _score_cell(row: Summary | None, with_error: bool = True) -> Cell:
    if row is None:
        return Cell(_DASH, MISSING)
    error = "" if math.isnan(row.error) or not with_error else f" ± {format_number(row.error)}"
    if row.method == REFERENCE_METHOD:
        return Cell(f"{format_number(row.mean)}{error}", FLOOR_ROW)
    return Cell(f"{format_number(row.mean)}{error}", AT_FLOOR if row.at_floor else "")


def _published_cell(line: dict[str, Summary], metrics: Sequence[str], with_seconds: bool) -> Cell:
    """Published values of the metrics in their order, then the published seconds; empty without any."""
    values = [line[metric].published if metric in line else None for metric in metrics]
    if all(value is None for value in values):
        return Cell("", PUBLISHED)
    texts = [_DASH if value is None else format_number(value) for value in values]
    if with_seconds:
        row = next(iter(line.values()))
        names = (row.family, row.scenario, row.split, row.method, row.variant)
        seconds = published.beside(*names, "seconds_run", (row.n, row.p))
        texts.append(format_seconds(math.nan if seconds is None else seconds))
    return Cell(" / ".join(texts), PUBLISHED)


def _problem_name(row: Summary, names_size: bool) -> str:
    what = "mean over scenarios " + ", ".join(row.scenarios) if row.scenario == "mean" else f"scenario {row.scenario}"
    size = f", n = {row.n}, p = {row.p}" if names_size and row.n else ""
    return f"{row.family.upper()}, {what}, {row.split} data{size}"


def _score_table(
    title: str,
    rows: Sequence[Summary],
    metrics: Sequence[str],
    missing: Sequence[tuple[str, int, int]],
    compact: bool,
) -> Table:
    """One table: a line per method, best first, the floor on top, methods without any score at the end."""
    lines: dict[tuple, dict[str, Summary]] = {}
    for row in rows:
        lines.setdefault(row.who, {})[row.metric] = row
    shown = [metric for metric in metrics if any(metric in line for line in lines.values())] or list(metrics)[:1]
    first = shown[0]
    beside = [metric for metric in shown if published.published_metric(metric)]
    beside = beside[:1] if compact else beside

    columns = ["method", METRIC_NAMES[first], "floor", *(METRIC_NAMES[metric] for metric in shown[1:]), "seconds"]
    columns += ["scored"] if compact else ["compile", "ESS / s", "scored"]
    has_published = bool(beside) and any(
        line[m].published is not None for line in lines.values() for m in beside if m in line
    )
    if has_published:
        names = [METRIC_NAMES[metric] for metric in beside]
        columns.append(f"{published.HEADING}: {' / '.join(names if compact else [*names, 'seconds'])}")

    def order(line: dict[str, Summary]) -> tuple[bool, float]:
        row = next(iter(line.values()))
        return row.method != REFERENCE_METHOD, line[first].mean if first in line else math.inf

    body = []
    for line in sorted(lines.values(), key=order):
        row = line.get(first) or next(iter(line.values()))
        is_floor = row.method == REFERENCE_METHOD
        # The checkpoint is part of the name only where it tells two lines apart.
        ambiguous = _count(lines, row.label) > 1 and row.checkpoint
        name = "reference (floor)" if is_floor else f"{row.label} [{row.checkpoint}]" if ambiguous else row.label
        cells = [
            Cell(name, FLOOR_ROW if is_floor else ""),
            _score_cell(line.get(first)),
            Cell(format_number(line[first].floor), FLOOR_ROW) if first in line else Cell(_DASH, MISSING),
            *(_score_cell(line.get(metric), with_error=not compact) for metric in shown[1:]),
            Cell(format_seconds(row.seconds_run)),
        ]
        if not compact:
            per_second = row.ess / row.seconds_run if row.seconds_run > 0 else math.nan
            cells += [
                Cell(format_seconds(row.seconds_compile)),
                Cell(_DASH if math.isnan(per_second) else f"{per_second:,.0f}"),
            ]
        cells.append(_coverage(row))
        if has_published:
            cells.append(_published_cell(line, beside, with_seconds=not compact))
        body.append(tuple(cells))
    for label, num_failed, num_expected in missing:
        cells = [Cell(label), *[Cell(_DASH, MISSING)] * (len(columns) - 2 - has_published)]
        cells.append(Cell(f"0/{num_expected}" if compact else f"0/{num_expected} ({num_failed} failed)", MISSING))
        body.append((*cells, Cell("", PUBLISHED)) if has_published else tuple(cells))
    return Table(title, tuple(columns), tuple(body), _notes(has_published))


def _label(line: dict[str, Summary]) -> str:
    return next(iter(line.values())).label


def _count(lines: dict[tuple, dict[str, Summary]], label: str) -> int:
    return sum(_label(line) == label for line in lines.values())


def _coverage(row: Summary) -> Cell:
    text = f"{row.num_scored}/{row.num_expected}" + ("*" if row.num_warnings else "")
    return Cell(text, MISSING if row.num_scored < row.num_expected else "")


def _notes(has_published: bool) -> tuple[str, ...]:
    notes = [
        "Means over data sets ± standard error. The floor is what other draws of the reference score; bold scores "
        "can't be told from it (excess within two standard errors).",
        "Seconds: median for one data set, compilation apart. Scored: data sets with a score of those tried; "
        "with * some of them although the method reported imperfect health.",
    ]
    return (*notes, *published.NOTES) if has_published else tuple(notes)


def score_tables(
    records: Iterable[Record], *, metrics: Sequence[str] | None = None, compact: bool = False
) -> list[Table]:
    """One table per family, scenario, split and size; then means over scenarios where there are several.

    Methods whose every cell failed have their line too, and every missing score is counted in
    the column ``scored``; `unscored_table` says why.

    Args:
        records: rows of one or several runs.
        metrics: scores to show if there are any, the first deciding the order of lines; by default `TABLE_METRICS`,
            or `COMPACT_METRICS` when compact.
        compact: fewer columns, for a terminal: one standard error, no compile times, and only the
            first metric's published value.
    """
    rows = current(records)
    metrics = shown_metrics(rows, metrics or (COMPACT_METRICS if compact else TABLE_METRICS))
    summaries = summarize(rows)
    names_size = len({(row.n, row.p) for row in rows}) > 1
    problems = dict.fromkeys(row.problem for row in summaries)
    lost = _methods_without_scores(rows, summaries)
    tables = []
    for problem in problems:
        own = [row for row in summaries if row.problem == problem]
        missing = [entry for key, entry in lost if key == problem]
        tables.append(_score_table(_problem_name(own[0], names_size), own, metrics, missing, compact))
    means = across_scenarios(summaries)
    # A mean over fewer scenarios answers another question, so it has a table of its own.
    for key in dict.fromkeys((*row.problem, row.scenarios) for row in means):
        own = [row for row in means if (*row.problem, row.scenarios) == key]
        if any(row.method != REFERENCE_METHOD for row in own):
            tables.append(_score_table(_problem_name(own[0], names_size), own, metrics, [], compact))
    return tables


def shown_metrics(rows: Sequence[Record], metrics: Sequence[str]) -> Sequence[str]:
    """Those of which there is any score; all of them if there is none at all."""
    found = {row.metric for row in rows}
    return [name for name in metrics if name in found] or metrics


def _methods_without_scores(
    rows: Sequence[Record], summaries: Sequence[Summary]
) -> list[tuple[tuple, tuple[str, int, int]]]:
    """Methods that failed on every data set of a problem, with their number of failures and of data sets."""
    have = {(row.problem, row.who) for row in summaries}
    failures: dict[tuple, int] = {}
    for row in rows:
        problem = (row.family, row.scenario, row.split, row.n, row.p)
        who = tuple(getattr(row, name) for name in METHOD_FIELDS)
        if row.failed and row.method != REFERENCE_METHOD and (problem, who) not in have:
            failures[problem, who] = failures.get((problem, who), 0) + 1
    found = []
    for (problem, who), count in failures.items():
        cases = {row.case for row in rows if (row.family, row.scenario, row.split, row.n, row.p) == problem}
        found.append((problem, (method_label(who[0], who[1], who[3]), count, len(cases))))
    return found


def dataset_table(records: Iterable[Record], family: str, scenario: str, split: str, *, metric: str = "c2st") -> Table:
    """One metric of every data set (lines) and method (columns) of one scenario and split."""
    rows = [row for row in current(records) if (row.family, row.scenario, row.split) == (family, scenario, split)]
    scores = [row for row in rows if row.metric == metric and row.method != REFERENCE_METHOD]
    methods = dict.fromkeys(
        method_label(row.method, row.variant, row.solver) for row in rows if row.method != REFERENCE_METHOD
    )
    body = []
    for case in dict.fromkeys(row.case for row in rows):
        of_case = [row for row in rows if row.case == case]
        by_method = {method_label(row.method, row.variant, row.solver): row for row in scores if row.case == case}
        failed = {method_label(row.method, row.variant, row.solver) for row in of_case if row.failed}
        floors = [row.floor for row in of_case if row.metric == metric]
        cells = [
            Cell(of_case[0].dataset),
            Cell(str(of_case[0].n)),
            Cell(format_number(floors[0]) if floors else _DASH, FLOOR_ROW if floors else MISSING),
        ]
        for label in methods:
            text = (
                format_number(by_method[label].value) if label in by_method else "failed" if label in failed else _DASH
            )
            cells.append(Cell(text, "" if label in by_method else MISSING))
        body.append(tuple(cells))
    title = f"{METRIC_NAMES.get(metric, metric)} on every data set: {family.upper()} {scenario}, {split}"
    return Table(title, ("data set", "n", "floor", *methods), tuple(body))


def unscored_table(records: Iterable[Record]) -> Table | None:
    """Every cell without a score and why; ``None`` when there is none."""
    cells: list[Unscored] = unscored(records)
    if not cells:
        return None
    body = tuple(
        (
            Cell(f"{cell.family}/{cell.scenario} {cell.split}"),
            Cell(f"{cell.dataset} (n = {cell.n}, seed {cell.seed})"),
            Cell(cell.method),
            Cell(cell.reason, MISSING),
        )
        for cell in cells
    )
    return Table(f"Without a score: {len(cells)}", ("problem", "data set", "method", "why"), body, text_only=True)
