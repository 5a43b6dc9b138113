"""The record of one real table, checked once so that nothing downstream has to doubt it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from icl_bayes.types import Dataset

RESPONSE_KINDS = ("real", "binary", "positive")
"""What a response may be: any real number; 0 or 1; a number above zero."""


@dataclass(frozen=True, eq=False)
class Table:
    """Numeric features and one response, with where they come from.

    Attributes:
        name: short name, used in records and messages.
        columns: names of the ``p`` features.
        features: ``(n, p)`` float64, read-only, in the original units.
        response: ``(n,)`` float64, read-only, in the original units.
        response_kind: ``real``, ``binary`` (values 0 and 1, both present) or ``positive``.
        response_name: name of the response column.
        source: who made the data and where.
        licence: under which licence the data are passed on.
        derived: true when the response was made from another one, e.g. by merging classes.

    Raises:
        ValueError: on shapes that disagree, no rows or columns, repeated names, values that
            are not finite, or a response that is not of its declared kind.
    """

    name: str
    columns: tuple[str, ...]
    features: np.ndarray
    response: np.ndarray
    response_kind: str
    response_name: str = "y"
    source: str = "unknown"
    licence: str = "unknown"
    derived: bool = False

    def __post_init__(self) -> None:
        columns = tuple(str(column) for column in self.columns)
        features = _read_only(self.features, f"Table {self.name!r}: the features")
        response = _read_only(self.response, f"Table {self.name!r}: the response {self.response_name!r}")
        object.__setattr__(self, "columns", columns)
        object.__setattr__(self, "features", features)
        object.__setattr__(self, "response", response)
        if not self.name:
            raise ValueError("A Table needs a name; received an empty one.")
        if self.response_kind not in RESPONSE_KINDS:
            raise ValueError(
                f"Table {self.name!r}: response_kind must be one of {RESPONSE_KINDS}; received {self.response_kind!r}."
            )
        if features.ndim != 2 or response.ndim != 1 or features.shape[0] != response.shape[0]:
            raise ValueError(
                f"Table {self.name!r}: features must be (n, p) and the response (n,); "
                f"received {features.shape} and {response.shape}."
            )
        if features.shape[1] != len(columns):
            raise ValueError(
                f"Table {self.name!r}: {features.shape[1]} feature columns, but {len(columns)} column names."
            )
        if 0 in features.shape:
            raise ValueError(
                f"Table {self.name!r} has no {'rows' if features.shape[0] == 0 else 'feature columns'}: "
                f"features have shape {features.shape}."
            )
        repeated = sorted({column for column in columns if columns.count(column) > 1})
        if repeated:
            raise ValueError(f"Table {self.name!r}: column names must differ; repeated: {repeated}.")
        self._check_values()

    def _check_values(self) -> None:
        finite = np.isfinite(self.features)
        if not finite.all():
            columns = [self.columns[index] for index in np.flatnonzero(~finite.all(axis=0))]
            raise ValueError(
                f"Table {self.name!r}: features must be finite; NaN or infinite values in columns {columns}, "
                f"rows {_some(np.flatnonzero(~finite.all(axis=1)))}. Drop or fill these rows."
            )
        if not np.isfinite(self.response).all():
            rows = np.flatnonzero(~np.isfinite(self.response))
            raise ValueError(
                f"Table {self.name!r}: the response {self.response_name!r} must be finite; NaN or infinite values in "
                f"rows {_some(rows)}. Drop these rows."
            )
        check_response(self.response, self.response_kind, f"Table {self.name!r}: the response {self.response_name!r}")

    @property
    def num_rows(self) -> int:
        """Number of rows ``n``."""
        return self.features.shape[0]

    @property
    def num_columns(self) -> int:
        """Number of features ``p``."""
        return self.features.shape[1]

    def to_dataset(self) -> Dataset:
        """The table as it is, ``Dataset(x=(n, p), y=(n,))``: no scaling, no transformation."""
        return Dataset(x=self.features, y=self.response)

    def __repr__(self) -> str:
        return (
            f"Table({self.name!r}, {self.num_rows} rows, {self.num_columns} columns, "
            f"{self.response_kind} response {self.response_name!r})"
        )


def check_response(response: np.ndarray, kind: str, subject: str) -> None:
    """Raise ``ValueError`` unless a finite ``(n,)`` response is of the given kind."""
    if kind == "binary":
        values = np.unique(response)
        if not np.isin(values, (0.0, 1.0)).all():
            raise ValueError(f"{subject} is declared binary and must hold 0 and 1 only; received {_some(values)}.")
        if len(values) < 2:
            raise ValueError(f"{subject} is declared binary and must hold both classes; received only {values[0]:g}.")
    if kind == "positive" and (response <= 0.0).any():
        rows = np.flatnonzero(response <= 0.0)
        raise ValueError(
            f"{subject} is declared positive and must be above zero; the smallest value is {response.min():g}, "
            f"rows at or below zero: {_some(rows)}."
        )


def infer_response_kind(response: np.ndarray) -> str:
    """The most special kind that fits a finite ``(n,)`` response: binary, else positive, else real."""
    values = np.unique(response)
    if np.array_equal(values, (0.0, 1.0)):
        return "binary"
    return "positive" if values.size and values[0] > 0.0 else "real"


def _read_only(values: np.ndarray, subject: str) -> np.ndarray:
    try:
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{subject} must be numbers; received {type(values).__name__} that does not convert ({error})."
        ) from error
    array.flags.writeable = False
    return array


def _some(values: Sequence[float] | np.ndarray, limit: int = 5) -> str:
    shown = ", ".join(f"{value:g}" for value in values[:limit])
    return shown if len(values) <= limit else f"{shown}, ... ({len(values)} in all)"
