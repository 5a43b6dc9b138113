"""Which responses can serve which scenario: one rule, used for listing and for preparing."""

from __future__ import annotations

from collections.abc import Iterable

from icl_bayes.datasets.tables import RESPONSE_KINDS, Table

_SERVES = {
    ("real", "real"): "native",
    ("positive", "real"): "native",
    ("binary", "binary"): "native",
    ("real", "binary"): "derived",
    ("positive", "binary"): "derived",
    ("positive", "positive"): "native",
    ("real", "positive"): "derived",
}
"""(kind of the table, kind asked for): how it serves. A binary response serves nothing but binary
scenarios: two points have no Yeo-Johnson transformation worth the name."""


def how_served(table_kind: str, response_kind: str) -> str:
    """``native``, ``derived`` or ``no``: whether a response of one kind can serve the other.

    Raises:
        ValueError: if ``response_kind`` is unknown.
    """
    if response_kind not in RESPONSE_KINDS:
        raise ValueError(f"response_kind must be one of {RESPONSE_KINDS}; received {response_kind!r}.")
    return _SERVES.get((table_kind, response_kind), "no")


def fits(
    table_rows: int, table_columns: int, table_kind: str, num_rows: int, num_columns: int, response_kind: str
) -> str:
    """Like :func:`how_served`, and ``no`` when the table has too few rows or columns."""
    if num_rows < 1 or num_columns < 1:
        raise ValueError(f"num_rows and num_columns must be at least 1; received {num_rows} and {num_columns}.")
    served = how_served(table_kind, response_kind)
    return served if table_rows >= num_rows and table_columns >= num_columns else "no"


def select_eligible(
    tables: Iterable[Table], num_rows: int, num_columns: int, response_kind: str, *, include_derived: bool = False
) -> tuple[Table, ...]:
    """Those of the given tables that a scenario can use, native responses first (see ``eligible_tables``)."""
    verdicts = [
        (fits(table.num_rows, table.num_columns, table.response_kind, num_rows, num_columns, response_kind), table)
        for table in tables
    ]
    wanted = ("native", "derived") if include_derived else ("native",)
    return tuple(table for kind in wanted for verdict, table in verdicts if verdict == kind)
