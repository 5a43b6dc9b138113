"""``records.csv``: one flat row per score, appended the moment it is known.

A *cell* is one method on one data set with one seed; its rows differ only in the metric. A
cell that could not be scored has a single row with an empty metric, status ``failed`` and the
reason. Files survive a kill at any point: a row cut short is dropped and computed again.
"""

from __future__ import annotations

import csv
import io
import math
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any, Self

PROTOCOL = "corrected-1"
"""Version of the measuring protocol; rows of different versions are never averaged together."""

REFERENCE_METHOD = "reference"
"""Method name of the rows that hold the floor itself, and the reference's seconds and failures."""

_MESSAGE_LIMIT = 600


@dataclass(frozen=True)
class Record:
    """One row of ``records.csv``, its fields in the file's order. Unknown numbers are NaN.

    Attributes:
        protocol: version of the protocol, `PROTOCOL`.
        family, scenario: e.g. ``glm`` and ``5``.
        split: ``synthetic`` or ``real``.
        dataset: name or index of the data set within its split.
        n, p: rows and columns of the data set.
        method, variant, checkpoint, solver: who drew; ``solver`` names the effort spent.
        num_draws: draws compared, as many of the method as of the reference.
        metric: one of `icl_bayes.evaluation.two_sample.METRICS`; empty when the cell failed.
        value, floor: the score, and the same score of other reference draws.
        seconds_compile, seconds_run: of the sampler's call.
        ess: smallest effective sample size over compared coordinates.
        status: ``ok``, ``warning`` (scored, health imperfect) or ``failed`` (not scored).
        message: why, when not ``ok``; one line.
        verdict, khat: of the method's own certificate, where it has one.
        hardware, python, jax, commit: provenance.
        seed: of the data set and of everything drawn for it.
    """

    protocol: str
    family: str
    scenario: str
    split: str
    dataset: str
    n: int
    p: int
    method: str
    variant: str
    checkpoint: str
    solver: str
    num_draws: int
    metric: str
    value: float
    floor: float
    seconds_compile: float
    seconds_run: float
    ess: float
    status: str
    message: str
    verdict: str
    khat: float
    hardware: str
    python: str
    jax: str
    seed: int
    commit: str

    @property
    def cell(self) -> tuple[Any, ...]:
        """Identity of the cell: everything that says what was measured, except the metric."""
        return tuple(getattr(self, name) for name in CELL_FIELDS)

    @property
    def case(self) -> tuple[Any, ...]:
        """Identity of the data set that the cell belongs to."""
        return tuple(getattr(self, name) for name in CASE_FIELDS)

    @property
    def failed(self) -> bool:
        """Whether the cell could not be scored."""
        return self.status == "failed"


COLUMNS = tuple(field.name for field in fields(Record))
CASE_FIELDS = ("protocol", "family", "scenario", "split", "dataset", "n", "p", "seed")
METHOD_FIELDS = ("method", "variant", "checkpoint", "solver", "num_draws")
CELL_FIELDS = CASE_FIELDS + METHOD_FIELDS

_PARSERS = {field.name: {"int": int, "float": float, "str": str}[str(field.type)] for field in fields(Record)}


def _format(value: Any) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else repr(value)
    # A line break inside a field would make a row that is cut short look complete.
    return re.sub(r"\s+", " ", str(value)).strip()[:_MESSAGE_LIMIT]


def _to_line(values: Iterable[Any]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow([_format(value) for value in values])
    return buffer.getvalue()


def _from_row(row: Sequence[str], where: str) -> Record:
    if len(row) != len(COLUMNS):
        raise ValueError(f"{where} has {len(row)} fields, expected {len(COLUMNS)}; remove or mend that line.")
    values: dict[str, Any] = {}
    for name, text in zip(COLUMNS, row, strict=True):
        parse = _PARSERS[name]
        try:
            values[name] = math.nan if parse is float and text == "" else parse(text)
        except ValueError as error:
            raise ValueError(
                f"{where}: column {name!r} holds {text!r}, not a number of type {parse.__name__}."
            ) from error
    return Record(**values)


def _complete_lines(path: Path) -> tuple[str, int]:
    """Text up to the last line break, and the number of bytes after it (a write cut short)."""
    content = path.read_bytes()
    end = content.rfind(b"\n") + 1
    return content[:end].decode(), len(content) - end


def _check_header(text: str, path: Path) -> None:
    header = next(csv.reader(io.StringIO(text)), [])
    if tuple(header) != COLUMNS:
        missing, surplus = sorted(set(COLUMNS) - set(header)), sorted(set(header) - set(COLUMNS))
        raise ValueError(
            f"{path} is no records file of this version: columns missing {missing}, not known {surplus}"
            f"{'' if missing or surplus else ', or in another order'}. Write to another directory."
        )


def read_records(path: str | Path) -> list[Record]:
    """All rows of a records file, in file order; a last line that was cut short is left out.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: on another header or a malformed row, with the line number.
    """
    path = Path(path)
    text, _ = _complete_lines(path)
    if not text:
        return []
    _check_header(text, path)
    rows = csv.reader(io.StringIO(text))
    next(rows)
    return [_from_row(row, f"{path}, line {rows.line_num}") for row in rows if row]


def latest(records: Iterable[Record]) -> list[Record]:
    """One row per cell and metric: later rows replace earlier ones, scores replace failures."""
    kept: dict[tuple[Any, ...], Record] = {}
    scored: set[tuple[Any, ...]] = set()
    for record in records:
        kept[(record.cell, record.metric)] = record
        if not record.failed:
            scored.add(record.cell)
    return [record for record in kept.values() if not (record.failed and record.cell in scored)]


def merge_records(paths: Iterable[str | Path], target: str | Path) -> list[Record]:
    """Join several records files (say, of the runs of a sweep) into ``target``, atomically.

    Duplicate scores are resolved by `latest`, files later in ``paths`` winning. ``target`` may
    be one of ``paths``.
    """
    merged = latest(record for path in paths for record in read_records(path))
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    temporary.write_text(_to_line(COLUMNS) + "".join(_to_line(asdict(record).values()) for record in merged))
    os.replace(temporary, target)
    return merged


class RecordWriter:
    """Appends rows to a records file, each flushed to the disk before the call returns.

    Creates the file with its header, checks the header of an existing one, and drops a last
    line that a kill has cut short. Holds a lock, so that two runs can't mix in one file.

    Args:
        path: the file; its directory is created.

    Raises:
        ValueError: if the file has other columns.
        RuntimeError: if another process is writing to it.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        self.repaired_bytes = 0
        try:
            self._lock()
            self._repair()
        except BaseException:
            os.close(self._descriptor)
            raise

    def _lock(self) -> None:
        try:
            import fcntl
        except ImportError:  # no such locks on this platform; a second run is then the user's own risk
            return
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RuntimeError(
                f"{self.path} is being written by another run; wait for it or choose another output directory."
            ) from error

    def _repair(self) -> None:
        text, self.repaired_bytes = _complete_lines(self.path)
        if self.repaired_bytes:
            os.ftruncate(self._descriptor, len(text.encode()))
        if text:
            _check_header(text, self.path)
        else:
            self._write(_to_line(COLUMNS))

    def _write(self, text: str) -> None:
        content = text.encode()
        while content:
            content = content[os.write(self._descriptor, content) :]
        os.fsync(self._descriptor)

    def append(self, *records: Record) -> None:
        """Write rows and wait until they are on the disk."""
        for record in records:
            self._write(_to_line(asdict(record).values()))

    def close(self) -> None:
        """Release the file; safe to call twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
