"""Warm time of 1000 certified draws of a regression, beside NUTS as people call it and whole in jit; many tables.

All of a family are timed in one process on the same data set (n = 200, p = 10), after a first call that compiles. NUTS
makes four chains of 1000 draws after 1000 of warm-up. Tables per minute are those of `icl_bayes.glm_batch` on groups of
about 40 rows and three columns. Writes `benchmarks/results/regression_speed.csv`.

    python benchmarks/regression_speed.py [--families gaussian gamma] [--repeats 15]
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import jax
import numpy as np
import pandas as pd
from timing import median_seconds, print_table, recorded, write_table

import icl_bayes
from icl_bayes.baselines.nuts import NutsSampler
from icl_bayes.inference.gaussian_source import GaussianSource
from icl_bayes.tasks.regression import FAMILIES, make_regression
from icl_bayes.types import Dataset

NAME = "regression_speed"
NUM_ROWS, NUM_COLUMNS, NUM_DRAWS, NUM_TABLES = 200, 10, 1000, 200


def simulated(family: str) -> Dataset:
    """Unit effects spread over the columns."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(NUM_ROWS, NUM_COLUMNS))
    linear = 0.3 + x @ generator.normal(size=NUM_COLUMNS) / np.sqrt(NUM_COLUMNS)
    mean, share = np.exp(linear), 1.0 / (1.0 + np.exp(-linear))
    mixed = generator.gamma(2.0, 0.5, size=NUM_ROWS)
    responses = {
        "gaussian": linear + generator.normal(size=NUM_ROWS),
        "bernoulli": generator.binomial(1, share),
        "binomial": generator.binomial(8, share),
        "poisson": generator.poisson(mean),
        "negative_binomial": generator.poisson(mean * mixed),
        "gamma": mean * mixed,
    }
    extra: dict[str, Any] = {"trials": np.full(NUM_ROWS, 8.0)} if family == "binomial" else {}
    return Dataset(x=x, y=responses[family], **extra)


def timed(family: str, repeats: int) -> dict[str, Any]:
    task, dataset = make_regression(family, NUM_COLUMNS), simulated(family)
    source = GaussianSource(task)

    def certified(repeat: int) -> Any:
        draw_key, refine_key = jax.random.split(jax.random.key(repeat))
        return source.sample(draw_key, dataset, NUM_DRAWS).refine(refine_key)

    verdicts = [certified(repeat).certificate().verdict for repeat in range(3)]
    seconds = median_seconds(lambda repeat: certified(repeat).theta, repeats)
    line: dict[str, Any] = {
        "family": family,
        "verdicts": " ".join(dict.fromkeys(verdicts)),
        "certified_ms": round(1000.0 * seconds, 1),
    }
    for name, mode in (("mcmc_run", "mcmc_run"), ("jit", "jit")):
        nuts = NutsSampler(task, mode=mode, num_warmup=1000, num_chains=4)
        nuts.sample(jax.random.key(0), dataset, 4 * NUM_DRAWS)
        runs = [nuts.sample(jax.random.key(1 + index), dataset, 4 * NUM_DRAWS).seconds_run for index in range(3)]
        line |= {f"{name}_ms": round(1000.0 * float(np.median(runs)), 1)}
        line |= {f"{name}_ratio": round(float(np.median(runs)) / seconds, 1)}
    return line


def tables_per_minute() -> float:
    generator = np.random.default_rng(1)
    sizes = generator.integers(33, 65, NUM_TABLES)
    frame = pd.DataFrame(generator.normal(size=(sizes.sum(), 3)), columns=pd.Index(["a", "b", "c"]))
    frame["table"] = np.repeat(np.arange(NUM_TABLES), sizes)
    frame["y"] = generator.poisson(np.exp(0.3 + 0.4 * frame.a))
    icl_bayes.glm_batch("y ~ a + b + c", frame, "table", "poisson")  # compiles
    key = jax.random.key(1)
    started = time.perf_counter()
    icl_bayes.glm_batch("y ~ a + b + c", frame, "table", "poisson", rng_key=key)
    return 60.0 * NUM_TABLES / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--families", nargs="*", choices=tuple(FAMILIES), default=list(FAMILIES), help="may be none")
    options = parser.parse_args()
    kept = [line for line in recorded(NAME) if line["family"] in FAMILIES and line["family"] not in options.families]
    lines = kept + [timed(family, options.repeats) for family in options.families]
    lines.append({"family": "poisson, many tables", "tables_per_minute": round(tables_per_minute(), 0)})
    print(write_table(NAME, lines))
    print_table(lines)


if __name__ == "__main__":
    main()
