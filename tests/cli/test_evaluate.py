"""``icl-bayes evaluate``, ``reproduce`` and ``demo``: records, resuming, and what is written beside them."""

from __future__ import annotations

import json

import pytest

from icl_bayes.benchmark.records import read_records
from icl_bayes.cli import main

# 200 draws and the cheapest score: what is tested here is the way, not the numbers.
QUICK = ["evaluation.metrics=[mmd]", "evaluation.num_draws=200", "evaluation.workers=0"]


def evaluate(out, networks, *overrides):
    return main(["evaluate", f"networks={networks}", f"out={out}", "seed=7", *QUICK, *overrides])


def test_records_are_written_and_a_second_run_completes_the_first(networks, tmp_path, capsys):
    out = tmp_path / "run"
    first = ["scenario=1", "methods=[icl,laplace]", "evaluation.keep_draws=true"]
    assert evaluate(out, networks, *first, "num_datasets=1") == 0
    records = read_records(out / "records.csv")
    assert {(row.method, row.variant) for row in records} == {
        ("reference", "floor"),
        ("icl", "informed"),
        ("laplace", ""),
    }
    assert {(row.family, row.scenario, row.split, row.dataset, row.n, row.p, row.seed) for row in records} == {
        ("glm", "1", "synthetic", "000", 50, 5, 7)
    }
    assert all(row.status in ("ok", "warning") and row.metric == "mmd" for row in records)
    printed = capsys.readouterr().out
    for name in ("records.csv", "tables.md", "report.html"):
        assert (out / name).is_file()
        assert name in printed
    assert "seed 7 (a validation seed)" in (out / "tables.md").read_text()
    assert "data:image/png;base64," in (out / "report.html").read_text()  # the marginals of kept draws
    suite = json.loads((out / "suite.json").read_text())
    assert suite["problems"]["glm/1 synthetic"] == {"simulated": 1, "rejected": 0, "covariates": "tabular"}

    assert evaluate(out, networks, *first, "num_datasets=2") == 0
    assert evaluate(out, networks, *first, "num_datasets=1") == 0  # which does not forget the second
    suite = json.loads((out / "suite.json").read_text())
    assert suite["problems"]["glm/1 synthetic"]["simulated"] == 2
    assert len(suite["data"]) == 2
    more = read_records(out / "records.csv")
    assert more[: len(records)] == records  # nothing was computed again
    assert [row.dataset for row in more[len(records) :]] == ["001"] * 3
    assert "2 already done" in capsys.readouterr().out


def test_scores_of_other_data_under_the_same_name_are_not_taken_for_these(networks, table, tmp_path, capsys):
    out = tmp_path / "run"
    own = ["scenario=1", "methods=laplace", "num_rows=40", "num_datasets=0", "data=csv", f"data.path={table}"]
    assert evaluate(out, networks, *own, "data.target=y") == 0
    before = (out / "records.csv").read_bytes()
    capsys.readouterr()
    assert evaluate(out, networks, *own, "data.target=a") == 2
    assert "holds scores of other data under the same name" in capsys.readouterr().err
    assert (out / "records.csv").read_bytes() == before
    assert evaluate(out, networks, *own, "data.target=y") == 0


def test_real_tables_are_prepared_and_left_out_ones_named(networks, tmp_path, capsys):
    out = tmp_path / "run"
    tables = "data.tables=[diabetes,breast_cancer]"
    assert evaluate(out, networks, "scenario=1", "methods=laplace", "data=bundled", "num_datasets=2", tables) == 0
    assert {(row.split, row.dataset) for row in read_records(out / "records.csv")} == {("real", "diabetes")}
    assert "'breast_cancer' does not serve, which takes at least 50 rows" in capsys.readouterr().out
    problem = json.loads((out / "suite.json").read_text())["problems"]["glm/1 real"]
    assert problem["not eligible"] == ["breast_cancer"]
    assert problem["tables"]["diabetes"].startswith("Yeo-Johnson")


def test_a_table_of_your_own(networks, table, tmp_path, capsys):
    size = ["num_rows=40", "num_datasets=1"]
    source = ["data=csv", f"data.path={table}", "data.target=y"]
    assert evaluate(tmp_path / "a", networks, "scenario=2", "methods=laplace", *source, *size) == 0
    assert {row.dataset for row in read_records(tmp_path / "a" / "records.csv")} == {"table"}
    assert evaluate(tmp_path / "b", networks, "scenario=6", "methods=laplace", *source, "num_rows=50") == 2
    assert "No data set serves scenario(s) 6 with 50 rows and 5 columns" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["scenario=[1,8]"], "Unknown scenario(s) 8 of family 'glm'; choices: 1, 2, 3, 4, 5, 6, 7, or 'all'"),
        (["family=gml"], "Unknown family 'gml'; choices: glm"),
        (["methods=[icl,lapalce]"], "Unknown method 'lapalce'; choices: icl, icl/VARIANT"),
        (["methods=[parallel_hmc]"], "parallel_hmc@K"),
        (["methods=[icl/laplace]"], "holds no network of variant 'laplace' for glm/1"),
        (["scenario=5", "methods=icl"], "holds no network of variant 'informed' for glm/5"),
        (["data=bundled", "data.tables=[iris]", "methods=laplace"], "bundled has no table(s) iris; choices: abalone"),
        (["evaluation.metrics=[c3st]"], "evaluation.metrics must be some of c2st, c2st_auc"),
        (["data.covariates=tabula", "methods=laplace"], "Did you mean 'tabular'?"),
    ],
)
def test_mistakes_are_found_before_anything_is_computed(overrides, message, networks, tmp_path, capsys):
    out = tmp_path / "run"
    assert evaluate(out, networks, "num_datasets=1", *overrides) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert not (out / "records.csv").exists()


def test_nothing_scored_is_a_failure(networks, tmp_path, capsys):
    # Four rows are fewer than the network was trained for.
    assert evaluate(tmp_path, networks, "scenario=1", "methods=icl", "num_datasets=1", "num_rows=4") == 1
    captured = capsys.readouterr()
    assert "fewer than the 10 that this network was trained for" in captured.out
    assert "no score at all" in captured.err


class TestReproduce:
    """A table of the paper, computed again."""

    def test_table_12(self, networks, tmp_path, capsys):
        out = tmp_path / "table"
        few = ["scenario=1", "methods=laplace", f"networks={networks}", f"out={out}", *QUICK]
        assert main(["reproduce", "table=12", "preset=quick", "seed=7", *few]) == 0
        assert {row.split for row in read_records(out / "records.csv")} == {"synthetic", "real"}
        text = (out / "tables.md").read_text()
        assert text.startswith("# Table 12 of the paper: GLM, every scenario")
        assert "published (other, partly faulty reference): MMD / seconds" in text

    def test_unknown_tables_list_those_available(self, capsys):
        assert main(["reproduce", "table=99"]) == 2
        error = capsys.readouterr().err
        assert "Table 99 of the paper is not available here. Available: 1 (GLM" in error
        assert "12 (GLM, every scenario)" in error

    def test_scenarios_outside_the_table(self, capsys):
        assert main(["reproduce", "table=2", "scenario=1"]) == 2
        assert "Table 2 does not cover scenario(s) 1; it covers 5" in capsys.readouterr().err


def test_demo(networks, tmp_path, capsys):
    out = tmp_path / "demo"
    few = ["scenario=1", "tables_real=[diabetes]", "methods=[icl,laplace]", "metrics=[mmd]", "workers=0"]
    assert main(["demo", f"networks={networks}", f"out={out}", *few]) == 0
    printed = capsys.readouterr().out
    assert str(out / "report.html") in printed
    assert {row.dataset for row in read_records(out / "records.csv")} == {"diabetes"}
    report = (out / "report.html").read_text()
    assert "GLM posteriors in context, on real data" in report
    assert report.count("data:image/png;base64,") == 2  # marginals and pairs


def test_scenarios_of_the_demo_take_turns_with_the_tables(tmp_path):
    few = ["scenario=[1,2]", "tables_real=[diabetes,concrete]", "methods=[laplace]", "metrics=[mmd]", "workers=0"]
    assert main(["demo", f"out={tmp_path}", *few]) == 0
    rows = read_records(tmp_path / "records.csv")
    assert {(row.scenario, row.dataset) for row in rows} == {("1", "diabetes"), ("2", "concrete")}
