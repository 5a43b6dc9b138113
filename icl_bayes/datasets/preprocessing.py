"""From a real table to the data set of a GLM scenario: rows, columns, scaling, and a response on the scenario's scale.

Everything is done along columns. (Scaling along rows, across features, ties the features of a
row together and leaves each column on its own scale.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from icl_bayes.datasets.eligibility import how_served
from icl_bayes.datasets.tables import Table
from icl_bayes.datasets.yeo_johnson import gaussianise, standardise
from icl_bayes.types import Dataset

_MAX_REDRAWS = 1000
_CONSTANT = 1e-10  # spread relative to magnitude below which a column counts as constant


@dataclass(frozen=True)
class PreparedInfo:
    """How a data set was made, for records and reports.

    Attributes:
        table: name of the table.
        columns: names of the columns of ``x``, in order.
        rows: indices of the rows taken, in order.
        constant_columns: columns that could not be chosen, being constant within these rows.
        response_kind: the kind of response the scenario asked for.
        response_name: the column the response was made from.
        derived: true if the response is of another kind than the table's own, or was derived in the table itself.
        derivation: what was done, in words.
        exponent: Yeo-Johnson exponent of the response, ``None`` for binary responses.
        redraws: how often the rows were drawn again because a binary response had one class only.
        rng_seed: the seed of the rows.
        source: source of the table.
        licence: licence of the table.
    """

    table: str
    columns: tuple[str, ...]
    rows: tuple[int, ...]
    constant_columns: tuple[str, ...]
    response_kind: str
    response_name: str
    derived: bool
    derivation: str
    exponent: float | None
    redraws: int
    rng_seed: int
    source: str
    licence: str


def prepare_glm(
    table: Table,
    *,
    num_rows: int,
    num_columns: int,
    response_kind: str,
    response_mean: float | None = None,
    response_variance: float | None = None,
    rng_seed: int,
) -> tuple[Dataset, PreparedInfo]:
    """Bring a table into the form of a GLM scenario (protocol, point 3).

    Rows are drawn without replacement; of the columns that vary within them, those with most
    distinct values are kept (ties by column order) and standardised. The response then follows
    the scenario:

    - ``real``: Yeo-Johnson transformed, then given ``response_mean`` and ``response_variance``.
    - ``binary``: a binary response as it is; any other one is split at the median of the whole
      table (flagged as derived), which leaves the balance of the drawn rows to chance. Rows are
      drawn again, from the same generator, until both classes occur. The moments are not used.
    - ``positive`` (GLM 7): ``log y`` is Yeo-Johnson transformed to scores ``g`` and
      ``y = exp(a + b g)``, with ``a`` and ``b`` such that y has ``response_mean`` and
      ``response_variance``; a real response takes the place of ``log y`` (flagged as derived).
      The moments are those of y, not of log y: simulated logarithms have a left tail so heavy
      (per data set a median variance near 2e5) that no positive number could follow them.

    The moments should be medians over simulated data sets of each set's mean and variance: in
    GLM 7 averages belong to a few extreme sets.

    Args:
        table: the table, with at least ``num_rows`` rows and ``num_columns`` columns.
        num_rows: rows to draw.
        num_columns: columns to keep.
        response_kind: ``real`` (GLM 1 to 5), ``binary`` (GLM 6) or ``positive`` (GLM 7).
        response_mean: mean to give the response; unused if binary.
        response_variance: variance to give it, dividing by n; unused if binary.
        rng_seed: seed of the drawn rows.

    Returns:
        ``Dataset(x=(num_rows, num_columns), y=(num_rows,))`` in float32, and how it was made.

    Raises:
        ValueError: if the table is too small, has no response to offer, has too few columns or
            no response that vary within the drawn rows, or if the moments are missing or unusable.
    """
    served = how_served(table.response_kind, response_kind)
    if served == "no":
        raise ValueError(
            f"Table {table.name!r} has a {table.response_kind} response, from which no {response_kind} one is derived. "
            "Choose a table from eligible_tables()."
        )
    check_size(table, num_rows, num_columns)
    if response_kind == "binary":
        moments = None
        labels = table.response if served == "native" else _median_split(table)
    else:
        moments = _check_moments(response_mean, response_variance, response_kind)
        labels = None
    rows, redraws = _draw_rows(table, num_rows, rng_seed, labels)
    chosen, constant = choose_columns(table, rows, num_columns)
    features = standardise(table.features[rows][:, chosen])

    exponent = None
    if labels is not None or moments is None:
        response = (table.response if labels is None else labels)[rows]
    else:
        response, exponent = _shape_response(table, rows, response_kind, moments)
    derivation = _derivation(table, response_kind, served)
    info = PreparedInfo(
        table=table.name,
        columns=tuple(table.columns[index] for index in chosen),
        rows=tuple(int(row) for row in rows),
        constant_columns=tuple(table.columns[index] for index in constant),
        response_kind=response_kind,
        response_name=table.response_name,
        derived=served == "derived" or table.derived,
        derivation=derivation,
        exponent=exponent,
        redraws=redraws,
        rng_seed=int(rng_seed),
        source=table.source,
        licence=table.licence,
    )
    return Dataset(x=features.astype(np.float32), y=response.astype(np.float32)), info


def check_size(table: Table, num_rows: int, num_columns: int) -> None:
    """A ValueError unless the table is large enough."""
    if num_rows < 2 or num_columns < 1:
        raise ValueError(
            f"num_rows must be at least 2 and num_columns at least 1; received {num_rows} and {num_columns}."
        )
    if table.num_rows < num_rows or table.num_columns < num_columns:
        raise ValueError(
            f"Table {table.name!r} has {table.num_rows} rows and {table.num_columns} columns; the scenario needs "
            f"{num_rows} rows and {num_columns} columns. Choose a table from eligible_tables()."
        )


def _check_moments(mean: float | None, variance: float | None, kind: str) -> tuple[float, float]:
    if mean is None or variance is None:
        raise ValueError(
            f"A {kind} response is scaled to the scenario: give response_mean and response_variance, "
            f"simulated from the task; received {mean} and {variance}."
        )
    if not (np.isfinite(mean) and np.isfinite(variance) and variance > 0.0):
        raise ValueError(
            f"response_mean must be finite and response_variance finite and above zero; received {mean} and {variance}."
        )
    if kind == "positive" and mean <= 0.0:
        raise ValueError(
            f"response_mean of a positive response must be above zero (that of y, not of log y); received {mean}."
        )
    return float(mean), float(variance)


def _median_split(table: Table) -> np.ndarray:
    """Label 1 above the median of the whole table; with ties at the median, the more even of two splits."""
    middle = np.median(table.response)
    splits = [table.response > middle, table.response >= middle]
    labels = min(splits, key=lambda split: abs(split.mean() - 0.5)).astype(float)
    if labels.min() == labels.max():
        raise ValueError(
            f"Table {table.name!r}: the response {table.response_name!r} is constant and cannot be split at its median."
        )
    return labels


def _draw_rows(table: Table, num_rows: int, rng_seed: int, labels: np.ndarray | None) -> tuple[np.ndarray, int]:
    rng = np.random.default_rng(rng_seed)
    for redraws in range(_MAX_REDRAWS):
        rows = rng.choice(table.num_rows, num_rows, replace=False)
        if labels is None or labels[rows].min() < labels[rows].max():
            return rows, redraws
    raise ValueError(
        f"Table {table.name!r}: {_MAX_REDRAWS} draws of {num_rows} rows held one class of {table.response_name!r} "
        "only; the classes are too uneven. Use more rows or another table."
    )


def choose_columns(table: Table, rows: np.ndarray, num_columns: int) -> tuple[list[int], list[int]]:
    """Indices of the columns kept, by number of distinct values, and of those constant within the rows."""
    taken = table.features[rows]
    constant = np.ptp(taken, axis=0) <= _CONSTANT * np.abs(taken).max(axis=0)
    if (~constant).sum() < num_columns:
        names = [table.columns[index] for index in np.flatnonzero(constant)]
        raise ValueError(
            f"Table {table.name!r}: only {(~constant).sum()} columns vary within the {len(rows)} drawn rows, the "
            f"scenario needs {num_columns}; constant: {names}. Use another seed, more rows or another table."
        )
    distinct = np.array([len(np.unique(column)) for column in taken.T])
    order = np.argsort(-distinct, kind="stable")
    return [int(i) for i in order if not constant[i]][:num_columns], [int(i) for i in np.flatnonzero(constant)]


def _shape_response(
    table: Table, rows: np.ndarray, kind: str, moments: tuple[float, float]
) -> tuple[np.ndarray, float]:
    """The response of the drawn rows with the wanted moments (those of its logarithm if positive)."""
    raw = table.response[rows]
    if raw.min() == raw.max():
        raise ValueError(
            f"Table {table.name!r}: the response {table.response_name!r} is constant ({raw[0]:g}) within the "
            f"{len(rows)} drawn rows. Use another seed, more rows or another table."
        )
    scores, exponent = gaussianise(np.log(raw) if kind == "positive" and table.response_kind == "positive" else raw)
    mean, variance = moments
    if kind == "real":
        return mean + np.sqrt(variance) * scores, exponent
    return mean * _exponential(table, scores, np.sqrt(variance) / mean), exponent


def _exponential(table: Table, scores: np.ndarray, variation: float) -> np.ndarray:
    """``exp(a + b scores)`` with mean 1 and the given coefficient of variation."""
    from scipy.optimize import brentq

    below_top = scores - scores.max()

    def scaled(slope: float) -> np.ndarray:
        values = np.exp(slope * below_top)
        return values / values.mean()

    # The variation grows with the slope, up to the limit where only the largest values remain.
    limit = np.sqrt(len(scores) / np.sum(below_top == 0.0) - 1.0)
    steepest = 20.0
    if variation >= min(scaled(steepest).std(), limit):
        raise ValueError(
            f"Table {table.name!r}: {len(scores)} positive numbers with ties as in {table.response_name!r} can't have "
            f"a standard deviation of {variation:.4g} times their mean; the limit is {limit:.4g}. Take medians, not "
            "averages, of the moments over simulated data sets, or another table."
        )
    slope = brentq(lambda candidate: scaled(candidate).std() - variation, 0.0, steepest, xtol=1e-12)
    return scaled(float(slope))  # pyright: ignore[reportArgumentType]


def _derivation(table: Table, kind: str, served: str) -> str:
    steps = [f"classes of {table.response_name} merged into two"] if table.derived else []
    if kind == "binary":
        steps.append("binary response" if served == "native" else f"{table.response_name} split at its median")
    elif kind == "real":
        steps.append("Yeo-Johnson, then the scenario's mean and variance")
    else:
        start = "log response" if served == "native" else f"{table.response_name} in place of a log response"
        steps.append(f"{start}: Yeo-Johnson, exponential with the scenario's mean and variance")
    return "; ".join(steps)
