"""From a NumPyro model to a certified posterior: eight schools, network training included, beside long NUTS.

Trains a network for `icl_bayes.examples.eight_schools` for some minutes on this machine, then compares marginal means
and standard deviations, raw and certified, with those of long NUTS chains of the same model. Writes
`benchmarks/results/own_model.csv`, a line per kind of draws.

    python benchmarks/own_model.py [--minutes 5] [--out runs/eight-schools]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import jax
import numpy as np
from rich.console import Console
from timing import print_table, write_table

import icl_bayes
from icl_bayes.baselines.nuts import NutsSampler
from icl_bayes.benchmark.settings import TEST_SEED
from icl_bayes.examples import eight_schools

NUM_DRAWS, NUM_REFERENCE, NUM_CHAINS = 10_000, 200_000, 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--out", type=Path, default=Path("runs/eight-schools"))
    options = parser.parse_args()
    task = eight_schools.task()
    directory = icl_bayes.train(task, options.out, minutes=options.minutes, console=Console())
    net = icl_bayes.load(directory, task=task)
    training = 60.0 * (net.checkpoint.provenance["hours"] + net.checkpoint.provenance["compile_hours"])
    draw_key, refine_key, nuts_key = jax.random.split(jax.random.key(TEST_SEED), 3)
    raw = net.sample(draw_key, eight_schools.data(), NUM_DRAWS)
    started = time.perf_counter()
    refined = raw.refine(refine_key)
    refining = time.perf_counter() - started

    # In the task's coordinates, in which schools are not centred at their mean: a funnel stops no chain there.
    nuts = NutsSampler(task, mode="jit", num_warmup=5000, num_chains=NUM_CHAINS, target_accept=0.95)
    reference = nuts.sample(nuts_key, eight_schools.data(), NUM_REFERENCE)
    truth = task.compared_matrix(reference.sites)
    print(reference.status, reference.message, reference.health)

    lines = []
    for name, post in (("raw", raw), ("certified", refined)):
        draws = post.compared_matrix()
        means = (draws.mean(axis=0) - truth.mean(axis=0)) / truth.std(axis=0)
        sds = draws.std(axis=0) / truth.std(axis=0) - 1.0
        lines.append(
            {
                "draws": name,
                "verdict": post.certificate().verdict,
                "khat": round(raw.certificate().khat, 3),
                "largest_mean_difference": round(float(np.abs(means).max()), 4),
                "largest_sd_difference": round(float(np.abs(sds).max()), 4),
                "training_minutes": round(training, 2),
                "refine_seconds": round(refining if name == "certified" else 0.0, 2),
                "nuts_r_hat": round(reference.health["r_hat"], 4),
            }
        )
    print(write_table("own_model", lines))
    print_table(lines)


if __name__ == "__main__":
    main()
