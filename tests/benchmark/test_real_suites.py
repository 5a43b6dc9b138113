"""Real tables in the form of scenarios without a response, and simulated ones beside them."""

from __future__ import annotations

import numpy as np
import pytest

from icl_bayes.benchmark.real_suites import load_tables, real_suite, response_kind, simulated_moments
from icl_bayes.benchmark.reproduce import paper_table
from icl_bayes.benchmark.settings import DataConfig
from icl_bayes.benchmark.suites import synthetic_suite, task_under_test

SEED = 7


@pytest.fixture(scope="module")
def tables():
    return load_tables(DataConfig(source="bundled"))[0]


@pytest.mark.parametrize(("scenario", "at_least"), [("1", 15), ("3", 15), ("4", 10)])
def test_every_bundled_table_that_is_large_enough_serves(scenario, at_least, tables) -> None:
    task = task_under_test("fa", scenario, 0)
    suite = real_suite(task, tables, num_datasets=0, num_rows=task.paper_num_rows, seed=SEED)
    assert len(suite.cases) >= at_least
    small = {one.name for one in tables if one.num_columns + 1 < task.num_columns or one.num_rows < task.paper_num_rows}
    assert set(suite.notes["not eligible"]) == small
    assert len(suite.cases) + len(suite.notes["not usable"]) + len(small) == len(tables)
    for case in suite.cases:
        assert (case.n, case.p) == (task.paper_num_rows, task.num_columns)
    assert set(suite.notes["tables"]) == {case.name for case in suite.cases}
    # The moments of whole tables are matched, so those of the drawn rows scatter about the scenario's.
    pooled = np.concatenate([np.ravel(case.dataset["x"]) for case in suite.cases])
    mean, variance = simulated_moments(task, task.paper_num_rows)
    assert pooled.mean() == pytest.approx(mean, abs=0.1 * variance**0.5)
    assert pooled.var() == pytest.approx(variance, rel=0.3)


def test_a_table_too_small_is_named_where_it_was_asked_for(tables) -> None:
    task = task_under_test("fa", "4", 0)
    few = [one for one in tables if one.name in ("airfoil", "skillcraft")]
    suite = real_suite(task, few, num_datasets=2, num_rows=25, seed=SEED, in_order=True)
    assert [case.name for case in suite.cases] == ["skillcraft"]
    assert "'airfoil' does not serve, which takes at least 25 rows and 15 columns" in suite.warnings[0]
    assert "1 of the 2 real data sets asked for exist" in suite.warnings[1]


def test_simulated_factor_models_have_no_covariates_to_speak_of() -> None:
    task = task_under_test("fa", "2", 0)
    suite = synthetic_suite(task, num_datasets=3, num_rows=20, seed=SEED)
    assert suite.notes == {"simulated": 3, "rejected": 0}
    assert [(case.n, case.p) for case in suite.cases] == [(20, 3)] * 3
    assert response_kind(task) == "features"


def test_tables_of_factor_analysis_are_those_of_the_paper() -> None:
    assert (paper_table(13).family, paper_table(13).scenarios) == ("fa", tuple("123456"))
    assert paper_table(3).splits == ("synthetic", "real")
