"""The one module that knows ArviZ, whose returned type differs between 0.23 and 1.x."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from icl_bayes.types import Array

if TYPE_CHECKING:
    from icl_bayes.inference.posterior import Posterior


def _arviz() -> Any:
    with warnings.catch_warnings():
        # ArviZ 0.23 announces its own successor on import.
        warnings.simplefilter("ignore")
        import arviz

    return arviz


def _from_groups(groups: dict[str, Any]) -> Any:
    arviz = _arviz()
    takes_mapping = int(arviz.__version__.split(".")[0]) >= 1
    return arviz.from_dict(groups) if takes_mapping else arviz.from_dict(**groups)


def to_inference_data(posterior: Posterior, *, log_likelihood: bool = False, predictive: Array | None = None) -> Any:
    """Groups ``posterior`` (one chain), ``observed_data`` and ``constant_data``, with attributes; others on request."""
    task, dataset = posterior.task, posterior.dataset
    mask = np.asarray(dataset.row_mask, bool)
    rows = {name: np.asarray(value)[mask] for name, value in dataset.rows.items()}
    groups: dict[str, Any] = {
        "posterior": {name: value[None] for name, value in posterior.sites.items()},
        "observed_data": {name: rows[name] for name in task.responses},
        "constant_data": {name: value for name, value in rows.items() if name not in task.responses},
    }
    if log_likelihood:
        groups["log_likelihood"] = {task.responses[0]: posterior.log_likelihood()[None]}
    if predictive is not None:
        groups["posterior_predictive"] = {name: one[None] for name, one in posterior.predict(predictive).items()}
    result = _from_groups(groups)
    result["posterior"].attrs.update(_attributes(posterior))
    return result


def posterior_variables(data: Any) -> dict[str, np.ndarray]:
    """Variables of the posterior group, ``{name: (chains, draws, *shape)}``, of InferenceData or a netCDF file.

    Raises:
        ValueError: if there is no such group.
    """
    if isinstance(data, str | Path):
        if not Path(data).is_file():
            raise ValueError(f"There is no file {str(data)!r}.")
        data = _arviz().from_netcdf(data)
    try:
        group = data["posterior"]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"Expected InferenceData with a group 'posterior', or the path of its file; received {type(data).__name__}."
        ) from error
    return {str(name): np.asarray(group[name].values) for name in group.data_vars}


def psis_loo(values: np.ndarray) -> tuple[float, float, float, np.ndarray, np.ndarray]:
    """ArviZ's LOO of pointwise log likelihoods ``(num_draws, n)``.

    Returns:
        The estimate, its standard error, the effective number of parameters, and per row the estimate and Pareto's k.
    """
    data = _from_groups(
        {"posterior": {"draw_index": np.arange(len(values))[None]}, "log_likelihood": {"y": values[None]}}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is to be said of k is said by the caller
        found = _arviz().loo(data, pointwise=True)
    # ArviZ 1 dropped the suffixes.
    elpd = found.elpd if hasattr(found, "elpd") else found.elpd_loo
    penalty = found.p if hasattr(found, "p") else found.p_loo
    pointwise = found.elpd_i if hasattr(found, "elpd_i") else found.loo_i
    return float(elpd), float(found.se), float(penalty), np.asarray(pointwise), np.asarray(found.pareto_k)


def _attributes(posterior: Posterior) -> dict[str, Any]:
    """Texts and numbers, which is what files can hold; of the certificate, if it has been asked for."""
    certificate = {} if posterior.known_certificate is None else posterior.known_certificate.as_dict()
    return {
        "inference_library": "icl_bayes",
        "task": posterior.task.name,
        "notes": "; ".join(posterior.notes),
        **posterior.info,
        **{f"certificate_{name}": value for name, value in certificate.items()},
    }
