"""Plots of calibration: how far distribution functions lie from the diagonal, with bands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from icl_bayes.benchmark.plot_style import GRID, INK, MUTED, REFERENCE_COLOR
from icl_bayes.evaluation.calibration import Uniformity, simultaneous_band

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Result = tuple[str, str, Uniformity]
"""Test, coordinate, and what was found."""
_TITLES = {
    "ranks": "rank of the truth among draws",
    "coverage": "central intervals",
    "likelihood": "rank of the truth's likelihood",
    "tarp": "balls around random points (TARP)",
}
_SMALLEST_LEVEL = 1.0 / 2000.0
_PASSED, _FAILED = "#0072B2", "#D55E00"


def calibration_figure(results: Sequence[Result], num_datasets: int, limit: float, *, title: str) -> Figure:
    """One panel per test; a line per coordinate, coloured where it fails.

    Args:
        limit: p-value below which a line fails; bands are drawn at this level, or at 1 / 2000 where it is smaller.
    """
    from matplotlib.figure import Figure

    kinds = list(dict.fromkeys(kind for kind, _, _ in results))
    figure = Figure(figsize=(4.2 * len(kinds), 3.6), layout="constrained")
    axes = figure.subplots(1, len(kinds), squeeze=False)[0]
    lower, upper = simultaneous_band(num_datasets, max(limit, _SMALLEST_LEVEL))
    for axis, kind in zip(axes, kinds, strict=True):
        own = [(name, found) for which, name, found in results if which == kind]
        _panel(axis, own, lower, upper, limit)
        axis.set_title(_TITLES[kind], fontsize=10, color=INK)
    axes[0].set_ylabel("empirical minus nominal probability", color=MUTED)
    figure.suptitle(f"{title}: {num_datasets} simulated data sets", fontsize=11, color=INK)
    return figure


def _panel(
    axis: Axes, lines: Sequence[tuple[str, Uniformity]], lower: np.ndarray, upper: np.ndarray, limit: float
) -> None:
    grid = lines[0][1].grid
    axis.fill_between(grid, lower, upper, color=REFERENCE_COLOR, alpha=0.5, linewidth=0)
    axis.axhline(0.0, color=MUTED, linewidth=0.8)
    labelled = False
    for name, found in lines:
        failed = found.p_value < limit
        axis.plot(
            np.concatenate([[0.0], grid, [1.0]]),
            np.concatenate([[0.0], found.difference, [0.0]]),
            color=_FAILED if failed else _PASSED,
            linewidth=1.2,
            alpha=0.9 if failed else 0.6,
            label=name if failed and name else None,
        )
        labelled |= bool(failed and name)
    if labelled:
        axis.legend(fontsize=8, frameon=False)
    axis.set_xlim(0.0, 1.0)
    axis.set_xlabel("nominal probability", color=MUTED)
    axis.grid(color=GRID, linewidth=0.6)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
