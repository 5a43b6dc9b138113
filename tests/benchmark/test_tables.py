"""Aggregation and tables: the numbers, what is missing, and that nothing published stands without its heading."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
from rich.console import Console

from icl_bayes.benchmark import published
from icl_bayes.benchmark.aggregate import across_scenarios, summarize, unscored
from icl_bayes.benchmark.render import print_tables, to_html, to_markdown
from icl_bayes.benchmark.tables import AT_FLOOR, MISSING, dataset_table, format_seconds, score_tables, unscored_table

from .fakes import make_record


def failed(**changes):
    return make_record(metric="", value=math.nan, floor=math.nan, status="failed", **changes)


def floor_row(**changes):
    return make_record(method="reference", variant="floor", checkpoint="", solver="", **changes)


def rows_of(values, floors, **changes):
    pairs = zip(values, floors, strict=True)
    return [make_record(dataset=str(i), value=v, floor=f, **changes) for i, (v, f) in enumerate(pairs)]


def find(table, name):
    row = next(row for row in table.rows if row[0].text == name)
    return dict(zip(table.columns, row, strict=True))


def test_means_errors_and_paired_excess():
    values, floors = [0.52, 0.54, 0.50, 0.56], [0.50, 0.51, 0.49, 0.53]
    (summary,) = summarize(rows_of(values, floors, seconds_run=0.01))
    assert summary.mean == pytest.approx(0.53)
    assert summary.error == pytest.approx(np.std(values, ddof=1) / 2)
    assert summary.floor == pytest.approx(0.5075)
    excess = np.subtract(values, floors)
    assert summary.excess == pytest.approx(excess.mean())
    assert summary.excess_error == pytest.approx(excess.std(ddof=1) / 2)
    assert not summary.at_floor
    assert summary.published == 0.621
    (near,) = summarize(rows_of([0.51, 0.49, 0.52], [0.50, 0.50, 0.50]))
    assert near.at_floor
    (single,) = summarize(rows_of([0.51], [0.50]))
    assert math.isnan(single.error)
    assert not single.at_floor  # one data set proves nothing


def test_efforts_sizes_and_checkpoints_are_never_averaged_together():
    records = [
        make_record(),
        make_record(solver="midpoint steps=8"),
        make_record(checkpoint="other"),
        make_record(n=200),
        make_record(num_draws=500),
        make_record(protocol="older"),
        make_record(seed=10_001, value=0.6),
    ]
    summaries = summarize(records)
    assert sorted(row.num_scored for row in summaries) == [1, 1, 1, 1, 2]
    by_size = summarize(records, by=("family", "scenario", "split", "method"))
    assert [(row.num_scored, row.n, row.solver) for row in by_size] == [(6, 0, "")]
    with pytest.raises(ValueError, match=r"Cannot group by \['seed'\]; choose from"):
        summarize(records, by=("seed",))


def test_mean_over_scenarios_counts_each_once():
    records = [
        *rows_of([0.5, 0.5, 0.5, 0.5], [0.5] * 4, scenario="1"),
        *rows_of([0.7, 0.9], [0.5, 0.5], scenario="2", checkpoint="another"),
        *rows_of([0.6], [0.5], scenario="2", method="only there"),
    ]
    (mean,) = across_scenarios(summarize(records))
    assert mean.mean == pytest.approx(0.65)
    assert mean.error == pytest.approx(0.1 / 2)
    assert mean.scenarios == ("1", "2")
    expected = [published.lookup("glm", s, "icl", "synthetic", "c2st").mean for s in ("1", "2")]
    assert mean.published == pytest.approx(np.mean(expected))
    # Two checkpoints for one scenario would count it twice.
    records += rows_of([0.5], [0.5], scenario="2", checkpoint="a third")
    assert across_scenarios(summarize(records)) == []


def test_networks_with_solvers_of_their_own_have_a_common_mean():
    records = [
        *rows_of([0.5, 0.5], [0.5] * 2, scenario="1", solver="multistep steps=2"),
        *rows_of([0.7, 0.7], [0.5] * 2, scenario="2", solver="multistep steps=4"),
    ]
    (mean,) = across_scenarios(summarize(records))
    assert (mean.mean, mean.scenarios, mean.solver) == (pytest.approx(0.6), ("1", "2"), "")
    # Where efforts are compared, each has a mean of its own.
    records += rows_of([0.6, 0.6], [0.5] * 2, scenario="1", solver="multistep steps=4")
    (mean,) = across_scenarios(summarize(records))
    assert (mean.mean, mean.solver) == (pytest.approx(0.65), "multistep steps=4")


@pytest.fixture
def incomplete():
    """Three data sets: one method complete, one failing once, one always failing, one never run on the last; and a
    fourth data set without reference."""
    records = [floor_row(dataset=str(i), value=0.5, floor=0.5) for i in range(3)]
    records += rows_of([0.51, 0.52, 0.53], [0.5] * 3)
    records += rows_of([0.6, 0.62], [0.5] * 2, method="vi", variant="iaf", checkpoint="", solver="")
    records.append(failed(dataset="2", method="vi", variant="iaf", checkpoint="", solver="", message="ELBO is NaN"))
    map_ = {"method": "map", "variant": "", "checkpoint": "", "solver": ""}
    records += [failed(dataset=str(i), message="no mode", **map_) for i in range(3)]
    late = {"method": "laplace", "variant": "", "checkpoint": "", "solver": ""}
    records += rows_of([0.64, 0.65], [0.5] * 2, **late)
    lost = {"method": "reference", "variant": "floor", "checkpoint": "", "solver": ""}
    records.append(failed(dataset="3", message="R-hat 1.2", **lost))
    return records


def test_missing_cells_are_counted_and_listed(incomplete):
    (table,) = score_tables(incomplete)
    scored = {row[0].text: dict(zip(table.columns, row, strict=True))["scored"] for row in table.rows}
    assert {name: cell.text for name, cell in scored.items()} == {
        "reference (floor)": "3/4",
        "icl informed (midpoint steps=4)": "3/4",
        "vi iaf": "2/4",
        "laplace": "2/4",
        "map": "0/4 (3 failed)",
    }
    assert all(cell.role == MISSING for cell in scored.values())
    assert table.rows[0][0].text == "reference (floor)"
    assert table.rows[-1][0].text == "map"
    found = [(cell.dataset, cell.method, cell.reason) for cell in unscored(incomplete)]
    assert sorted(found) == [
        ("0", "map", "no mode"),
        ("1", "map", "no mode"),
        ("2", "laplace", "not run"),
        ("2", "map", "no mode"),
        ("2", "vi iaf", "ELBO is NaN"),
        ("3", "reference", "R-hat 1.2"),
    ]
    assert unscored_table(incomplete).title == "Without a score: 6"
    assert unscored_table(rows_of([0.5], [0.5])) is None


def test_dataset_table_marks_failures(incomplete):
    table = dataset_table(incomplete, "glm", "5", "synthetic")
    assert table.columns == ("data set", "n", "floor", "icl informed (midpoint steps=4)", "vi iaf", "map", "laplace")
    texts = [[cell.text for cell in row] for row in table.rows]
    assert texts[2] == ["2", "50", "0.500", "0.530", "failed", "failed", "–"]
    assert texts[3] == ["3", "50", "–", "–", "–", "–", "–"]


def test_warnings_are_visible():
    records = rows_of([0.5, 0.5], [0.5, 0.5])
    records.append(make_record(dataset="2", status="warning", message="R-hat 1.02"))
    (table,) = score_tables(records)
    assert table.rows[0][table.columns.index("scored")].text == "3/3*"


def test_published_stands_beside_and_under_its_heading():
    records = [
        *rows_of([0.51, 0.50, 0.52], [0.5, 0.5, 0.51]),
        *rows_of([0.03, 0.04, 0.03], [0.02, 0.02, 0.02], metric="mmd"),
        *rows_of([0.2, 0.2, 0.3], [0.1, 0.1, 0.1], metric="w1"),
        *rows_of([0.3, 0.3, 0.4], [0.1, 0.1, 0.1], metric="w2"),
        *rows_of([0.5, 0.5, 0.5], [0.5] * 3, method="parallel_hmc", variant="laplace", solver="moves=5"),
    ]
    (table,) = score_tables(records)
    heading = table.columns[-1]
    assert heading == "published (other, partly faulty reference): C2ST / MMD / W1 / seconds"
    ours = find(table, "icl informed (midpoint steps=4)")
    assert ours["C2ST"].text.startswith("0.510 ± ")
    assert ours["C2ST"].role == AT_FLOOR
    w2 = published.lookup("glm", "5", "icl", "synthetic", "w2").mean
    assert ours[heading].text == f"0.621 / 0.067 / {w2:.3f} / 108 s"
    assert find(table, "parallel_hmc laplace (moves=5)")[heading].text == ""
    for text in (to_markdown(table), to_html(table), printed([table])):
        flat = " ".join(text.replace("|", " ").split())
        assert "0.621" in flat
        assert "published" in flat
    assert "**0.510 ±" in to_markdown(table)
    (compact,) = score_tables(records, compact=True)
    assert compact.columns[-1] == "published (other, partly faulty reference): C2ST"
    assert find(compact, "icl informed (midpoint steps=4)")[compact.columns[-1]].text == "0.621"


def test_without_published_numbers_there_is_no_column():
    (table,) = score_tables(rows_of([0.5, 0.5], [0.5, 0.5], family="toy"))
    assert not any("published" in column for column in table.columns)
    assert not any("published" in note for note in table.notes)


def printed(tables, **options) -> str:
    console = Console(file=io.StringIO(), **options)
    print_tables(tables, console)
    return console.file.getvalue()


@pytest.mark.parametrize("options", [{"width": 40}, {"width": 100, "force_terminal": True}])
def test_printing_never_cuts_a_number(incomplete, options):
    tables = score_tables(incomplete, compact=True)
    text = printed(tables, **options)
    for row in tables[0].rows:
        for cell in row[1:]:
            assert cell.text in text
    assert "…" not in text


def test_html_escapes_what_it_is_given():
    text = to_html(unscored_table([failed(message="<script>alert(1)</script>")]))
    assert "<script>" not in text
    assert "&lt;script&gt;" in text


@pytest.mark.parametrize(
    ("seconds", "text"), [(4e-5, "40 µs"), (0.0123, "12.3 ms"), (0.9999, "1 s"), (107.8, "108 s"), (5400, "90 min")]
)
def test_seconds_carry_their_unit(seconds, text):
    assert format_seconds(seconds) == text
