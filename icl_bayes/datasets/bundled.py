"""The real tables that ship with the package: list them, load them, choose those that fit a scenario."""

from __future__ import annotations

import difflib
import gzip
import hashlib
import json
import zlib
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from icl_bayes.datasets.eligibility import fits
from icl_bayes.datasets.tables import Table

_FORMAT = 1


def bundled_names() -> tuple[str, ...]:
    """Names of the bundled tables, in alphabetical order."""
    return tuple(_manifest())


def bundled_description(name: str) -> dict[str, Any]:
    """What is recorded about a bundled table: source, licence, package, changes, columns, size.

    Raises:
        ValueError: for an unknown name; the message lists the near ones or all.
    """
    manifest = _manifest()
    if name not in manifest:
        near = difflib.get_close_matches(name, manifest, n=3)
        hint = f"Did you mean {', '.join(near)}?" if near else f"Choose one of: {', '.join(manifest)}."
        raise ValueError(f"There is no bundled table {name!r}. {hint}")
    return dict(manifest[name])


@cache
def load_bundled(name: str) -> Table:
    """Load one bundled table (at most 1000 rows; read-only arrays, so the cached object is shared).

    Raises:
        ValueError: for an unknown name, or when the installed file is damaged.
    """
    entry = bundled_description(name)
    packed = (files("icl_bayes.datasets") / "data" / f"{name}.csv.gz").read_bytes()
    try:
        content = gzip.decompress(packed)
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"The data file of {name!r} is damaged ({error}). Reinstall icl_bayes.") from error
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise ValueError(f"The data file of {name!r} is not the one that was shipped. Reinstall icl_bayes.")
    values = np.loadtxt(content.decode().splitlines(), delimiter=",", skiprows=1, ndmin=2)
    return Table(
        name=name,
        columns=tuple(entry["columns"]),
        features=values[:, :-1],
        response=values[:, -1],
        response_kind=entry["response_kind"],
        response_name=entry["response_name"],
        source=entry["source"],
        licence=entry["licence"],
        derived=entry["derived"],
    )


def eligible_tables(
    num_rows: int, num_columns: int, response_kind: str, *, include_derived: bool = False
) -> tuple[str, ...]:
    """Names of the bundled tables that a scenario can use, those with a response of its own kind first.

    Args:
        num_rows: rows the scenario needs.
        num_columns: feature columns the scenario needs.
        response_kind: ``real``, ``binary`` or ``positive``.
        include_derived: also list, after the others, tables from which ``prepare_glm`` would
            derive the response (a median split; the exponential of a real response).

    Raises:
        ValueError: on an unknown response kind or sizes below one.
    """
    native: list[str] = []
    derived: list[str] = []
    for name, entry in _manifest().items():
        verdict = fits(
            entry["num_rows"], len(entry["columns"]), entry["response_kind"], num_rows, num_columns, response_kind
        )
        if verdict == "native":
            native.append(name)
        elif verdict == "derived":
            derived.append(name)
    return tuple(native + derived if include_derived else native)


@cache
def _manifest() -> dict[str, dict[str, Any]]:
    content = json.loads((files("icl_bayes.datasets") / "data" / "tables.json").read_text())
    if content["format"] != _FORMAT:
        raise ValueError(
            f"The list of bundled tables has format {content['format']}, this version reads {_FORMAT}. "
            "Reinstall icl_bayes."
        )
    return {entry["name"]: entry for entry in content["tables"]}
