"""The benchmark on a real task whose posterior can be sampled exactly."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console

from icl_bayes.baselines.exact import ExactSampler
from icl_bayes.benchmark.cases import case_of
from icl_bayes.benchmark.records import read_records
from icl_bayes.benchmark.references import TaskReference
from icl_bayes.benchmark.runner import run_benchmark
from icl_bayes.tasks import make_task
from icl_bayes.types import Dataset

from .fakes import make_case


def test_exact_draws_score_at_the_floor_of_an_exact_reference(tmp_path):
    task = make_task("glm/1")
    rng = np.random.default_rng(3)
    x = rng.normal(size=(50, 5))
    dataset = task.prepare(Dataset(x=x, y=x @ rng.normal(size=5) + 0.7 * rng.normal(size=50)))
    case = case_of(task, dataset, split="synthetic", name=0, seed=3)
    assert (case.family, case.scenario, case.n, case.p) == ("glm", "1", 50, 5)
    summary = run_benchmark(
        [case], [ExactSampler(task)], TaskReference(600), tmp_path, num_draws=300, workers=0, metrics=("c2st", "mmd"),
        console=Console(file=io.StringIO()),
    )  # fmt: skip
    scores = {(r.method, r.metric): r.value for r in read_records(summary.records_path)}
    error = 0.5 / np.sqrt(600)
    assert abs(scores["exact", "c2st"] - 0.5) < 4 * error
    assert abs(scores["reference", "c2st"] - 0.5) < 4 * error
    assert scores["exact", "mmd"] < 0.1


def test_a_case_without_a_task_is_refused():
    with pytest.raises(TypeError, match="carries a FakeTask, not a Task"):
        TaskReference()(make_case())
