"""Certified posteriors of regressions against checked NUTS, over families, priors, rows and columns.

Every data set is drawn from its own model: tabular covariates, coefficients from the stated prior. C2ST of raw draws
(the closest Gaussian's) and of certified ones is compared with the floor, the same score between two disjoint sets of
reference draws. Cells are visited in a random order, so that an interrupted run is a sample of the grid; run again, it
computes what is missing of `benchmarks/results/regression_quality.csv`.

    python benchmarks/regression_quality.py [--limit 400] [--seed 10000]
"""

from __future__ import annotations

import argparse
import itertools
import time
from statistics import mean
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro import handlers
from timing import print_table, recorded, write_table

from icl_bayes.baselines.programs import release_programs
from icl_bayes.baselines.reference import reference_draws
from icl_bayes.benchmark.settings import TEST_SEED
from icl_bayes.evaluation.two_sample import c2st
from icl_bayes.inference.gaussian_source import GaussianSource
from icl_bayes.regression.priors import Prior, RegressionPriors
from icl_bayes.tasks import Task
from icl_bayes.tasks.covariates import make_covariate_prior
from icl_bayes.tasks.regression import FAMILIES, extra_rows, make_regression
from icl_bayes.types import Array, Dataset

NAME, NUM_DRAWS = "regression_quality", 1000
PRIORS = {
    "normal": lambda scale: Prior("normal", 0.0, scale),
    "student_t": lambda scale: Prior("student_t", 0.0, scale, 3.0),
    "laplace": lambda scale: Prior("laplace", 0.0, scale),
    "half_normal": lambda scale: Prior("half_normal", 0.0, scale),
}
ROWS, COLUMNS = (20, 50, 200, 1000), (1, 5, 10, 20)
Cell = tuple[str, str, int, int]


def simulated(rng_key: Array, task: Task, family: str, prior: str, n: int, p: int) -> tuple[Dataset, np.ndarray]:
    """A data set of one cell, and theta that it was drawn from; effects on the linear predictor are about 1."""
    x_key, model_key = jax.random.split(rng_key)
    x = np.asarray(make_covariate_prior("tabular").sample(x_key, p, jnp.ones(n, bool)))
    dispersion = Prior("half_normal") if FAMILIES[family].dispersion else None
    priors = RegressionPriors(Prior("normal"), (PRIORS[prior](1.0 / np.sqrt(p)),) * p, dispersion)
    extra = {name: np.full(n, 8.0 if name == "trials" else 1.0, np.float32) for name in extra_rows(family)}
    rows = {"x": x, "offset": np.zeros(n, np.float32), "weight": np.ones(n, np.float32), **extra}
    unobserved = Dataset(**rows, constants=priors.constants())
    for trial in range(50):  # counts that single precision does not hold are drawn again
        seeded = handlers.seed(task.model, jax.random.fold_in(model_key, trial))
        trace = handlers.trace(seeded).get_trace(unobserved)
        response = np.asarray(trace[FAMILIES[family].row]["value"], np.float64)
        if np.isfinite(response).all() and response.max() < 1e5:
            break
    dataset = task.prepare(unobserved.replace(rows={**rows, FAMILIES[family].row: response}))
    theta = np.asarray(task.unconstrain({name: trace[name]["value"] for name in task.sites}, dataset))
    return dataset, theta


def score(cell: Cell, rng_key: Array) -> dict[str, Any]:
    """One line of the table."""
    family, prior, n, p = cell
    task = make_regression(family, p)
    data_key, draw_key, refine_key, reference_key = jax.random.split(rng_key, 4)
    dataset, theta = simulated(data_key, task, family, prior, n, p)
    line: dict[str, Any] = {"family": family, "prior": prior, "n": n, "p": p}
    reference = reference_draws(task, dataset, reference_key, 2 * NUM_DRAWS, theta[None], quick=True)
    line["reference"] = reference.status
    if reference.status == "failed":
        return line | {"message": reference.message}
    truth = task.compared_matrix(reference.sites)
    source = GaussianSource(task)
    raw = source.sample(draw_key, dataset, NUM_DRAWS)
    refined = raw.refine(refine_key)
    source.sample(draw_key, dataset, NUM_DRAWS).refine(refine_key)  # all programs are compiled now
    started = time.perf_counter()
    again = source.sample(draw_key, dataset, NUM_DRAWS).refine(refine_key)
    seconds = time.perf_counter() - started
    floor = c2st(truth[:NUM_DRAWS], truth[NUM_DRAWS:], seed=0).accuracy
    certificate = refined.certificate()
    return line | {
        "floor": round(floor, 4),
        "raw_excess": round(c2st(raw.compared_matrix(), truth[:NUM_DRAWS], seed=1).accuracy - floor, 4),
        "certified_excess": round(c2st(refined.compared_matrix(), truth[:NUM_DRAWS], seed=2).accuracy - floor, 4),
        "khat": round(certificate.khat, 3),
        "total_variation": round(certificate.total_variation, 4),
        "verdict": certificate.verdict,
        "engine": again.info.get("engine", "closest Gaussian"),
        "milliseconds": round(1000.0 * seconds, 1),
    }


def summary(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and 90th percentile of the excess over all cells, and by family."""
    scored = [line for line in lines if line["reference"] != "failed"]
    found = []
    for family in ("all", *FAMILIES):
        own = [line for line in scored if family in ("all", line["family"])]
        if not own:
            continue
        raw = [float(line["raw_excess"]) for line in own]
        certified = [float(line["certified_excess"]) for line in own]
        found.append(
            {
                "family": family,
                "datasets": len(own),
                "raw": f"{mean(raw):+.4f} ({np.quantile(raw, 0.9):+.3f})",
                "certified": f"{mean(certified):+.4f} ({np.quantile(certified, 0.9):+.3f})",
                "needed NUTS": sum("NUTS" in line["engine"] for line in own),
                "rejected": sum(line["verdict"] == "rejected" for line in own),
                "median ms": round(float(np.median([float(line["milliseconds"]) for line in own])), 1),
            }
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, default=400)
    parser.add_argument("--seed", type=int, default=TEST_SEED)
    options = parser.parse_args()
    cells: list[Cell] = list(itertools.product(FAMILIES, PRIORS, ROWS, COLUMNS))
    order = np.random.default_rng(options.seed).permutation(len(cells))
    lines = recorded(NAME)
    done = {(line["family"], line["prior"], int(line["n"]), int(line["p"])) for line in lines}
    for index in order[: options.limit]:
        if cells[index] in done:
            continue
        try:
            lines.append(score(cells[index], jax.random.fold_in(jax.random.key(options.seed), int(index))))
        except ValueError as error:  # listed, not passed over
            lines.append(dict(zip(("family", "prior", "n", "p"), cells[index], strict=True)))
            lines[-1] |= {"reference": "failed", "message": str(error)[:200]}
        write_table(NAME, lines)
        print(lines[-1], flush=True)
        release_programs()
        make_regression.cache_clear()
    print_table(summary(lines))


if __name__ == "__main__":
    main()
