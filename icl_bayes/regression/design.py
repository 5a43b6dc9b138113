"""From a formula and a data frame to the arrays of a regression, and back to new rows."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

INTERCEPT = "Intercept"
MISSING = ("refuse", "drop", "integrate")


@dataclass(frozen=True)
class Design:
    """Arrays of a regression, and what is needed to make them for other rows.

    Attributes:
        columns: names of the columns of ``x``, the intercept apart.
        has_intercept: whether the formula has one.
        x: ``(n, p)`` float64; NaN where a cell is missing and will be integrated out.
        y: ``(n,)``; of a response with two levels 0 and 1.
        response: what the formula calls it.
        levels: the two levels that 0 and 1 stand for, if responses were not numbers.
        rows: which rows of the data frame were taken, ``(n,)``.
        spec: formulaic's, of the right-hand side.
    """

    columns: tuple[str, ...]
    has_intercept: bool
    x: np.ndarray
    y: np.ndarray
    response: str
    levels: tuple[Any, Any] | None
    rows: np.ndarray
    spec: Any

    def of(self, data: Any) -> np.ndarray:
        """Columns ``(m, p)`` for new rows, with the levels and centers of the data the formula was fitted to.

        Raises:
            ValueError: for columns that are not there, levels that were not seen, or missing values.
        """
        from formulaic.errors import DataMismatchWarning, FormulaicError

        frame = as_frame(data)
        _require_columns(frame, self.spec.required_variables)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", DataMismatchWarning)  # levels that were not seen
                matrix = self.spec.get_model_matrix(frame, na_action="raise")
        except (FormulaicError, DataMismatchWarning, ValueError, TypeError) as error:
            raise ValueError(f"The new rows do not fit the formula: {error}") from error
        values = np.asarray(matrix, np.float64)
        names = list(matrix.columns)
        _require_finite(values, names)
        return values[:, [names.index(name) for name in self.columns]]


def make_design(formula: str, data: Any, *, missing: str = "refuse", also: Mapping[str, str] | None = None) -> Design:
    """Read a formula such as ``y ~ x1 + C(group) + x2:x3``.

    Args:
        data: pandas or polars frame, mapping of columns, or the path of a CSV file.
        missing: ``refuse`` rows with missing cells, ``drop`` them, or leave cells of covariates to be integrated out
            (``integrate``).
        also: further columns that must be there, by what they are for.

    Raises:
        ValueError: for formulas that can't be read, columns that are not there, missing cells, and columns that add
            nothing to the others.
    """
    from formulaic import Formula
    from formulaic.errors import FormulaicError

    if missing not in MISSING:
        raise ValueError(f"missing must be one of {', '.join(MISSING)}; received {missing!r}.")
    frame = as_frame(data)
    try:
        parsed: Any = Formula.from_spec(formula)
    except (FormulaicError, SyntaxError) as error:
        raise ValueError(f"The formula {formula!r} cannot be read: {error}") from error
    if not hasattr(parsed, "lhs") or not hasattr(parsed, "rhs"):
        raise ValueError(f"A formula names response and columns, as in 'y ~ x1 + C(group)'; received {formula!r}.")
    needed = {str(name) for name in parsed.required_variables}
    extra = dict(also or {})
    _require_columns(frame, needed | set(extra.values()))
    empty = {name: np.asarray(frame[name].isna(), bool) for name in sorted(needed | set(extra.values()))}
    is_missing = np.any(np.stack(list(empty.values())), axis=0)
    if is_missing.any() and missing == "refuse":
        where = {name: int(cells.sum()) for name, cells in empty.items() if cells.any()}
        raise ValueError(
            f"{int(is_missing.sum())} of {len(frame)} rows have missing cells ({where}); drop them (missing='drop') "
            "if they are missing at random given the columns, or integrate them out (missing='integrate')."
        )
    hidden = _hidden(parsed, empty, frame) if missing == "integrate" else {}
    kept = np.arange(len(frame)) if missing == "integrate" else np.flatnonzero(~is_missing)
    if not len(kept):
        raise ValueError("No row is left: every one has a missing cell.")
    taken = frame.iloc[kept].assign(**{name: frame[name].fillna(frame[name].mean()) for name in hidden})
    try:
        left, right = parsed.lhs.get_model_matrix(taken), parsed.rhs.get_model_matrix(taken)
    except (FormulaicError, ValueError, TypeError) as error:
        raise ValueError(f"The formula {formula!r} does not fit the data: {error}") from error
    y, response, levels = _response(left, formula)
    names = [str(name) for name in right.columns]
    columns = tuple(name for name in names if name != INTERCEPT)
    x = np.asarray(right, np.float64)[:, [names.index(name) for name in columns]]
    _require_finite(np.column_stack([x, y]), [*columns, response])
    _require_rank(x, columns, INTERCEPT in names)
    for name, cells in hidden.items():
        x[cells, columns.index(name)] = np.nan
    return Design(columns, INTERCEPT in names, x, y, response, levels, kept, right.model_spec)


def _hidden(parsed: Any, empty: Mapping[str, np.ndarray], frame: pd.DataFrame) -> dict[str, np.ndarray]:
    """Which rows ``(n,)`` of which columns are to be integrated out.

    Raises:
        ValueError: where a cell is more than the value of one numeric column of the design.
    """
    from formulaic import Formula

    hidden = {name: cells for name, cells in empty.items() if cells.any()}
    terms = [[str(factor.expr) for factor in term.factors] for term in parsed.rhs]
    for name in hidden:
        using = [factors for factors in terms if any(name in map(str, _variables(Formula, one)) for one in factors)]
        is_number = frame[name].dtype.kind in "iuf"
        if using != [[name]] or not is_number:
            used = ", ".join(":".join(factors) for factors in using) or "what is no covariate"
            raise ValueError(
                f"Column {name!r} lacks cells and enters by {used}{'' if is_number else ', not as a number'}. Cells "
                "are integrated out where a numeric column enters by itself and nowhere else; drop its rows "
                "(missing='drop') or fill it first."
            )
    return hidden


def _variables(formula: Any, expression: str) -> Any:
    """Columns that a factor such as ``np.log(x)`` needs."""
    return formula([expression]).required_variables


def as_frame(data: Any) -> pd.DataFrame:
    """A pandas frame of whatever holds columns.

    Raises:
        ValueError: for anything else.
    """
    import pandas as pd

    if isinstance(data, pd.DataFrame):
        return data
    if isinstance(data, str | Path):
        if not Path(data).is_file():
            raise ValueError(f"There is no file {str(data)!r}.")
        return pd.read_csv(data)
    if hasattr(data, "to_pandas"):  # polars, pyarrow
        return data.to_pandas()
    if isinstance(data, Mapping):
        return pd.DataFrame(dict(data))
    raise ValueError(
        f"data must be a pandas or polars data frame, a mapping of columns or a CSV file; received "
        f"{type(data).__name__}."
    )


def numbers(frame: pd.DataFrame, name: str, rows: np.ndarray, role: str) -> np.ndarray:
    """A column of numbers, ``(n,)``."""
    column = frame[name].iloc[rows]
    try:
        values = column.to_numpy(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{role} {name!r} must be numbers; received {column.iloc[0]!r}.") from error
    _require_finite(values[:, None], [name])
    return values


def _response(left: Any, formula: str) -> tuple[np.ndarray, str, tuple[Any, Any] | None]:
    names = [str(name) for name in left.columns]
    values = np.asarray(left, np.float64)
    if len(names) == 1:
        return values[:, 0], names[0], None
    # Of a response of words formulaic makes a column for every level.
    labels = [name.partition("[")[2].rstrip("]").removeprefix("T.") for name in names]
    if len(names) == 2 and all(labels) and set(np.unique(values)) <= {0.0, 1.0}:
        return values[:, 1], names[1].partition("[")[0], (labels[0], labels[1])
    raise ValueError(
        f"The response of {formula!r} has {len(names)} columns ({', '.join(names[:4])}); expected one column of "
        "numbers, or of two levels."
    )


def _require_columns(frame: pd.DataFrame, names: Any) -> None:
    missing = sorted({str(name) for name in names} - {str(name) for name in frame.columns})
    if missing:
        has = ", ".join(map(str, frame.columns))
        raise ValueError(f"The data lack the column(s) {', '.join(missing)}; they have {has}.")


def _require_finite(values: np.ndarray, names: list[str]) -> None:
    bad = [name for name, column in zip(names, values.T, strict=True) if not np.isfinite(column).all()]
    if bad:
        raise ValueError(f"Column(s) {', '.join(bad)} hold values that are missing or not finite.")


def _require_rank(x: np.ndarray, columns: tuple[str, ...], has_intercept: bool) -> None:
    """Constant columns beside an intercept say what that says already; the user has hardly meant them."""
    constant = [name for name, column in zip(columns, x.T, strict=True) if np.ptp(column) == 0.0]
    if constant and has_intercept:
        raise ValueError(
            f"Column(s) {', '.join(constant)} are constant in these rows, so the intercept says all that they could; "
            "leave them out of the formula."
        )
