"""CSV files: what loads, and for what does not, a message that says where to look and what to do."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from icl_bayes.datasets import load_csv

GOOD = "a,b,y\n1,2,3.5\n4,5,-6\n7,8,9\n"


def written(folder: Path, content: str | bytes, name: str = "data.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_reads_numbers_in_file_order(tmp_path: Path) -> None:
    table = load_csv(written(tmp_path, GOOD), target="y")
    assert table.name == "data"
    assert table.columns == ("a", "b")
    assert table.response_kind == "real"
    np.testing.assert_array_equal(table.features, [[1, 2], [4, 5], [7, 8]])
    np.testing.assert_array_equal(table.response, [3.5, -6, 9])


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_finds_the_delimiter(delimiter: str, tmp_path: Path) -> None:
    table = load_csv(written(tmp_path, GOOD.replace(",", delimiter)), target="y")
    np.testing.assert_array_equal(table.response, [3.5, -6, 9])


def test_features_choose_and_order_and_other_columns_may_be_text(tmp_path: Path) -> None:
    path = written(tmp_path, 'a,"long, name",b,y\n1,x,2,0\n3,,4,1\n')
    table = load_csv(path, target="y", features=["b", "a"])
    assert table.columns == ("b", "a")
    np.testing.assert_array_equal(table.features, [[2, 1], [4, 3]])


def test_byte_order_mark_windows_lines_blank_lines_and_gzip(tmp_path: Path) -> None:
    content = ("\ufeff" + GOOD).replace("\n", "\r\n").encode() + b"\r\n\r\n"
    plain = load_csv(written(tmp_path, content), target="y")
    zipped = load_csv(written(tmp_path, gzip.compress(content), "data.csv.gz"), target="y", name="mine")
    np.testing.assert_array_equal(plain.features, zipped.features)
    assert plain.columns == ("a", "b")
    assert zipped.name == "mine"


@pytest.mark.parametrize(
    ("responses", "kind"), [("0 1 1", "binary"), ("1 2 0.5", "positive"), ("-1 2 0", "real"), ("1 1 1", "positive")]
)
def test_infers_the_kind_of_response(responses: str, kind: str, tmp_path: Path) -> None:
    rows = "".join(f"{place},{value}\n" for place, value in enumerate(responses.split()))
    assert load_csv(written(tmp_path, "a,y\n" + rows), target="y").response_kind == kind


def test_missing_file_says_where_it_looked(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no file .*absent\.csv.*relative to"):
        load_csv(tmp_path / "absent.csv", target="y")
    with pytest.raises(ValueError, match="is a directory"):
        load_csv(tmp_path, target="y")


@pytest.mark.parametrize(
    ("content", "options", "match"),
    [
        ("", {}, "is empty; expected a line of column names"),
        ("a,y\n", {}, r"has column names \['a', 'y'\] but no rows"),
        (GOOD, {"target": "z"}, r"no target column \['z'\]; its columns are \['a', 'b', 'y'\]"),
        (GOOD.replace("y", "price"), {"target": "prize"}, "Did you mean 'price'"),
        (GOOD, {"features": ["a", "q"]}, r"no feature column \['q'\]; its columns are"),
        (GOOD, {"features": ["a", "y"]}, "'y' is also listed as a feature"),
        (GOOD, {"features": ["a", "a"]}, "lists a column more than once"),
        (GOOD, {"features": []}, "no feature columns beside the target"),
        (GOOD, {"features": "a"}, "features must be a list of column names; received the single string 'a'"),
        (GOOD, {"response_kind": "count"}, "response_kind must be one of"),
        (GOOD, {"response_kind": "binary"}, "declared binary and must hold 0 and 1 only"),
        (GOOD, {"response_kind": "positive"}, "declared positive.*smallest value is -6"),
        ("y\n1\n2\n", {}, "no feature columns beside the target 'y'"),
        ("a,a,y\n1,2,3\n", {}, r"named more than once: \['a'\]"),
        ("a,b,y\n1,2,3\n4,5\n", {}, "line 3: 2 cells, but the first line names 3 columns"),
        ("a,city,y\n1,Rome,3\n2,Oslo,4\n", {}, r"columns with text: 'city' \(e.g. 'Rome'\).*Encode them.*0 and 1"),
        ("a,y\n1,yes\n2,no\n", {}, r"'y' \(e.g. 'yes'\)"),
        ("a,b,y\n1,,3\n4,5,6\n7,NA,9\n", {}, r"missing or infinite values: 'b' in lines 2, 4 .*Drop these rows"),
        ("a,y\n1,2\ninf,3\n", {}, "'a' in line 3"),
        ("a,y\n1,2\n2,nan\n", {}, "'y' in line 3"),
        ("a,y\n" + "nan,1\n" * 9, {}, r"2, 3, 4, 5, 6, \.\.\. \(9 in all\)"),
        (b"a,y\n\xff\xfe,1\n", {}, "is not UTF-8 text"),
    ],
)
def test_bad_files_are_explained(content: str | bytes, options: dict, match: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=match):
        load_csv(written(tmp_path, content), **{"target": "y", **options})


def test_truncated_gzip_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, gzip.compress(GOOD.encode())[:-9], "data.csv.gz")
    with pytest.raises(ValueError, match="not a whole gzip file"):
        load_csv(path, target="y")
    with pytest.raises(ValueError, match="not a whole gzip file"):
        load_csv(written(tmp_path, GOOD, "plain.csv.gz"), target="y")
