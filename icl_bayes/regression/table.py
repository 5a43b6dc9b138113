"""What a formula and a frame come to: a design, priors, and a data set in which equal rows are counted together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from icl_bayes.regression.design import Design, as_frame, make_design, numbers
from icl_bayes.regression.missing import missing_cells
from icl_bayes.regression.priors import Prior, RegressionPriors, default_priors, stated_priors
from icl_bayes.tasks.regression import FAMILIES
from icl_bayes.types import Dataset

ENGINES = ("auto", "gaussian", "network")
MAX_ROWS, MAX_COLUMNS = 20_000, 100
"""Of a design, after rows that are equal have been counted together; beyond, a chain's move takes seconds."""


@dataclass(frozen=True)
class Kind:
    """What tables have in common that the same compiled program serves, their length apart.

    Attributes:
        is_network: whether draws are made by the network.
        family: of the response.
        num_columns: of the design, the intercept apart.
        has_intercept: whether there is one.
        num_missing: how many missing cells are integrated.
    """

    is_network: bool
    family: str
    num_columns: int
    has_intercept: bool
    num_missing: int


@dataclass(frozen=True, eq=False)
class RegressionTable:
    """A regression before its posterior is known.

    Attributes:
        kind: what decides the program.
        formula: as given.
        design: columns, and the rows that are used.
        priors: as stated, or by default.
        dataset: the rows, with priors as constants.
        observations: which row of the data set each observation is, ``(N,)``.
    """

    kind: Kind
    formula: str
    design: Design
    priors: RegressionPriors
    dataset: Dataset
    observations: np.ndarray


def make_table(
    formula: str,
    data: Any,
    family: str,
    priors: Mapping[str, str | Prior] | None,
    *,
    offset: str = "",
    weights: str = "",
    precision: str = "",
    trials: str = "",
    missing: str = "refuse",
    engine: str = "auto",
) -> RegressionTable:
    """Arguments and errors are those of :func:`icl_bayes.glm`."""
    if engine not in ENGINES:
        raise ValueError(f"Unknown engine {engine!r}; choices: {', '.join(ENGINES)}.")
    if family not in FAMILIES:
        raise ValueError(f"Unknown family {family!r}; choices: {', '.join(FAMILIES)}.")
    extra = {"offset": offset, "weight": weights, "precision": precision, "trials": trials}
    extra = {role: name for role, name in extra.items() if name}
    for role, only in (("precision", "gaussian"), ("trials", "binomial")):
        if role in extra and family != only:
            raise ValueError(f"{role} is for the family {only}; received family={family!r}.")
    if family == "binomial" and "trials" not in extra:
        raise ValueError("A binomial response is a number of successes; say which column counts the trials, trials=...")
    frame = as_frame(data)
    design = make_design(formula, frame, missing=missing, also=extra)
    rows = {role: numbers(frame, name, design.rows, role) for role, name in extra.items()}
    if design.levels is not None and family != "bernoulli":
        raise ValueError(f"The response {design.response!r} holds the levels {design.levels}, which is for bernoulli.")
    stated = _priors(design, family, rows, priors)
    x, constants, num_missing = design.x, stated.constants(), 0
    if np.isnan(x).any():
        if engine == "network":
            raise ValueError("The network integrates no missing cells out; use engine='gaussian' or 'auto'.")
        if weights:
            raise ValueError(
                "Rows that count several times would share their missing cells, where each has its own; write such "
                "rows out, or drop those with missing cells (missing='drop')."
            )
        cells = missing_cells(x)
        rows, constants, num_missing = rows | {"cell": cells.cell}, constants | cells.constants(), cells.count
        x = np.nan_to_num(x)
    dataset, which = counted_together({"x": x, "y": design.y, **rows}, constants)
    num_rows, num_columns = dataset["x"].shape
    if num_rows > MAX_ROWS or num_columns > MAX_COLUMNS:
        raise ValueError(
            f"The table has {num_rows} different rows and {num_columns} columns; up to {MAX_ROWS} and {MAX_COLUMNS} "
            "are served. Count equal rows together (weights), or take a sample of the rows."
        )
    observations = np.repeat(which, rows["weight"].astype(int)) if weights else which
    kind = Kind(engine == "network", family, num_columns, design.has_intercept, num_missing)
    return RegressionTable(kind, formula, design, stated, dataset, observations)


def counted_together(rows: Mapping[str, np.ndarray], constants: Mapping[str, np.ndarray]) -> tuple[Dataset, np.ndarray]:
    """A data set in which equal rows are one row of a larger weight, which leaves the likelihood as it is.

    Returns:
        The data set, and which of its rows each given one is, ``(n,)``.
    """
    weight = rows.get("weight", np.ones(len(rows["y"])))
    names = sorted(name for name in rows if name != "weight")
    table = np.column_stack([rows[name].reshape(len(weight), -1) for name in names])
    distinct, first, which = np.unique(table, axis=0, return_index=True, return_inverse=True)
    if len(distinct) > 0.9 * len(table):  # not worth a change of the order
        return Dataset(**dict(rows), constants=constants), np.arange(len(table))
    order = np.argsort(first)
    counts = np.bincount(which.ravel(), weights=weight, minlength=len(distinct))[order]
    chosen = {name: rows[name][first[order]] for name in names}
    return Dataset(**chosen, weight=counts, constants=constants), np.argsort(order)[which.ravel()]


def _priors(
    design: Design, family: str, rows: Mapping[str, np.ndarray], stated: Mapping[str, str | Prior] | None
) -> RegressionPriors:
    offset = rows.get("offset", np.zeros(len(design.y)))
    y = design.y / rows["trials"] if "trials" in rows else design.y
    defaults = default_priors(family, design.x, y, offset, intercept=design.has_intercept)
    return stated_priors(stated, defaults, design.columns, family)
