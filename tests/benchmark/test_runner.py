"""The harness on a posterior that is known: floors, scores, failures, and going on after a stop."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from icl_bayes.benchmark.cases import Method, as_method, case_of
from icl_bayes.benchmark.records import read_records
from icl_bayes.benchmark.runner import run_benchmark
from icl_bayes.benchmark.scoring import ScorePool, ScoringError
from icl_bayes.benchmark.stored_draws import draws_path, load_result
from icl_bayes.evaluation.two_sample import two_sample_scores
from icl_bayes.types import Dataset, SampleResult

from .fakes import FakeReference, FakeSampler, FakeTask, make_case

CHEAP = ("mmd", "w1")
TIMES = ("seconds_compile", "seconds_run")


def run(cases, methods, reference, out_dir, **options):
    console = Console(file=io.StringIO(), width=300)
    options = {"num_draws": 100, "metrics": CHEAP, "workers": 0, "console": console, **options}
    summary = run_benchmark(cases, methods, reference, out_dir, **options)
    return summary, read_records(summary.records_path), console.file.getvalue()


def without_times(records):
    rows = [{k: str(v) for k, v in asdict(record).items() if k not in TIMES} for record in records]
    return sorted(rows, key=lambda row: [*row.values()])


def test_floor_and_scores_at_both_ends(tmp_path):
    methods = [FakeSampler("nuts"), FakeSampler("icl", shift=5.0)]
    summary, records, _ = run([make_case()], methods, FakeReference(400), tmp_path, num_draws=200, metrics=("c2st",))
    by_method = {record.method: record for record in records}
    error = 0.5 / np.sqrt(400)
    assert abs(by_method["reference"].value - 0.5) < 4 * error
    assert by_method["nuts"].floor == by_method["reference"].value
    assert abs(by_method["nuts"].value - 0.5) < 4 * error
    assert by_method["icl"].value > 0.95
    assert (summary.num_scored, summary.num_skipped, summary.failures) == (2, 0, ())


def test_rows_say_all_that_the_protocol_asks(tmp_path):
    method = Method(FakeSampler("whatever"), "icl", "informed", "glm-5", "midpoint steps=4")
    _, records, _ = run([make_case(3)], [method], FakeReference(200), tmp_path, num_draws=50)
    record = next(record for record in records if record.metric == "mmd" and record.method == "icl")
    assert (record.family, record.scenario, record.split, record.dataset) == ("glm", "5", "synthetic", "3")
    assert (record.n, record.p, record.seed, record.num_draws) == (8, 2, 10_000, 50)
    assert (record.variant, record.checkpoint, record.solver) == ("informed", "glm-5", "midpoint steps=4")
    assert (record.seconds_compile, record.seconds_run, record.ess, record.khat) == (0.3, 0.004, 47.5, 0.2)
    assert record.hardware
    assert record.python
    assert record.jax
    reference = next(record for record in records if record.metric == "mmd" and record.method == "reference")
    assert (reference.value, reference.seconds_run, reference.ess) == (record.floor, 0.25, 200.0)


def test_scores_compare_disjoint_halves_of_the_shuffled_reference(tmp_path):
    case, seen = make_case(), []

    class Spy(FakeReference):
        def __call__(self, case):
            result = super().__call__(case)
            seen.append(result.sites["beta"])
            return result

    # An ordered reference: without the permutation, the two halves would be far apart.
    class Ordered(Spy):
        def __call__(self, case):
            result = super().__call__(case)
            result.sites["beta"][:] = result.sites["beta"][np.argsort(result.sites["beta"][:, 0])]
            return result

    _, records, _ = run([case], [FakeSampler("icl")], Ordered(200), tmp_path)
    order = np.random.default_rng(case.random_seed).permutation(200)
    expected = two_sample_scores(seen[0][order[100:]], seen[0][order[:100]], seed=case.random_seed, metrics=CHEAP)
    floor = {record.metric: record.value for record in records if record.method == "reference"}
    assert floor == expected
    assert floor["mmd"] < 0.2


def test_running_again_does_only_what_is_missing(tmp_path):
    cases, reference = [make_case(0), make_case(1)], FakeReference(200)
    first, second = FakeSampler("a"), FakeSampler("b", shift=1.0)
    run(cases[:1], [first], reference, tmp_path)
    summary, records, _ = run(cases, [first, second], reference, tmp_path)
    assert (summary.num_scored, summary.num_skipped) == (3, 1)
    assert (first.num_calls, second.num_calls) == (2, 2)
    assert len(reference.calls) == 2  # each reference once, then from disk
    assert len(records) == len(CHEAP) * 2 * (2 + 1)
    # One metric more: only that one is added, to the floor as well.
    _, more, _ = run(cases, [first, second], reference, tmp_path, metrics=(*CHEAP, "w2"))
    assert [record.metric for record in more[len(records) :]] == ["w2"] * 6
    summary, again, _ = run(cases, [first, second], reference, tmp_path)
    assert (summary.num_scored, summary.num_skipped, len(again)) == (0, 4, len(more))


class StopsAfter:
    """Ctrl-C at the given call."""

    name = "b"

    def __init__(self, calls: int) -> None:
        self.left = calls

    def sample(self, rng_key, dataset, num_draws) -> SampleResult:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return FakeSampler("b", shift=1.0).sample(rng_key, dataset, num_draws)


@pytest.mark.parametrize("workers", [0, 1])
def test_interrupted_run_ends_with_the_same_rows(tmp_path, workers):
    cases, other = [make_case(index) for index in range(3)], FakeSampler("a")
    _, whole, _ = run(cases, [other, FakeSampler("b", shift=1.0)], FakeReference(200), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(cases, [other, StopsAfter(2)], FakeReference(200), tmp_path / "parts", workers=workers)
    path = tmp_path / "parts" / "records.csv"
    kept = read_records(path)
    assert len(CHEAP) * 3 <= len(kept) < len(whole)
    # As a kill in the middle of a write would leave it.
    path.write_bytes(path.read_bytes()[:-17])
    _, records, _ = run(cases, [other, StopsAfter(99)], FakeReference(200), tmp_path / "parts", workers=workers)
    assert without_times(records) == without_times(whole)


def test_failures_are_recorded_and_the_run_goes_on(tmp_path):
    class NotFinite(FakeSampler):
        def sample(self, rng_key, dataset, num_draws):
            result = super().sample(rng_key, dataset, num_draws)
            result.sites["beta"][3, 1] = np.nan
            return result

    class TooFew(FakeSampler):
        def sample(self, rng_key, dataset, num_draws):
            return super().sample(rng_key, dataset, num_draws - 10)

    class Unhealthy(FakeSampler):
        def sample(self, rng_key, dataset, num_draws):
            return SampleResult({}, 0.0, 2.0, "failed", "R-hat 1.4")

    bad = [FakeSampler("raises", fails_for=("all",)), NotFinite("nan"), TooFew("few"), Unhealthy("unhealthy")]
    methods = [*bad, FakeSampler("good")]
    summary, records, said = run([make_case(0), make_case(1)], methods, FakeReference(200), tmp_path)
    assert summary.num_scored == 2
    assert len(summary.failures) == 8
    messages = {record.method: record.message for record in records if record.failed}
    assert messages == {
        "raises": "FloatingPointError: the step size became zero",
        "nan": "1 of 100 draws hold NaN or infinite values",
        "few": "received draws of shape (90, 2), expected 100 rows",
        "unhealthy": "R-hat 1.4",
    }
    assert all(np.isnan(record.value) and record.metric == "" for record in records if record.failed)
    assert "8 failed" in said
    assert "glm/5 synthetic 1 n=8 seed=10000, unhealthy: R-hat 1.4" in said
    assert "Traceback" in (tmp_path / "failures.log").read_text()
    # A second run doesn't try them again unless asked, but says so again.
    summary, records, said = run([make_case(0), make_case(1)], methods, FakeReference(200), tmp_path)
    assert (summary.num_scored, summary.num_skipped, len(summary.failures)) == (0, 2, 8)
    assert bad[0].num_calls == 2
    bad[0].fails_for = ()
    summary, records, _ = run([make_case(0), make_case(1)], methods, FakeReference(200), tmp_path, retry_failed=True)
    assert summary.num_scored == 2
    assert len(summary.failures) == 6


def test_a_case_without_reference_is_listed_and_not_scored(tmp_path):
    sampler = FakeSampler("icl")
    reference = FakeReference(200, fails_for=("1",))
    summary, records, said = run([make_case(0), make_case(1)], [sampler], reference, tmp_path)
    assert sampler.num_calls == 1
    assert (summary.num_scored, summary.num_without_reference) == (1, 1)
    failure = next(record for record in records if record.failed)
    assert (failure.dataset, failure.method, failure.message) == ("1", "reference", "R-hat 1.3 exceeds 1.01")
    assert "1 not tried for want of a reference" in said

    def broken(case):
        raise MemoryError("no room")

    _, records, _ = run([make_case(0)], [sampler], broken, tmp_path / "broken")
    assert records[0].message == "MemoryError: no room"
    _, records, _ = run([make_case(0)], [sampler], FakeReference(150), tmp_path / "short")
    assert records[0].message == "received draws of shape (150, 2), expected at least 200 rows"


def test_references_are_kept_by_data_not_by_name(tmp_path):
    reference, sampler = FakeReference(200), FakeSampler("icl")
    case = make_case(0)
    run([case], [sampler], reference, tmp_path)
    (tmp_path / "records.csv").unlink()
    run([case], [sampler], reference, tmp_path)
    assert len(reference.calls) == 1
    stored = next((tmp_path / "references").iterdir())
    stored.write_bytes(stored.read_bytes()[:200])  # damaged: computed again
    (tmp_path / "records.csv").unlink()
    run([case], [sampler], reference, tmp_path)
    assert len(reference.calls) == 2
    assert load_result(stored).health == {"ess": 200.0}
    case.dataset.rows["x"][0, 0] += 1.0  # another data set under the same name
    (tmp_path / "records.csv").unlink()
    run([case], [sampler], reference, tmp_path)
    assert len(reference.calls) == 3


def test_draws_can_be_kept_and_duplicates_are_noted(tmp_path):
    class Repeats(FakeSampler):
        def sample(self, rng_key, dataset, num_draws):
            result = super().sample(rng_key, dataset, num_draws)
            result.sites["beta"][:25] = result.sites["beta"][25]
            return result

    case, method = make_case(), as_method(Repeats("icl", "resampled"))
    _, records, _ = run([case], [method], FakeReference(200), tmp_path, keep_draws=True)
    assert {record.message for record in records if record.method == "icl"} == {"25.0% of the draws are duplicates"}
    stored = load_result(draws_path(tmp_path, case, method))
    assert stored.sites["beta"].shape == (100, 2)
    assert stored.seconds_run == 0.004


def test_draws_of_a_method_depend_on_no_other(tmp_path):
    cases = [make_case(0), make_case(1)]
    _, alone, _ = run(cases[1:], [FakeSampler("icl")], FakeReference(200), tmp_path / "alone")
    _, among, _ = run(cases, [FakeSampler("nuts"), FakeSampler("icl")], FakeReference(200), tmp_path / "among")
    chosen = [record for record in among if record.dataset == "1" and record.method != "nuts"]
    assert without_times(alone) == without_times(chosen)


def test_methods_may_depend_on_the_case(tmp_path):
    cases = [make_case(0, scenario="1"), make_case(0, scenario="5")]
    _, records, _ = run(
        cases, lambda case: [FakeSampler("icl", variant=f"for {case.scenario}")], FakeReference(200), tmp_path
    )
    assert {(record.scenario, record.variant) for record in records if record.method == "icl"} == {
        ("1", "for 1"),
        ("5", "for 5"),
    }


def test_worker_processes_give_the_same_scores_and_never_load_jax(tmp_path):
    case = make_case()
    _, inline, _ = run([case], [FakeSampler("icl")], FakeReference(200), tmp_path / "0", workers=0)
    _, workers, _ = run([case], [FakeSampler("icl")], FakeReference(200), tmp_path / "2", workers=2)
    assert without_times(inline) == without_times(workers)
    source = Path(two_sample_scores.__code__.co_filename).parents[1] / "benchmark" / "scoring_worker.py"
    code = f"""
        import runpy, sys
        worker = runpy.run_path({str(source)!r})
        module = worker["load_metrics"]({two_sample_scores.__code__.co_filename!r})
        import numpy as np
        rng = np.random.default_rng(0)
        draws, reference = rng.normal(size=(2, 12, 2))
        module.c2st(draws, reference, seed=0, folds=2)
        module.two_sample_scores(draws, reference, seed=0, metrics=("mmd", "w1", "w2"))
        assert not [name for name in sys.modules if name.split(".")[0] in ("jax", "icl_bayes")], "heavy imports"
    """
    subprocess.run([sys.executable, "-P", "-c", textwrap.dedent(code)], check=True, cwd=tmp_path)


def test_pool_reports_what_went_wrong_and_replaces_a_dead_process():
    rng = np.random.default_rng(0)
    good, bad = rng.normal(size=(50, 2)), np.full((50, 2), np.nan)
    with ScorePool(1) as pool:
        assert "mmd" in pool.submit(good, good, seed=0, metrics=("mmd",)).result()
        with pytest.raises(ScoringError, match="draws holds 50 of 50 rows"):
            pool.submit(bad, good, seed=0, metrics=("mmd",)).result()
        os.kill(pool._started[0].process.pid, signal.SIGKILL)
        assert "mmd" in pool.submit(good, good, seed=0, metrics=("mmd",)).result()
        slow = pool.submit(*rng.normal(size=(2, 20_000, 4)), seed=0, metrics=("c2st",))
        time.sleep(0.3)
        pool.close(now=True)
        assert slow.exception() is not None


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (
            {"cases": [make_case(0), make_case(0)]},
            "Some cases would be recorded under the same name: glm/5 synthetic 0",
        ),
        ({"methods": [FakeSampler("a"), FakeSampler("a")]}, "Some methods would be recorded under the same name: a"),
        ({"methods": [FakeSampler("")]}, "FakeSampler has no name"),
        ({"metrics": ("c2tst",)}, r"metrics must be some of \['c2st'"),
    ],
)
def test_misuse_is_named_before_anything_runs(tmp_path, options, match):
    arguments = {"cases": [make_case()], "methods": [FakeSampler("a")], "metrics": CHEAP, **options}
    with pytest.raises(ValueError, match=match):
        run_benchmark(reference=FakeReference(200), out_dir=tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


def test_case_of_reads_names_and_sizes():
    dataset = Dataset(x=np.zeros((6, 3)), y=np.zeros(6)).pad_rows(10)
    case = case_of(FakeTask(), dataset, split="real", name="wine", seed=3)
    assert (case.family, case.scenario, case.name, case.n, case.p) == ("glm", "5", "wine", 6, 3)
    with pytest.raises(
        ValueError, match=r"split must be one of synthetic, real or shifted \(\.\.\.\); received 'test'"
    ):
        case_of(FakeTask(), dataset, split="test", name=0, seed=3)


def test_programs_of_a_scenario_are_released_once_its_last_case_is_done(tmp_path, monkeypatch):
    """Those of all scenarios together are more than a process may hold; releasing them earlier would compile twice."""
    first, second = FakeTask(), FakeTask()
    tasks = [first, second, first, second]
    cases = [replace(make_case(index), task=task) for index, task in enumerate(tasks)]
    events: list[str] = []

    class Watched(FakeSampler):
        def sample(self, rng_key, dataset, num_draws):
            events.append("sample")
            return super().sample(rng_key, dataset, num_draws)

    monkeypatch.setattr("icl_bayes.benchmark.runner.release_programs", lambda: events.append("release"))
    run(cases, [Watched("icl")], FakeReference(200), tmp_path, num_draws=50)
    assert events == ["sample", "sample", "sample", "release", "sample", "release"]
