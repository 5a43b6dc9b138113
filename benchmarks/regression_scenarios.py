"""The paper's seven GLM scenarios by the one network for regressions, beside the networks of single scenarios.

Test data sets are those of `icl-bayes evaluate family=glm seed=10000` (n = 50, p = 5, tabular covariates), references
those of the harness. C2ST of raw draws. Run again, it computes what is missing of
`benchmarks/results/regression_scenarios.csv`.

    python benchmarks/regression_scenarios.py [--num-datasets 8] [--seed 10000] [--weights DIR]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import mean
from typing import Any

import jax
import numpy as np
from timing import print_table, recorded, write_table

import icl_bayes
from icl_bayes.baselines.programs import release_programs
from icl_bayes.baselines.reference import reference_draws
from icl_bayes.benchmark.cases import Case
from icl_bayes.benchmark.settings import TEST_SEED
from icl_bayes.benchmark.suites import synthetic_suite, task_under_test
from icl_bayes.evaluation.two_sample import c2st
from icl_bayes.regression import Prior
from icl_bayes.regression.network import WEIGHTS, regression_network
from icl_bayes.regression.priors import RegressionPriors
from icl_bayes.tasks.glm import SCENARIOS
from icl_bayes.types import Dataset

NAME, NUM_DRAWS = "regression_scenarios", 1000
FAMILIES = {"gaussian": "gaussian", "bernoulli": "bernoulli", "gamma": "gamma_variance"}


def as_regression(scenario: int, dataset: Dataset) -> tuple[str, Dataset]:
    """The family and the data set in the form of a regression, with the scenario's priors."""
    spec, constants = SCENARIOS[scenario], {name: float(value) for name, value in dataset.constants.items()}
    scale = constants["beta_scale"]
    coefficient = {
        "normal": Prior("normal", 0.0, scale),
        "laplace": Prior("laplace", 0.0, scale),
        "exponential": Prior("gamma", 0.0, scale, 1.0),
    }[spec.coefficients]
    noise = None
    if spec.has_noise:
        root = np.sqrt(constants["noise_rate"])
        noise = Prior("root_inverse_gamma", 0.0, float(root), constants["noise_concentration"])
    intercept = Prior("normal", 0.0, constants["intercept_scale"]) if spec.intercept else None
    priors = RegressionPriors(intercept, (coefficient,) * dataset["x"].shape[1], noise)
    rows = {name: np.asarray(value) for name, value in dataset.rows.items()}
    return FAMILIES[spec.response], Dataset(**rows, constants=priors.constants())


def score(scenario: int, case: Case, directory: Path) -> dict[str, Any]:
    """One line of the table."""
    task = task_under_test("glm", str(scenario), 0)
    family, dataset = as_regression(scenario, case.dataset)
    keys = jax.random.split(jax.random.fold_in(jax.random.key(case.seed), int(case.name)), 3)
    line: dict[str, Any] = {"scenario": scenario, "dataset": case.name}
    starts = None if case.theta is None else case.theta[None]
    reference = reference_draws(task, case.dataset, keys[0], 2 * NUM_DRAWS, starts, quick=True)
    line["reference"] = reference.status
    truth = task.compared_matrix(reference.sites)
    spec = SCENARIOS[scenario]
    net = regression_network(family, dataset["x"].shape[1], intercept=spec.intercept, directory=directory)
    sites = dict(net.sample(keys[1], dataset, NUM_DRAWS).sites)
    if spec.has_noise:
        sites["sigma2"] = sites.pop("sigma") ** 2
    own = icl_bayes.load(f"glm/{scenario}").sample(keys[2], case.dataset, NUM_DRAWS)
    return line | {
        "floor": round(c2st(truth[:NUM_DRAWS], truth[NUM_DRAWS:], seed=0).accuracy, 4),
        "one_network": round(c2st(task.compared_matrix(sites), truth[:NUM_DRAWS], seed=1).accuracy, 4),
        "own_network": round(c2st(own.compared_matrix(), truth[:NUM_DRAWS], seed=2).accuracy, 4),
        "weights": net.checkpoint.identity,
    }


def summary(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means by scenario, and of the differences on the same data sets with their standard errors."""
    found = []
    for scenario in SCENARIOS:
        own = [line for line in lines if int(line["scenario"]) == scenario]
        if not own:
            continue
        row: dict[str, Any] = {"scenario": scenario, "datasets": len(own)}
        for name in ("floor", "one_network", "own_network"):
            row[name] = round(mean(float(line[name]) for line in own), 4)
        differences = [float(line["one_network"]) - float(line["own_network"]) for line in own]
        error = np.std(differences, ddof=1) / np.sqrt(len(own)) if len(own) > 1 else np.nan
        row["difference"] = f"{mean(differences):+.4f} ± {error:.4f}"
        found.append(row)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-datasets", type=int, default=8)
    parser.add_argument("--seed", type=int, default=TEST_SEED)
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    options = parser.parse_args()
    lines = recorded(NAME)
    done = {(int(line["scenario"]), line["dataset"]) for line in lines}
    for scenario in SCENARIOS:
        task = task_under_test("glm", str(scenario), 0)
        suite = synthetic_suite(task, num_datasets=options.num_datasets, num_rows=50, seed=options.seed)
        for case in suite.cases:
            if (scenario, case.name) not in done:
                lines.append(score(scenario, case, options.weights))
                write_table(NAME, lines)
                print(lines[-1], flush=True)
        release_programs()
    print_table(summary(lines))


if __name__ == "__main__":
    main()
