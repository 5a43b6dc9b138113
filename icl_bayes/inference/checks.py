"""Does a data set look like those the network was trained on? Errors and warnings, in words."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from icl_bayes.inference.buckets import padded_length
from icl_bayes.training.network import Network
from icl_bayes.training.targets import MAX_DECREMENT, MAX_RIVAL
from icl_bayes.training.training_range import summary_statistics
from icl_bayes.types import Dataset

MARGIN = 0.25
"""Tolerated excess over the simulated range, as a fraction of its width..."""
PRIOR_TOLERANCE = 1.05
"""Factor by which a prior constant may lie beyond the range of training."""
ABSOLUTE_MARGIN = 0.7
"""...but at least this much: columns are standardized in training, and a scale off by two is harmless."""


@lru_cache(maxsize=8)
def _statistics_program(network: Network):
    """Names of the statistics, and the program for their values in that order: one array costs one transfer."""

    names: list[str] = []

    def values(dataset: Dataset) -> jax.Array:
        found = summary_statistics(network.task.features(dataset))
        names[:] = found
        return jnp.stack(list(found.values()))

    jax.eval_shape(values, network.task.example)  # for the names
    return names, jax.jit(values)


def check_against_training(
    network: Network, calibration: dict[str, Any], dataset: Dataset, also: Sequence[str] = (), *, warn: bool = True
) -> list[str]:
    """Warnings about a prepared data set, which are also issued as ``UserWarning``.

    Args:
        also: what else is outside the training range.

    Raises:
        ValueError: if it has fewer rows than any data set of the training.
    """
    low, high = calibration["num_rows"]
    num_rows = int(np.sum(np.asarray(dataset.row_mask)))
    if num_rows < low:
        raise ValueError(
            f"The data set has {num_rows} row(s), fewer than the {low} that this network was trained for. "
            "Use a reference method (icl_bayes.baselines) for so few rows, or a network trained with a smaller "
            "training.min_rows."
        )
    notes = list(also)
    if num_rows > high:
        notes.append(f"the data set has {num_rows} rows, more than the {high} that the network was trained for")
    notes += _outside(calibration["statistics"], _host_statistics(network, dataset))
    if notes and warn:
        warnings.warn(
            "Outside the training range of the network, so the posterior may be wrong: " + "; ".join(notes) + ".",
            UserWarning,
            stacklevel=4,
        )
    return notes


def outside_prior(ranges: Mapping[str, tuple[float, float]], constants: Mapping[str, Any]) -> list[str]:
    """Prior constants beyond those of the training ``{name: (lowest, highest)}``, in words."""
    notes = []
    for name, (low, high) in ranges.items():
        value = np.asarray(constants[name], float)
        if (value < low / PRIOR_TOLERANCE).any() or (value > high * PRIOR_TOLERANCE).any():
            trained = f"{low:.3g} to {high:.3g}" if high > low else f"{low:.3g}"
            notes.append(f"the prior constant {name} is {np.array2string(value, precision=3)}, in training {trained}")
    return notes


def check_base(decrement: float, rival: float, *, warn: bool = True) -> list[str]:
    """Warnings, likewise, about the Gaussian that the draws start from: such data sets are not trained on.

    Args:
        decrement: nats that a further step of its search promised.
        rival: log mass of a second mode relative to the one it sits in.
    """
    notes = []
    if not decrement <= MAX_DECREMENT:
        notes.append(
            f"the search for the Gaussian that draws start from stopped {decrement:.2g} nats short of its end "
            f"(limit {MAX_DECREMENT:g})"
        )
    if rival > MAX_RIVAL:
        notes.append(
            f"the posterior has a second mode with {np.exp(min(rival, 0.0)):.0%} (estimate) of the mass of the first, "
            "which the draws may miss; compare with a reference (icl_bayes.baselines.reference_draws)"
        )
    if notes and warn:
        warnings.warn(f"The posterior may be wrong: {'; '.join(notes)}.", UserWarning, stacklevel=3)
    return notes


def _host_statistics(network: Network, dataset: Dataset) -> dict[str, float]:
    length = dataset.padded_rows if network.task.has_fixed_rows else padded_length(dataset.padded_rows)
    padded = dataset.pad_rows(length)
    names, program = _statistics_program(network)
    return dict(zip(names, np.asarray(program(padded)).tolist(), strict=True))


def _outside(ranges: dict[str, list[float]], statistics: dict[str, float]) -> list[str]:
    notes = []
    log_num_rows = f"context {sum(name.startswith('context') for name in ranges) - 1}"  # the last; has its own message
    for name, value in statistics.items():
        if name == log_num_rows:
            continue
        low, high = ranges.get(name, (-np.inf, np.inf))
        margin = max(MARGIN * (high - low), ABSOLUTE_MARGIN)
        if value < low - margin or value > high + margin:
            notes.append(f"{name} is {value:.3g}, in training {low:.3g} to {high:.3g}")
    return notes[:4] + ([f"and {len(notes) - 4} more"] if len(notes) > 4 else [])
