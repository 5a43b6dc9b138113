"""Data of other conditions whose raw draws were called good: were they?

Data sets of every shift of GLMs and factor models (test seed, see `icl_bayes/benchmark/shifts.py`) are sampled and
certified, without repair. Those that are called good are compared with the task's reference. Writes
`benchmarks/results/passed_as_good.csv`, a line per data set; run again it computes what is missing.

    python benchmarks/passed_as_good.py [--families glm fa] [--datasets 16]
"""

from __future__ import annotations

import argparse
import warnings
from typing import Any

import jax
from timing import print_table, recorded, write_table

import icl_bayes
from icl_bayes.baselines.programs import release_programs
from icl_bayes.baselines.reference import reference_draws
from icl_bayes.benchmark.cases import Case
from icl_bayes.benchmark.settings import TEST_SEED
from icl_bayes.benchmark.shifts import SHIFTS, Shift, shifted_suite, shifts_of
from icl_bayes.benchmark.suites import task_under_test
from icl_bayes.evaluation.two_sample import c2st
from icl_bayes.inference import AmortizedPosterior
from icl_bayes.tasks import Task

NAME, NUM_DRAWS = "passed_as_good", 1000


def judged(net: AmortizedPosterior, task: Task, case: Case) -> dict[str, Any]:
    """The verdict on one data set and, if it is good, the score of the draws."""
    key = jax.random.key(case.random_seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # notes are among the certificate's reasons
        post = net.sample(jax.random.fold_in(key, 0), case.dataset, NUM_DRAWS, with_log_prob=True)
    certificate = post.certificate()
    line: dict[str, Any] = {
        "verdict": "good" if certificate.verdict == "good" else "to be repaired",
        "khat": round(certificate.khat, 3),
        "total_variation": round(certificate.total_variation, 3),
    }
    if certificate.verdict != "good":
        return line
    starts = None if case.theta is None else case.theta[None]
    reference = reference_draws(task, case.dataset, jax.random.fold_in(key, 1), NUM_DRAWS, starts, quick=True)
    line["reference"] = reference.status
    if reference.status == "failed":
        return line | {"message": reference.message}
    truth = task.compared_matrix(reference.sites)
    score = c2st(task.compared_matrix(post.sites), truth, seed=case.random_seed).accuracy
    return line | {"raw_c2st": round(float(score), 4)}


def summary(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """By shift of a family: how many were called good, and the largest score among them."""
    found = []
    groups = dict.fromkeys((line["scenario"].partition("/")[0], line["shift"]) for line in lines)
    for family, shift in groups:
        own = [line for line in lines if line["scenario"].startswith(f"{family}/") and line["shift"] == shift]
        good = [line for line in own if line["verdict"] == "good"]
        scores = [float(line["raw_c2st"]) for line in good if line.get("raw_c2st") not in (None, "")]
        largest = max(scores, default=float("nan"))
        found.append(
            {
                "family": family,
                "shift": shift,
                "datasets": len(own),
                "good": len(good),
                "scored": len(scores),
                "largest_c2st": largest,
            }
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", choices=("glm", "fa"), default=["glm", "fa"])
    parser.add_argument("--datasets", type=int, default=16, help="of every shift of every scenario")
    options = parser.parse_args()
    for family in options.families:
        scenarios = sorted({scenario for shift in SHIFTS if shift.family == family for scenario in shift.scenarios})
        for scenario in scenarios:
            task = task_under_test(family, scenario, 5)
            net = icl_bayes.load(task.name)
            for shift in shifts_of(family, scenario):
                run_shift(net, task, shift, options.datasets)
            release_programs()
    print_table(summary(recorded(NAME)))


def run_shift(net: AmortizedPosterior, task: Task, shift: Shift, num_datasets: int) -> None:
    """What is missing of one shift of one scenario."""
    own = {"scenario": task.name, "shift": shift.name}
    known = {line["dataset"] for line in recorded(NAME) if {key: line[key] for key in own} == own}
    cases = shifted_suite(task, shift, num_datasets=num_datasets, seed=TEST_SEED).cases
    lines = [{**own, "dataset": case.name, **judged(net, task, case)} for case in cases if case.name not in known]
    if lines:
        write_table(NAME, [*recorded(NAME), *lines])
        print_table(summary(lines))


if __name__ == "__main__":
    main()
