"""Marginal plot of one posterior."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import matplotlib.figure

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
