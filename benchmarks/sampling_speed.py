"""Seconds for 1000 draws of one data set, and for GLMs draws per second for 64 data sets at once.

Network, parallel HMC and NUTS in one process on the same simulated data of the paper's size, compile time apart.
NUTS is timed as people call it (a repeated ``MCMC.run``) and whole inside jit; it has 500 steps of warm-up, and as
many chains as the paper (one, in factor analysis three, in mixtures three per component), which share the draws.
NumPyro 0.22 compiles in every ``MCMC.run``, or takes the program from JAX's cache on disk: both are timed if
``JAX_COMPILATION_CACHE_DIR`` names one.

On a GPU the tables have that in their names; there, where chains that follow one another take very long, leave out all
but the many data sets at once, and those one after another: ``--only many --strategies vmap``.

    python benchmarks/sampling_speed.py [--family glm] [--scenarios 1 5] [--rows 50 1000] [--repeats 20]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
from jax.experimental.compilation_cache import compilation_cache
from timing import median_seconds, print_table, recorded, write_table

import icl_bayes
from icl_bayes.baselines import NutsSampler, make_baseline
from icl_bayes.tasks import Task, make_task
from icl_bayes.types import Dataset, SampleResult

NUM_DRAWS, NUM_DATASETS = 1000, 64
NOTHING_KEPT = "nuts (MCMC.run), nothing kept"
RIVALS = {
    "glm": ("laplace", "vi_fixed_point", "parallel_hmc@2", "parallel_hmc@5", "parallel_hmc@2:variational"),
    "fa": ("importance_moments", "parallel_hmc@5:prior", "parallel_hmc@20:prior"),
    "gmm": ("parallel_hmc@5:em", "parallel_hmc@20:em", "parallel_hmc@20:prior"),
    "efa": ("laplace", "vi_fixed_point", "parallel_hmc@2", "parallel_hmc@5"),
}
SCENARIOS = {"glm": [1, 5], "fa": [1, 2, 3, 4, 5, 6], "gmm": [1, 2, 3, 4], "efa": [1, 2]}
POLISHED = ("fa", "gmm", "efa")


def simulate(task: Task, count: int, seed: int, num_rows: int = 0) -> list[Dataset]:
    """Accepted data sets, by default at the paper's n."""
    keys = jax.random.split(jax.random.key(seed), 2 * count)
    _, stacked = jax.jit(jax.vmap(lambda key: task.simulate(key, num_rows or task.paper_num_rows)))(keys)
    accepted = np.asarray(jax.vmap(task.is_accepted)(stacked))
    stacked = jax.device_get(stacked)
    return [jax.tree.map(lambda leaf, i=i: leaf[i], stacked) for i in np.flatnonzero(accepted)[:count]]


def num_chains(task: Task) -> int:
    """Of NUTS, as in the paper."""
    return {"fa": 3, "gmm": 3 * task.num_exchangeable}.get(task.name.partition("/")[0], 1)


def task_of(family: str, scenario: int) -> Task:
    return make_task(f"{family}/{scenario}", covariates="tabular")


def keeps_programs() -> bool:
    """Whether JAX puts compiled programs on disk."""
    settings = jax.config.values
    return bool(settings["jax_compilation_cache_dir"] and settings["jax_enable_compilation_cache"])


@contextmanager
def nothing_kept() -> Iterator[None]:
    """Without compiled programs on disk, as JAX is unless told to keep them."""
    try:
        jax.config.update("jax_enable_compilation_cache", False)
        compilation_cache.reset_cache()  # it looks at the setting once
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", True)
        compilation_cache.reset_cache()


def repeated(method: Any, datasets: list[Dataset], count: int) -> list[SampleResult]:
    """Calls after a first one that compiles what can be kept in memory."""
    method.sample(jax.random.key(0), datasets[0], NUM_DRAWS)
    return [method.sample(jax.random.key(i), datasets[i % len(datasets)], NUM_DRAWS) for i in range(count)]


def timed(results: list[SampleResult]) -> tuple[float, float]:
    """Median seconds and effective draws."""
    ess = float(np.median([result.health.get("ess", NUM_DRAWS) for result in results]))
    return float(np.median([result.seconds_run for result in results])), ess


def one_data_set(family: str, scenario: int, repeats: int, num_rows: int = 0) -> list[dict[str, Any]]:
    """Median seconds per method for 1000 draws, everything from data to host arrays included."""
    task = task_of(family, scenario)
    net = icl_bayes.load(task.name)
    datasets = simulate(task, max(repeats, 3), 900 + scenario, num_rows)
    moves = {"network": 0} | ({"network, 5 moves": 5} if family in POLISHED else {})
    methods: dict[str, Any] = {label: make_baseline(label, task) for label in RIVALS[family]}
    chains = num_chains(task)
    methods |= {
        "nuts (jit)": make_baseline("nuts_jit", task, num_chains=chains),
        "nuts (MCMC.run)": make_baseline("nuts", task, num_chains=chains),
    }
    seconds: dict[str, tuple[float, float]] = {}
    for label, polish in moves.items():
        draw = lambda i, polish=polish: (  # noqa: E731
            net.sample(jax.random.key(i), datasets[i % len(datasets)], NUM_DRAWS, polish=polish).theta
        )
        draw(0)
        seconds[label] = median_seconds(draw, repeats), float(NUM_DRAWS)
    for label, method in methods.items():
        count = min(repeats, 5) if label.startswith("nuts") else repeats
        seconds[label] = timed(repeated(method, datasets, count))
    if keeps_programs():
        with nothing_kept():
            method = make_baseline("nuts", task, num_chains=chains)
            seconds[NOTHING_KEPT] = timed(repeated(method, datasets, min(repeats, 3)))
    return [
        {
            "scenario": task.name,
            "datasets": 1,
            "rows": num_rows or task.paper_num_rows,
            "method": label,
            "seconds": round(taken, 5),
            "draws_per_second": round(NUM_DRAWS / taken),
            "effective_draws_per_second": round(min(ess, NUM_DRAWS) / taken),
        }
        for label, (taken, ess) in seconds.items()
    ]


def many_data_sets(family: str, scenario: int, repeats: int, strategies: list[str]) -> list[dict[str, Any]]:
    """Draws per second for 64 data sets in one compiled call."""
    task = task_of(family, scenario)
    net = icl_bayes.load(task.name)
    datasets = simulate(task, NUM_DATASETS, seed=700 + scenario)
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *datasets)
    net.sample_batch(jax.random.key(0), datasets, NUM_DRAWS)
    seconds = {
        "network": median_seconds(
            lambda i: net.sample_batch(jax.random.key(i), datasets, NUM_DRAWS)[0].theta, max(3, repeats // 4)
        )
    }
    for strategy in strategies:
        nuts = NutsSampler(task, mode="jit")
        nuts.sample_batch(jax.random.key(0), stacked, NUM_DRAWS, strategy)
        results = [nuts.sample_batch(jax.random.key(i), stacked, NUM_DRAWS, strategy) for i in range(1, 3)]
        seconds[f"nuts jit {strategy}"] = min(sum(r.seconds_run for r in batch) for batch in results)
    return [
        {
            "scenario": task.name,
            "datasets": NUM_DATASETS,
            "rows": task.paper_num_rows,
            "method": label,
            "seconds": round(value, 4),
            "draws_per_second": round(NUM_DATASETS * NUM_DRAWS / value),
        }
        for label, value in seconds.items()
    ]


def problem(row: dict[str, Any]) -> tuple[str, int, int]:
    """What a line is about; lines of other problems stay in the table."""
    return row["scenario"], int(row["datasets"]), int(row["rows"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", choices=tuple(RIVALS), default="glm")
    parser.add_argument("--scenarios", type=int, nargs="+")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--rows", type=int, nargs="+", default=[0], help="of a data set; 0 for the paper's")
    parser.add_argument("--only", choices=("one", "many"), help="one data set, or 64 at once")
    parser.add_argument("--strategies", nargs="+", choices=("vmap", "map"), default=["vmap", "map"])
    options = parser.parse_args()
    family, rows = options.family, []
    suffix = "" if family == "glm" else f"-{family}"
    suffix += "" if jax.default_backend() == "cpu" else f"-{jax.default_backend()}"
    name = f"sampling_speed{suffix}-python{sys.version_info.major}.{sys.version_info.minor}"
    for scenario in options.scenarios or SCENARIOS[family]:
        for num_rows in options.rows if options.only != "many" else []:
            rows += one_data_set(family, scenario, options.repeats, num_rows)
        if family == "glm" and options.only != "one":
            rows += many_data_sets(family, scenario, options.repeats, options.strategies)
        measured = {problem(row) for row in rows}
        path = write_table(name, [*(row for row in recorded(name) if problem(row) not in measured), *rows])
    print_table([{**dict.fromkeys(rows[0], ""), **row} for row in rows])
    print(path)


if __name__ == "__main__":
    main()
