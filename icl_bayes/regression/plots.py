"""One figure of a regression: what was estimated, and how it fits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import matplotlib.figure
    from matplotlib.axes import Axes

    from icl_bayes.regression.result import RegressionPosterior

_BLUE, _RED = "#0072B2", "#D55E00"
_NUM_BINS = 10


def regression_figure(
    model: RegressionPosterior, reference: Mapping[str, np.ndarray] | None = None
) -> matplotlib.figure.Figure:
    """Intervals of the coefficients in standard deviations of their columns, and responses against their means.

    Args:
        reference: ``{site: (num, *shape)}`` draws to be drawn beside the posterior's.
    """
    from matplotlib.figure import Figure

    count = max(len(model.design.columns), 1)
    figure = Figure(figsize=(9.5, max(3.2, 0.32 * count + 1.2)), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.2, 1.0))
    _coefficients(left, model, reference)
    _fit(right, model)
    return figure


def _coefficients(axis: Axes, model: RegressionPosterior, reference: Mapping[str, np.ndarray] | None) -> None:
    columns = model.design.columns
    if not columns:
        axis.set_visible(False)
        return
    spread = np.nanstd(model.design.x, axis=0)
    places = np.arange(len(columns))[::-1]
    sides = [(model.posterior["beta"], _BLUE, "posterior", 0.0)]
    if reference is not None:
        sides.append((np.asarray(reference["beta"]), _RED, "reference", -0.25))
    for draws, color, label, shift in sides:
        low, inner_low, middle, inner_high, high = np.quantile(draws * spread, [0.05, 0.25, 0.5, 0.75, 0.95], axis=0)
        axis.hlines(places + shift, low, high, color=color, linewidth=1.2)
        axis.hlines(places + shift, inner_low, inner_high, color=color, linewidth=3.5)
        axis.plot(middle, places + shift, "o", color=color, markersize=4, label=label)
    axis.axvline(0.0, color="0.6", linewidth=0.8)
    axis.set_yticks(places, columns)
    axis.set_title("effect of one standard deviation (50 % and 90 %)", fontsize=10)
    if reference is not None:
        axis.legend(frameon=False, fontsize=8)


def _fit(axis: Axes, model: RegressionPosterior) -> None:
    """Observed against expected responses, single ones; of two-valued ones, shares by tenths of their probability."""
    dataset = model.posterior.dataset
    expected = model.expected().mean(axis=0)
    log_y = "log_y" in dataset
    observed = np.exp(np.asarray(dataset["log_y"])) if log_y else np.asarray(dataset["y"], np.float64)
    if model.family == "binomial":
        observed = observed / np.asarray(dataset["trials"])
    if model.family == "bernoulli":
        order = np.argsort(expected)
        parts = [part for part in np.array_split(order, min(_NUM_BINS, len(order))) if len(part)]
        weight = np.asarray(dataset["weight"], np.float64)
        expected = np.asarray([np.average(expected[part], weights=weight[part]) for part in parts])
        observed = np.asarray([np.average(observed[part], weights=weight[part]) for part in parts])
    axis.plot(expected, observed, "o", color=_BLUE, markersize=3.5, alpha=0.6)
    low, high = min(expected.min(), observed.min()), max(expected.max(), observed.max())
    axis.plot([low, high], [low, high], color="0.6", linewidth=0.8)
    if model.family == "gamma" and low > 0.0:
        axis.set(xscale="log", yscale="log")
    axis.set_xlabel("expected")
    axis.set_ylabel("share observed" if model.family == "bernoulli" else "observed")
    axis.set_title(f"{model.design.response}: fit", fontsize=10)
