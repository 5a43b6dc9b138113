"""One HTML file that holds everything: tables, figures, provenance, and how to read them."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from icl_bayes.benchmark import published
from icl_bayes.benchmark.aggregate import across_scenarios, current, summarize
from icl_bayes.benchmark.plot_style import to_png
from icl_bayes.benchmark.plots import quality_against_n, quality_against_time
from icl_bayes.benchmark.records import REFERENCE_METHOD, Record
from icl_bayes.benchmark.render import to_html
from icl_bayes.benchmark.tables import dataset_table, score_tables, unscored_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: #f6f6f4; color: #222;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 1280px; margin: 0 auto; padding: 2.2rem 1.2rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .3rem; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .6rem; padding-top: .9rem; border-top: 1px solid #ddd; }
h3 { font-size: 1rem; margin: 1.5rem 0 .5rem; }
p { max-width: 46rem; margin: .5rem 0; }
.lead, .note, figcaption { color: #5c5c5c; }
.note, figcaption { font-size: .85rem; margin: .25rem 0; }
.panel { background: #fff; border: 1px solid #e4e4e0; border-radius: 8px; padding: .7rem 1.2rem 1rem; }
.scroll { overflow-x: auto; background: #fff; border: 1px solid #e4e4e0; border-radius: 8px; }
table { border-collapse: collapse; font-size: .82rem; font-variant-numeric: tabular-nums; width: 100%; }
th, td { padding: .32rem .45rem; text-align: right; white-space: nowrap; }
thead th { border-bottom: 1px solid #bbb; vertical-align: bottom; white-space: normal; }
tbody th { position: sticky; left: 0; background: #fff; }
th:first-child { text-align: left; font-weight: 500; }
thead th { font-weight: 600; }
tbody tr + tr > * { border-top: 1px solid #f0f0ee; }
tbody tr:hover > * { background: #f4f8fb; }
table.text th, table.text td { text-align: left; white-space: normal; }
.at_floor { font-weight: 700; color: #00664b; }
.floor { color: #777; }
.missing { color: #b03a00; }
.published { color: #666; font-style: italic; }
figure { margin: 1rem 0; }
figure img { max-width: 100%; height: auto; background: #fff; border: 1px solid #e4e4e0; border-radius: 8px;
  padding: .5rem; }
details { margin: .8rem 0; }
summary { cursor: pointer; font-weight: 500; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.2rem; margin: .3rem 0; font-size: .9rem; }
dt { color: #5c5c5c; }
dd { margin: 0; overflow-wrap: anywhere; }
"""

_METRICS = ("c2st", "mmd", "w1", "w2", "c2st_sbibm")  # not the AUC form of C2ST: the page would get too wide

_HOW_TO_READ = (
    "Every method was asked for draws from the same posterior, and its draws were compared with those of a checked "
    "reference (an exact sampler where there is one, long converged chains elsewhere).",
    "<b>C2ST</b> is how often a classifier tells a method's draws from the reference's: 0.5 means it can only guess, "
    "1.0 that it always knows. Small errors show early; the score says that there is a difference, not that it "
    "matters.",
    "<b>The floor</b> is the same score between two separate sets of reference draws. It wanders about 0.5, and no "
    "method can be expected to do better; scores in bold green can't be told from it. Compare a score with the floor "
    "beside it, not with 0.5.",
    "<b>MMD</b>, <b>W1</b> and <b>W2</b> are distances between the two sets of draws. They depend on the units and the "
    "dimension, so they compare methods within a table, not tables with each other.",
    "<b>Seconds</b> are for all draws of one data set on the machine named below, compilation apart. <b>ESS / s</b> is "
    "effective draws per second, where a method knows its effective sample size.",
)


@dataclass(frozen=True)
class ReportFigure:
    """A figure for the report.

    Attributes:
        title: heading above it.
        image: PNG bytes, or a matplotlib figure to render.
        caption: what to see in it.
    """

    title: str
    image: bytes | Figure
    caption: str = ""


def _figure_html(figure: ReportFigure) -> str:
    data = figure.image if isinstance(figure.image, bytes) else to_png(figure.image)
    source = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    caption = f"<figcaption>{html.escape(figure.caption)}</figcaption>" if figure.caption else ""
    title = html.escape(figure.title)
    return f'<figure><h3>{title}</h3><img src="{source}" alt="{title}">{caption}</figure>'


def score_figures(records: Iterable[Record], *, metric: str = "c2st") -> list[ReportFigure]:
    """Quality against time for every problem, and against n where there are several.

    Means over scenarios come first where several scenarios were scored.
    """
    summaries = summarize(current(records))
    means = [row for row in across_scenarios(summaries) if row.method != REFERENCE_METHOD]
    longest = max((len(row.scenarios) for row in means), default=0)
    figures = []
    for group in ([row for row in means if len(row.scenarios) == longest], summaries):
        own = [row for row in group if row.metric == metric and row.method != REFERENCE_METHOD]
        for problem in dict.fromkeys(row.problem for row in own):
            rows = [row for row in own if row.problem == problem]
            first = rows[0]
            scenario = (
                f"{first.scenario} of {', '.join(first.scenarios)}" if first.scenario == "mean" else first.scenario
            )
            name = f"{first.family.upper()} {scenario}, {first.split} data, n = {first.n}"
            caption = (
                "Lower left is better. Points of one method that differ only in the effort spent are joined. "
                "Bars: standard error over data sets."
            )
            figure = quality_against_time(rows, metric=metric)
            figures.append(ReportFigure(f"Quality against time: {name}", figure, caption))
    for key in dict.fromkeys((row.family, row.scenario, row.split) for row in summaries):
        rows = [row for row in summaries if (row.family, row.scenario, row.split) == key and row.metric == metric]
        if key[2] == "synthetic" and len({row.n for row in rows}) > 1:
            title = f"Quality and time against n: {key[0].upper()} {key[1]}, {key[2]} data"
            figures.append(ReportFigure(title, quality_against_n(rows, metric=metric)))
    return figures


def _provenance_html(records: Sequence[Record]) -> str:
    entries = {
        "protocol": [record.protocol for record in records],
        "code": [record.commit for record in records],
        "hardware": [record.hardware for record in records],
        "Python": [record.python for record in records],
        "jax": [record.jax for record in records],
        "checkpoints": [record.checkpoint for record in records],
        "seeds": [str(record.seed) for record in sorted(records, key=lambda record: record.seed)],
        "draws compared": [str(record.num_draws) for record in records],
    }
    lines = []
    for name, values in entries.items():
        distinct = [value for value in dict.fromkeys(values) if value]
        shown = ", ".join(distinct[:12]) + (f" and {len(distinct) - 12} more" if len(distinct) > 12 else "")
        lines.append(f"<dt>{name}</dt><dd>{html.escape(shown or 'unknown')}</dd>")
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"<dl>{''.join(lines)}<dt>report made</dt><dd>{made}</dd></dl>"


def render_report(
    records: Iterable[Record],
    *,
    title: str = "Posterior inference: methods compared",
    introduction: str = "",
    figures: Sequence[ReportFigure] = (),
    with_score_figures: bool = True,
) -> str:
    """The report as one HTML document that refers to nothing outside itself.

    Args:
        records: rows of one or several runs.
        title: heading.
        introduction: a plain sentence or two below it.
        figures: shown before the figures of scores, e.g. marginal plots.
        with_score_figures: draw quality against time (and n).

    Raises:
        ValueError: if there are no rows.
    """
    rows = current(records)
    if not rows:
        raise ValueError("There are no records to report; run the benchmark first.")
    tables = score_tables(rows, metrics=_METRICS)
    notes = dict.fromkeys(note for table in tables for note in table.notes)
    lost = unscored_table(rows)
    sections = [
        f"<h1>{html.escape(title)}</h1>",
        f"<p class='lead'>{html.escape(introduction)}</p>" if introduction else "",
        "<h2>How to read this</h2><div class='panel'>",
        *(f"<p>{line}</p>" for line in _HOW_TO_READ),
        f"<p>Columns headed <b>{html.escape(published.HEADING)}</b> repeat the paper's printed numbers. They were "
        "measured against other references, some of them wrong, so they are context and not a target.</p></div>",
        "<h2>Summary</h2>",
        *(to_html(table, with_notes=False) for table in _means_first(tables)),
        *(f"<p class='note'>{html.escape(note)}</p>" for note in notes),
    ]
    if lost is not None:
        sections += ["<h2>Not scored</h2>", to_html(lost)]
    all_figures = [*figures, *(score_figures(rows) if with_score_figures else [])]
    if all_figures:
        sections += ["<h2>Figures</h2>", *map(_figure_html, all_figures)]
    sections.append("<h2>Every data set</h2>")
    for family, scenario, split in dict.fromkeys((row.family, row.scenario, row.split) for row in rows):
        table = dataset_table(rows, family, scenario, split)
        body = to_html(table, with_title=False)
        sections.append(f"<details><summary>{html.escape(table.title)}</summary>{body}</details>")
    sections += ["<h2>Provenance</h2>", f"<div class='panel'>{_provenance_html(rows)}</div>"]
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><main>{''.join(sections)}</main></body></html>"
    )


def _means_first(tables: Sequence) -> list:
    return sorted(tables, key=lambda table: "mean over scenarios" not in table.title)


def write_report(records: Iterable[Record], path: str | Path, **options) -> Path:
    """Write `render_report` to ``path`` and return its absolute path, to be shown to the user."""
    path = Path(path).resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render_report(records, **options), encoding="utf-8")
    return path
