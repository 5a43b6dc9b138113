"""The tables of the README from the recorded files, so that no number in it is typed.

python benchmarks/readme_tables.py [--records benchmarks/results/table-12/records.csv] [--metric c2st]
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from timing import RESULTS

from icl_bayes.benchmark.aggregate import Summary, summarize
from icl_bayes.benchmark.records import REFERENCE_METHOD, read_records

SCENARIOS = [str(number) for number in range(1, 8)]


def markdown(header: list[str], lines: list[list[str]]) -> str:
    rows = [header, ["---"] * len(header), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def quality(summaries: list[Summary], split: str, metric: str) -> str:
    """One line per method: its mean score in every scenario and the mean of these; above it the network's floor."""
    chosen = [row for row in summaries if row.split == split and row.metric == metric]
    methods = list(dict.fromkeys(row.label for row in chosen if row.method != REFERENCE_METHOD))
    lines = []
    for label in methods:
        cells = {row.scenario: row for row in chosen if row.label == label}
        found = [cells[scenario] for scenario in SCENARIOS if scenario in cells]
        show = lambda pick, cells=cells: [f"{pick(cells[s])}" if s in cells else "" for s in SCENARIOS]  # noqa: E731
        mean = sum(row.mean for row in found) / len(found)
        floor = sum(row.floor for row in found) / len(found)
        lines.append([f"{label}: data sets", *show(lambda row: row.num_scored), ""])
        lines.append([f"{label}: floor", *show(lambda row: f"{row.floor:.3f}"), f"{floor:.3f}"])
        lines.append([label, *show(lambda row: f"{row.mean:.3f}"), f"{mean:.3f}"])
    return markdown([f"{split}, {metric}", *SCENARIOS, "mean"], lines)


def training(folder: Path) -> str:
    """One line per recorded training run: its first and its last check of held-out C2ST."""
    lines = []
    for path in sorted(folder.glob("*.csv")):
        with path.open(encoding="utf-8") as file:
            checks = [row for row in csv.DictReader(file) if row["held_out_c2st"] != "nan"]
        first, last = checks[0], checks[-1]
        line = [path.stem]
        for row in (first, last):
            line += [f"{float(row['held_out_c2st']):.3f}", f"{float(row['seconds']) / 60:.1f} ({row['step']})"]
        lines.append([*line, f"{float(first['laplace_c2st']):.3f}", f"{float(first['gaussian_c2st']):.3f}"])
    minutes = "minutes (steps)"
    return markdown(["run", "first check", minutes, "at the end", minutes, "Laplace", "closest Gaussian"], lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=Path, default=RESULTS / "table-12" / "records.csv")
    parser.add_argument("--metric", default="c2st")
    options = parser.parse_args()
    summaries = summarize(read_records(options.records))
    for split in ("synthetic", "real"):
        print(quality(summaries, split, options.metric), end="\n\n")
    print(training(RESULTS / "training"))


if __name__ == "__main__":
    main()
