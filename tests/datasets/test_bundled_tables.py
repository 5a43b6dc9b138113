"""The shipped tables: complete, documented, licensed, and enough of them for every scenario."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from icl_bayes.datasets import (
    Table,
    bundled_description,
    bundled_names,
    eligible_tables,
    infer_response_kind,
    load_bundled,
    select_eligible,
)
from icl_bayes.datasets import bundled as bundled_module

DATA = Path(str(files("icl_bayes.datasets") / "data"))
SECTIONS = dict(re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", (DATA / "SOURCES.md").read_text(), re.M | re.S))
OPEN_LICENCES = ("CC BY 4.0", "CC0", "public domain", "MIT", "BSD-3-Clause")


@pytest.mark.parametrize("name", bundled_names())
def test_table_is_sound_and_documented(name: str) -> None:
    table = load_bundled(name)
    entry = bundled_description(name)
    assert np.isfinite(table.features).all()
    assert np.isfinite(table.response).all()
    assert 50 <= table.num_rows <= 1000
    assert table.num_columns >= 5
    assert (np.ptp(table.features, axis=0) > 0).all(), "a constant column is no feature"
    assert table.num_rows == entry["num_rows"]
    assert not table.features.flags.writeable
    assert not table.response.flags.writeable
    assert table.licence.startswith(OPEN_LICENCES)
    section = SECTIONS[name]
    for text in (
        f"- source: {table.source}",
        f"- licence: {table.licence}",
        f"- package: {entry['package']}",
        f"- rows kept: {table.num_rows}",
        f"`{table.response_name}` ({table.response_kind})",
        f"derived response: {'yes' if table.derived else 'no'}",
        f"- changes: {entry['changes']}",
        f"- columns: {', '.join(table.columns)}\n",
    ):
        assert text in section, text


def test_nothing_is_shipped_undocumented() -> None:
    on_disk = {path.name.removesuffix(".csv.gz") for path in DATA.glob("*.csv.gz")}
    assert on_disk == set(bundled_names()) == set(SECTIONS)
    assert sum(path.stat().st_size for path in DATA.iterdir() if path.is_file()) <= 2_000_000
    notices = (DATA / "LICENCES.txt").read_text()
    for name in bundled_names():
        if load_bundled(name).licence.startswith(("MIT", "BSD")) or "MIT" in load_bundled(name).licence:
            assert name in notices, f"{name} needs its notice"


def test_declared_kinds_are_those_of_the_values() -> None:
    """A real response may happen to be positive (a score, a level), but binary and positive must be what they say."""
    for name in bundled_names():
        table = load_bundled(name)
        inferred = infer_response_kind(table.response)
        assert table.response_kind in ({"real", inferred} if inferred != "binary" else {"binary"}), name


def test_known_values_of_a_table() -> None:
    """Anchors to the published table, so that a shifted column or a wrong target would show."""
    table = load_bundled("diabetes")
    assert table.columns[:3] == ("age", "sex", "bmi")
    np.testing.assert_allclose(table.features[0, :4], [59, 2, 32.1, 101])
    assert table.response[0] == 151.0
    assert table.response.mean() == pytest.approx(152.133, abs=1e-3)
    cancer = load_bundled("breast_cancer")
    assert cancer.response.sum() == 212  # malignant
    heart = load_bundled("heart_disease")
    assert heart.derived
    assert heart.response.sum() == 137


@pytest.mark.parametrize("kind", ["real", "binary", "positive"])
def test_enough_tables_for_every_glm_scenario(kind: str) -> None:
    names = eligible_tables(50, 5, kind)
    assert len(names) >= 15
    for name in names:
        table = load_bundled(name)
        assert table.num_rows >= 50
        assert table.num_columns >= 5
        assert table.response_kind == kind or (kind == "real" and table.response_kind == "positive")


def test_derived_responses_only_on_request_and_last() -> None:
    native = eligible_tables(50, 5, "positive")
    everything = eligible_tables(50, 5, "positive", include_derived=True)
    assert everything[: len(native)] == native
    added = everything[len(native) :]
    assert {load_bundled(name).response_kind for name in added} == {"real"}
    assert len(eligible_tables(50, 5, "binary", include_derived=True)) == len(bundled_names())
    # No table with a binary response ever serves another scenario.
    for kind in ("real", "positive"):
        names = eligible_tables(1, 1, kind, include_derived=True)
        assert all(load_bundled(name).response_kind != "binary" for name in names)


def test_eligibility_asks_for_rows_and_columns() -> None:
    assert eligible_tables(1001, 5, "real") == ()
    wide = eligible_tables(500, 50, "real")
    assert wide == ("communities",)
    assert set(eligible_tables(500, 5, "real")) < set(eligible_tables(50, 5, "real"))
    tables = [load_bundled(name) for name in bundled_names()]
    for kind in ("real", "binary", "positive"):
        for derived in (False, True):
            selected = select_eligible(tables, 200, 8, kind, include_derived=derived)
            assert tuple(table.name for table in selected) == eligible_tables(200, 8, kind, include_derived=derived)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ((50, 5, "count"), r"response_kind must be one of .*'real', 'binary', 'positive'.*'count'"),
        ((0, 5, "real"), "num_rows and num_columns must be at least 1; received 0 and 5"),
    ],
)
def test_eligibility_rejects(arguments: tuple[int, int, str], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        eligible_tables(*arguments)


def test_unknown_name_suggests() -> None:
    with pytest.raises(ValueError, match=r"no bundled table 'diabetis'. Did you mean diabetes"):
        load_bundled("diabetis")
    with pytest.raises(ValueError, match=r"no bundled table 'zzz'. Choose one of: abalone, "):
        load_bundled("zzz")


@pytest.mark.parametrize("damage", ["truncated", "altered"])
def test_damaged_file_is_named(damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "tables.json").write_text((DATA / "tables.json").read_text())
    whole = (DATA / "yacht.csv.gz").read_bytes()
    other = (DATA / "slump.csv.gz").read_bytes()
    (tmp_path / "data" / "yacht.csv.gz").write_bytes(whole[:-20] if damage == "truncated" else other)
    monkeypatch.setattr(bundled_module, "files", lambda package: tmp_path)
    load_bundled.cache_clear()
    try:
        with pytest.raises(ValueError, match=r"data file of 'yacht' is (damaged|not the one).*Reinstall"):
            load_bundled("yacht")
    finally:
        load_bundled.cache_clear()


GOOD = {"name": "t", "columns": ("a", "b"), "features": [[1.0, 2.0], [3.0, 4.0]], "response": [0.0, 1.0]}


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"response_kind": "count"}, "response_kind must be one of"),
        ({"name": ""}, "needs a name"),
        ({"columns": ("a",)}, "2 feature columns, but 1 column names"),
        ({"columns": ("a", "a")}, r"column names must differ; repeated: \['a'\]"),
        ({"response": [1.0]}, r"received \(2, 2\) and \(1,\)"),
        ({"features": [1.0, 2.0]}, r"features must be \(n, p\)"),
        ({"features": np.empty((0, 2)), "response": []}, "has no rows"),
        ({"columns": (), "features": np.empty((2, 0))}, "has no feature columns"),
        ({"features": [[1.0, np.nan], [3.0, 4.0]]}, r"columns \['b'\], rows 0\. Drop or fill"),
        ({"features": [[1.0, 2.0], [np.inf, 4.0]]}, r"columns \['a'\], rows 1"),
        ({"response": [0.0, np.nan]}, r"response 'y' must be finite.*rows 1"),
        ({"response": [1.0, 2.0], "response_kind": "binary"}, "must hold 0 and 1 only; received 1, 2"),
        ({"response": [1.0, 1.0], "response_kind": "binary"}, "both classes; received only 1"),
        ({"response": [0.0, 1.0], "response_kind": "positive"}, "must be above zero; the smallest value is 0"),
        ({"features": [["x", "y"], ["z", "w"]]}, "must be numbers"),
    ],
)
def test_table_rejects(changes: dict, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Table(**{**GOOD, "response_kind": "real", **changes})


def test_table_does_not_share_memory_with_its_input() -> None:
    features = np.ones((3, 1))
    table = Table("t", ("a",), features, np.arange(3.0), "real")
    features[0, 0] = 7.0
    assert table.features[0, 0] == 1.0
    dataset = table.to_dataset()
    assert dataset["x"].shape == (3, 1)
    assert dataset["y"].shape == (3,)
