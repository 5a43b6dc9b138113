"""``icl-bayes calibrate``: records and plots of tests over simulated data sets."""

from __future__ import annotations

import csv
import dataclasses

import numpy as np
import pytest

from icl_bayes.benchmark.calibration import MEASURED, CalibrationRecord, write_records
from icl_bayes.cli import main


def rows_of(out) -> list[dict[str, str]]:
    with (out / "calibration.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_records_of_a_run_and_of_its_control(networks, tmp_path, capsys):
    out = tmp_path / "calibration"
    few = ["scenario=1", f"networks={networks}", "num_draws=40", f"out={out}"]
    assert main(["calibrate", *few, "num_datasets=70", "divergence_datasets=4"]) == 0
    assert "glm/1, raw draws: 70 data sets" in capsys.readouterr().out
    rows = rows_of(out)
    assert [row["test"] for row in rows].count("ranks") == 6
    assert {row["test"] for row in rows} == {"ranks", "coverage", "likelihood", "tarp", *MEASURED}
    tests = [row for row in rows if row["test"] not in MEASURED]
    assert all(float(row["limit"]) == pytest.approx(0.01 / len(tests)) for row in tests)
    # The tiny network draws from the closest Gaussian, which is close in a conjugate model.
    assert all(float(row["p_value"]) > float(row["limit"]) for row in tests)
    measured = {row["test"]: float(row["value"]) for row in rows if row["test"] in MEASURED}
    assert -0.1 < measured["divergence"] < 0.5
    assert measured["evidence above"] - measured["evidence below"] == pytest.approx(measured["divergence"], abs=1e-5)
    of_measures = [row for row in rows if row["test"] in MEASURED]
    assert all(np.isfinite(float(row["error"])) and row["num_datasets"] == "4" for row in of_measures)
    assert (out / "glm-1-raw.png").stat().st_size > 10_000

    assert main(["calibrate", *few, "num_datasets=400", "narrow=0.5"]) == 0
    control = [row for row in rows_of(out) if row["narrow"] == "0.5"]
    assert all(float(row["p_value"]) < float(row["limit"]) for row in control if row["test"] == "coverage")
    assert len(rows_of(out)) == len(rows) + len(control)


def test_rows_of_the_same_draws_are_replaced(tmp_path):
    values = dict.fromkeys((field.name for field in dataclasses.fields(CalibrationRecord)), 1)
    first = CalibrationRecord(**{**values, "family": "glm", "draws": "raw", "narrow": 1.0})
    path = tmp_path / "calibration.csv"
    write_records(path, [first, dataclasses.replace(first, coordinate="sigma2")])
    write_records(path, [dataclasses.replace(first, draws="refined")])
    write_records(path, [dataclasses.replace(first, p_value=0.5)])
    assert [(row["draws"], row["p_value"]) for row in rows_of(tmp_path)] == [("refined", "1"), ("raw", "0.5")]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("num_datasets=5", "at least 20 data sets"),
        ("narrow=0", "narrow must be positive"),
        ("divergence_datasets=1", "divergence_datasets must be"),
        ("scenario=9", "choices: 1, 2, 3"),
        ("num_dataset=100", "num_datasets"),
    ],
)
def test_mistakes_are_named(override, message, capsys):
    assert main(["calibrate", override]) == 2
    assert message in capsys.readouterr().err


def test_polish_and_refine_exclude_each_other(capsys):
    assert main(["calibrate", "polish=5", "refine=true"]) == 2
    assert "exclude each other" in capsys.readouterr().err
