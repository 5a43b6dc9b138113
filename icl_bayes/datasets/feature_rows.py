"""From a real table to the data set of a model without response: rows, columns, and the scenario's scale."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from icl_bayes.datasets.preprocessing import check_size, choose_columns
from icl_bayes.datasets.tables import Table
from icl_bayes.types import Dataset

SCALINGS = ("table", "rows")


@dataclass(frozen=True)
class FeatureRowsInfo:
    """How a data set was made, for records and reports.

    Attributes:
        table: name of the table.
        columns: names of the columns of ``x``, in order; the table's response may be among them.
        rows: indices of the rows taken, in order.
        constant_columns: columns that could not be chosen, being constant within these rows.
        scaling: ``table`` or ``rows``, whose moments were taken out.
        rng_seed: the seed of the rows.
        source: source of the table.
        licence: licence of the table.
    """

    table: str
    columns: tuple[str, ...]
    rows: tuple[int, ...]
    constant_columns: tuple[str, ...]
    scaling: str
    rng_seed: int
    source: str
    licence: str


def with_response_as_column(table: Table) -> Table:
    """The table with its response as one more column, for models to which it is a feature like any other."""
    return Table(
        table.name,
        (*table.columns, table.response_name),
        np.column_stack([table.features, table.response]),
        table.response,
        table.response_kind,
        table.response_name,
        table.source,
        table.licence,
        table.derived,
    )


def prepare_features(
    table: Table,
    *,
    num_rows: int,
    num_columns: int,
    mean: float,
    variance: float,
    rng_seed: int,
    scaling: str = "table",
) -> tuple[Dataset, FeatureRowsInfo]:
    """Bring a table into the form of a factor or mixture scenario (protocol, point 3).

    Rows are drawn without replacement; of the columns that vary within them, those with most distinct values are
    kept (ties by column order). Each is shifted and scaled so that the *whole table* has the scenario's moments.
    The moments of the drawn rows are left to chance: were they matched too (``scaling="rows"``, the published
    protocol), every table would have the same posterior in a factor model, up to the order of its features.

    Args:
        table: at least ``num_rows`` rows and, with the response counted as one, ``num_columns`` columns.
        num_rows: rows to draw.
        num_columns: columns to keep.
        mean, variance: of a column.
        rng_seed: seed of the drawn rows.
        scaling: ``table`` or ``rows``.

    Returns:
        ``Dataset(x=(num_rows, num_columns))`` in float32, and how it was made.

    Raises:
        ValueError: if the table is too small or has too few columns that vary, or for unusable moments.
    """
    if scaling not in SCALINGS:
        raise ValueError(f"scaling must be one of {SCALINGS}; received {scaling!r}.")
    if not (np.isfinite(mean) and np.isfinite(variance) and variance > 0.0):
        raise ValueError(f"mean must be finite and variance finite and above zero; received {mean} and {variance}.")
    table = with_response_as_column(table)
    check_size(table, num_rows, num_columns)
    rows = np.random.default_rng(rng_seed).choice(table.num_rows, num_rows, replace=False)
    chosen, constant = choose_columns(table, rows, num_columns)
    taken = table.features[rows][:, chosen]
    measured = taken if scaling == "rows" else table.features[:, chosen]
    x = mean + np.sqrt(variance) * (taken - measured.mean(axis=0)) / measured.std(axis=0)
    info = FeatureRowsInfo(
        table=table.name,
        columns=tuple(table.columns[index] for index in chosen),
        rows=tuple(int(row) for row in rows),
        constant_columns=tuple(table.columns[index] for index in constant),
        scaling=scaling,
        rng_seed=int(rng_seed),
        source=table.source,
        licence=table.licence,
    )
    return Dataset(x=x.astype(np.float32)), info
