"""The one network for all regressions: any family, priors, and number of columns up to those it was trained with.

It was trained on tables of :data:`icl_bayes.tasks.any_regression.any_regression`. Its weights know no number of
columns: here they are bound to the program of a table's own size.
"""

from __future__ import annotations

import dataclasses
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from icl_bayes.inference.network import AmortizedPosterior
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


class RegressionNetwork(AmortizedPosterior):
    """The network, for one family and number of columns; see :class:`icl_bayes.AmortizedPosterior`."""

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
