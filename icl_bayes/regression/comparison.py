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
        if not np.array_equal(model.responses, first.responses):
            raise ValueError(f"The model {name!r} was given other responses than the first.")
    fits = {name: model.loo() for name, model in models.items()}
    best = max(fits, key=lambda name: fits[name].elpd)
    rows = []
    for name, fit in fits.items():
        difference = fit.pointwise - fits[best].pointwise
        rows.append(
            {
                "elpd": fit.elpd,
                "difference": difference.sum(),
                "error": float(np.sqrt(len(difference) * difference.var())),
                "parameters": fit.num_parameters,
                "log evidence": models[name].log_evidence(),
                "worst Pareto k": fit.pareto_k.max(),
            }
        )
    return pd.DataFrame(rows, index=pd.Index(list(fits))).sort_values("elpd", ascending=False)
