"""Figures of scores: quality against time and against n, and training curves.

Every function returns a matplotlib ``Figure`` made for Agg; `plot_style.to_png` renders it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from icl_bayes.benchmark import published
from icl_bayes.benchmark.aggregate import Summary
from icl_bayes.benchmark.cases import method_label
from icl_bayes.benchmark.plot_style import INK, MUTED, block_medians, dress, legend_outside, new_figure, styles_for
from icl_bayes.benchmark.records import REFERENCE_METHOD
from icl_bayes.benchmark.tables import METRIC_NAMES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def _effort(solver: str) -> float:
    """The number in a solver's name, by which the points of a curve are ordered and marked."""
    found = re.findall(r"\d+(?:\.\d+)?", solver)
    return float(found[-1]) if found else math.nan


def _unit(solver: str) -> str:
    """What the number in a solver's name counts, with the kind of solver: ``midpoint steps``."""
    return re.sub(r"[\s=]*\d+(?:\.\d+)?\s*$", "", solver)


def _curves(rows: Sequence[Summary]) -> dict[tuple[str, str, str, str], list[Summary]]:
    """Points that differ only in the effort spent, in order of effort, the best curve first."""
    curves: dict[tuple[str, str, str, str], list[Summary]] = {}
    for row in rows:
        curves.setdefault((row.method, row.variant, row.checkpoint, _unit(row.solver)), []).append(row)
    for points in curves.values():
        points.sort(key=lambda row: (_effort(row.solver), row.seconds_run))
    return dict(sorted(curves.items(), key=lambda item: min(row.mean for row in item[1])))


def _curve_label(method: str, variant: str, points: Sequence[Summary], known: set[str]) -> str:
    label = method_label(method, variant, points[0].solver if len(points) == 1 else "")
    if len(points) > 1:
        label += f" ({_unit(points[0].solver) or 'effort'} as marked)"
    if label in known and points[0].checkpoint:
        label += f" [{points[0].checkpoint}]"
    known.add(label)
    return label


def _floor_band(axes: Axes, floors: Sequence[float]) -> None:
    floor = float(np.mean(floors))
    axes.axhline(floor, color=MUTED, linewidth=1.2, linestyle=(0, (4, 2)), zorder=1)
    axes.annotate(
        f"floor\n{floor:.3f}",
        xy=(1.0, floor),
        xycoords=("axes fraction", "data"),
        xytext=(4, 0),
        textcoords="offset points",
        ha="left",
        va="center",
        fontsize=8,
        color=MUTED,
        annotation_clip=False,
    )


def _leave_room(axes: Axes, values: Sequence[float], floor: float) -> None:
    """Limits from a little below the floor to a little above the worst score."""
    top = max([*values, floor])
    span = max(top - floor, 0.02)
    axes.set_ylim(min([*values, floor]) - 0.12 * span, top + 0.08 * span)


_NEAR = 0.02  # excess over the floor up to which the stretched axis is about linear
_C2ST_TICKS = (0.5, 0.51, 0.52, 0.55, 0.6, 0.7, 0.8, 0.9, 1.0)


def _stretch_near_floor(axes: Axes, values: Sequence[float], floor: float) -> None:
    """A C2ST axis on which both 0.51 against 0.52 and 0.7 against 0.9 can be seen."""

    def forward(value: np.ndarray) -> np.ndarray:
        return np.arcsinh((np.asarray(value) - floor) / _NEAR)

    def inverse(value: np.ndarray) -> np.ndarray:
        return floor + _NEAR * np.sinh(value)

    low, high = forward(np.array([min([*values, floor]), max([*values, floor + _NEAR])]))
    axes.set_yscale("function", functions=(forward, inverse))
    axes.set_ylim(*inverse(np.array([low - 0.35, high + 0.25])))
    bottom, top = axes.get_ylim()
    ticks = [tick for tick in _C2ST_TICKS if bottom <= tick <= top]
    axes.set_yticks(ticks, labels=[f"{tick:g}" for tick in ticks])


def _score_axis(axes: Axes, metric: str, values: Sequence[float], floor: float) -> str:
    """Set the score axis up and return its label."""
    name = METRIC_NAMES.get(metric, metric)
    if metric.startswith("c2st"):
        _stretch_near_floor(axes, values, floor)
        return f"{name} (axis stretched near the floor)"
    _leave_room(axes, values, floor)
    return name


def quality_against_time(
    summaries: Iterable[Summary], *, metric: str = "c2st", title: str = "", with_published: bool = True
) -> Figure:
    """Score against seconds per data set (log axis): every method a point, or a curve over its effort.

    Rows that differ only in ``solver`` are joined, their points marked with the number in it
    (solver steps, moves). The dashed line is the floor.

    Args:
        summaries: of one problem (family, scenario or mean over scenarios, split, n, p).
        metric: which score.
        title: shown above.
        with_published: mark the paper's own network, where its score and seconds were printed.

    Raises:
        ValueError: if there is nothing to show, or summaries of several problems.
    """
    rows = [row for row in summaries if row.metric == metric and row.method != REFERENCE_METHOD]
    if not rows:
        raise ValueError(f"No {metric} scores to plot.")
    problems = {row.problem for row in rows}
    if len(problems) > 1:
        raise ValueError(
            f"Quality against time is drawn for one problem; received {len(problems)}: {sorted(problems)}."
        )
    curves = _curves(rows)
    styles = styles_for((method, f"{variant}|{unit}") for method, variant, _, unit in curves)
    figure = new_figure(9.0, 4.8)
    axes = figure.add_subplot()
    handles, labels, known = [], [], set()
    for index, ((method, variant, _, unit), points) in enumerate(curves.items()):
        style = styles[method, f"{variant}|{unit}"]
        seconds = [row.seconds_run for row in points]
        means = [row.mean for row in points]
        errors = [0.0 if math.isnan(row.error) else row.error for row in points]
        drawn = axes.errorbar(
            seconds,
            means,
            yerr=errors,
            color=style.color,
            marker=style.marker,
            linestyle=style.dashes if len(points) > 1 else "none",
            linewidth=1.6,
            markersize=6.5,
            markeredgecolor="white",
            markeredgewidth=0.7,
            elinewidth=1.0,
            zorder=3,
        )
        if len(points) > 1:
            for row in points:
                effort = _effort(row.solver)
                if not math.isnan(effort):
                    axes.annotate(
                        f"{effort:g}",
                        xy=(row.seconds_run, row.mean),
                        xytext=(4, 5) if index % 2 == 0 else (4, -11),
                        textcoords="offset points",
                        fontsize=7.5,
                        color=style.color,
                        zorder=4,
                    )
        handles.append(drawn)
        labels.append(_curve_label(method, variant, points, known))
    printed = _published_point(rows, metric) if with_published else None
    if printed is not None:
        handles += axes.plot(*printed, marker="*", markersize=13, markerfacecolor="none", color=INK, linestyle="none")
        labels.append(f"the paper's network,\n{published.HEADING}")
    axes.set_xscale("log")
    _floor_band(axes, [row.floor for row in rows])
    shown = [row.mean for row in rows] + ([printed[1]] if printed else [])
    ylabel = _score_axis(axes, metric, shown, float(np.mean([row.floor for row in rows])))
    draws = "/".join(str(count) for count in sorted({row.num_draws for row in rows}))
    dress(
        axes,
        xlabel=f"seconds for {draws} draws of one data set, compilation apart",
        ylabel=ylabel,
        title=title,
    )
    legend_outside(figure, handles, labels, "right")
    return figure


def _published_point(rows: Sequence[Summary], metric: str) -> tuple[float, float] | None:
    """Seconds and score of the paper's network on this problem."""
    row = next((row for row in rows if row.method == "icl" and row.published is not None), rows[0])
    score = row.published if row.method == "icl" else None
    if score is None:
        score = published.beside(row.family, row.scenario, row.split, "icl", "", metric, (row.n, row.p))
    seconds = published.beside(row.family, row.scenario, row.split, "icl", "", "seconds_run", (row.n, row.p))
    return None if score is None or seconds is None else (seconds, score)


def _few_efforts(rows: Sequence[Summary]) -> list[Summary]:
    """The rows, of every method at most three efforts."""
    efforts: dict[tuple[str, str, str], dict[str, float]] = {}
    for row in rows:
        efforts.setdefault((row.method, row.variant, _unit(row.solver)), {})[row.solver] = _effort(row.solver)
    shown = set()
    for key, solvers in efforts.items():
        ordered = sorted(solvers, key=lambda solver: solvers[solver])
        shown |= {(*key[:2], ordered[index]) for index in (0, len(ordered) // 2, -1)}
    return [row for row in rows if (row.method, row.variant, row.solver) in shown]


def quality_against_n(
    summaries: Iterable[Summary], *, metric: str = "c2st", title: str = "", with_seconds: bool = True
) -> Figure:
    """Score against the number of rows n, and beside it seconds against n.

    Of methods scored at many efforts, the least, a middle and the largest are shown.

    Args:
        summaries: of one family, scenario and split, at several n.
        metric: which score.
        title: shown above.
        with_seconds: draw the second panel.

    Raises:
        ValueError: if there is nothing to show.
    """
    rows = [row for row in summaries if row.metric == metric and row.method != REFERENCE_METHOD]
    if not rows:
        raise ValueError(f"No {metric} scores to plot.")
    curves: dict[tuple[str, str, str], list[Summary]] = {}
    for row in sorted(_few_efforts(rows), key=lambda row: row.n):
        curves.setdefault((row.method, row.variant, row.solver), []).append(row)
    curves = dict(sorted(curves.items(), key=lambda item: item[1][-1].mean))
    styles = styles_for((f"{method}", f"{variant}|{solver}") for method, variant, solver in curves)
    figure = new_figure(13.5 if with_seconds else 9.0, 4.8)
    panels = figure.subplots(1, 2 if with_seconds else 1, squeeze=False, gridspec_kw={"wspace": 0.08})[0]
    handles, labels = [], []
    for (method, variant, solver), points in curves.items():
        style = styles[method, f"{variant}|{solver}"]
        looks = {
            "color": style.color,
            "marker": style.marker,
            "linestyle": style.dashes,
            "linewidth": 1.6,
            "markersize": 6,
            "markeredgecolor": "white",
            "markeredgewidth": 0.6,
        }
        sizes = [row.n for row in points]
        errors = [0.0 if math.isnan(row.error) else row.error for row in points]
        drawn = panels[0].errorbar(sizes, [row.mean for row in points], yerr=errors, elinewidth=1.0, **looks)
        handles.append(drawn)
        labels.append(method_label(method, variant, solver))
        if with_seconds:
            panels[1].plot(sizes, [row.seconds_run for row in points], **looks)
    _floor_band(panels[0], [row.floor for row in rows])
    ylabel = _score_axis(panels[0], metric, [row.mean for row in rows], float(np.mean([row.floor for row in rows])))
    dress(panels[0], xlabel="rows n", ylabel=ylabel, title=title)
    if with_seconds:
        panels[1].set_yscale("log")
        dress(panels[1], xlabel="rows n", ylabel="seconds per data set")
    ticks = sorted({row.n for row in rows})
    for axes in panels:
        axes.set_xscale("log")
        axes.set_xticks(ticks, labels=[str(n) for n in ticks])
        axes.minorticks_off()
    legend_outside(figure, handles, labels, "right")
    return figure


def training_curve(
    steps: Sequence[float],
    loss: Sequence[float],
    *,
    held_out: Mapping[str, tuple[Sequence[float], Sequence[float]]] | None = None,
    floor: float = 0.5,
    xlabel: str = "training step",
    title: str = "",
) -> Figure:
    """Training loss, and below it held-out scores, over the same axis.

    Args:
        steps: ``(num_steps,)`` steps, minutes or data sets seen.
        loss: ``(num_steps,)`` loss at each; drawn as it is, with medians of blocks.
        held_out: by label, ``(steps, C2ST)`` of periodic checks against exact draws.
        floor: C2ST of a perfect network.
        xlabel: what ``steps`` counts.
        title: shown above.

    Raises:
        ValueError: if ``steps`` and ``loss`` differ in length or are empty.
    """
    x, y = np.asarray(steps, float), np.asarray(loss, float)
    if x.shape != y.shape or x.ndim != 1 or not len(x):
        raise ValueError(f"steps and loss need the same shape (num_steps,); received {x.shape} and {y.shape}.")
    figure = new_figure(8.5, 5.2 if held_out else 3.4)
    panels = figure.subplots(2 if held_out else 1, 1, sharex=True, squeeze=False)[:, 0]
    color = styles_for([("icl", "")])["icl", ""].color
    panels[0].plot(x, y, color=color, linewidth=0.8, alpha=0.3)
    middles, medians = block_medians(y, 60)
    panels[0].plot(x[middles], medians, color=color, linewidth=1.8)
    finite = y[np.isfinite(y)]
    if len(finite) > 20:  # the first steps, or a spike, would flatten the rest
        low, high = np.quantile(finite, [0.0, 0.985])
        panels[0].set_ylim(low - 0.05 * (high - low), high + 0.1 * (high - low))
    dress(panels[0], ylabel="loss (medians in bold)", title=title, xlabel="" if held_out else xlabel)
    if held_out:
        styles = styles_for(("icl", label) for label in held_out)
        handles = []
        for label, (at, scores) in held_out.items():
            style = styles["icl", label]
            handles += panels[1].plot(at, scores, color=style.color, marker=style.marker, linestyle=style.dashes)
        _floor_band(panels[1], [floor])
        _leave_room(panels[1], [float(v) for _, scores in held_out.values() for v in scores], floor)
        dress(panels[1], xlabel=xlabel, ylabel="held-out C2ST")
        if len(held_out) > 1:
            legend_outside(figure, handles, list(held_out), "bottom")
    return figure
