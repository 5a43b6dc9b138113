"""Read a table from a CSV file, with messages that say which row or column to mend."""

from __future__ import annotations

import csv
import difflib
import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from icl_bayes.datasets.tables import RESPONSE_KINDS, Table, infer_response_kind

_MISSING = {"", "na", "n/a", "nan", "null", "none", "?", "."}
_SHOWN = 5


def load_csv(
    path: str | Path,
    *,
    target: str,
    features: Sequence[str] | None = None,
    response_kind: str | None = None,
    delimiter: str | None = None,
    name: str | None = None,
) -> Table:
    """Read a CSV file (``.gz`` allowed) whose first line names the columns.

    Args:
        path: the file, UTF-8.
        target: name of the response column.
        features: names of the feature columns, in the wanted order; all others when omitted.
        response_kind: ``real``, ``binary`` or ``positive``; when omitted, ``binary`` if the
            target holds 0 and 1 only, else ``positive`` if all values are above zero, else ``real``.
        delimiter: one character; when omitted, that of ``, ; tab |`` most frequent in the first line.
        name: name of the table, the file's stem when omitted.

    Returns:
        The chosen columns as a :class:`Table`, rows in file order. Columns not chosen are not looked at.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: on anything in the file that is no finite number, on columns that are missing
            or named twice, on uneven rows, and on a file without rows.
    """
    path = Path(path)
    if response_kind is not None and response_kind not in RESPONSE_KINDS:
        raise ValueError(f"response_kind must be one of {RESPONSE_KINDS} or omitted; received {response_kind!r}.")
    header, rows = _read(path, delimiter)
    chosen = _choose(path, header, target, features)
    values = _numbers(path, rows, [*chosen, target], [header.index(column) for column in [*chosen, target]])
    response = values[:, -1]
    return Table(
        name=name or path.name.split(".")[0],
        columns=tuple(chosen),
        features=values[:, :-1],
        response=response,
        response_kind=response_kind or infer_response_kind(response),
        response_name=target,
        source=path.name,
        licence="the user's own data",
    )


class Columns(NamedTuple):
    """Numeric columns without a response.

    Attributes:
        name: of the table.
        columns: names of the ``p`` columns.
        features: ``(n, p)`` float64.
    """

    name: str
    columns: tuple[str, ...]
    features: np.ndarray

    @property
    def num_rows(self) -> int:
        return self.features.shape[0]

    @property
    def num_columns(self) -> int:
        return self.features.shape[1]


def load_columns(path: str | Path, *, features: Sequence[str] | None = None, delimiter: str | None = None) -> Columns:
    """Columns of a CSV file for a model without response; arguments and errors as those of :func:`load_csv`."""
    path = Path(path)
    header, rows = _read(path, delimiter)
    chosen = _choose(path, header, None, features)
    values = _numbers(path, rows, chosen, [header.index(column) for column in chosen])
    return Columns(path.name.split(".")[0], tuple(chosen), values)


def _read(path: Path, delimiter: str | None) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Column names, and each row with its line number in the file."""
    if path.is_dir():
        raise ValueError(f"{path} is a directory; expected a CSV file.")
    if not path.exists():
        raise FileNotFoundError(f"There is no file {path}. Check the path; it is relative to {Path.cwd()}.")
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
            text = file.read()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 text ({error.reason} at byte {error.start}). Save it as UTF-8."
        ) from error
    except (EOFError, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is not a whole gzip file ({error}).") from error
    lines = text.splitlines()
    if not text.strip():
        raise ValueError(f"{path} is empty; expected a line of column names and then rows of numbers.")
    if delimiter is None:
        delimiter = max(",;\t|", key=lines[0].count)
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    records = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(cell.strip() for cell in row)]
    header = records[0][1]
    repeated = sorted({column for column in header if header.count(column) > 1})
    if repeated:
        raise ValueError(f"{path}: column names must differ; named more than once: {repeated}. Rename them.")
    if len(records) == 1:
        raise ValueError(f"{path} has column names {header} but no rows.")
    for number, row in records[1:]:
        if len(row) != len(header):
            raise ValueError(
                f"{path}, line {number}: {len(row)} cells, but the first line names {len(header)} columns "
                f"(delimiter {delimiter!r})."
            )
    return header, records[1:]


def _choose(path: Path, header: list[str], target: str | None, features: Sequence[str] | None) -> list[str]:
    """The feature columns, after all names have been checked."""
    if isinstance(features, str):
        raise ValueError(f"features must be a list of column names; received the single string {features!r}.")
    chosen = [column for column in header if column != target] if features is None else list(features)
    for role, wanted in (("target", [] if target is None else [target]), ("feature", chosen)):
        absent = [column for column in wanted if column not in header]
        if absent:
            near = difflib.get_close_matches(absent[0], header, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"{path} has no {role} column {absent}; its columns are {header}.{hint}")
    if target in chosen:
        raise ValueError(f"The target {target!r} is also listed as a feature; leave it out of features.")
    if len(set(chosen)) != len(chosen):
        raise ValueError(f"features lists a column more than once: {chosen}.")
    if not chosen:
        raise ValueError(f"{path} has no feature columns beside the target {target!r}; its columns are {header}.")
    return chosen


def _numbers(path: Path, rows: list[tuple[int, list[str]]], names: list[str], places: list[int]) -> np.ndarray:
    """The chosen columns as finite numbers, ``(n, len(names))``."""
    values = np.empty((len(rows), len(names)))
    text: dict[str, str] = {}
    bad: dict[str, list[int]] = {}
    for column, place in enumerate(places):
        for index, (number, row) in enumerate(rows):
            value = _number(row[place])
            if value is None:
                text.setdefault(names[column], row[place])
                value = 0.0
            elif not np.isfinite(value):
                bad.setdefault(names[column], []).append(number)
            values[index, column] = value
    if text:
        examples = ", ".join(f"{name!r} (e.g. {cell!r})" for name, cell in text.items())
        raise ValueError(
            f"{path}: columns with text: {examples}. Encode them as numbers first (two categories: 0 and 1; ordered "
            "ones: 1, 2, 3, ...; unordered ones: one column of zeros and ones per category but the first), or leave "
            "them out by naming the features to use."
        )
    if bad:
        places_text = "; ".join(
            f"{name!r} in line{'s' if len(lines) > 1 else ''} {', '.join(map(str, lines[:_SHOWN]))}"
            + (f", ... ({len(lines)} in all)" if len(lines) > _SHOWN else "")
            for name, lines in bad.items()
        )
        raise ValueError(
            f"{path}: missing or infinite values: {places_text} (line 1 holds the names). "
            "Drop these rows or fill the values, or leave the columns out."
        )
    return values


def _number(cell: str) -> float | None:
    """A cell's value, NaN if it is missing, ``None`` if it is text."""
    if cell.lower() in _MISSING:
        return np.nan
    try:
        return float(cell)
    except ValueError:
        return None
