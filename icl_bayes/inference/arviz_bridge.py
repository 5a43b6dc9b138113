"""The one module that knows ArviZ, whose returned type differs between 0.23 and 1.x."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from icl_bayes.inference.posterior import Posterior


def to_inference_data(posterior: Posterior) -> Any:
    """Groups ``posterior`` (one chain), ``observed_data`` and ``constant_data``, with attributes."""
    with warnings.catch_warnings():
        # ArviZ 0.23 announces its own successor on import.
        warnings.simplefilter("ignore")
        import arviz

    task, dataset = posterior.task, posterior.dataset
    mask = np.asarray(dataset.row_mask, bool)
    rows = {name: np.asarray(value)[mask] for name, value in dataset.rows.items()}
    groups: dict[str, Any] = {
        "posterior": {name: value[None] for name, value in posterior.sites.items()},
        "observed_data": {name: rows[name] for name in task.responses},
        "constant_data": {name: value for name, value in rows.items() if name not in task.responses},
    }
    takes_mapping = int(arviz.__version__.split(".")[0]) >= 1
    result = arviz.from_dict(groups) if takes_mapping else arviz.from_dict(**groups)
    result["posterior"].attrs.update(_attributes(posterior))
    return result


def _attributes(posterior: Posterior) -> dict[str, Any]:
    return {
        "inference_library": "icl_bayes",
        "task": posterior.task.name,
        "notes": "; ".join(posterior.notes),
        **posterior.info,
    }
