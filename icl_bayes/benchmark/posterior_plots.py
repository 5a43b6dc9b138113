"""Figures of one posterior as several methods see it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from icl_bayes.benchmark.plot_style import INK, REFERENCE_COLOR, Style, dress, legend_outside, new_figure, styles_for

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_GRID_POINTS = 200
_LEVELS = (0.5, 0.9)


def _checked(
    draws: Mapping[str, np.ndarray], names: Sequence[str], reference: str | None
) -> tuple[dict[str, np.ndarray], str | None]:
    matrices = {label: np.asarray(values, float) for label, values in draws.items()}
    if not matrices:
        raise ValueError("No draws to plot.")
    for label, matrix in matrices.items():
        if matrix.ndim != 2 or matrix.shape[1] != len(names):
            raise ValueError(
                f"Draws of {label!r} must have shape (num_draws, {len(names)}), a column for each of {list(names)}; "
                f"received {matrix.shape}."
            )
    if reference is not None and reference not in matrices:
        raise ValueError(f"Reference {reference!r} is not among the draws: {list(matrices)}.")
    return matrices, reference


def _styles(labels: Sequence[str]) -> dict[str, Style]:
    """Looks by label, whose first word is the method."""
    pairs = {label: (label.split(" ")[0], label) for label in labels}
    styles = styles_for(pairs.values())
    return {label: styles[pair] for label, pair in pairs.items()}


def _range(matrices: Mapping[str, np.ndarray], column: int, reference: str | None) -> tuple[float, float]:
    """A window that shows the reference whole and doesn't follow a stray draw of another method."""
    lows, highs = [], []
    for label, matrix in matrices.items():
        tail = 0.001 if label == reference else 0.01
        values = matrix[:, column]
        low, high = np.quantile(values[np.isfinite(values)], [tail, 1.0 - tail])
        lows.append(low)
        highs.append(high)
    low, high = float(min(lows)), float(max(highs))
    if reference is not None:
        own = np.quantile(matrices[reference][:, column], [0.001, 0.999])
        width = max(float(own[1] - own[0]), 1e-12)
        low, high = max(low, float(own[0]) - 1.5 * width), min(high, float(own[1]) + 1.5 * width)
    margin = 0.05 * max(high - low, 1e-9)
    return low - margin, high + margin


def _density(values: np.ndarray, grid: np.ndarray) -> np.ndarray | None:
    """Kernel density on a grid; ``None`` for draws that don't vary (a point mass)."""
    from scipy.stats import gaussian_kde

    values = values[np.isfinite(values)]
    if len(values) < 3 or np.ptp(values) < 1e-9 * max(1.0, float(np.abs(values).max())):
        return None
    return gaussian_kde(values)(grid)


def _draw_density(axes: Axes, values: np.ndarray, grid: np.ndarray, style: Style | None) -> Any:
    """One marginal: a filled area for the reference (no style), a line for a method."""
    density = _density(values, grid)
    if style is None:
        heights = density if density is not None else np.zeros_like(grid)
        return axes.fill_between(grid, heights, color=REFERENCE_COLOR, alpha=0.6, linewidth=0)
    if density is None:
        (line,) = axes.plot([float(np.nanmedian(values))] * 2, [0.0, 1.0], color=style.color, linestyle=style.dashes)
        line.set_transform(axes.get_xaxis_transform())
        return line
    return axes.plot(grid, density, color=style.color, linestyle=style.dashes, linewidth=1.7)[0]


def marginal_plot(
    draws: Mapping[str, np.ndarray],
    names: Sequence[str],
    *,
    reference: str | None = None,
    truth: Sequence[float] | None = None,
    title: str = "",
) -> Figure:
    """Marginal densities of every compared coordinate, one panel each.

    Args:
        draws: by label, ``(num_draws, dim)``; a label's first word is the method and decides its colour.
        names: ``(dim,)`` names of the coordinates.
        reference: label to draw as a grey area behind the others.
        truth: ``(dim,)`` generating values, as dotted lines.
        title: shown above.

    Raises:
        ValueError: if shapes and names disagree.
    """
    matrices, reference = _checked(draws, names, reference)
    others = [label for label in matrices if label != reference]
    styles = _styles(others)
    num_columns = min(len(names), 3)
    num_rows = math.ceil(len(names) / num_columns)
    figure = new_figure(max(3.1 * num_columns, 5.0), 2.3 * num_rows + 0.7)
    panels = figure.subplots(num_rows, num_columns, squeeze=False).ravel()
    handles: dict[str, Any] = {}
    for index, name in enumerate(names):
        axes = panels[index]
        grid = np.linspace(*_range(matrices, index, reference), _GRID_POINTS)
        if reference is not None:
            handles[reference] = _draw_density(axes, matrices[reference][:, index], grid, None)
        for label in others:
            handles[label] = _draw_density(axes, matrices[label][:, index], grid, styles[label])
        if truth is not None:
            handles["generating value"] = axes.axvline(float(truth[index]), color=INK, linestyle=":", linewidth=1.1)
        dress(axes, title=name, grid="x")
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_ylim(bottom=0.0)
        axes.set_xlim(grid[0], grid[-1])
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=12, color=INK)
    legend_outside(figure, list(handles.values()), list(handles), "bottom")
    return figure


def _contours(axes: Axes, matrix: np.ndarray, x: np.ndarray, y: np.ndarray, style: Style | None) -> None:
    """Regions of highest density that hold half and nine tenths of the draws."""
    from scipy.stats import gaussian_kde

    points = matrix[np.isfinite(matrix).all(axis=1)].T
    try:
        kde = gaussian_kde(points)
    except np.linalg.LinAlgError:  # a point mass, or draws on a line
        color = style.color if style else REFERENCE_COLOR
        axes.plot(*np.median(points, axis=1), marker="x", color=color, linestyle="none")
        return
    grid_x, grid_y = np.meshgrid(x, y)
    heights = kde(np.stack([grid_x.ravel(), grid_y.ravel()])).reshape(grid_x.shape)
    levels = sorted(float(np.quantile(kde(points), 1.0 - level)) for level in _LEVELS)
    if style is None:
        axes.contourf(
            grid_x, grid_y, heights, levels=[*levels, heights.max() * 1.001], colors=["#dedede", REFERENCE_COLOR]
        )
    else:
        axes.contour(
            grid_x, grid_y, heights, levels=levels, colors=[style.color], linestyles=[style.dashes], linewidths=1.3
        )


def pair_plot(
    draws: Mapping[str, np.ndarray],
    names: Sequence[str],
    *,
    reference: str | None = None,
    truth: Sequence[float] | None = None,
    title: str = "",
    max_columns: int = 6,
) -> Figure:
    """Pairs of coordinates below the diagonal (regions holding 50 and 90 %), marginals on it.

    Arguments as for `marginal_plot`; of more than ``max_columns`` coordinates the first are shown.
    """
    matrices, reference = _checked(draws, names, reference)
    size = min(len(names), max_columns)
    others = [label for label in matrices if label != reference]
    styles = _styles(others)
    figure = new_figure(max(1.75 * size, 4.0), max(1.75 * size, 3.2) + 0.6)
    panels = figure.subplots(size, size, squeeze=False)
    ranges = [_range(matrices, index, reference) for index in range(size)]
    handles: dict[str, Any] = {}
    for row in range(size):
        for column in range(size):
            axes = panels[row, column]
            if column > row:
                axes.set_visible(False)
                continue
            dress(axes, grid="")
            x = np.linspace(*ranges[column], _GRID_POINTS if row == column else 50)
            axes.set_xlim(x[0], x[-1])
            if row == column:
                for label in [reference, *others] if reference is not None else others:
                    style = styles.get(label)
                    handles[label] = _draw_density(axes, matrices[label][:, row], x, style)
                axes.set_ylim(bottom=0.0)
                axes.spines["left"].set_visible(False)
                axes.set_yticks([])
            else:
                y = np.linspace(*ranges[row], 50)
                pair = [column, row]
                if reference is not None:
                    _contours(axes, matrices[reference][:, pair], x, y, None)
                for label in others:
                    _contours(axes, matrices[label][:, pair], x, y, styles[label])
                axes.set_ylim(y[0], y[-1])
                if truth is not None:
                    axes.plot(float(truth[column]), float(truth[row]), marker="+", color=INK, markersize=9)
            axes.tick_params(labelsize=7)
            axes.tick_params(labelbottom=row == size - 1, labelleft=column == 0 and row > 0)
            if row == size - 1:
                axes.set_xlabel(names[column], fontsize=9)
            if column == 0 and row > 0:
                axes.set_ylabel(names[row], fontsize=9)
            if row == column:
                axes.set_title(names[row], loc="left", fontsize=9, color=INK)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=12, color=INK)
    legend_outside(figure, list(handles.values()), list(handles), "bottom")
    return figure
