"""The paper's OpenML suite without a network: a stand-in client, the cache, and what breaks it."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from icl_bayes.datasets import TableUnavailableError, load_openml336, load_suite336, openml336, openml336_names

IDS = {entry.name: entry.data_id for entry in openml336.SUITE_336}


class FakeClient:
    """Answers like ``openml.datasets`` with a small made-up table, and counts the requests."""

    def __init__(self, num_rows: int = 40, fail: Exception | None = None, **columns: Any) -> None:
        self.num_rows, self.fail, self.columns, self.requests = num_rows, fail, columns, []

    def get_dataset(self, dataset_id: int) -> Any:
        self.requests.append(dataset_id)
        if self.fail is not None:
            raise self.fail
        rng = np.random.default_rng(dataset_id)
        frame = pd.DataFrame({"a": rng.normal(size=self.num_rows), "b": rng.integers(0, 9, self.num_rows)})
        for name, values in self.columns.items():
            frame[name] = values
        response = pd.Series(rng.gamma(2.0, size=self.num_rows), name="price")

        def get_data(target: str) -> tuple[Any, ...]:
            assert target == "price"
            return frame, response, [False] * frame.shape[1], list(frame.columns)

        return SimpleNamespace(default_target_attribute="price", licence="Public", get_data=get_data)


def same(first: Any, second: Any) -> bool:
    texts = ("name", "columns", "response_kind", "response_name", "source", "licence")
    return (
        all(getattr(first, text) == getattr(second, text) for text in texts)
        and np.array_equal(first.features, second.features)
        and np.array_equal(first.response, second.response)
    )


def test_second_load_needs_no_network(tmp_path: Path) -> None:
    client = FakeClient()
    fetched = load_openml336("houses", cache_dir=tmp_path, client=client)
    cached = load_openml336("houses", cache_dir=tmp_path, client=FakeClient(fail=OSError("offline")))
    assert client.requests == [IDS["houses"]]
    assert same(fetched, cached)
    assert cached.response_kind == "positive"
    assert cached.response_name == "price"
    assert cached.licence == "Public"
    assert [path.name for path in (tmp_path / "openml336").iterdir()] == ["44138.npz"]


def test_suite_is_the_published_one() -> None:
    assert len(openml336.SUITE_336) == 19
    assert len({entry.data_id for entry in openml336.SUITE_336}) == 19
    assert IDS["MiamiHousing2016"] == 44147
    assert openml336_names()[0] == "cpu_act"


def test_cache_directory_follows_argument_then_variable_then_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ICL_BAYES_CACHE", str(tmp_path / "variable"))
    assert openml336.cache_directory(tmp_path / "given") == tmp_path / "given" / "openml336"
    assert openml336.cache_directory() == tmp_path / "variable" / "openml336"
    monkeypatch.delenv("ICL_BAYES_CACHE")
    assert openml336.cache_directory() == Path.home() / ".cache" / "icl_bayes" / "openml336"
    monkeypatch.setenv("ICL_BAYES_CACHE", str(tmp_path / "variable"))
    load_openml336("pol", client=FakeClient())
    assert (tmp_path / "variable" / "openml336" / f"{IDS['pol']}.npz").exists()


def _truncated(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _flipped(content: bytes) -> bytes:
    middle = len(content) // 3
    return content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :]


@pytest.mark.parametrize(
    "damage", [_truncated, _flipped, lambda content: b"", lambda content: b"not an archive"],
    ids=["truncated", "flipped", "empty", "foreign"],
)  # fmt: skip
def test_damaged_cache_is_fetched_again_or_explained(damage: Any, tmp_path: Path) -> None:
    original = load_openml336("sulfur", cache_dir=tmp_path, client=FakeClient())
    path = tmp_path / "openml336" / f"{IDS['sulfur']}.npz"
    path.write_bytes(damage(path.read_bytes()))
    offline = FakeClient(fail=ConnectionError("no route"))
    with (
        pytest.warns(UserWarning, match="cannot be used .*fetching 'sulfur' again"),
        pytest.raises(TableUnavailableError, match=r"could not be fetched: ConnectionError: no route\. Check"),
    ):
        load_openml336("sulfur", cache_dir=tmp_path, client=offline)
    with pytest.warns(UserWarning, match="cannot be used"):
        recovered = load_openml336("sulfur", cache_dir=tmp_path, client=FakeClient())
    assert same(original, recovered)
    assert same(original, load_openml336("sulfur", cache_dir=tmp_path, client=offline))


def test_cache_of_another_format_or_table_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_openml336("pol", cache_dir=tmp_path, client=FakeClient())
    path = tmp_path / "openml336" / f"{IDS['pol']}.npz"
    path.rename(path.with_name(f"{IDS['houses']}.npz"))
    with pytest.warns(UserWarning, match="it holds the table 'pol'"):
        assert load_openml336("houses", cache_dir=tmp_path, client=FakeClient()).name == "houses"
    monkeypatch.setattr(openml336, "_FORMAT", 2)
    with pytest.warns(UserWarning, match="it has format 1, this version reads 2"):
        load_openml336("houses", cache_dir=tmp_path, client=FakeClient())


def test_interrupted_write_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(source: str, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(openml336.os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load_openml336("pol", cache_dir=tmp_path, client=FakeClient())
    assert list((tmp_path / "openml336").iterdir()) == []


def test_cache_that_cannot_be_written_costs_only_a_warning(tmp_path: Path) -> None:
    (tmp_path / "openml336").write_text("a file where the directory should be")
    with pytest.warns(UserWarning, match=r"could not be kept in .*Set ICL_BAYES_CACHE"):
        table = load_openml336("pol", cache_dir=tmp_path, client=FakeClient())
    assert table.num_rows == 40


def test_large_table_is_capped_with_a_fixed_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openml336, "MAX_ROWS", 25)
    first = load_openml336("pol", cache_dir=tmp_path / "one", client=FakeClient())
    second = load_openml336("pol", cache_dir=tmp_path / "two", client=FakeClient())
    assert first.num_rows == 25
    assert same(first, second)


def test_missing_package_gives_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openml", None)
    with pytest.raises(ImportError, match=r"pip install 'icl-bayes\[openml\]'"):
        load_openml336("pol", cache_dir=tmp_path)
    load_openml336("pol", cache_dir=tmp_path, client=FakeClient())
    assert load_openml336("pol", cache_dir=tmp_path).name == "pol"  # cached: the package isn't needed


def test_default_client_is_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = FakeClient()
    monkeypatch.setitem(sys.modules, "openml", SimpleNamespace(datasets=client))
    assert load_openml336("abalone", cache_dir=tmp_path).source == "OpenML suite 336, data 45033"
    assert client.requests == [45033]


@pytest.mark.parametrize(
    ("columns", "match"),
    [
        ({"city": ["Rome"] * 40}, r"columns that are no numbers: \['city'\]"),
        ({"c": [np.nan] + [1.0] * 39}, r"features must be finite.*columns \['c'\]"),
    ],
)
def test_unusable_data_are_named_and_not_cached(columns: dict, match: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=match):
        load_openml336("pol", cache_dir=tmp_path, client=FakeClient(**columns))
    assert not (tmp_path / "openml336").exists()


def test_unknown_name_suggests() -> None:
    with pytest.raises(ValueError, match=r"no table 'miamihousing2016'. Did you mean MiamiHousing2016"):
        load_openml336("miamihousing2016")
    with pytest.raises(ValueError, match=r"no table 'zzz'. Choose one of: cpu_act, pol"):
        load_openml336("zzz")


def test_suite_reports_what_it_could_not_get(tmp_path: Path) -> None:
    load_openml336("houses", cache_dir=tmp_path, client=FakeClient())
    tables, failures = load_suite336(cache_dir=tmp_path, client=FakeClient(fail=TimeoutError("slow")))
    assert [table.name for table in tables] == ["houses"]
    assert set(failures) == set(openml336_names()) - {"houses"}
    assert "TimeoutError: slow" in failures["pol"]
