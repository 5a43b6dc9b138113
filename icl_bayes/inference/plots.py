"""Plots of one posterior."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import matplotlib.figure
    from matplotlib.axes import Axes

    from icl_bayes.inference.mixture import Mixture
    from icl_bayes.inference.posterior import Posterior


def plot_marginals(posterior: Posterior, reference: Mapping[str, np.ndarray] | None) -> matplotlib.figure.Figure:
    """One panel per coordinate: histogram of the draws, outline of the reference."""
    from matplotlib.figure import Figure

    draws, labels = posterior.target_matrix()
    other = None
    if reference is not None:
        num = len(next(iter(reference.values())))
        other = np.concatenate([np.asarray(reference[name]).reshape(num, -1) for name in posterior.task.target], axis=1)
    columns = min(4, len(labels))
    rows = -(-len(labels) // columns)
    figure = Figure(figsize=(2.6 * columns, 2.1 * rows), layout="constrained")
    axes = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    for j, (axis, label) in enumerate(zip(axes, labels, strict=False)):
        values = draws[:, j] if other is None else np.concatenate([draws[:, j], other[:, j]])
        low, high = np.quantile(values, [0.001, 0.999])
        edges = np.linspace(low, high, 41)
        axis.hist(draws[:, j], edges, density=True, color="#0072B2", alpha=0.55, label="network")
        if other is not None:
            axis.hist(other[:, j], edges, density=True, histtype="step", color="black", label="reference")
        axis.set_title(label, fontsize=9)
        axis.set_yticks([])
    for axis in axes[len(labels) :]:
        axis.set_visible(False)
    if other is not None:
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    return figure


_COMPONENT_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_SHOWN_DRAWS = 200


def plot_mixture(mixture: Mixture) -> matplotlib.figure.Figure:
    """Data with clusters and density, co-assignment of rows sorted by cluster, number of occupied components."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.0, 3.4), layout="constrained")
    data, together, occupied = figure.subplots(1, 3, width_ratios=(1.3, 1.0, 0.8))
    (_plot_rows_1d if mixture.rows.shape[1] == 1 else _plot_rows_2d)(data, mixture)
    order = np.argsort(mixture.clusters(), kind="stable")
    image = together.imshow(mixture.co_assignment()[np.ix_(order, order)], vmin=0.0, vmax=1.0, cmap="Blues")
    figure.colorbar(image, ax=together, shrink=0.8)
    together.set_title("same component", fontsize=10)
    together.set_xlabel("row, sorted by cluster")
    probabilities = mixture.num_occupied()
    occupied.bar(probabilities.index, probabilities.to_numpy(), color="0.4")
    occupied.set_xticks(list(probabilities.index))
    occupied.set_ylim(0.0, 1.0)
    occupied.set_title("components that hold rows", fontsize=10)
    return figure


def _densities(mixture: Mixture, column: int, grid: np.ndarray) -> np.ndarray:
    """Densities of weighted components along one column, ``(num_shown, M, len(grid))``."""
    shown = np.linspace(0, len(mixture.order) - 1, min(_SHOWN_DRAWS, len(mixture.order))).astype(int)
    weights = mixture.sites["weights"][shown][:, :, None]
    mean = mixture.sites["mu"][shown][:, :, column, None]
    variance = mixture.sites["sigma2"][shown][:, :, column, None]
    return weights * np.exp(-0.5 * (grid - mean) ** 2 / variance) / np.sqrt(2.0 * np.pi * variance)


def _plot_rows_1d(axis: Axes, mixture: Mixture) -> None:
    values, clusters = mixture.rows[:, 0], mixture.clusters()
    margin = 0.15 * np.ptp(values) + 1e-6
    grid = np.linspace(values.min() - margin, values.max() + margin, 200)
    densities = _densities(mixture, 0, grid)
    total = densities.sum(axis=1)
    low, middle, high = np.quantile(total, [0.05, 0.5, 0.95], axis=0)
    axis.fill_between(grid, low, high, color="0.85", label="density, 90 %")
    axis.plot(grid, middle, color="black", linewidth=1.0)
    for component in range(mixture.num_components):
        color = _COMPONENT_COLORS[component % len(_COMPONENT_COLORS)]
        axis.plot(grid, densities[:, component].mean(axis=0), color=color, linewidth=1.0)
        own = values[clusters == component]
        axis.plot(own, np.zeros_like(own) - 0.02 * high.max(), "|", color=color)
    axis.set_title("density and clusters", fontsize=10)
    axis.set_yticks([])


def _plot_rows_2d(axis: Axes, mixture: Mixture) -> None:
    """The two columns along which cluster means differ most, an ellipse for every component."""
    from matplotlib.patches import Ellipse

    weights, clusters = mixture.sites["weights"].mean(axis=0), mixture.clusters()
    means, variances = mixture.sites["mu"].mean(axis=0), mixture.sites["sigma2"].mean(axis=0)
    between = np.average((means - np.average(means, axis=0, weights=weights)) ** 2, axis=0, weights=weights)
    first, second = sorted(np.argsort(-between)[:2].tolist())
    for component in range(mixture.num_components):
        color = _COMPONENT_COLORS[component % len(_COMPONENT_COLORS)]
        own = mixture.rows[clusters == component]
        axis.plot(own[:, first], own[:, second], "o", color=color, markersize=3.5)
        width, height = 4.0 * np.sqrt(variances[component, [first, second]])
        center = (float(means[component, first]), float(means[component, second]))
        ellipse = Ellipse(center, float(width), float(height), edgecolor=color, facecolor="none")
        ellipse.set_alpha(float(np.clip(0.25 + weights[component], 0.0, 1.0)))
        axis.add_patch(ellipse)
    axis.set_xlabel(f"x[{first}]")
    axis.set_ylabel(f"x[{second}]")
    axis.set_title("clusters, means ± 2 sd", fontsize=10)
