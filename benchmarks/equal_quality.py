"""Time to the same quality: the network with a few moves of every draw beside parallel HMC from classical starts.

Of each side every effort (steps of the solver and moves; starts and moves) is scored and timed on the same data sets;
what counts is the cheapest one whose mean C2ST is at most 0.03 above the floor. Seconds are those of 1000 draws of one
data set, warm. Writes `benchmarks/results/equal_quality.csv`, a line per scenario, number of rows and side; what is
there of other problems stays. Run again it computes what is missing.

    python benchmarks/equal_quality.py --family gmm [--scenarios 1 2 3 4] [--rows 0 1000] [--datasets 4]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import mean, median
from typing import Any

from rich.console import Console
from timing import print_table, recorded, write_table

from icl_bayes.benchmark.experiments import evaluate
from icl_bayes.benchmark.records import REFERENCE_METHOD, Record
from icl_bayes.benchmark.settings import TEST_SEED, EvaluationConfig, EvaluationSettings

NAME, EXCESS = "equal_quality", 0.03
STEPS = {"fa": ("", "@2", "@3"), "gmm": ("", "@2", "@4")}
"""Of the network's solver: its own number, or fewer, which moves may make up for."""
MOVES = ("", *(f"+polish@{moves}" for moves in (1, 2, 5, 10)))
NETWORK = {family: [f"icl{steps}{moves}" for steps in own for moves in MOVES] for family, own in STEPS.items()}
RIVALS = {
    "fa": [
        *(f"parallel_hmc@{moves}:prior" for moves in (5, 10, 20, 40, 80, 160)),
        *(f"parallel_hmc@{moves}" for moves in (1, 2, 5, 20, 80)),
    ],
    "gmm": [
        *(f"parallel_hmc@{moves}:em" for moves in (5, 10, 20, 40, 80, 160)),
        *(f"parallel_hmc@{moves}:prior" for moves in (20, 80)),
    ],
}
SCENARIOS = {"fa": [1, 2, 3, 4, 5, 6], "gmm": [1, 2, 3, 4]}


def efforts(records: list[Record]) -> list[dict[str, Any]]:
    """Every method and effort with its mean C2ST above the floor and its median milliseconds."""
    groups: dict[tuple[str, str, str], list[Record]] = {}
    for record in records:
        if record.metric == "c2st" and record.method != REFERENCE_METHOD and not record.failed:
            groups.setdefault((record.method, record.variant, record.solver), []).append(record)
    return [
        {
            "side": "network" if method == "icl" else "parallel HMC",
            "effort": " ".join(part for part in (variant, solver) if part),
            "datasets": len(rows),
            "excess": round(mean(row.value - row.floor for row in rows), 4),
            "milliseconds": round(1000.0 * median(row.seconds_run for row in rows), 1),
        }
        for (method, variant, solver), rows in groups.items()
    ]


def cheapest(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each side the cheapest effort that is good enough; the best one, marked, where none is."""
    chosen = []
    for side in ("network", "parallel HMC"):
        own = [one for one in found if one["side"] == side]
        enough = [one for one in own if one["excess"] <= EXCESS]
        best = min(enough, key=lambda one: one["milliseconds"]) if enough else min(own, key=lambda one: one["excess"])
        chosen.append({**best, "reached": bool(enough)})
    return chosen


def kept(family: str, scenario: str, num_rows: int) -> list[dict[str, Any]]:
    """Recorded lines of other problems than this one."""
    lines = recorded(NAME)
    return [line for line in lines if (line["scenario"], line["rows"]) != (f"{family}/{scenario}", f"{num_rows}")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", choices=tuple(RIVALS), default="gmm")
    parser.add_argument("--scenarios", type=int, nargs="+")
    parser.add_argument("--rows", type=int, nargs="+", default=[0], help="0 for the paper's")
    parser.add_argument("--datasets", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path("runs/equal-quality"))
    options = parser.parse_args()
    for scenario in options.scenarios or SCENARIOS[options.family]:
        for num_rows in options.rows:
            settings = EvaluationSettings(
                family=options.family,
                scenario=scenario,
                methods=NETWORK[options.family] + RIVALS[options.family],
                num_datasets=options.datasets,
                num_rows=num_rows,
                seed=TEST_SEED,
                out=str(options.out / f"{options.family}-{scenario}-{num_rows or 'paper'}"),
                evaluation=EvaluationConfig(metrics=["c2st"]),
            )
            records = list(evaluate(settings, Console()).records)
            rows = records[0].n
            named = {"scenario": f"{options.family}/{scenario}", "rows": rows}
            chosen = [{**named, **one} for one in cheapest(efforts(records))]
            path = write_table(NAME, [*kept(options.family, str(scenario), rows), *chosen])
            print_table(chosen)
            print(path)


if __name__ == "__main__":
    main()
