"""``icl_bayes.glm``: the certified posterior of a generalized linear model, by the cheapest engine that passes."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import jax
import numpy as np

from icl_bayes.inference.gaussian_source import GaussianSource, engine_of
from icl_bayes.inference.posterior import Posterior
from icl_bayes.regression.design import as_frame
from icl_bayes.regression.network import RegressionNetwork, regression_network
from icl_bayes.regression.priors import Prior
from icl_bayes.regression.result import RegressionPosterior
from icl_bayes.regression.table import Kind, RegressionTable, make_table
from icl_bayes.tasks.regression import make_regression
from icl_bayes.types import Array, Dataset

ON_ERROR = ("raise", "warn")


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
    table = make_table(
        formula,
        data,
        family,
        priors,
        offset=offset,
        weights=weights,
        precision=precision,
        trials=trials,
        missing=missing,
        engine=engine,
    )
    draw_key, refine_key = jax.random.split(jax.random.key(0) if rng_key is None else rng_key)
    raw = source_of(table.kind).sample(draw_key, table.dataset, num_draws)
    return _certified(table, raw, refine_key)


def glm_batch(
    formula: str,
    data: Any,
    by: str,
    family: str = "gaussian",
    priors: Mapping[str, str | Prior] | None = None,
    *,
    num_draws: int = 1000,
    rng_key: Array | None = None,
    on_error: str = "raise",
    **options: Any,
) -> dict[Any, RegressionPosterior]:
    """One regression for every group of rows; the draws of all groups of about one size come from one compiled program.

    Groups that need a repair get it one after the other. Posteriors are those of :func:`glm` with the key
    ``jax.random.fold_in(rng_key, index)``, to rounding.

    Args:
        by: column that names the groups.
        num_draws, rng_key: as in :func:`glm`.
        on_error: ``raise``, or ``warn`` of groups that cannot be fitted and leave them out.
        **options: as those of :func:`glm`.

    Returns:
        ``{group: posterior}`` in the order of their first rows.

    Raises:
        ValueError: for a group that cannot be fitted, by name; see :func:`glm`. Tables are all read before any draws.
    """
    if on_error not in ON_ERROR:
        raise ValueError(f"Unknown on_error {on_error!r}; choices: {', '.join(ON_ERROR)}.")
    frame = as_frame(data)
    if by not in frame.columns:
        raise ValueError(f"The data lack the column {by!r}; they have {', '.join(map(str, frame.columns))}.")
    num_unnamed = int(np.count_nonzero(frame[by].isna()))
    if num_unnamed:
        raise ValueError(
            f"The group column {by!r} has {num_unnamed} missing cells; drop these rows, or name their group."
        )
    tables: dict[Any, RegressionTable] = {}
    keys: dict[Any, tuple[Array, Array]] = {}
    rng_key = jax.random.key(0) if rng_key is None else rng_key
    for index, (group, rows) in enumerate(frame.groupby(by, sort=False, observed=True)):
        try:
            tables[group] = make_table(formula, rows, family, priors, **options)
        except ValueError as error:
            _failed(group, error, on_error)
        draw_key, refine_key = jax.random.split(jax.random.fold_in(rng_key, index))
        keys[group] = draw_key, refine_key
    raw: dict[Any, Posterior | ValueError] = {}
    for kind in dict.fromkeys(table.kind for table in tables.values()):
        alike = [group for group, table in tables.items() if table.kind == kind]
        source = source_of(kind)
        datasets = [tables[group].dataset for group in alike]
        draw_keys = [keys[group][0] for group in alike]
        if isinstance(source, GaussianSource):
            drawn = source.sample_batch(draw_keys, datasets, num_draws)
        else:
            drawn = [_by_network(source, *one, num_draws) for one in zip(draw_keys, datasets, strict=True)]
        raw |= dict(zip(alike, drawn, strict=True))
    found = {}
    for group, table in tables.items():
        one = raw[group]
        if isinstance(one, ValueError):
            _failed(group, one, on_error)
        else:
            found[group] = _certified(table, one, keys[group][1])
    return found


def _by_network(source: RegressionNetwork, rng_key: Array, dataset: Dataset, num_draws: int) -> Posterior | ValueError:
    try:
        return source.sample(rng_key, dataset, num_draws)
    except ValueError as error:
        return error


def _failed(group: Any, error: ValueError, on_error: str) -> None:
    if on_error == "raise":
        raise ValueError(f"Group {group!r}: {error}") from error
    warnings.warn(f"Group {group!r} is left out: {error}", UserWarning, stacklevel=3)


def _certified(table: RegressionTable, raw: Posterior, refine_key: Array) -> RegressionPosterior:
    """The posterior after its draws were checked, and repaired where that is needed."""
    refined = raw.refine(refine_key)
    if table.kind.is_network:
        refined = replace(refined, info={**refined.info, "engine": engine_of(refined, "network")})
    return RegressionPosterior(
        refined, table.design, table.kind.family, table.priors, table.formula, table.observations
    )


@lru_cache(maxsize=64)
def source_of(kind: Kind) -> GaussianSource | RegressionNetwork:
    """Kept, with its compiled programs. ``auto`` is the Gaussian: its draws are repaired in the time gained."""
    if kind.is_network:
        return regression_network(kind.family, kind.num_columns, intercept=kind.has_intercept)
    task = make_regression(kind.family, kind.num_columns, intercept=kind.has_intercept, num_missing=kind.num_missing)
    return GaussianSource(task)
