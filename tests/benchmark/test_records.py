"""The file of rows: what goes in comes out, and no kill or foreign file goes unnoticed."""

from __future__ import annotations

import math
import subprocess
from dataclasses import asdict
from pathlib import Path

import pytest

from icl_bayes.benchmark.records import COLUMNS, RecordWriter, latest, merge_records, read_records
from icl_bayes.provenance import collect_provenance, git_commit

from .fakes import make_record


def write(path: Path, *records) -> None:
    with RecordWriter(path) as writer:
        writer.append(*records)


def same(left, right) -> bool:
    pairs = zip(asdict(left).items(), asdict(right).values(), strict=True)
    return all(a == b or (isinstance(a, float) and math.isnan(a) and math.isnan(b)) for (_, a), b in pairs)


def test_columns_are_those_of_the_protocol():
    assert ",".join(COLUMNS) == (
        "protocol,family,scenario,split,dataset,n,p,method,variant,checkpoint,solver,num_draws,metric,value,floor,"
        "seconds_compile,seconds_run,ess,status,message,verdict,khat,hardware,python,jax,seed,commit"
    )


def test_rows_survive_the_file(tmp_path):
    path = tmp_path / "new" / "records.csv"
    records = [
        make_record(value=0.1 + 0.2, message='commas, "quotes" and ümlauts'),
        make_record(metric="", value=math.nan, status="failed", khat=math.inf),
    ]
    write(path, *records)
    read = read_records(path)
    assert [same(a, b) for a, b in zip(read, records, strict=True)] == [True, True]
    write(path, make_record(metric="mmd"))  # a second run appends, with no second header
    assert len(read_records(path)) == 3


def test_line_breaks_never_reach_the_file(tmp_path):
    write(tmp_path / "r.csv", make_record(message="first\nsecond\r\n third"))
    assert (tmp_path / "r.csv").read_text().count("\n") == 2
    assert read_records(tmp_path / "r.csv")[0].message == "first second third"


@pytest.mark.parametrize("cut", [1, 5, 60])
def test_row_cut_short_is_dropped_and_repaired(tmp_path, cut):
    path = tmp_path / "records.csv"
    write(path, make_record(), make_record(metric="mmd"))
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    assert [record.metric for record in read_records(path)] == ["c2st"]
    with RecordWriter(path) as writer:
        assert writer.repaired_bytes > 0
        writer.append(make_record(metric="mmd"))
    assert path.read_bytes() == whole


def test_header_cut_short_is_written_again(tmp_path):
    path = tmp_path / "records.csv"
    path.write_text("protocol,fam")
    write(path, make_record())
    assert len(read_records(path)) == 1


def test_foreign_file_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "records.csv"
    path.write_text("protocol,family,colour\n1,2,3\n")
    with pytest.raises(ValueError, match=r"columns missing \[.*'value'.*not known \['colour'\]"):
        RecordWriter(path)
    assert path.read_text() == "protocol,family,colour\n1,2,3\n"
    with pytest.raises(ValueError, match="no records file"):
        read_records(path)


def test_malformed_row_is_named(tmp_path):
    path = tmp_path / "records.csv"
    write(path, make_record(value=0.625))
    path.write_text(path.read_text().replace("0.625", "good"))
    with pytest.raises(ValueError, match=r"line 2: column 'value' holds 'good'"):
        read_records(path)
    path.write_text(path.read_text().replace("good,", ""))
    with pytest.raises(ValueError, match=f"line 2 has {len(COLUMNS) - 1} fields, expected {len(COLUMNS)}"):
        read_records(path)


def test_second_writer_is_refused(tmp_path):
    with RecordWriter(tmp_path / "r.csv"), pytest.raises(RuntimeError, match="another run"):
        RecordWriter(tmp_path / "r.csv")
    RecordWriter(tmp_path / "r.csv").close()  # free again


def test_latest_prefers_scores_to_failures_and_later_to_earlier():
    failed = make_record(metric="", value=math.nan, status="failed")
    first, second = make_record(value=0.6), make_record(value=0.5)
    other = make_record(dataset="1", metric="", value=math.nan, status="failed")
    assert latest([first, failed, other, second]) == [second, other]
    assert latest([make_record(), make_record(solver="midpoint steps=8"), make_record(seed=7)]) == [
        make_record(),
        make_record(solver="midpoint steps=8"),
        make_record(seed=7),
    ]


def test_merging_the_files_of_a_sweep(tmp_path):
    write(tmp_path / "0" / "records.csv", make_record(seed=1), make_record(seed=2, value=0.9))
    write(tmp_path / "1" / "records.csv", make_record(seed=2, value=0.5), make_record(seed=3))
    sources = [tmp_path / "0" / "records.csv", tmp_path / "1" / "records.csv"]
    merged = merge_records(sources, tmp_path / "all" / "records.csv")
    assert [(record.seed, record.value) for record in merged] == [(1, 0.512), (2, 0.5), (3, 0.512)]
    assert [record.value for record in read_records(tmp_path / "all" / "records.csv")] == [0.512, 0.5, 0.512]
    merge_records(sources, sources[0])  # into one of its own sources
    assert len(read_records(sources[0])) == 3
    assert not list(tmp_path.rglob("*.tmp"))


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_commit_says_when_the_code_has_changed(tmp_path):
    package = tmp_path / "package"
    package.mkdir()
    source = package / "module.py"
    source.write_text("x = 1\n")
    assert git_commit(source) == ""  # no checkout
    git(tmp_path, "init", "-q")
    assert git_commit(source) == ""  # not tracked in it
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "one")
    commit = git(tmp_path, "rev-parse", "HEAD")[:12]
    assert git_commit(source) == commit
    (tmp_path / "notes.txt").write_text("beside the package")
    assert git_commit(source) == commit
    (package / "new.py").write_text("y = 2\n")
    assert git_commit(source) == commit + "+dirty"
    (package / "new.py").unlink()
    source.write_text("x = 3\n")
    assert git_commit(source) == commit + "+dirty"


def test_provenance_is_filled_in():
    provenance = collect_provenance()
    assert "core" in provenance.hardware
    assert provenance.python.count(".") == 2
    assert provenance.jax


def test_a_copy_without_history_takes_its_commit_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setattr("icl_bayes.provenance.git_commit", lambda source: "")
    monkeypatch.delenv("ICL_BAYES_COMMIT", raising=False)
    assert collect_provenance().commit == ""
    monkeypatch.setenv("ICL_BAYES_COMMIT", "abc123")
    assert collect_provenance().commit == "abc123"
