"""``icl_bayes.glm``: the certified posterior of a generalized linear model, by the cheapest engine that passes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import jax
import numpy as np

from icl_bayes.inference.gaussian_source import GaussianSource, engine_of
from icl_bayes.inference.posterior import Posterior
from icl_bayes.regression.design import Design, as_frame, make_design, numbers
from icl_bayes.regression.missing import missing_cells
from icl_bayes.regression.network import RegressionNetwork, regression_network
from icl_bayes.regression.priors import Prior, RegressionPriors, default_priors, stated_priors
from icl_bayes.regression.result import RegressionPosterior
from icl_bayes.tasks.regression import FAMILIES, make_regression
from icl_bayes.types import Array, Dataset

ENGINES = ("auto", "gaussian", "network")
MAX_ROWS, MAX_COLUMNS = 20_000, 100
"""Of a design, after rows that are equal have been counted together; beyond, a chain's move takes seconds."""


def glm(
    formula: str,
    data: Any,
    family: str = "gaussian",
    priors: Mapping[str, str | Prior] | None = None,
    *,
    offset: str = "",
    weights: str = "",
    precision: str = "",
    trials: str = "",
    missing: str = "refuse",
    engine: str = "auto",
    num_draws: int = 1000,
    rng_key: Array | None = None,
) -> RegressionPosterior:
    """The posterior of a generalized linear model, with a certificate.

    Draws come from the Gaussian closest to the posterior, or from the network; they are checked by their importance
    weights and, where that is needed, reweighted, moved by parallel HMC until chains forget their starts, or replaced
    by long NUTS chains (:meth:`icl_bayes.inference.Posterior.refine`). ``posterior.engine`` says which.

    Args:
        formula: such as ``y ~ x1 + C(group) + x2:x3``, read by formulaic; ``0 +`` leaves out the intercept.
        data: pandas or polars frame, mapping of columns, or the path of a CSV file.
        family: ``gaussian`` (identity link), ``bernoulli``, ``binomial`` (logit), ``poisson``,
            ``negative_binomial``, ``gamma`` (log).
        priors: by column, ``Intercept``, ``coefficients`` for all columns not named, ``sigma``, ``overdispersion`` or
            ``dispersion``; as ``"normal(0, 2.5)"``, ``"student_t(3, 0, 1)"``, ``"laplace(0, 1)"``, or positive
            ``"half_normal(1)"``, ``"half_student_t(3, 1)"``, ``"gamma(2, 0.5)"``, ``"exponential(1)"``,
            ``"root_inverse_gamma(5, 1.4)"`` (of ``sigma``: an inverse gamma law of the variance). What is not
            stated is weakly informative, on the scale of the data (:func:`default_priors`).
        offset: column that is added to the linear predictor (of rates: the logarithm of the exposure).
        weights: column of how often a row was observed, whole numbers.
        precision: of a Gaussian response, column of known precisions relative to ``1 / sigma^2``.
        trials: of a binomial response, column of the numbers of trials.
        missing: ``refuse`` rows with missing cells, ``drop`` them, or ``integrate`` missing cells of numeric columns
            out, with columns taken as jointly normal (:mod:`icl_bayes.regression.missing`).
        engine: what draws are made by at first: ``gaussian``, ``network`` (up to 20 columns; closer where posteriors
            are far from Gaussian, about ten times slower), or ``auto``, for now the first.
        num_draws: of the posterior.
        rng_key: ``jax.random.key(...)``, by default ``jax.random.key(0)``.

    Raises:
        ValueError: for formulas, data and priors that don't fit together, in words.
    """
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
    key = jax.random.key(0) if rng_key is None else rng_key
    source = source_of(engine == "network", family, num_columns, design.has_intercept, num_missing)
    posterior = certified(source, dataset, num_draws, key)
    observations = np.repeat(which, rows["weight"].astype(int)) if weights else which
    return RegressionPosterior(posterior, design, family, stated, formula, observations)


def glm_batch(
    formula: str,
    data: Any,
    by: str,
    family: str = "gaussian",
    priors: Mapping[str, str | Prior] | None = None,
    *,
    rng_key: Array | None = None,
    **options: Any,
) -> dict[Any, RegressionPosterior]:
    """One regression for every group of rows; programs are compiled once for tables of about one size.

    Args:
        by: column that names the groups.
        **options: as those of :func:`glm`.

    Returns:
        ``{group: posterior}`` in the order of their first rows.
    """
    frame = as_frame(data)
    if by not in frame.columns:
        raise ValueError(f"The data lack the column {by!r}; they have {', '.join(map(str, frame.columns))}.")
    key = jax.random.key(0) if rng_key is None else rng_key
    found = {}
    for index, (group, rows) in enumerate(frame.groupby(by, sort=False)):
        try:
            found[group] = glm(formula, rows, family, priors, rng_key=jax.random.fold_in(key, index), **options)
        except ValueError as error:
            raise ValueError(f"Group {group!r}: {error}") from error
    return found


def certified(
    source: GaussianSource | RegressionNetwork, dataset: Dataset, num_draws: int, rng_key: Array
) -> Posterior:
    """Draws of one engine, checked and repaired where that is needed."""
    draw_key, refine_key = jax.random.split(rng_key)
    refined = source.sample(draw_key, dataset, num_draws).refine(refine_key)
    if isinstance(source, GaussianSource):
        return refined
    return replace(refined, info={**refined.info, "engine": engine_of(refined, "network")})


@lru_cache(maxsize=64)
def source_of(
    is_network: bool, family: str, num_columns: int, has_intercept: bool, num_missing: int = 0
) -> GaussianSource | RegressionNetwork:
    """Kept, with its compiled programs. ``auto`` is the Gaussian: its draws are repaired in the time gained."""
    if is_network:
        return regression_network(family, num_columns, intercept=has_intercept)
    return GaussianSource(make_regression(family, num_columns, intercept=has_intercept, num_missing=num_missing))


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
