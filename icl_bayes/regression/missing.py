"""Cells of covariates that were not observed, and their law given the cells that were.

Columns are taken as jointly normal across rows, with mean and covariance estimated from the observed cells by the EM
algorithm (Little and Rubin, 2019, chapter 11) and held fixed. Given the observed cells of its row, a missing cell is
then normal, and the regression integrates it out together with its coefficients, responses having their say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

MAX_CELLS = 60
"""Each is one more dimension of the posterior; chains and Cholesky factors grow with them."""
_MAX_STEPS, _TOLERANCE = 500, 1e-8
_RIDGE = 1e-6


class Moments(NamedTuple):
    """Mean ``(p,)`` and covariance ``(p, p)`` of the columns."""

    mean: np.ndarray
    covariance: np.ndarray


@dataclass(frozen=True)
class MissingCells:
    """Missing cells of a design, in the order of its rows.

    Attributes:
        cell: ``(n, p)``, which of them a cell is, from 1 on; 0 where it was observed.
        rows, columns: ``(m,)``, where they lie.
        loc: ``(m,)``, their mean given the observed cells.
        scale: ``(m, m)``, Cholesky factor of their covariance; cells of different rows are independent.
    """

    cell: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    loc: np.ndarray
    scale: np.ndarray

    @property
    def count(self) -> int:
        return len(self.loc)

    def constants(self) -> dict[str, np.ndarray]:
        """As the task reads them."""
        return {"missing_loc": self.loc, "missing_scale": self.scale}


def column_moments(x: np.ndarray) -> Moments:
    """Moments of jointly normal columns ``(n, p)`` by maximum likelihood; NaN marks a missing cell.

    Raises:
        ValueError: for a column without two different observed values.
    """
    x = np.asarray(x, np.float64)
    spread = np.array([np.std(column[~np.isnan(column)]) if (~np.isnan(column)).any() else 0.0 for column in x.T])
    if not (spread > 0.0).all():
        raise ValueError(
            f"{int((spread == 0.0).sum())} column(s) have fewer than two different observed values, so there is no law "
            "to integrate their missing cells under."
        )
    mean = np.nanmean(x, axis=0)
    z = (x - mean) / spread  # in units of their own, so that one ridge suits all
    center, covariance = np.zeros(z.shape[1]), np.eye(z.shape[1])
    for _ in range(_MAX_STEPS):
        filled, extra = _completed(z, center, covariance)
        new_center = filled.mean(axis=0)
        residual = filled - new_center
        new_covariance = (residual.T @ residual + extra) / len(z)
        change = max(np.abs(new_center - center).max(), np.abs(new_covariance - covariance).max())
        center, covariance = new_center, new_covariance
        if change < _TOLERANCE:
            break
    return Moments(mean + spread * center, covariance * np.outer(spread, spread))


def _completed(z: np.ndarray, center: np.ndarray, covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Expected cells given the observed ones, and the sum over rows of their covariances."""
    filled, extra = np.array(z), np.zeros_like(covariance)
    patterns, which = np.unique(np.isnan(z), axis=0, return_inverse=True)
    for index, is_missing in enumerate(patterns):
        if not is_missing.any():
            continue
        rows = np.flatnonzero(which.ravel() == index)
        slope, left = _regression_on_observed(covariance, is_missing)
        filled[np.ix_(rows, is_missing)] = center[is_missing] + (z[rows][:, ~is_missing] - center[~is_missing]) @ slope
        extra[np.ix_(is_missing, is_missing)] += len(rows) * left
    return filled, extra


def _regression_on_observed(covariance: np.ndarray, is_missing: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slopes ``(observed, missing)`` of missing cells on observed ones, and what covariance is left to them."""
    between = covariance[np.ix_(~is_missing, is_missing)]
    inner = covariance[np.ix_(~is_missing, ~is_missing)]
    slope = np.linalg.solve(inner + _RIDGE * np.diag(np.diag(inner)), between)
    left = covariance[np.ix_(is_missing, is_missing)] - between.T @ slope
    return slope, 0.5 * (left + left.T)


def missing_cells(x: np.ndarray) -> MissingCells:
    """The missing cells (NaN) of columns ``(n, p)``, with their law given the observed ones.

    Raises:
        ValueError: for too many of them, or columns that say nothing of theirs.
    """
    is_missing = np.isnan(x)
    rows, columns = np.nonzero(is_missing)
    if len(rows) > MAX_CELLS:
        raise ValueError(
            f"{len(rows)} cells are missing; up to {MAX_CELLS} are integrated out. Leave out the columns that lack "
            "most, or drop rows (missing='drop')."
        )
    cell = np.zeros(x.shape)
    cell[is_missing] = np.arange(1, len(rows) + 1)
    moments = column_moments(x)
    loc, scale = np.zeros(len(rows)), np.zeros((len(rows), len(rows)))
    for row in np.unique(rows):
        own = np.flatnonzero(rows == row)
        slope, left = _regression_on_observed(moments.covariance, is_missing[row])
        observed = ~is_missing[row]
        loc[own] = moments.mean[columns[own]] + (x[row, observed] - moments.mean[observed]) @ slope
        floor = _RIDGE * np.diag(np.diag(moments.covariance)[columns[own]])
        scale[np.ix_(own, own)] = np.linalg.cholesky(left + floor)
    return MissingCells(cell, rows, columns, loc, scale)
