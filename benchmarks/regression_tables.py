"""Certified regressions of real tables against checked NUTS: every bundled table, with the default priors.

A real response is taken as Gaussian, a binary one as Bernoulli, a positive one as gamma; whole positive numbers are
also fitted by Poisson, negative binomial, and, against their largest value, binomial laws. Tables have up to 20 of
their columns and 300 of their rows. Run again, it computes what is missing of
`benchmarks/results/regression_tables.csv`.

    python benchmarks/regression_tables.py [--limit 200] [--family negative_binomial] [--seed 10000]
"""

from __future__ import annotations

import argparse
import time
from statistics import mean
from typing import Any

import jax
import numpy as np
import pandas as pd
from timing import print_table, recorded, write_table

import icl_bayes
from icl_bayes.baselines.programs import release_programs
from icl_bayes.baselines.reference import reference_draws
from icl_bayes.benchmark.settings import TEST_SEED
from icl_bayes.datasets.bundled import bundled_names, load_bundled
from icl_bayes.datasets.tables import Table
from icl_bayes.evaluation.two_sample import c2st
from icl_bayes.regression import fit

NAME, NUM_DRAWS = "regression_tables", 1000
MAX_ROWS, MAX_COLUMNS, MAX_COUNT = 300, 20, 200
KINDS = {"real": ["gaussian"], "binary": ["bernoulli"], "positive": ["gamma"]}


def families_of(table: Table) -> list[str]:
    """Families whose responses a table has."""
    families = list(KINDS[table.response_kind])
    y = table.response
    if table.response_kind != "binary" and (y == np.round(y)).all() and y.min() >= 0 and y.max() <= MAX_COUNT:
        families += ["poisson", "negative_binomial", "binomial"]
    return families


def frame_of(table: Table, seed: int) -> pd.DataFrame:
    """Some rows and columns of a table, columns that are constant there left out."""
    generator = np.random.default_rng(seed)
    rows = generator.permutation(len(table.response))[:MAX_ROWS]
    x = table.features[rows]
    usable = np.flatnonzero(x.std(axis=0) > 0)[:MAX_COLUMNS]
    frame = pd.DataFrame({f"x{index}": x[:, column] for index, column in enumerate(usable)})
    frame["y"] = table.response[rows]
    frame["trials"] = float(table.response.max())
    return frame


def score(name: str, family: str, seed: int) -> dict[str, Any]:
    """One line of the table."""
    frame = frame_of(load_bundled(name), seed)
    columns = [column for column in frame.columns if column.startswith("x")]
    line: dict[str, Any] = {"table": name, "family": family, "n": len(frame), "p": len(columns)}
    options: dict[str, Any] = {"trials": "trials"} if family == "binomial" else {}
    formula = f"y ~ {' + '.join(columns)}"
    icl_bayes.glm(formula, frame, family, **options)
    started = time.perf_counter()
    found = icl_bayes.glm(formula, frame, family, rng_key=jax.random.key(seed), **options)
    seconds = time.perf_counter() - started
    task = found.posterior.task
    reference = reference_draws(task, found.posterior.dataset, jax.random.key(seed + 1), 2 * NUM_DRAWS)
    line |= {"reference": reference.status, "verdict": found.certificate.verdict, "engine": found.engine}
    line |= {"milliseconds": round(1000.0 * seconds, 1), "message": reference.message[:120]}
    if reference.status == "failed":
        return line
    truth = task.compared_matrix(reference.sites)
    floor = c2st(truth[:NUM_DRAWS], truth[NUM_DRAWS:], seed=0).accuracy
    certified = c2st(found.posterior.compared_matrix(), truth[:NUM_DRAWS], seed=1).accuracy
    return line | {"floor": round(floor, 4), "excess": round(certified - floor, 4)}


def summary(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean, 90th percentile and largest excess over the floor."""
    scored = [line for line in lines if line["reference"] != "failed"]
    found = []
    for family in ("all", *dict.fromkeys(line["family"] for line in lines)):
        own = [line for line in scored if family in ("all", line["family"])]
        if own:
            excess = [float(line["excess"]) for line in own]
            found.append(
                {
                    "family": family,
                    "tables": len({line["table"] for line in own}),
                    "mean": f"{mean(excess):+.4f}",
                    "90 %": f"{np.quantile(excess, 0.9):+.3f}",
                    "largest": f"{max(excess):+.3f}",
                    "by NUTS": sum(line["engine"] == "NUTS" for line in own),
                    "rejected": sum(line["verdict"] == "rejected" for line in own),
                }
            )
    return found


def tables_first(cells: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The same cells: every table by its first family, then by its second, and so on."""
    seen: dict[str, int] = {}
    ranks = []
    for name, _ in cells:
        ranks.append(seen.get(name, 0))
        seen[name] = ranks[-1] + 1
    return [cells[index] for index in sorted(range(len(cells)), key=ranks.__getitem__)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--family", default="", help="only this one")
    parser.add_argument("--seed", type=int, default=TEST_SEED)
    options = parser.parse_args()
    cells = [(name, family) for name in bundled_names() for family in families_of(load_bundled(name))]
    order = tables_first([cells[index] for index in np.random.default_rng(options.seed).permutation(len(cells))])
    lines = recorded(NAME)
    done = {(line["table"], line["family"]) for line in lines}
    for name, family in order[: options.limit]:
        if (name, family) in done or options.family not in ("", family):
            continue
        try:
            lines.append(score(name, family, options.seed))
        except ValueError as error:  # listed, not passed over
            lines.append(
                {
                    "table": name,
                    "family": family,
                    "reference": "failed",
                    "verdict": "refused",
                    "message": str(error)[:160],
                }
            )
        write_table(NAME, lines)
        print(lines[-1], flush=True)
        release_programs()
        fit.source_of.cache_clear()
    print_table(summary(lines))


if __name__ == "__main__":
    main()
