"""The 19 regression tables of OpenML suite 336, which the paper drew its real data from.

Tables come through the ``openml`` package (an optional extra) and are kept in a local cache, so
that each is fetched once and everything works offline afterwards.
"""

from __future__ import annotations

import difflib
import os
import tempfile
import warnings
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from icl_bayes.datasets.tables import Table, infer_response_kind

CACHE_VARIABLE = "ICL_BAYES_CACHE"
MAX_ROWS = 20_000
"""Rows kept of a larger table, drawn with a fixed seed: far more than any scenario takes."""
_FORMAT = 1
_SEED = 336


@dataclass(frozen=True)
class SuiteEntry:
    """One member of the suite: its name and OpenML's identifiers of the data and the task."""

    name: str
    data_id: int
    task_id: int


SUITE_336 = (
    SuiteEntry("cpu_act", 44132, 361072),
    SuiteEntry("pol", 44133, 361073),
    SuiteEntry("elevators", 44134, 361074),
    SuiteEntry("wine_quality", 44136, 361076),
    SuiteEntry("Ailerons", 44137, 361077),
    SuiteEntry("houses", 44138, 361078),
    SuiteEntry("house_16H", 44139, 361079),
    SuiteEntry("diamonds", 44140, 361080),
    SuiteEntry("Brazilian_houses", 44141, 361081),
    SuiteEntry("Bike_Sharing_Demand", 44142, 361082),
    SuiteEntry("nyc-taxi-green-dec-2016", 44143, 361083),
    SuiteEntry("house_sales", 44144, 361084),
    SuiteEntry("sulfur", 44145, 361085),
    SuiteEntry("medical_charges", 44146, 361086),
    SuiteEntry("MiamiHousing2016", 44147, 361087),
    SuiteEntry("superconduct", 44148, 361088),
    SuiteEntry("yprop_4_1", 45032, 361279),
    SuiteEntry("abalone", 45033, 361280),
    SuiteEntry("delays_zurich_transport", 45034, 361281),
)


class OpenMLClient(Protocol):
    """The part of ``openml.datasets`` that is used."""

    def get_dataset(self, dataset_id: int) -> Any:
        """A data set with ``default_target_attribute``, ``licence`` and ``get_data(target=...)``."""
        ...


class TableUnavailableError(RuntimeError):
    """A table is neither in the cache nor to be had from OpenML; the message says why and what to do."""


def openml336_names() -> tuple[str, ...]:
    """Names of the suite's tables, in OpenML's order."""
    return tuple(entry.name for entry in SUITE_336)


def cache_directory(cache_dir: str | Path | None = None) -> Path:
    """Where tables are kept: the argument, else ``$ICL_BAYES_CACHE``, else ``~/.cache/icl_bayes``."""
    root = cache_dir or os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "icl_bayes"
    return Path(root).expanduser() / "openml336"


def load_openml336(name: str, *, cache_dir: str | Path | None = None, client: OpenMLClient | None = None) -> Table:
    """Load one table of the suite, from the cache if it is there, else from OpenML.

    Args:
        name: one of ``openml336_names()``.
        cache_dir: root of the cache, see :func:`cache_directory`.
        client: stands in for ``openml.datasets``.

    Returns:
        The table with OpenML's default target; at most ``MAX_ROWS`` rows, drawn with a fixed seed.

    Raises:
        ValueError: for an unknown name (near names are listed), or data that are no finite numbers.
        ImportError: if the table is not cached and ``openml`` is not installed (with the command).
        TableUnavailableError: if OpenML cannot be reached or fails.
    """
    entries = {entry.name: entry for entry in SUITE_336}
    if name not in entries:
        near = difflib.get_close_matches(name, entries, n=3)
        hint = f"Did you mean {', '.join(near)}?" if near else f"Choose one of: {', '.join(entries)}."
        raise ValueError(f"OpenML suite 336 has no table {name!r}. {hint}")
    path = cache_directory(cache_dir) / f"{entries[name].data_id}.npz"
    if path.exists():
        try:
            return _read_cache(path, name)
        except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            warnings.warn(f"The cached file {path} cannot be used ({error}); fetching {name!r} again.", stacklevel=2)
    table = _fetch(entries[name], client)
    try:
        _write_cache(path, table)
    except OSError as error:
        warnings.warn(
            f"{name!r} could not be kept in {path.parent} ({error}) and will be fetched again next time. "
            f"Set {CACHE_VARIABLE} to a directory that can be written.",
            stacklevel=2,
        )
    return table


def load_suite336(
    *, cache_dir: str | Path | None = None, client: OpenMLClient | None = None
) -> tuple[tuple[Table, ...], dict[str, str]]:
    """All tables of the suite that can be had, and for each of the others the reason why not.

    Raises:
        ImportError: if a table is not cached and ``openml`` is not installed.
    """
    tables: list[Table] = []
    failures: dict[str, str] = {}
    for name in openml336_names():
        try:
            tables.append(load_openml336(name, cache_dir=cache_dir, client=client))
        except (TableUnavailableError, ValueError) as error:
            failures[name] = str(error)
    return tuple(tables), failures


def _default_client() -> OpenMLClient:
    try:
        import openml  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError(
            "This table is not in the cache, and fetching it needs the openml package. "
            "Install it with: pip install 'icl-bayes[openml]'"
        ) from error
    return openml.datasets


def _fetch(entry: SuiteEntry, client: OpenMLClient | None) -> Table:
    """Fetch a table from OpenML; any failure on the way becomes one kind of error."""
    client = client or _default_client()
    try:
        dataset = client.get_dataset(entry.data_id)
        target = dataset.default_target_attribute
        frame, response = dataset.get_data(target=target)[:2]
    except Exception as error:  # network, server and parser errors of the client share no base class
        raise TableUnavailableError(
            f"{entry.name!r} (OpenML data {entry.data_id}) is not in the cache and could not be fetched: "
            f"{type(error).__name__}: {error}. Check the connection, or copy a filled cache and point "
            f"{CACHE_VARIABLE} to it."
        ) from error
    text = [str(column) for column in frame.columns if not _is_numeric(frame[column])]
    if text:
        raise ValueError(f"OpenML data {entry.data_id} ({entry.name}): columns that are no numbers: {text}.")
    features, values = np.asarray(frame, float), np.asarray(response, float)
    if len(values) > MAX_ROWS:
        rows = np.sort(np.random.default_rng(_SEED).choice(len(values), MAX_ROWS, replace=False))
        features, values = features[rows], values[rows]
    return Table(
        name=entry.name,
        columns=tuple(str(column) for column in frame.columns),
        features=features,
        response=values,
        response_kind=infer_response_kind(values),
        response_name=str(target),
        source=f"OpenML suite 336, data {entry.data_id}",
        licence=str(getattr(dataset, "licence", None) or "not stated by OpenML"),
    )


def _is_numeric(column: Any) -> bool:
    try:
        np.asarray(column, float)
    except (TypeError, ValueError):
        return False
    return True


def _write_cache(path: Path, table: Table) -> None:
    """Write beside the place and move there, so that a file under its final name is always whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f"{path.stem}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez_compressed(
                file,
                format=np.array(_FORMAT),
                features=table.features,
                response=table.response,
                columns=np.array(table.columns),
                texts=np.array([table.name, table.response_kind, table.response_name, table.source, table.licence]),
            )
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _read_cache(path: Path, name: str) -> Table:
    # Opened here because NumPy leaves a file that is no archive open. Each member of the archive
    # carries a checksum, which is verified on reading.
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:
        found = int(stored["format"])
        if found != _FORMAT:
            raise ValueError(f"it has format {found}, this version reads {_FORMAT}")
        stored_name, kind, response_name, source, licence = (str(text) for text in stored["texts"])
        if stored_name != name:
            raise ValueError(f"it holds the table {stored_name!r}")
        return Table(
            name=name,
            columns=tuple(str(column) for column in stored["columns"]),
            features=stored["features"],
            response=stored["response"],
            response_kind=kind,
            response_name=response_name,
            source=source,
            licence=licence,
        )
