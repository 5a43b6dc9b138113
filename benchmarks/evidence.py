"""Log evidence of Gaussian regressions, by the weights of a network's draws, beside the exact one; and their k-hat.

Simulated data sets of test seeds at the paper's n. Writes `benchmarks/results/evidence.csv`, a line per data set.

    python benchmarks/evidence.py [--datasets 50] [--draws 1000]
"""

from __future__ import annotations

import argparse

import jax
import numpy as np
from sampling_speed import simulate, task_of
from timing import print_table, write_table

import icl_bayes
from icl_bayes.baselines import ExactSampler

SCENARIOS = (1, 2)
SEED = 10_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", type=int, default=50, help="of each scenario")
    parser.add_argument("--draws", type=int, default=1000)
    options = parser.parse_args()
    rows, summary = [], []
    for scenario in SCENARIOS:
        task, net = task_of("glm", scenario), icl_bayes.load(f"glm/{scenario}")
        found = []
        for i, dataset in enumerate(simulate(task, options.datasets, SEED + scenario)):
            key = jax.random.key(i)
            certificate = net.sample(key, dataset, options.draws, with_log_prob=True).certificate()
            exact = ExactSampler(task).sample(key, dataset, 20).health["log_evidence"]
            found.append(
                {
                    "scenario": task.name,
                    "dataset": i,
                    "log_evidence": certificate.log_evidence,
                    "standard_error": certificate.log_evidence_error,
                    "exact": exact,
                    "khat": certificate.khat,
                    "total_variation": certificate.total_variation,
                    "verdict": certificate.verdict,
                }
            )
        errors = np.asarray([row["log_evidence"] - row["exact"] for row in found])
        inside = np.abs(errors) < 1.96 * np.asarray([row["standard_error"] for row in found])
        summary.append(
            {
                "scenario": task.name,
                "data sets": len(found),
                "mean absolute error": f"{np.abs(errors).mean():.4f}",
                "largest": f"{np.abs(errors).max():.4f}",
                "intervals that cover": f"{inside.mean():.0%}",
                "k-hat below 0.7": f"{np.mean([row['khat'] < 0.7 for row in found]):.0%}",
                "good": f"{np.mean([row['verdict'] == 'good' for row in found]):.0%}",
            }
        )
        rows += found
        path = write_table("evidence", rows)
    print_table(summary)
    print(path)


if __name__ == "__main__":
    main()
