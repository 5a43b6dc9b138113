"""What the speed scripts share: medians in one process, and tables with their provenance."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import jax

from icl_bayes.provenance import collect_provenance

RESULTS = Path(__file__).parent / "results"


def median_seconds(fn: Callable[[int], Any], repeats: int) -> float:
    """Median wall time of ``fn(repeat)`` with results on the host; call it once before to compile."""
    times = []
    for repeat in range(repeats):
        started = time.perf_counter()
        jax.block_until_ready(fn(repeat))
        times.append(time.perf_counter() - started)
    return median(times)


def write_table(name: str, rows: list[dict[str, Any]]) -> Path:
    """Write rows to ``benchmarks/results/<name>.csv`` with hardware, versions and commit in every row."""
    provenance = asdict(collect_provenance())
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.csv"
    own = [key for row in rows for key in row if key not in provenance]
    fields = [*dict.fromkeys(own), *provenance]
    with path.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, fields)
        writer.writeheader()
        writer.writerows([{**provenance, **row} for row in rows])  # rows of earlier runs keep theirs
    return path


def recorded(name: str) -> list[dict[str, Any]]:
    """Rows of ``benchmarks/results/<name>.csv``; none if it is not there."""
    try:
        with (RESULTS / f"{name}.csv").open(newline="") as handle:
            return list(csv.DictReader(handle))
    except FileNotFoundError:
        return []


def print_table(rows: list[dict[str, Any]]) -> None:
    """Print rows as aligned columns."""
    names = list(rows[0])
    cells = [[f"{row.get(name, '')}" for name in names] for row in rows]
    widths = [max(len(name), *(len(line[i]) for line in cells)) for i, name in enumerate(names)]
    for line in [names, *cells]:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)))
