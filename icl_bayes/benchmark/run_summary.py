"""What a run says while it goes on, and at its end."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icl_bayes.benchmark.records import Record

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class RunSummary:
    """What a run did.

    Attributes:
        records_path: the file with all rows, those of earlier runs included.
        num_scored: cells scored now (floors not counted).
        num_skipped: cells found scored already.
        num_without_reference: cells not tried because their case has no reference.
        failures: rows of the cells asked for that could not be scored, now or in an earlier
            run; failed references among them.
    """

    records_path: Path
    num_scored: int
    num_skipped: int
    num_without_reference: int
    failures: tuple[Record, ...]


def print_summary(summary: RunSummary, console: Console) -> None:
    """Say at the end what was scored, what was skipped and what failed, with reasons."""
    counts = [f"{summary.num_scored} cells scored", f"{summary.num_skipped} already done"]
    if summary.num_without_reference:
        counts.append(f"{summary.num_without_reference} not tried for want of a reference")
    console.print(f"{', '.join(counts)}, {len(summary.failures)} failed -> {summary.records_path}", soft_wrap=True)
    for row in summary.failures:
        cell = f"{row.family}/{row.scenario} {row.split} {row.dataset} n={row.n} seed={row.seed}"
        who = " ".join(part for part in (row.method, row.variant, row.solver) if part)
        console.print(f"  [red]failed[/red] {escape_markup(f'{cell}, {who}: {row.message}')}", soft_wrap=True)


def progress_bar(console: Console) -> Any:
    """Cells done of all, time elapsed and left."""
    from rich import progress

    columns = (progress.TextColumn("{task.description}"), progress.BarColumn(), progress.MofNCompleteColumn())
    times = (progress.TimeElapsedColumn(), progress.TextColumn("ETA"), progress.TimeRemainingColumn())
    return progress.Progress(*columns, *times, console=console)


def escape_markup(text: str) -> str:
    """Text in which brackets are not taken for styles."""
    from rich.markup import escape

    return escape(text)
