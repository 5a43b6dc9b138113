"""Quality against time: solver steps of the network beside its rivals' efforts, at several numbers of rows.

Writes records, tables and the plots of C2ST against seconds and against n into
`benchmarks/results/frontier-FAMILY-SCENARIO`. Run it again and it computes what is missing.

    python benchmarks/quality_frontier.py [--family glm] [--scenario 5] [--rows 10 25 50 100 200 500] [--datasets 6]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console
from timing import RESULTS

from icl_bayes.benchmark.experiments import evaluate
from icl_bayes.benchmark.settings import EvaluationConfig, EvaluationSettings

METHODS = {
    "glm": [
        "icl",
        *(f"icl@{steps}" for steps in (1, 2, 4, 8, 16)),
        "laplace",
        "vi_fixed_point",
        *(f"parallel_hmc@{moves}" for moves in (1, 2, 5, 20)),
        *(f"parallel_hmc@{moves}:variational" for moves in (1, 2, 5)),
    ],
    "fa": [
        "icl",
        *(f"icl+polish@{moves}" for moves in (1, 2, 5)),
        *(f"parallel_hmc@{moves}:prior" for moves in (5, 20, 80)),
    ],
    "gmm": [
        "icl",
        *(f"icl+polish@{moves}" for moves in (1, 2, 5, 10)),
        *(f"parallel_hmc@{moves}:em" for moves in (5, 20, 80)),
        "parallel_hmc@20:prior",
    ],
}
VALIDATION_SEED = 31


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", choices=tuple(METHODS), default="glm")
    parser.add_argument("--scenario", type=int, default=5)
    parser.add_argument("--rows", type=int, nargs="+", default=[10, 25, 50, 100, 200, 500])
    parser.add_argument("--datasets", type=int, default=6)
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    out = options.out or RESULTS / f"frontier-{options.family}-{options.scenario}"
    for num_rows in options.rows:
        settings = EvaluationSettings(
            family=options.family,
            scenario=options.scenario,
            methods=METHODS[options.family],
            num_datasets=options.datasets,
            num_rows=num_rows,
            seed=VALIDATION_SEED,
            out=str(out),
            evaluation=EvaluationConfig(metrics=["c2st", "c2st_auc", "mmd", "w2"]),
        )
        evaluate(settings, Console())


if __name__ == "__main__":
    main()
