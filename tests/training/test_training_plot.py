"""What training.png shows of a run."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from icl_bayes.training.fit import METRIC_FIELDS, plot_metrics


def plotted(run_dir: Path, held_out: list[float]) -> np.ndarray:
    """The image of a run with these held-out scores."""
    with (run_dir / "metrics.csv").open("w", newline="") as handle:
        writer = csv.DictWriter(handle, METRIC_FIELDS)
        writer.writeheader()
        for step, score in enumerate(held_out, 1):
            writer.writerow(
                {
                    **dict.fromkeys(METRIC_FIELDS, np.nan),
                    "step": step,
                    "seconds": step,
                    "loss": 0.5,
                    "held_out_c2st": score,
                }
            )
    return imread(plot_metrics(run_dir))


@pytest.mark.parametrize(("held_out", "num_panels"), [([np.nan, np.nan], 1), ([np.nan, 0.6], 2)])
def test_scores_have_a_panel_where_there_are_any(tmp_path: Path, held_out: list[float], num_panels: int) -> None:
    height, width, _ = plotted(tmp_path, held_out).shape
    assert width / height == pytest.approx(num_panels * 4.5 / 3.4, rel=0.01)
