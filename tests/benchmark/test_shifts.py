"""Data generated under other conditions, answered under the task's own prior."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest
from rich.console import Console

from icl_bayes.benchmark import reproduce as module
from icl_bayes.benchmark.reproduce import reproduce
from icl_bayes.benchmark.settings import EvaluationConfig, ReproduceSettings
from icl_bayes.benchmark.shifts import (
    SHIFTS,
    Shift,
    collinear_columns,
    contaminated_rows,
    heavy_tailed_noise,
    shifted_suite,
    shifts_of,
)
from icl_bayes.benchmark.suites import task_under_test
from icl_bayes.tasks import FAMILIES, make_task
from icl_bayes.types import Dataset


def test_a_shifted_prior_generates_and_the_own_one_answers() -> None:
    task = task_under_test("glm", "2", 5)
    shift = next(one for one in shifts_of("glm", "2") if one.name.startswith("C"))
    suite = shifted_suite(task, shift, num_datasets=64, seed=3)
    spread = np.std([jax.device_get(case.theta[:6]) for case in suite.cases])
    # theta is measured in the prior that generated; the data are not.
    assert spread == pytest.approx(1.0, abs=0.15)
    plain = shifted_suite(task, Shift("none", "glm", ("2",)), num_datasets=64, seed=3)

    def response_sd(cases) -> float:
        return float(np.median([np.std(case.dataset["y"]) for case in cases]))

    assert response_sd(suite.cases) / response_sd(plain.cases) > 1.5
    for case in suite.cases[:3]:
        assert case.split == f"shifted ({shift.name})"
        assert {name: float(value) for name, value in case.dataset.constants.items()} == task.constants
    again = shifted_suite(task, shift, num_datasets=2, seed=3)
    assert [case.digest for case in again.cases] == [case.digest for case in suite.cases[:2]]


def test_changes_do_what_they_say() -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(50, 3)).astype(np.float32)
    dataset = Dataset(x=x, y=(x[:, 0] + generator.normal(size=50)).astype(np.float32))
    wrong = contaminated_rows(np.random.default_rng(1), dataset)
    moved = np.abs(wrong["y"] - dataset["y"]) > 0.0
    assert moved.sum() == 5
    np.testing.assert_allclose(np.abs(wrong["y"] - dataset["y"])[moved], 5.0 * np.std(dataset["y"]), rtol=1e-4)
    without = contaminated_rows(np.random.default_rng(1), Dataset(x=x))
    assert np.sum(np.any(without["x"] != x, axis=1)) == 5
    collinear = collinear_columns(np.random.default_rng(1), dataset)["x"]
    assert np.corrcoef(collinear[:, 0], collinear[:, 2])[0, 1] > 0.999
    heavy = heavy_tailed_noise(np.random.default_rng(1), dataset)["y"] - dataset["y"]
    assert np.abs(heavy).max() > 4.0 * np.median(np.abs(heavy))
    assert heavy.dtype == np.float32


def test_every_shift_belongs_to_scenarios_that_exist_and_to_constants_they_have() -> None:
    constants: dict[tuple[str, str], set[str]] = {}
    for shift in SHIFTS:
        for scenario in shift.scenarios:
            if (shift.family, scenario) not in constants:
                options = {"num_columns": 5} if shift.family == "glm" else {}
                constants[shift.family, scenario] = set(make_task(f"{shift.family}/{scenario}", **options).constants)
            assert set(shift.factors) <= constants[shift.family, scenario], (shift.name, scenario)
        assert {int(one) for one in shift.scenarios} <= set(FAMILIES[shift.family].scenarios)
    bad = dataclasses.replace(SHIFTS[0], factors={"gamma_scale": 2.0})
    with pytest.raises(ValueError, match="no prior constant"):
        shifted_suite(task_under_test("glm", "2", 5), bad, num_datasets=1, seed=3)


def test_the_table_of_shifts(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = (Shift("contaminated rows", "glm", ("2",), change=contaminated_rows),)
    monkeypatch.setattr(module, "SHIFTS", few)
    monkeypatch.setattr(module, "shifts_of", lambda family, scenario: few)
    settings = ReproduceSettings(
        table="ood",
        scenario=2,
        methods=["laplace"],
        out=str(tmp_path),
        evaluation=EvaluationConfig(metrics=["mmd"], workers=0, num_draws=200),
    )
    outcome = reproduce(settings, Console(quiet=True))
    assert {record.split for record in outcome.records} == {"shifted (contaminated rows)"}
    assert {record.method for record in outcome.records} == {"laplace", "reference"}
    assert "shifted (contaminated rows)" in (tmp_path / "tables.md").read_text()
    with pytest.raises(ValueError, match="covers scenario"):
        reproduce(dataclasses.replace(settings, scenario=3), Console(quiet=True))
