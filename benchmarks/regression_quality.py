"""Certified posteriors of regressions against checked NUTS, over families, priors, rows and columns.

Every data set is drawn from its own model: tabular covariates, coefficients from the stated prior. Two engines draw,
the closest Gaussian and the network, and their draws are certified. C2ST of raw draws and of certified ones is compared
with the floor, the same score between two disjoint sets of reference draws; draws that are good as they are have one
score. Cells of one family and shape share their programs and are visited together; such groups come in a random order,
so that an interrupted run is a sample of the grid. Run again, it computes what is missing of
`benchmarks/results/regression_quality.csv`.

Much of the time is compilation; --certify gaussian or neither spares that of the engines that are not certified.

    python benchmarks/regression_quality.py [--certify both] [--families gaussian gamma] [--limit 400] [--seed 10000]
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
from timing import median_seconds, print_table, recorded, write_table

from icl_bayes.baselines.programs import release_programs
from icl_bayes.baselines.reference import reference_draws
from icl_bayes.benchmark.settings import TEST_SEED
from icl_bayes.evaluation.two_sample import c2st
from icl_bayes.inference.gaussian_source import GaussianSource
from icl_bayes.regression.network import RegressionNetwork, regression_network
from icl_bayes.regression.priors import Prior, RegressionPriors
from icl_bayes.tasks import Task
from icl_bayes.tasks.covariates import make_covariate_prior
from icl_bayes.tasks.regression import FAMILIES, extra_rows, make_regression
from icl_bayes.types import Array, Dataset

NAME, NUM_DRAWS = "regression_quality", 1000
ENGINES = ("gaussian", "network")
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


CERTIFIED = {"both": ENGINES, "gaussian": ("gaussian",), "neither": ()}


def score(cell: Cell, rng_key: Array, certified: tuple[str, ...]) -> dict[str, Any]:
    """One line of the table; draws of some engines are certified."""
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
    floor = c2st(truth[:NUM_DRAWS], truth[NUM_DRAWS:], seed=0).accuracy
    line["floor"] = round(floor, 4)
    for name, source in (("gaussian", GaussianSource(task)), ("network", regression_network(family, p))):
        keys = (draw_key, refine_key if name in certified else None)
        line |= {f"{name}_{key}": value for key, value in judged(source, dataset, truth, floor, *keys).items()}
    return line


def judged(
    source: GaussianSource | RegressionNetwork,
    dataset: Dataset,
    truth: np.ndarray,
    floor: float,
    draw_key: Array,
    refine_key: Array | None,
) -> dict[str, Any]:
    """Scores and seconds of one engine, compilation apart."""
    raw = source.sample(draw_key, dataset, NUM_DRAWS)
    found: dict[str, Any] = {
        "raw": round(c2st(raw.compared_matrix(), truth[:NUM_DRAWS], seed=1).accuracy - floor, 4),
        "raw_ms": round(1000.0 * median_seconds(lambda _: source.sample(draw_key, dataset, NUM_DRAWS).theta, 3), 1),
    }
    if refine_key is None:
        return found
    refined = raw.refine(refine_key)
    source.sample(draw_key, dataset, NUM_DRAWS).refine(refine_key)  # all programs are compiled now
    started = time.perf_counter()
    certificate = source.sample(draw_key, dataset, NUM_DRAWS).refine(refine_key).certificate()
    seconds = time.perf_counter() - started
    used = refined.certificate()
    certified = found["raw"]  # of draws that are good as they are
    if used.verdict != "good":
        certified = round(c2st(refined.compared_matrix(), truth[:NUM_DRAWS], seed=2).accuracy - floor, 4)
    return found | {
        "certified": certified,
        "khat": round(used.khat, 3),
        "verdict": used.verdict,
        "path": " > ".join(step.name for step in certificate.path),
        "certified_ms": round(1000.0 * seconds, 1),
    }


def summary(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and 90th percentile of the excess over all cells, and by family, of both engines."""
    scored = [line for line in lines if line["reference"] != "failed"]
    found = []
    for family in ("all", *FAMILIES):
        own = [line for line in scored if family in ("all", line["family"])]
        if not own:
            continue
        for engine in ENGINES:
            row: dict[str, Any] = {"family": family, "engine": engine, "datasets": len(own)}
            for stage in ("raw", "certified"):
                measured = [line for line in own if line.get(f"{engine}_{stage}") not in (None, "")]
                values = [float(line[f"{engine}_{stage}"]) for line in measured] or [np.nan]
                row[stage] = f"{mean(values):+.4f} ({np.quantile(values, 0.9):+.3f})"
                seconds = [float(line[f"{engine}_{stage}_ms"]) for line in measured] or [np.nan]
                row[f"{stage} ms"] = round(float(np.median(seconds)), 1)
            row["needed NUTS"] = sum("reference" in (line.get(f"{engine}_path") or "") for line in own)
            row["rejected"] = sum(line.get(f"{engine}_verdict") == "rejected" for line in own)
            found.append(row)
    return found


def shape(cell: Cell) -> tuple[str, int, int]:
    """What programs are compiled for: priors are inputs of them."""
    family, _, n, p = cell
    return family, n, p


def visited(cells: list[Cell], seed: int) -> list[int]:
    """All cells, those of one shape one after the other, shapes in a random order."""
    order = [int(index) for index in np.random.default_rng(seed).permutation(len(cells))]
    shapes = list(dict.fromkeys(shape(cells[index]) for index in order))
    return sorted(order, key=lambda index: shapes.index(shape(cells[index])))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--certify", choices=tuple(CERTIFIED), default="both")
    parser.add_argument("--families", nargs="+", choices=tuple(FAMILIES), default=list(FAMILIES))
    parser.add_argument("--limit", type=int, default=400)
    parser.add_argument("--seed", type=int, default=TEST_SEED)
    options = parser.parse_args()
    cells: list[Cell] = list(itertools.product(FAMILIES, PRIORS, ROWS, COLUMNS))
    lines = recorded(NAME)
    done = {(line["family"], line["prior"], int(line["n"]), int(line["p"])) for line in lines}
    order = visited(cells, options.seed)[: options.limit]
    todo = [index for index in order if cells[index] not in done and cells[index][0] in options.families]
    for place, index in enumerate(todo):
        try:
            key = jax.random.fold_in(jax.random.key(options.seed), index)
            lines.append(score(cells[index], key, CERTIFIED[options.certify]))
        except ValueError as error:  # listed, not passed over
            lines.append(dict(zip(("family", "prior", "n", "p"), cells[index], strict=True)))
            lines[-1] |= {"reference": "failed", "message": str(error)[:200]}
        write_table(NAME, lines)
        print(lines[-1], flush=True)
        if shape(cells[index]) not in [shape(cells[later]) for later in todo[place + 1 :]]:
            release_programs()
            make_regression.cache_clear()
            regression_network.cache_clear()
    print_table(summary(lines))


if __name__ == "__main__":
    main()
