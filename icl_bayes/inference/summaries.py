"""Summaries of draws as data frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd


def summarize(draws: np.ndarray, labels: Sequence[str], probability: float = 0.9) -> pd.DataFrame:
    """Mean, sd, median and central interval of every column of draws ``(num_draws, D)``.

    Raises:
        ValueError: for a probability outside (0, 1).
    """
    import pandas as pd

    if not 0.0 < probability < 1.0:
        raise ValueError(f"probability must lie in (0, 1); received {probability}.")
    tail = 0.5 * (1.0 - probability)
    low, median, high = np.quantile(draws, [tail, 0.5, 1.0 - tail], axis=0)
    return pd.DataFrame(
        {
            "mean": draws.mean(axis=0),
            "sd": draws.std(axis=0, ddof=1) if len(draws) > 1 else np.zeros(draws.shape[1]),
            f"{100 * tail:g}%": low,
            "50%": median,
            f"{100 * (1 - tail):g}%": high,
        },
        index=list(labels),
    )
