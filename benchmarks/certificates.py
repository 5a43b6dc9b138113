"""Certificates in distribution: how often draws are good as they are, what mends them, and what that costs.

Simulated data sets of every scenario (test seed) are sampled and refined; nothing is scored. Writes
`benchmarks/results/certificates.csv`, a line per scenario, with times relative to raw sampling, all warm.

    python benchmarks/certificates.py [--scenarios glm/1 ... gmm/4] [--datasets 100]

With ``--steps``, raw draws alone are certified, with so many steps of each network's solver; writes
`benchmarks/results/certificate_steps.csv`, a line per scenario and number of steps.
"""

from __future__ import annotations

import argparse
import time
import warnings
from dataclasses import replace
from typing import Any

import jax
import numpy as np
from timing import print_table, recorded, write_table

import icl_bayes
from icl_bayes.baselines.programs import release_programs
from icl_bayes.benchmark.settings import TEST_SEED
from icl_bayes.benchmark.suites import synthetic_suite, task_under_test
from icl_bayes.flow import Solver
from icl_bayes.inference import AmortizedPosterior
from icl_bayes.inference.certificate import MAX_KHAT, Certificate

NAME, STEPS_NAME, NUM_DRAWS = "certificates", "certificate_steps", 1000
SCENARIOS = [
    *(f"glm/{i}" for i in range(1, 8)),
    *(f"fa/{i}" for i in range(1, 7)),
    *(f"gmm/{i}" for i in range(1, 5)),
]
CHEAP = {"weights", "probe", "polish", "resample"}


def refined(net: AmortizedPosterior, dataset: Any, index: int) -> tuple[Any, float, float]:
    """Certificate, seconds of raw sampling, and of the repair; done again where something had to be compiled."""
    while True:
        before = net.compilations, len(net.programs)
        started = time.perf_counter()
        post = net.sample(jax.random.key(index), dataset, NUM_DRAWS)
        drawn = time.perf_counter()
        certificate = post.refine(jax.random.key(10_000 + index)).certificate()
        finished = time.perf_counter()
        if (net.compilations, len(net.programs)) == before:
            return certificate, drawn - started, finished - drawn


def problem(name: str, num_datasets: int) -> tuple[AmortizedPosterior, list[Any]]:
    """The network of a scenario, and simulated data sets."""
    family, _, scenario = name.partition("/")
    task = task_under_test(family, scenario, 5)
    cases = synthetic_suite(task, num_datasets=num_datasets, num_rows=task.paper_num_rows, seed=TEST_SEED).cases
    return icl_bayes.load(name), [case.dataset for case in cases]


def raw_certificate(net: AmortizedPosterior, dataset: Any, index: int, solver: Solver | None = None) -> Certificate:
    """Of draws as the network makes them, with their densities."""
    return net.sample(jax.random.key(index), dataset, NUM_DRAWS, solver=solver, with_log_prob=True).certificate()


def measure_steps(name: str, num_datasets: int, num_steps: int) -> dict[str, Any]:
    """One scenario, with a number of solver steps."""
    net, datasets = problem(name, num_datasets)
    solver = replace(net.solver, num_steps=num_steps)
    found = [raw_certificate(net, dataset, index, solver) for index, dataset in enumerate(datasets)]
    khats, distances = [one.khat for one in found], [one.total_variation for one in found]
    return {
        "scenario": name,
        "solver": solver.label,
        "datasets": len(datasets),
        "khat_below_limit": round(float(np.mean(np.asarray(khats) < MAX_KHAT)), 3),
        "median_khat": round(float(np.median(khats)), 3),
        "median_total_variation": round(float(np.median(distances)), 3),
        "mean_total_variation": round(float(np.mean(distances)), 3),
    }


def key_of(line: dict[str, Any]) -> tuple[str, str]:
    """What a line of :func:`measure_steps` is about."""
    return line["scenario"], line["solver"]


def measure(name: str, num_datasets: int) -> dict[str, Any]:
    """One scenario."""
    net, datasets = problem(name, num_datasets)
    verdicts, khats, distances, raw, extra, further = [], [], [], [], [], []
    for index, dataset in enumerate(datasets):
        certificate, seconds_raw, seconds = refined(net, dataset, index)
        verdicts.append(certificate.verdict)
        raw.append(seconds_raw)
        extra.append(seconds)
        further.append(any(step.name not in CHEAP for step in certificate.path))
        if np.isnan(certificate.khat):  # of mixtures, whose repair does without densities
            certificate = raw_certificate(net, dataset, index)
        khats.append(certificate.khat)
        distances.append(certificate.total_variation)
    kinds = {
        kind: round(verdicts.count(kind) / len(verdicts), 3) for kind in ("good", "resampled", "polished", "refined")
    }
    return {
        "scenario": name,
        "datasets": len(datasets),
        "khat_below_limit": round(float(np.mean(np.asarray(khats) < MAX_KHAT)), 3),
        "median_total_variation": round(float(np.median(distances)), 3),
        **kinds,
        "rejected": round(verdicts.count("rejected") / len(verdicts), 3),
        "beyond_polish": round(float(np.mean(further)), 3),
        "raw_ms": round(1000.0 * float(np.median(raw)), 1),
        "certifying_over_raw": round(float(np.median(np.asarray(extra) / np.asarray(raw))), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenarios", nargs="+", default=SCENARIOS)
    parser.add_argument("--datasets", type=int, default=100)
    parser.add_argument("--steps", type=int, nargs="+", help="certify raw draws alone, with these numbers of steps")
    options = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)
    for name in options.scenarios:
        for steps in options.steps or ():
            line = measure_steps(name, options.datasets, steps)
            others = (one for one in recorded(STEPS_NAME) if key_of(one) != key_of(line))
            write_table(STEPS_NAME, [*others, line])
            print_table([line])
        if not options.steps:
            line = measure(name, options.datasets)
            write_table(NAME, [*(one for one in recorded(NAME) if one["scenario"] != name), line])
            print_table([line])
        release_programs()


if __name__ == "__main__":
    main()
