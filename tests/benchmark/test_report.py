"""Figures hold what they should and their legends cover nothing; the report needs no other file."""

from __future__ import annotations

import math
import re
import struct

import numpy as np
import pytest

from icl_bayes.benchmark.aggregate import summarize
from icl_bayes.benchmark.plot_style import styles_for, to_png
from icl_bayes.benchmark.plots import quality_against_n, quality_against_time, training_curve
from icl_bayes.benchmark.posterior_plots import marginal_plot, pair_plot
from icl_bayes.benchmark.report import ReportFigure, render_report, score_figures, write_report

from .fakes import make_record


def some_records(sizes=(50,), scenarios=("5",)):
    settings = [
        ("icl", "informed", "midpoint steps=2", 0.512, 0.006),
        ("icl", "informed", "midpoint steps=4", 0.505, 0.011),
        ("icl", "joint", "midpoint steps=4", 0.64, 0.010),
        ("parallel_hmc", "laplace", "moves=5", 0.501, 0.018),
        ("parallel_hmc", "laplace", "moves=1", 0.54, 0.005),
        ("nuts", "jit", "", 0.5, 0.09),
        ("map", "", "", 1.0, 0.003),
    ]
    return [
        make_record(
            scenario=scenario, n=n, dataset=str(i), method=method, variant=variant, solver=solver,
            value=value + 0.001 * i, seconds_run=seconds * n / 50,
        )
        for scenario in scenarios
        for n in sizes
        for i in range(3)
        for method, variant, solver, value, seconds in settings
    ]  # fmt: skip


def legend_texts(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def assert_legend_clear_of_axes(figure):
    figure.canvas.draw()  # lays the figure out, at the resolution that the extents below are in
    for legend in figure.legends:
        box = legend.get_window_extent()
        for axes in figure.axes:
            if axes.get_visible():
                assert not box.overlaps(axes.get_window_extent())


def png_size(data: bytes) -> tuple[int, int]:
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", data[16:24])


def test_every_method_is_on_the_plot_against_time():
    figure = quality_against_time(summarize(some_records()), title="GLM 5")
    assert sorted(legend_texts(figure)) == [
        "icl informed (midpoint steps as marked)",
        "icl joint (midpoint steps=4)",
        "map",
        "nuts jit",
        "parallel_hmc laplace (moves as marked)",
        "the paper's network,\npublished (other, partly faulty reference)",
    ]
    axes = figure.axes[0]
    assert axes.get_xscale() == "log"
    curves = [line.get_xydata() for line in axes.lines if len(line.get_xydata()) == 2 and line.get_marker() != "None"]
    moves = next(curve for curve in curves if curve[0, 0] == pytest.approx(0.005))
    np.testing.assert_allclose(moves, [[0.005, 0.541], [0.018, 0.502]])  # in order of effort, not of appearance
    texts = [text.get_text() for text in axes.texts]
    assert {"2", "4", "1", "5"} <= set(texts)
    assert "floor\n0.501" in texts
    low, high = axes.get_ylim()
    assert low < 0.5
    assert high > 1.0
    assert_legend_clear_of_axes(figure)


def test_plot_against_time_refuses_to_mix_problems():
    with pytest.raises(ValueError, match="drawn for one problem; received 2"):
        quality_against_time(summarize(some_records(sizes=(50, 100))))
    with pytest.raises(ValueError, match="No mmd scores"):
        quality_against_time(summarize(some_records()), metric="mmd")


def test_plot_against_n():
    figure = quality_against_n(summarize(some_records(sizes=(500, 10, 50))))
    quality, seconds = figure.axes
    line = next(line for line in seconds.lines if line.get_ydata()[0] == pytest.approx(0.09 / 5))
    np.testing.assert_allclose(line.get_xydata(), [[10, 0.018], [50, 0.09], [500, 0.9]])
    assert [tick.get_text() for tick in quality.get_xticklabels()] == ["10", "50", "500"]
    assert len(legend_texts(figure)) == 7
    many = [make_record(solver=f"midpoint steps={steps}", n=n) for steps in (1, 2, 4, 8, 16) for n in (10, 50)]
    shown = legend_texts(quality_against_n(summarize(many)))
    assert shown == [f"icl informed (midpoint steps={steps})" for steps in (1, 4, 16)]
    assert_legend_clear_of_axes(figure)


def test_training_curve_survives_spikes():
    loss = np.r_[1e6, 1.0 + np.exp(-np.arange(500) / 100), math.nan]
    figure = training_curve(np.arange(502), loss, held_out={"informed": ([0, 250, 500], [0.8, 0.6, 0.52])})
    top, bottom = figure.axes
    assert top.get_ylim()[1] < 5.0
    bold = top.lines[1].get_ydata()
    assert np.nanmax(bold) < 2.5
    assert bottom.get_ylim()[0] < 0.5
    to_png(figure)
    with pytest.raises(ValueError, match=r"same shape.*\(3,\) and \(2,\)"):
        training_curve([1, 2, 3], [1, 2])


@pytest.fixture
def draws():
    rng = np.random.default_rng(0)
    base = rng.gamma(4.0, size=(400, 3))
    names = ["beta[0]", "beta[1]", "intercept"]
    stray = base[:300].copy()
    stray[0] = 1e6
    return {"reference": base, "icl informed": base[::-1][:300], "laplace": stray, "map": np.full((300, 3), 2.0)}, names


@pytest.mark.parametrize("plot", [marginal_plot, pair_plot])
def test_posterior_plots(draws, plot):
    matrices, names = draws
    figure = plot(matrices, names, reference="reference", truth=[3.0, 4.0, 5.0], title="wine")
    assert set(matrices) <= set(legend_texts(figure))
    assert_legend_clear_of_axes(figure)
    for axes in figure.axes:
        if axes.get_visible():
            assert axes.get_xlim()[1] < 100.0  # a stray draw doesn't flatten the rest
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert [title for title in titles if title] == names
    with pytest.raises(ValueError, match=r"'reference' must have shape \(num_draws, 2\)"):
        plot(matrices, names[:2])
    with pytest.raises(ValueError, match="'exact' is not among"):
        plot(matrices, names, reference="exact")


def test_a_method_keeps_its_colour():
    pairs = [("laplace", ""), ("icl", "joint"), ("icl", "informed"), ("vi_full", ""), ("own", "")]
    styles = styles_for(pairs)
    assert styles["icl", "informed"].color == styles_for([("icl", "informed")])["icl", "informed"].color
    assert len({style.color for style in styles.values()}) == len(pairs)
    assert styles["icl", "informed"].marker != styles["icl", "joint"].marker
    assert styles["laplace", ""] != styles["own", ""]


def test_report_is_one_file_and_says_what_it_must(tmp_path):
    records = some_records(scenarios=("1", "5"))
    records.append(make_record(dataset="9", method="vi", variant="iaf", metric="", status="failed", message="a < b"))
    png = to_png(training_curve([0, 1], [2.0, 1.0]))
    figure = ReportFigure("Marginals: wine & cheese", png, "Grey: the reference.")
    path = write_report(records, tmp_path / "new" / "report.html", title="Demo", introduction="Hi.", figures=[figure])
    text = path.read_text()
    assert path.is_absolute()
    assert not re.findall(r"(?:src|href)=[\"'](?!data:)", text)
    assert not re.search(r"https?://|@import|url\(", text)
    assert text.count("data:image/png;base64,") == 1 + 3  # ours, the mean over scenarios, and two scenarios
    for part in ("How to read this", "The floor", "published (other, partly faulty reference)", "a &lt; b"):
        assert part in text
    assert "wine &amp; cheese" in text
    assert text.index("mean over scenarios 1, 5") < text.index("scenario 1, synthetic")
    assert "some CPU (2 cores)" in text
    assert text.count("<table") == 3 + 1 + 2


def test_score_figures_of_several_sizes():
    titles = [figure.title for figure in score_figures(some_records(sizes=(10, 50)))]
    assert titles == [
        "Quality against time: GLM 5, synthetic data, n = 10",
        "Quality against time: GLM 5, synthetic data, n = 50",
        "Quality and time against n: GLM 5, synthetic data",
    ]
    image = to_png(score_figures(some_records())[0].image)
    assert min(png_size(image)) > 400


def test_an_empty_report_is_an_error():
    with pytest.raises(ValueError, match="no records to report"):
        render_report([])
