"""How far draws of shipped networks lie from where their ODE leads, by solver and evaluations.

The same base noise is carried by a very fine solution and by every solver. A draw's error is its distance from the
former in posterior standard deviations, root mean square over coordinates; of mixtures these deviations are those over
all orders of the components. Densities of draws are those of the solver's own steps, so that such errors cost quality
and never correctness. How much quality is the total variation that importance weights estimate: of mixtures, where it
differs most, and solvers with nine evaluations. Writes `benchmarks/results/solver_error.csv`, a line per network and
solver.

    python benchmarks/solver_error.py [--networks fa/5 gmm/1] [--datasets 4]
"""

from __future__ import annotations

import argparse
from typing import Any

import jax
import numpy as np
from timing import print_table, recorded, write_table

import icl_bayes
from icl_bayes.baselines.programs import release_programs
from icl_bayes.benchmark.settings import TEST_SEED
from icl_bayes.benchmark.suites import synthetic_suite, task_under_test
from icl_bayes.flow import Solver
from icl_bayes.inference import AmortizedPosterior
from icl_bayes.types import Dataset

NAME, NUM_DRAWS, EXPONENT = "solver_error", 500, 2.0
FINE = Solver("midpoint", 96, exponent=EXPONENT)
NETWORKS = ("fa/1", "fa/5", "gmm/1", "glm/5")
"""Far from their bases, but for the last, whose base is the closest Gaussian."""
STEPS = {"midpoint": (3, 5, 6, 12), "multistep": (6, 9, 12), "exponential": (4, 7, 10, 13)}
NINE = 9
PER_STEP = {"midpoint": 2, "multistep": 1, "exponential": 1}
AT_START = {"midpoint": 1, "multistep": 0, "exponential": 1}
"""Steps begin with an evaluation at the start, which serves all draws."""


def errors(found: np.ndarray, fine: np.ndarray) -> np.ndarray:
    """Of every draw, ``(num_draws,)``, from draws ``(num_draws, dim)`` of the same noise."""
    return np.sqrt(np.mean(((found - fine) / fine.std(axis=0)) ** 2, axis=1))


def total_variation(net: AmortizedPosterior, datasets: list[Dataset], solver: Solver) -> float:
    """Of 1000 draws, mean over data sets."""
    posts = (
        net.sample(jax.random.key(i), one, 1000, solver=solver, with_log_prob=True) for i, one in enumerate(datasets)
    )
    return float(np.mean([post.certificate().total_variation for post in posts]))


def measure(name: str, num_datasets: int) -> list[dict[str, Any]]:
    """One network with every solver; the evaluation at the start serves all draws and is not counted."""
    family, _, scenario = name.partition("/")
    net, task = icl_bayes.load(name), task_under_test(family, scenario, 5)
    cases = synthetic_suite(task, num_datasets=num_datasets, num_rows=task.paper_num_rows, seed=TEST_SEED).cases

    def draws(solver: Solver) -> list[np.ndarray]:
        return [
            net.sample(jax.random.key(i), case.dataset, NUM_DRAWS, solver=solver).theta for i, case in enumerate(cases)
        ]

    fine, rows = draws(FINE), []
    for method, choices in STEPS.items():
        for steps in choices:
            solver = Solver(method, steps, exponent=EXPONENT)
            every = np.concatenate([errors(*pair) for pair in zip(draws(solver), fine, strict=True)])
            evaluations = steps * PER_STEP[method] - AT_START[method]
            is_compared = evaluations == NINE and task.num_exchangeable > 0
            distance = round(total_variation(net, [case.dataset for case in cases], solver), 3) if is_compared else ""
            rows.append(
                {
                    "network": name,
                    "solver": method,
                    "steps": steps,
                    "evaluations": evaluations,
                    "datasets": len(cases),
                    "median_error": round(float(np.median(every)), 4),
                    "error_90": round(float(np.quantile(every, 0.9)), 4),
                    "total_variation": distance,
                }
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    parser.add_argument("--datasets", type=int, default=4)
    options = parser.parse_args()
    rows = [row for row in recorded(NAME) if row["network"] not in options.networks]
    for name in options.networks:
        rows += measure(name, options.datasets)
        print(write_table(NAME, rows))
        release_programs()
    print_table(rows)


if __name__ == "__main__":
    main()
