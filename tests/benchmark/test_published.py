"""The published numbers: known values, their names beside ours, and misspelt names."""

from __future__ import annotations

import math

import pytest

from icl_bayes.benchmark import published


def test_every_number_is_there():
    values = published.load_published()
    assert len(values) == 3304
    assert {value.family for value in values} == {"glm", "fa", "gmm"}
    assert all(math.isfinite(value.mean) for value in values)


@pytest.mark.parametrize(
    ("asked", "mean"),
    [
        (("glm", "5", "icl", "synthetic", "c2st"), 0.621),
        (("glm", "5", "icl", "real", "w2"), 0.242),
        (("glm", "1", "hmc", "synthetic", "c2st"), 0.745),
        (("glm", "all", "icl", "all", "runtime_s"), 107.79),
    ],
)
def test_known_values(asked, mean):
    value = published.lookup(*asked)
    assert value is not None
    assert value.mean == mean


def test_main_tables_come_first_and_a_table_can_be_asked_for():
    assert published.lookup("glm", "5", "icl", "real", "c2st").table == "12"
    assert published.lookup("glm", "5", "icl", "real", "c2st", table="2").table == "2"
    assert published.lookup("glm", "5", "icl", "real", "c2st", table="13") is None
    assert published.lookup("glm", "2", "icl", "real", "c2st", variant="K=50", table="36") is not None


def test_absent_is_none_but_misspelt_is_an_error():
    assert published.lookup("glm", "5", "hmc", "synthetic", "c2st") is None
    with pytest.raises(ValueError, match="No published metric is called 'c2tst'; choices: c2st"):
        published.lookup("glm", "5", "icl", "synthetic", "c2tst")
    with pytest.raises(ValueError, match="No published family"):
        published.lookup("glmm", "5", "icl", "synthetic", "c2st")


def test_numbers_beside_ours():
    assert published.beside("glm", "5", "synthetic", "icl", "informed", "c2st") == 0.621
    # Their W2 is a W1: it stands beside our W1, and nothing beside our W2.
    assert published.beside("glm", "5", "real", "icl", "joint", "w1") == 0.242
    assert published.beside("glm", "5", "real", "icl", "joint", "w2") is None
    assert published.beside("glm", "5", "real", "vi", "full", "w1") == 0.279
    assert published.beside("glm", "5", "real", "vi_full", "", "w1") == 0.279
    assert published.beside("glm", "5", "real", "nuts", "", "seconds_run") == 120.24
    assert published.beside("glm", "5", "real", "parallel_hmc", "laplace", "c2st") is None
    # The paper has data sets of one size; nothing stands beside those of another.
    for size, number in {(50, 5): 0.621, (0, 0): 0.621, (500, 5): None, (50, 20): None}.items():
        assert published.beside("glm", "5", "synthetic", "icl", "informed", "c2st", size) == number
    assert published.beside("toy", "5", "real", "icl", "", "c2st") is None


def test_mean_over_scenarios_is_that_of_the_full_tables():
    scenarios = [str(number) for number in range(1, 8)]
    assert published.mean_beside("glm", scenarios, "synthetic", "icl", "joint", "c2st") == pytest.approx(
        0.689, abs=5e-4
    )
    assert published.mean_beside("glm", scenarios, "real", "icl", "joint", "c2st") == pytest.approx(0.666, abs=5e-4)
    assert published.mean_beside("glm", ["1", "5"], "real", "nuts", "", "c2st") is None  # printed for 1 only
