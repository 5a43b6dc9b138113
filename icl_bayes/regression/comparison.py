"""Regressions of the same data compared by what they say of rows that were left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from icl_bayes.regression.result import RegressionPosterior

if TYPE_CHECKING:
    import pandas as pd


def compare(models: Mapping[str, RegressionPosterior]) -> pd.DataFrame:
    """Expected log predictive densities (LOO), best first, with the differences' standard errors and log evidences.

    Raises:
        ValueError: for models of other responses or rows.
    """
    import pandas as pd

    if not models:
        raise ValueError("There is nothing to compare: no model was given.")
    first = next(iter(models.values()))
    for name, model in models.items():
        if not np.array_equal(model.design.y, first.design.y):
            raise ValueError(f"The model {name!r} was given other responses than the first.")
    fits = {name: model.loo() for name, model in models.items()}
    # Gamma responses are kept as logarithms, whose density differs from theirs by the sum of the logarithms.
    shift = {
        name: -np.log(model.design.y) if model.family == "gamma" else np.zeros(len(model.design.y))
        for name, model in models.items()
    }
    pointwise = {name: fit.pointwise + shift[name] for name, fit in fits.items()}
    best = max(pointwise, key=lambda name: float(pointwise[name].sum()))
    rows = []
    for name, values in pointwise.items():
        difference = values - pointwise[best]
        rows.append(
            {
                "elpd": values.sum(),
                "difference": difference.sum(),
                "error": float(np.sqrt(len(difference) * difference.var())),
                "parameters": fits[name].num_parameters,
                "log evidence": models[name].certificate.log_evidence + shift[name].sum(),
                "worst Pareto k": fits[name].pareto_k.max(),
            }
        )
    return pd.DataFrame(rows, index=pd.Index(list(pointwise))).sort_values("elpd", ascending=False)
