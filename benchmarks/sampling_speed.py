"""Seconds for 1000 draws of one data set, and draws per second for 64 data sets at once.

Network, parallel HMC and NUTS in one process on the same simulated data, compile time apart.
NUTS is timed as people call it (a repeated ``MCMC.run``) and whole inside jit.

    python benchmarks/sampling_speed.py [--scenarios 1 5] [--repeats 20]
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import jax
import numpy as np
from timing import median_seconds, print_table, write_table

import icl_bayes
from icl_bayes.baselines import NutsSampler, make_baseline
from icl_bayes.tasks import Task, make_task
from icl_bayes.types import Dataset

NUM_DRAWS, NUM_DATASETS, NUM_ROWS = 1000, 64, 50


def simulate(task: Task, count: int, seed: int) -> list[Dataset]:
    """Accepted data sets at the paper's n."""
    keys = jax.random.split(jax.random.key(seed), 2 * count)
    _, stacked = jax.jit(jax.vmap(lambda key: task.simulate(key, NUM_ROWS)))(keys)
    accepted = np.asarray(jax.vmap(task.is_accepted)(stacked))
    stacked = jax.device_get(stacked)
    return [jax.tree.map(lambda leaf, i=i: leaf[i], stacked) for i in np.flatnonzero(accepted)[:count]]


def one_data_set(scenario: int, repeats: int) -> list[dict[str, Any]]:
    """Median seconds per method for 1000 draws, everything from data to host arrays included."""
    name = f"glm/{scenario}"
    task, net = make_task(name, covariates="tabular"), icl_bayes.load(name)
    datasets = simulate(task, max(repeats, 3), seed=900 + scenario)
    methods: dict[str, Any] = {"network": None}
    rivals = ("laplace", "vi_fixed_point", "parallel_hmc@2", "parallel_hmc@5", "parallel_hmc@2:variational")
    methods |= {label: make_baseline(label, task) for label in rivals}
    methods |= {"nuts (jit)": make_baseline("nuts_jit", task), "nuts (MCMC.run)": make_baseline("nuts", task)}
    rows = []
    for label, method in methods.items():
        count = min(repeats, 5) if label.startswith("nuts (MCMC") else repeats
        if method is None:
            net.sample(jax.random.key(0), datasets[0], NUM_DRAWS)
            seconds = median_seconds(
                lambda i: net.sample(jax.random.key(i), datasets[i % len(datasets)], NUM_DRAWS).theta, count
            )
            ess = float(NUM_DRAWS)
        else:
            method.sample(jax.random.key(0), datasets[0], NUM_DRAWS)
            results = [method.sample(jax.random.key(i), datasets[i % len(datasets)], NUM_DRAWS) for i in range(count)]
            seconds = float(np.median([result.seconds_run for result in results]))
            ess = float(np.median([result.health.get("ess", NUM_DRAWS) for result in results]))
        rows.append(
            {
                "scenario": name,
                "datasets": 1,
                "method": label,
                "seconds": round(seconds, 5),
                "draws_per_second": round(NUM_DRAWS / seconds),
                "effective_draws_per_second": round(min(ess, NUM_DRAWS) / seconds),
            }
        )
    return rows


def many_data_sets(scenario: int, repeats: int) -> list[dict[str, Any]]:
    """Draws per second for 64 data sets in one compiled call."""
    name = f"glm/{scenario}"
    task, net = make_task(name, covariates="tabular"), icl_bayes.load(name)
    datasets = simulate(task, NUM_DATASETS, seed=700 + scenario)
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *datasets)
    net.sample_batch(jax.random.key(0), datasets, NUM_DRAWS)
    seconds = {
        "network": median_seconds(
            lambda i: net.sample_batch(jax.random.key(i), datasets, NUM_DRAWS)[0].theta, max(3, repeats // 4)
        )
    }
    for strategy in ("vmap", "map"):
        nuts = NutsSampler(task, mode="jit")
        nuts.sample_batch(jax.random.key(0), stacked, NUM_DRAWS, strategy)
        results = [nuts.sample_batch(jax.random.key(i), stacked, NUM_DRAWS, strategy) for i in range(1, 3)]
        seconds[f"nuts jit {strategy}"] = min(sum(r.seconds_run for r in batch) for batch in results)
    return [
        {
            "scenario": name,
            "datasets": NUM_DATASETS,
            "method": label,
            "seconds": round(value, 4),
            "draws_per_second": round(NUM_DATASETS * NUM_DRAWS / value),
        }
        for label, value in seconds.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenarios", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--repeats", type=int, default=20)
    options = parser.parse_args()
    rows = []
    for scenario in options.scenarios:
        rows += one_data_set(scenario, options.repeats) + many_data_sets(scenario, options.repeats)
    print_table([{**dict.fromkeys(rows[0], ""), **row} for row in rows])
    print(write_table(f"sampling_speed-python{sys.version_info.major}.{sys.version_info.minor}", rows))


if __name__ == "__main__":
    main()
