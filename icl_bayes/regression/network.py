"""The one network for all regressions: any family, priors, and number of columns up to those it was trained with.

It was trained on tables of :data:`icl_bayes.tasks.any_regression.any_regression`. Its weights know no number of
columns: here they are bound to the program of a table's own size.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from icl_bayes.inference.checks import PRIOR_TOLERANCE
from icl_bayes.inference.network import AmortizedPosterior
from icl_bayes.regression.priors import priors_of, stated_priors
from icl_bayes.tasks import load_program
from icl_bayes.tasks.any_regression import MAX_COLUMNS
from icl_bayes.tasks.regression import make_regression
from icl_bayes.training.checkpoint import Checkpoint, load_checkpoint, unflatten
from icl_bayes.training.network import build_network
from icl_bayes.types import Dataset

WEIGHTS = Path(__file__).parent / "weights"
PROGRAM = "icl_bayes.tasks.any_regression:any_regression"


class Unscored:
    """In the place of a novelty score: tables for regression have no law that they could be unusual under."""

    def score(self, dataset: Dataset) -> float:
        del dataset
        return np.nan


SHAPES = {"student_t": (3.0, 8.0), "half_student_t": (3.0, 8.0), "gamma": (1.0, 4.0)}
DISPERSION_SHAPES = dict.fromkeys(("half_student_t", "gamma", "root_inverse_gamma"), (2.0, 6.0))
"""Degrees of freedom, or concentrations, of priors in training (:func:`.any_regression.draw_constants`)."""
MAX_LOCATION = 2.0
"""Of coefficients, in scales of their priors: four standard deviations of those in training."""


class RegressionNetwork(AmortizedPosterior):
    """The network, for one family and number of columns; see :class:`icl_bayes.AmortizedPosterior`.

    The prior in a call (``prior=``) is one of ``"Intercept"``, ``"coefficients"`` (of all columns), ``"x[0]"``,
    ``"x[1]"``, ... and the family's dispersion, each as in :func:`icl_bayes.glm`:
    ``net.sample(key, dataset, prior={"coefficients": "laplace(0, 1)", "x[2]": "half_normal(0.5)"})``.
    """

    @property
    def prior_range(self) -> dict[str, tuple[float, float]]:
        """Shapes of the kinds of priors of coefficients; their scales may be any, since the base takes them out."""
        return dict(SHAPES)

    def with_prior(self, dataset: Dataset, prior: Mapping[str, Any]) -> Dataset:
        """The data set with other priors.

        Raises:
            ValueError: for names that the model does not have, or priors that can't be read.
        """
        task = self.task
        columns = tuple(f"x[{index}]" for index in range(task.num_columns))
        current = priors_of({**task.constants, **dataset.constants}, task.num_columns)
        family = task.name.rpartition("/")[2]
        stated = stated_priors(prior, current, columns, family)
        return dataset.replace(constants={**dataset.constants, **stated.constants()})

    def outside_prior(self, prepared: Dataset) -> list[str]:
        """Kinds with other shapes than in training, and locations many scales from zero."""
        priors = priors_of(prepared.constants, self.task.num_columns)
        named = [("Intercept", priors.intercept, SHAPES), ("dispersion", priors.dispersion, DISPERSION_SHAPES)]
        named += [(f"x[{index}]", one, SHAPES) for index, one in enumerate(priors.coefficients)]
        notes = []
        for name, one, shapes in named:
            if one is None:
                continue
            low, high = shapes.get(one.kind, (0.0, np.inf))
            if not low / PRIOR_TOLERANCE <= one.shape <= high * PRIOR_TOLERANCE:
                notes.append(f"the prior of {name} is {one}, of shape {low:g} to {high:g} in training")
            if name.startswith("x[") and abs(one.loc) > MAX_LOCATION * one.scale:
                notes.append(f"the prior of {name}, {one}, is centred more than {MAX_LOCATION:g} scales from zero")
        return notes

    @cached_property
    def novelty(self) -> Unscored:  # pyright: ignore[reportIncompatibleVariableOverride]
        return Unscored()


@lru_cache(maxsize=4)
def trained_network(directory: Path = WEIGHTS) -> Checkpoint:
    """Weights and settings, from the package or another directory.

    Raises:
        CheckpointError: if they cannot be used.
    """
    return load_checkpoint(directory, load_program(PROGRAM))


@lru_cache(maxsize=64)
def regression_network(
    family: str, num_columns: int, *, intercept: bool = True, directory: Path = WEIGHTS
) -> RegressionNetwork:
    """The network for tables of a family with so many columns.

    Args:
        family: one of :data:`icl_bayes.tasks.regression.RESPONSES`.
        num_columns: of the design, the intercept apart; at most 20.
        directory: of other weights than those that are shipped.

    Raises:
        ValueError: for more columns than it was trained for.
    """
    if num_columns > MAX_COLUMNS:
        raise ValueError(
            f"The network was trained for up to {MAX_COLUMNS} columns; the design has {num_columns}. Use another "
            "engine, e.g. engine='gaussian'."
        )
    checkpoint = trained_network(directory)
    task = make_regression(family, num_columns, intercept=intercept)
    bound = dataclasses.replace(checkpoint, task=task, calibration={**checkpoint.calibration, "statistics": {}})
    network = build_network(checkpoint.config, task)
    params = unflatten(network.template, checkpoint.arrays, str(directory))
    solver = checkpoint.config.flow.make_solver()
    return RegressionNetwork(network, params, bound, f"regression/{family}", solver)
