"""Seconds from typing `icl-bayes sample` to its output, with an empty and with a warm compilation cache.

The whole process is timed: start of Python, imports, loading, compilation, draws. "Warm" runs sample other
data than the run that filled the cache.

    python benchmarks/cold_start.py [--networks glm/1 glm/5] [--repeats 3]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from timing import print_table, write_table

NUM_ROWS = 80


def write_csv(path: Path, seed: int, is_binary: bool, is_positive: bool) -> None:
    """A file of five columns and a response that the scenario can take."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(NUM_ROWS, 5))
    y = x @ [0.8, 0.4, 0.2, 0.6, 0.1] + 0.7 * generator.normal(size=NUM_ROWS)
    if is_binary:
        y = (y > 0).astype(float)
    if is_positive:
        y = np.exp(0.3 * y)
    header = ",".join([*(f"x{j}" for j in range(5)), "y"])
    np.savetxt(path, np.column_stack([x, y]), delimiter=",", header=header, comments="")


def seconds_of(network: str, csv: Path, cache: Path) -> float:
    """Wall time of one process."""
    environment = {**os.environ, "ICL_BAYES_CACHE": str(cache)}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    command = [str(Path(sys.executable).with_name("icl-bayes")), "sample", str(csv), "--target", "y", "--net", network]
    started = time.perf_counter()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["glm/1", "glm/5"])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for network in options.networks:
        scenario = network.split("/")[1]
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder) / f"{i}.csv" for i in range(2)]
            for i, file in enumerate(files):
                write_csv(file, i, scenario == "6", scenario == "7")
            caches = [Path(folder) / f"cache{i}" for i in range(options.repeats)]
            cold = median(seconds_of(network, files[0], cache) for cache in caches)
            warm = median(seconds_of(network, files[1], caches[0]) for _ in range(options.repeats))
        rows.append({"network": network, "cold_seconds": round(cold, 2), "warm_seconds": round(warm, 2)})
    print_table(rows)
    print(write_table("cold_start", rows))


if __name__ == "__main__":
    main()
