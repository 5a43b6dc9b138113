"""Seconds from typing `icl-bayes sample` or `icl-bayes glm` to the output, with an empty and a warm compilation cache.

The whole process is timed: start of Python, imports, loading, compilation, draws. "Warm" runs sample other
data than the run that filled the cache.

    python benchmarks/cold_start.py [--networks glm/1 glm/5] [--columns 5 20] [--repeats 3]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from timing import print_table, write_table

NUM_ROWS = 80


def write_csv(path: Path, seed: int, num_columns: int, *, is_binary: bool = False, is_positive: bool = False) -> None:
    """A file of some columns ``x0``, ``x1``, ... and a response that the model can take."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(NUM_ROWS, num_columns))
    y = x @ np.resize([0.8, 0.4, 0.2, 0.6, 0.1], num_columns) + 0.7 * generator.normal(size=NUM_ROWS)
    if is_binary:
        y = (y > 0).astype(float)
    if is_positive:
        y = np.exp(0.3 * y)
    header = ",".join([*names(num_columns), "y"])
    np.savetxt(path, np.column_stack([x, y]), delimiter=",", header=header, comments="")


def names(num_columns: int) -> list[str]:
    return [f"x{j}" for j in range(num_columns)]


def seconds_of(arguments: list[str], cache: Path) -> float:
    """Wall time of one process."""
    environment = {**os.environ, "ICL_BAYES_CACHE": str(cache)}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    command = [str(Path(sys.executable).with_name("icl-bayes")), *arguments]
    started = time.perf_counter()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def measured(
    name: str, write: Callable[[Path, int], None], arguments_of: Callable[[Path], list[str]], repeats: int
) -> dict[str, Any]:
    """One line of the table: medians over processes."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{i}.csv" for i in range(2)]
        for i, file in enumerate(files):
            write(file, i)
        caches = [Path(folder) / f"cache{i}" for i in range(repeats)]
        cold = median(seconds_of(arguments_of(files[0]), cache) for cache in caches)
        warm = median(seconds_of(arguments_of(files[1]), caches[0]) for _ in range(repeats))
    return {"command": name, "cold_seconds": round(cold, 2), "warm_seconds": round(warm, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="*", default=["glm/1", "glm/5"], help="of icl-bayes sample")
    parser.add_argument("--columns", nargs="*", type=int, default=[5, 20], help="of tables for icl-bayes glm")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for network in options.networks:
        kind = {"is_binary": network == "glm/6", "is_positive": network == "glm/7"}
        rows.append(
            measured(
                f"sample, {network}",
                lambda path, seed, kind=kind: write_csv(path, seed, 5, **kind),
                lambda path, network=network: ["sample", str(path), "--target", "y", "--net", network],
                options.repeats,
            )
        )
    for columns in options.columns:
        formula = f"y ~ {' + '.join(names(columns))}"
        rows.append(
            measured(
                f"glm, {columns} columns",
                lambda path, seed, columns=columns: write_csv(path, seed, columns),
                lambda path, formula=formula: ["glm", str(path), formula],
                options.repeats,
            )
        )
    print_table(rows)
    print(write_table("cold_start", rows))


if __name__ == "__main__":
    main()
